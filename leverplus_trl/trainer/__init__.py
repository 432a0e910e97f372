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

"""Trainers of selectors. They read tables and never run a VLM."""

from .offline_grpo_config import OfflineGRPOConfig
from .offline_grpo_trainer import OfflineGRPOTrainer
from .pixel_dataset import EncoderTable, PixelDataset, embed_inputs, with_pixels
from .rollout_dataset import RolloutDataset, RolloutGroups, rollout_groups
from .sft_config import SelectorSFTConfig
from .sft_dataset import ScoredPrefixes, SelectorDataset, scored_prefixes
from .sft_losses import beam_weights, beams_loss, listwise_loss
from .sft_trainer import SelectorSFTTrainer


__all__ = [
    "EncoderTable",
    "OfflineGRPOConfig",
    "OfflineGRPOTrainer",
    "PixelDataset",
    "RolloutDataset",
    "RolloutGroups",
    "ScoredPrefixes",
    "SelectorDataset",
    "SelectorSFTConfig",
    "SelectorSFTTrainer",
    "beam_weights",
    "beams_loss",
    "embed_inputs",
    "listwise_loss",
    "rollout_groups",
    "scored_prefixes",
    "with_pixels",
]
