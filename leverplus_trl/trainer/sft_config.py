# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Arguments of supervised training of selectors."""

from dataclasses import dataclass

from ..fields import documented
from .base_training_config import BaseSelectorTrainingConfig
from .training_fields import SFTFields


@documented
@dataclass
class SelectorSFTConfig(SFTFields, BaseSelectorTrainingConfig):
    """Arguments of [`SelectorSFTTrainer`]: `transformers.TrainingArguments` with other defaults, and these."""
