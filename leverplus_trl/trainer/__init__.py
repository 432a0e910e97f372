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

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "offline_grpo_config": ("OfflineGRPOConfig",),
        "offline_grpo_trainer": ("OfflineGRPOTrainer",),
        "pixel_dataset": ("EncoderTable", "PixelDataset", "embed_inputs", "with_pixels"),
        "rollout_dataset": ("RolloutDataset", "RolloutGroups", "rollout_groups"),
        "sft_config": ("SelectorSFTConfig",),
        "sft_dataset": ("ScoredPrefixes", "SelectorDataset", "scored_prefixes"),
        "sft_losses": ("beam_weights", "beams_loss", "listwise_loss"),
        "sft_trainer": ("SelectorSFTTrainer",),
    },
)
