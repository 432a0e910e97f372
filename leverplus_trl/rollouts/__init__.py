# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Rollouts: sequences from many sources, answered by the VLM and measured once; rewards are made of the measures."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {"rewards": ("REWARDS", "compute_rewards", "load_reward"), "rollout_arguments": ("RolloutArguments",)},
)
