# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Arguments of supervised training of selectors."""

from dataclasses import dataclass

from .base_training_config import BaseSelectorTrainingConfig
from .training_fields import SFTFields


@dataclass
class SelectorSFTConfig(SFTFields, BaseSelectorTrainingConfig):
    """
    Arguments of [`SelectorSFTTrainer`]: those of `transformers.TrainingArguments`, some with other defaults, and
    these.

    Args:
        loss_type (`str`, *optional*, defaults to `"listwise"`):
            `"listwise"`: cross-entropy to softmax(score / tau) over all candidates that were scored after a prefix;
            `"beams"`: cross-entropy to the members of the best beams.
        tau (`float`, *optional*, defaults to 0.03):
            Temperature of the targets, on the scale of the scores. For `score: logprob` about ten times as much, and
            with a metric that is not in 0..1 (CIDEr) as many times as its usual differences are larger.
        top_n (`int`, *optional*, defaults to 5):
            Beams of each query that the `beams` loss imitates.
        score_weights (`str`, *optional*, defaults to `"none"`):
            How the `beams` loss weighs the beams of a query: all alike (`"none"`) or by softmax(score / tau)
            (`"softmax"`).
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Share of each target that is spread over all candidates in question.
    """
