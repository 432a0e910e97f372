# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The names of the published datasets, for modules that must not import `datasets`."""

#: The module of each dataset, where the dataset's name in capitals is its `DataSource`.
MODULES = {
    "okvqa": "vqa",
    "vqav2": "vqa",
    "coco_2014": "coco_captions",
    "coco_2017": "coco_captions",
    "coco_karpathy": "coco_captions",
    "textvqa": "text_vqa",
    "docvqa": "text_vqa",
    "scienceqa": "multiple_choice",
    "gsm8k": "text_only",
    "sst2": "text_only",
    "mmbench": "multiple_choice",
}
DATASETS = tuple(MODULES)
