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

"""Arguments of supervised training of selectors."""

from dataclasses import dataclass, field

from .base_training_config import BaseSelectorTrainingConfig


LOSS_TYPES = ("listwise", "beams")
SCORE_WEIGHTS = ("none", "softmax")


@dataclass
class SelectorSFTConfig(BaseSelectorTrainingConfig):
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

    loss_type: str = field(default="listwise", metadata={"help": "listwise | beams: what the policy is drawn to."})
    tau: float = field(default=0.03, metadata={"help": "Temperature of the targets, on the scale of the scores."})
    top_n: int = field(default=5, metadata={"help": "Beams of each query that the beams loss imitates."})
    score_weights: str = field(
        default="none", metadata={"help": "none | softmax: how the beams loss weighs the beams of a query."}
    )
    label_smoothing: float = field(
        default=0.0, metadata={"help": "Share of each target that is spread over all candidates in question."}
    )
    # What follows are other defaults for fields of TrainingArguments: a selector trains from scratch.
    learning_rate: float = field(default=3e-3, metadata={"help": "Highest learning rate."})
    weight_decay: float = field(default=1.0, metadata={"help": "Weight decay of matrices."})
    num_train_epochs: float = field(default=50.0, metadata={"help": "How often each query is seen."})
    metric_for_best_model: str = field(
        default="eval_regret", metadata={"help": "What the best checkpoint is best in."}
    )
    greater_is_better: bool = field(default=False, metadata={"help": "Whether more of it is better."})

    def __post_init__(self):
        for name, options in {"loss_type": LOSS_TYPES, "score_weights": SCORE_WEIGHTS}.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(options)}.")
        if not self.tau > 0.0:
            raise ValueError(f"tau is {self.tau}; scores are divided by it, so it must be above 0 (0.03, say).")
        if self.top_n < 1:
            raise ValueError(f"top_n is {self.top_n}; the loss needs at least 1 beam.")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; expected a share from 0 to below 1.")
        if self.score_weights != "none" and self.loss_type != "beams":
            raise ValueError(
                f"score_weights is {self.score_weights!r}, but loss_type {self.loss_type!r} reads the scores of all "
                "candidates already; set loss_type: beams or leave score_weights out."
            )
        super().__post_init__()
