# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The published datasets by name."""

from .coco_captions import COCO_2014, COCO_2017, COCO_KARPATHY
from .docvqa import DOCVQA
from .gsm8k import GSM8K
from .mmbench import MMBENCH
from .scienceqa import SCIENCEQA
from .sst2 import SST2
from .textvqa import TEXTVQA
from .vqa import OKVQA, VQAV2


DATA_SOURCES = {
    "okvqa": OKVQA,
    "vqav2": VQAV2,
    "coco_2014": COCO_2014,
    "coco_2017": COCO_2017,
    "coco_karpathy": COCO_KARPATHY,
    "textvqa": TEXTVQA,
    "docvqa": DOCVQA,
    "scienceqa": SCIENCEQA,
    "gsm8k": GSM8K,
    "sst2": SST2,
    "mmbench": MMBENCH,
}
