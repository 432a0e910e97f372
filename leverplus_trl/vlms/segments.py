# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Pieces of prompts as tensors, how long they are kept, and how many make a batch."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .boundaries import Ends
from .out_of_memory import run_or_halve
from .prompts import Piece


@dataclass(eq=False)
class Segment:
    """A piece of a prompt, ready for the model."""

    tokens: dict[str, list[int]]  # `input_ids` and the processor's other outputs of a value per token
    images: dict[str, torch.Tensor] = field(default_factory=dict)  # of the processor or the vision tower
    position_ids: np.ndarray | None = None  # [axes, L] from the segment's start, for several position axes
    images_key: tuple[str, ...] = ()  # the key of images that are encoded ahead; `images` is empty then
    make: Callable[[], Piece] | None = None  # makes the piece again, if its features were dropped, while a unit runs
    ends: Ends | None = None  # of its text, if it may stand beside others

    def __len__(self) -> int:
        return len(self.tokens["input_ids"])

    @property
    def num_bytes(self) -> int:
        return 64 * len(self) + sum(tensor.nbytes for tensor in self.images.values())

    @property
    def num_positions(self) -> int:
        """Positions that the segment takes up."""
        return len(self) if self.position_ids is None else int(self.position_ids.max()) + 1

    def positions(self, num_axes: int) -> np.ndarray:
        """Positions of the tokens, `(num_axes, L)`, from the segment's start."""
        return np.tile(np.arange(len(self)), (num_axes, 1)) if self.position_ids is None else self.position_ids


class ByteCache:
    """Values by key, the least recently used leaving when their bytes exceed the bound."""

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
        if key in self._held:
            self.num_bytes -= self._held.pop(key)[1]
        self._held[key] = value, num_bytes
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes and len(self._held) > 1:
            self.num_bytes -= self._held.popitem(last=False)[1][1]


def num_tokens(row: list[Segment]) -> int:
    """Length of a prompt."""
    return sum(len(segment) for segment in row)


def cat_padded(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Rows one after the other, smaller ones padded with zeros: what processors do with images of several sizes."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    padded = []
    for tensor in tensors:
        missing = [
            pad for size, full in zip(tensor.shape[:0:-1], reversed(shape), strict=True) for pad in (0, full - size)
        ]
        padded.append(torch.nn.functional.pad(tensor, missing) if any(missing) else tensor)
    return torch.cat(padded)


def run_padded_batches(
    run: Callable[[Sequence[int]], Sequence[Any]], lengths: Sequence[int], max_tokens: int, padded: bool = True
) -> list[Any]:
    """Results of `run`, which takes positions of `lengths`, in the batches of [`plan_padded_batches`]."""
    batches = plan_padded_batches(lengths, max_tokens, padded)
    found = {i: result for batch in batches for i, result in zip(batch, run_or_halve(run, batch), strict=True)}
    return [found[i] for i in range(len(lengths))]


def plan_padded_batches(lengths: Sequence[int], max_tokens: int, padded: bool = True) -> list[list[int]]:
    """
    Positions of `lengths` in batches of near-equal length whose padded size stays within `max_tokens`; of equal length
    without `padded`.

    The plan depends on the lengths alone; ties go by position. An entry longer than the budget is a batch by itself.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        # Sorted by length, so the newcomer is the longest.
        fits = batches and (len(batches[-1]) + 1) * lengths[position] <= max_tokens
        if fits and (padded or lengths[batches[-1][0]] == lengths[position]):
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches
