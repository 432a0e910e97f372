# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Batches that do not fit into memory."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size


logger = logging.getLogger(__name__)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch might fit."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def run_or_halve(run: Callable[[Sequence[Any]], Sequence[Any]], batch: Sequence[Any]) -> list[Any]:
    """`run(batch)`, a result for each item; in halves, with a warning, if it does not fit into memory."""
    try:
        return list(run(batch))
    except Exception as error:
        if not is_out_of_memory(error) or len(batch) == 1:
            raise
    clear_device_cache()
    logger.warning("Out of memory with a batch of %d; trying halves. Lower memory_mb or max_batch_tokens.", len(batch))
    half = len(batch) // 2
    return [*run_or_halve(run, batch[:half]), *run_or_halve(run, batch[half:])]
