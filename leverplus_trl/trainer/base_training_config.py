# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""What the arguments of all selectors' trainers share."""

import os
from dataclasses import dataclass

from transformers import TrainingArguments

from .training_fields import TrainingFields


def take_launched_precision(args: TrainingArguments) -> None:
    """Writes the precision that `accelerate launch` chose into arguments that name none: transformers would train in
    it without saying so, and under DeepSpeed refuse the difference."""
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched in ("bf16", "fp16") and not (args.bf16 or args.fp16):
        setattr(args, launched, True)


@dataclass
class BaseSelectorTrainingConfig(TrainingFields, TrainingArguments):
    """
    `transformers.TrainingArguments` with other defaults, since a selector is small.

    Raises:
        `ValueError`: an argument that has no effect here, or that would lose gradients.
    """

    def __post_init__(self):
        self.check()
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
