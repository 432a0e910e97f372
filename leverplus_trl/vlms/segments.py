# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Pieces of prompts as tensors: the cache that keeps them, and the batches that they run in."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from .prompts import Piece
from .tokenization import Ends


logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Segment:
    """A piece of a prompt, ready for the model."""

    tokens: dict[str, list[int]]  # `input_ids` and the processor's other outputs with a value per token
    images: dict[str, torch.Tensor] = field(default_factory=dict)  # of the processor or the vision tower
    position_ids: np.ndarray | None = None  # [axes, L] from the segment's start, for several position axes
    images_key: tuple[str, ...] = ()  # the key of images that are encoded ahead; `images` is empty then
    make: Callable[[], Piece] | None = None  # makes the piece again, if its features were dropped, while a unit runs
    ends: Ends | None = None  # of its text, if it may be joined with others
    key: tuple = ()  # differs from the keys of the other segments that can follow the same prefix

    def __len__(self) -> int:
        return len(self.tokens["input_ids"])

    @property
    def num_bytes(self) -> int:
        return 64 * len(self) + sum(tensor.nbytes for tensor in self.images.values())

    @property
    def num_positions(self) -> int:
        return len(self) if self.position_ids is None else int(self.position_ids.max()) + 1

    def positions(self, num_axes: int) -> np.ndarray:
        """Positions of the tokens, `(num_axes, L)`, from the segment's start."""
        return np.tile(np.arange(len(self)), (num_axes, 1)) if self.position_ids is None else self.position_ids


def num_tokens(row: Sequence[Segment]) -> int:
    """Length of a prompt."""
    return sum(len(segment) for segment in row)


class ByteCache:
    """Values by key. The least recently used values are dropped when all together exceed `max_bytes`."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._held: OrderedDict[tuple, tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: tuple) -> Any | None:
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: tuple, value: Any, num_bytes: int) -> None:
        self.num_bytes += num_bytes - self._held.pop(key, (None, 0))[1]
        self._held[key] = value, num_bytes
        while self.num_bytes > self.max_bytes and len(self._held) > 1:
            self.num_bytes -= self._held.popitem(last=False)[1][1]


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch might fit."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def run_or_halve(run: Callable[[Sequence[Any]], Sequence[Any]], batch: Sequence[Any]) -> list[Any]:
    """`run(batch)`, a result for each item; in halves, with a warning, if the batch does not fit into memory."""
    try:
        return list(run(batch))
    except Exception as error:
        if not is_out_of_memory(error) or len(batch) == 1:
            raise
    clear_device_cache()
    logger.warning("Out of memory with a batch of %d; trying halves. Lower memory_mb or max_batch_tokens.", len(batch))
    half = len(batch) // 2
    return [*run_or_halve(run, batch[:half]), *run_or_halve(run, batch[half:])]


def run_padded_batches(
    run: Callable[[Sequence[int]], Sequence[Any]], lengths: Sequence[int], max_tokens: int, padded: bool = True
) -> list[Any]:
    """Results of `run`, which takes positions of `lengths`, in the batches of [`plan_padded_batches`]."""
    results = {}
    for batch in plan_padded_batches(lengths, max_tokens, padded):
        results |= zip(batch, run_or_halve(run, batch), strict=True)
    return [results[position] for position in range(len(lengths))]


def plan_padded_batches(lengths: Sequence[int], max_tokens: int, padded: bool = True) -> list[list[int]]:
    """Positions of `lengths` in batches of similar length (or of equal length, without `padded`), each of at most
    `max_tokens` with its padding unless it is a single entry. The plan depends on the lengths alone."""
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        fits = batches and (len(batches[-1]) + 1) * lengths[position] <= max_tokens
        if fits and (padded or lengths[batches[-1][0]] == lengths[position]):
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches
