# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The names of the published datasets, for modules that must not import `datasets`."""

DATASETS = (
    "okvqa",
    "vqav2",
    "coco_2014",
    "coco_2017",
    "coco_karpathy",
    "textvqa",
    "docvqa",
    "scienceqa",
    "gsm8k",
    "sst2",
    "mmbench",
)
