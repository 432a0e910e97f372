# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Published datasets as examples tables. A file covers a family of datasets, with their official files and hub datasets.

To add a dataset, write a file with a [`DataSource`], and add the dataset's name to `names.py`.
"""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "data_source": ("DataSource", "example", "image_file"),
        "names": ("DATASETS",),
        "preparation": ("PreparedSplit", "cut_splits", "find_problems", "finish"),
        "raw_files": ("RawFiles",),
        "reading": ("DATA_SOURCES", "read_files", "read_hub"),
    },
)
