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

import os
from dataclasses import dataclass, field

from transformers import TrainingArguments


LOSS_TYPES = ("listwise", "beams")
SCORE_WEIGHTS = ("none", "softmax")


def take_launched_precision(args: TrainingArguments) -> None:
    """Writes the precision that `accelerate launch` chose into arguments that name none: transformers would train in
    it without saying so, and under DeepSpeed refuse the difference."""
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched in ("bf16", "fp16") and not (args.bf16 or args.fp16):
        setattr(args, launched, True)


@dataclass
class SelectorSFTConfig(TrainingArguments):
    """
    Arguments of [`SelectorSFTTrainer`]: those of `transformers.TrainingArguments`, some with other defaults, and
    these.

    Args:
        loss_type (`str`, *optional*, defaults to `"listwise"`):
            `"listwise"`: cross-entropy to softmax(score / tau) over all candidates that were scored after a prefix;
            `"beams"`: cross-entropy to the members of the best beams.
        tau (`float`, *optional*, defaults to 0.03):
            Temperature of the targets, on the scale of the scores. For `score: logprob` about ten times as much.
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
    # What follows are other defaults for fields of TrainingArguments: a selector is small and trains from scratch.
    learning_rate: float = field(default=3e-3, metadata={"help": "Highest learning rate."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "How the learning rate changes."})
    warmup_steps: float = field(default=0.05, metadata={"help": "Warm-up: steps, or a share of all below 1."})
    weight_decay: float = field(default=1.0, metadata={"help": "Weight decay of matrices."})
    num_train_epochs: float = field(default=50.0, metadata={"help": "How often each query is seen."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Queries in a batch, on each device."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "The same while evaluating."})
    eval_strategy: str = field(default="steps", metadata={"help": "When to evaluate: no | steps | epoch."})
    eval_steps: float = field(default=0.1, metadata={"help": "Steps between evaluations, or a share of all below 1."})
    save_strategy: str = field(default="steps", metadata={"help": "When to save: no | steps | epoch | best."})
    save_steps: float = field(default=0.1, metadata={"help": "Steps between checkpoints, or a share of all below 1."})
    save_total_limit: int = field(default=1, metadata={"help": "Checkpoints kept, besides the best one."})
    logging_steps: float = field(default=0.02, metadata={"help": "Steps between logs, or a share of all below 1."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best checkpoint, not the last."})
    metric_for_best_model: str = field(
        default="eval_regret", metadata={"help": "What the best checkpoint is best in."}
    )
    greater_is_better: bool = field(default=False, metadata={"help": "Whether more of it is better."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Without effect: batches are gathered from tensors, not from columns."}
    )
    hub_strategy: str = field(default="end", metadata={"help": "A selector is pushed once, when it is trained: end."})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Whether batches go to pinned memory."})

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
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor has no effect on selectors; set label_smoothing.")
        if self.hub_strategy != "end":
            raise ValueError(
                f"hub_strategy is {self.hub_strategy!r}, but a selector is pushed once, when it is trained: leave it "
                "out."
            )
        take_launched_precision(self)
        super().__post_init__()
