# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Arguments of offline reinforcement learning of selectors."""

from dataclasses import dataclass

from ..fields import documented
from .sft_config import BaseSelectorTrainingConfig
from .training_fields import OfflineGRPOFields


@documented
@dataclass
class OfflineGRPOConfig(OfflineGRPOFields, BaseSelectorTrainingConfig):
    """Arguments of [`OfflineGRPOTrainer`]: those of `transformers.TrainingArguments`, with other defaults, and these.
    Names of trl's `GRPOConfig` have its meaning, but for `importance_sampling_level`."""
