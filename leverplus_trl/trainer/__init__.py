# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

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
        "sft_trainer": ("SelectorSFTTrainer", "beam_weights", "beams_loss", "listwise_loss"),
    },
)
