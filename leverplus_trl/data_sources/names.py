# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The names of the published datasets, for modules that must not import `datasets`."""

#: The module of each dataset, where the dataset's name in capitals is its `DataSource`.
MODULES = {
    **dict.fromkeys(("okvqa", "vqav2"), "vqa"),
    **dict.fromkeys(("coco_2014", "coco_2017", "coco_karpathy"), "coco_captions"),
    **{name: name for name in ("textvqa", "docvqa", "scienceqa", "gsm8k", "sst2", "mmbench")},
}
DATASETS = tuple(MODULES)
