# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Keys and values of prefixes in one block of memory, and the attention that reads them there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface


#: Name of the attention in `config._attn_implementation`, for as long as a batch of spans runs.
TRIE_ATTENTION = "leverplus_trie"


class CantShare(Exception):
    """A model that does not let its prefixes be shared; its message says why."""


class KVPool:
    """A fixed number of slots (`capacity`), each for the keys and values of one token in every layer. Slot 0 is never
    handed out and holds zeros: padding reads it. `kind` is the dtype and device."""

    def __init__(self, capacity: int, num_layers: int, num_heads: int, head_dim: int, **kind: Any):
        self.capacity, self.num_heads, self.head_dim = capacity, num_heads, head_dim
        # [layers, slots, heads * dim] each
        self.keys, self.values = torch.empty((2, num_layers, capacity, num_heads * head_dim), **kind)
        self.keys[:, 0], self.values[:, 0] = 0, 0
        self.clear()

    def clear(self) -> None:
        """Takes all slots back."""
        self._free = np.arange(self.capacity - 1, 0, -1)
        self.num_free = self.capacity - 1

    def take(self, count: int) -> np.ndarray:
        """Slots for `count` tokens; they must be free."""
        assert count <= self.num_free
        self.num_free -= count
        return self._free[self.num_free : self.num_free + count][::-1].copy()

    def give_back(self, slots: np.ndarray) -> None:
        self._free[self.num_free : self.num_free + len(slots)] = slots[::-1]
        self.num_free += len(slots)

    def gather(self, block: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Keys or values `(B, heads, L, dim)` of a layer's `block` in the slots of `index`, `(B, L)`."""
        rows = block.index_select(0, index.flatten())  # [B * L, heads * dim]
        return rows.view(*index.shape, self.num_heads, self.head_dim).transpose(1, 2)


@dataclass
class TrieBatch:
    """T tokens of B spans in a row without padding, and the slots that they attend to."""

    pool: KVPool
    slots: torch.Tensor  # [T], of the new tokens' keys and values
    kv_index: torch.Tensor  # [B, L], slots of each span's prefix and own tokens; padding is 0
    query_index: torch.Tensor | None  # [B, N], new tokens of each span; padding is 0. None if all have one length
    token_index: torch.Tensor  # [T], the place of each token among the B * N
    mask: torch.Tensor  # [B, 1, N, L], added to the attention scores
    num_layers_run: int = 0  # layers that have attended through it


def make_batch(
    pool: KVPool, prefixes: Sequence[np.ndarray], lengths: Sequence[int], slots: np.ndarray, dtype: torch.dtype
) -> TrieBatch:
    """The batch of spans with the given slots of their prefixes and numbers of new tokens; `slots` are for these."""
    before, new = np.array([len(prefix) for prefix in prefixes]), np.array(lengths)
    rows, width, whole = len(new), int(new.max()), int((before + new).max())
    starts = np.concatenate([[0], np.cumsum(new)[:-1]])
    kv_index = np.zeros((rows, whole), dtype=np.int64)
    query_index = np.zeros((rows, width), dtype=np.int64)
    for row, (prefix, start, length) in enumerate(zip(prefixes, starts, new, strict=True)):
        kv_index[row, : len(prefix)] = prefix
        kv_index[row, len(prefix) : len(prefix) + length] = slots[start : start + length]
        query_index[row, :length] = np.arange(start, start + length)
    inside = np.arange(width) < new[:, None]  # [B, N]
    seen = np.arange(whole) <= (before[:, None] + np.arange(width))[:, :, None]  # [B, N, L]
    device = pool.keys.device

    def move(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    mask = torch.zeros((rows, 1, width, whole), dtype=dtype, device=device)
    mask.masked_fill_(~move(seen)[:, None], torch.finfo(dtype).min)
    query_index = None if inside.all() else move(query_index)
    return TrieBatch(pool, move(slots), move(kv_index), query_index, move(np.flatnonzero(inside)), mask)


def trie_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    trie_batch: TrieBatch | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """
    An attention function of transformers: the tokens of a [`TrieBatch`] attend to their prefixes and themselves.

    `query` `(1, heads, T, dim)`, `key` and `value` `(1, key-value heads, T, dim)` are of the new tokens, rotated.
    Returns the result, `(1, T, heads, dim)`, and no weights.
    """
    if trie_batch is None:
        raise CantShare("its decoder does not hand extra arguments to attention")
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise CantShare(f"its attention has {name}")
    batch, pool, layer = trie_batch, trie_batch.pool, module.layer_idx
    batch.num_layers_run += 1
    num_heads, num_tokens, dim = query.shape[1:]
    if (key.shape[1], key.shape[3]) != (pool.num_heads, pool.head_dim) or value.shape != key.shape:
        raise CantShare(f"its keys are {tuple(key.shape)} and values {tuple(value.shape)}")
    rows, whole = batch.kv_index.shape
    groups, blocks = num_heads // pool.num_heads, []
    for block, states in ((pool.keys[layer], key), (pool.values[layer], value)):
        block.index_copy_(0, batch.slots, states[0].transpose(0, 1).reshape(num_tokens, -1))
        states = pool.gather(block, batch.kv_index)  # [B, key-value heads, L, dim]
        if groups > 1:  # a kernel that takes fewer key heads takes no mask on CUDA
            states = states[:, :, None].expand(-1, -1, groups, -1, -1).reshape(rows, num_heads, whole, dim)
        blocks.append(states)
    width = batch.mask.shape[2]
    states = query[0].transpose(0, 1)  # [T, heads, dim]
    if batch.query_index is not None:
        states = states.index_select(0, batch.query_index.flatten())
    states = states.view(rows, width, num_heads, dim).transpose(1, 2)  # [B, heads, N, dim]
    out = F.scaled_dot_product_attention(states, *blocks, attn_mask=batch.mask, scale=scaling)
    out = out.transpose(1, 2)  # [B, N, heads, dim]
    if batch.query_index is not None:
        out = out.reshape(rows * width, num_heads, dim).index_select(0, batch.token_index)
    return out.reshape(1, num_tokens, num_heads, dim), None


AttentionInterface.register(TRIE_ATTENTION, trie_attention)
