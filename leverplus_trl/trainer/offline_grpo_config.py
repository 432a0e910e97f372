# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Arguments of offline reinforcement learning of selectors."""

from dataclasses import dataclass

from ..fields import documented
from .base_training_config import BaseSelectorTrainingConfig
from .training_fields import OfflineGRPOFields


@documented
@dataclass
class OfflineGRPOConfig(OfflineGRPOFields, BaseSelectorTrainingConfig):
    """
    Arguments of [`OfflineGRPOTrainer`]: those of `transformers.TrainingArguments`, some with other defaults, and
    these. Names that trl's `GRPOConfig` has, too, mean here what they mean there, but for
    `importance_sampling_level`: an action is a step, not a token, and the ratio of a sequence is the product of
    theirs.
    """
