# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

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
