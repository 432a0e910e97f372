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


"""What the arguments of all selectors' trainers share."""

import os
from dataclasses import dataclass, field

from transformers import TrainingArguments


def take_launched_precision(args: TrainingArguments) -> None:
    """Writes the precision that `accelerate launch` chose into arguments that name none: transformers would train in
    it without saying so, and under DeepSpeed refuse the difference."""
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched in ("bf16", "fp16") and not (args.bf16 or args.fp16):
        setattr(args, launched, True)


@dataclass
class BaseSelectorTrainingConfig(TrainingArguments):
    """
    `transformers.TrainingArguments` with other defaults, since a selector is small.

    Raises:
        `ValueError`: an argument that has no effect here, or that would lose gradients.
    """

    lr_scheduler_type: str = field(default="cosine", metadata={"help": "How the learning rate changes."})
    warmup_steps: float = field(default=0.05, metadata={"help": "Warm-up: steps, or a share of all below 1."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Queries in a batch, on each device."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "The same while evaluating."})
    eval_strategy: str = field(default="steps", metadata={"help": "When to evaluate: no | steps | epoch."})
    eval_steps: float = field(default=0.1, metadata={"help": "Steps between evaluations, or a share of all below 1."})
    save_strategy: str = field(default="steps", metadata={"help": "When to save: no | steps | epoch | best."})
    save_steps: float = field(default=0.1, metadata={"help": "Steps between checkpoints, or a share of all below 1."})
    save_total_limit: int = field(default=1, metadata={"help": "Checkpoints kept, besides the best one."})
    logging_steps: float = field(default=0.02, metadata={"help": "Steps between logs, or a share of all below 1."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best checkpoint, not the last."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Without effect: batches are gathered from tensors, not from columns."}
    )
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Whether batches go to pinned memory."})
    hub_strategy: str = field(default="end", metadata={"help": "A selector is pushed once, when it is trained: end."})

    def __post_init__(self):
        if self.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor has no effect on selectors; leave it out (in `sft`, set label_smoothing)."
            )
        if self.hub_strategy != "end":
            raise ValueError(
                f"hub_strategy is {self.hub_strategy!r}, but a selector is pushed once, when it is trained: leave it "
                "out."
            )
        take_launched_precision(self)
        super().__post_init__()
        if (self.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError(
                "use_reentrant is true, but the inputs of a frozen encoder's layers need no gradients, and their "
                "adapters would then get none: leave it out of gradient_checkpointing_kwargs."
            )
        # With several GPUs and one process transformers would cut each batch into parts by `DataParallel`, and count
        # `per_device_train_batch_size` once a GPU. A selector is too small to gain by it; more GPUs are for more
        # processes.
        self._n_gpu = min(self.n_gpu, 1)
