# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Arguments of supervised training of selectors, and what all trainers of selectors share of them."""

import os
from dataclasses import dataclass

from transformers import TrainingArguments

from ..fields import documented
from .training_fields import SFTFields, TrainingFields


@dataclass
class BaseSelectorTrainingConfig(TrainingFields, TrainingArguments):
    """`transformers.TrainingArguments` with other defaults, since a selector is small. Raises `ValueError` for an
    argument that has no effect here, or that would lose gradients."""

    def __post_init__(self):
        self.check()
        # transformers would train in the precision of `accelerate launch` in silence, and refuse it under DeepSpeed.
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if launched in ("bf16", "fp16") and not (self.bf16 or self.fp16):
            setattr(self, launched, True)
        super().__post_init__()
        if (self.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError(
                "use_reentrant is true, but the inputs of a frozen encoder's layers need no gradients, and their "
                "adapters would then get none: leave it out of gradient_checkpointing_kwargs."
            )
        # With several GPUs in a process, transformers would split each batch by `DataParallel`, and count
        # `per_device_train_batch_size` once a GPU. Further GPUs need further processes.
        self._n_gpu = min(self.n_gpu, 1)


@documented
@dataclass
class SelectorSFTConfig(SFTFields, BaseSelectorTrainingConfig):
    """Arguments of [`SelectorSFTTrainer`]: `transformers.TrainingArguments` with other defaults, and these."""
