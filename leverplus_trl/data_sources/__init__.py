# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Published datasets as examples tables. A file covers a family of datasets, with their official files and hub datasets.

To add a dataset, write a file with a [`DataSource`], and add the dataset's name to `MODULES`.
"""

from ..lazy import lazy


#: The module of each dataset, where the dataset's name in capitals is its `DataSource`.
MODULES = {
    "okvqa": "vqa",
    "vqav2": "vqa",
    "coco_2014": "coco_captions",
    "coco_2017": "coco_captions",
    "coco_karpathy": "coco_captions",
    "textvqa": "vqa",
    "docvqa": "vqa",
    "scienceqa": "multiple_choice",
    "gsm8k": "text_only",
    "sst2": "text_only",
    "mmbench": "multiple_choice",
}
DATASETS = tuple(MODULES)
__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "data_source": ("DataSource", "RawFiles", "example", "image_file"),
        "preparation": ("PreparedSplit", "cut_splits", "find_problems", "finish"),
        "reading": ("DATA_SOURCES", "read_files", "read_hub"),
    },
)
__all__ = [*__all__, "DATASETS"]
