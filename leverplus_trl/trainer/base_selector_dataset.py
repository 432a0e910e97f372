# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The shared part of the trainers' datasets: queries and candidates as tensors, and the order of training."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..beams.beam_search import selection_order
from ..retrieval.embeddings import ExampleEmbeddings
from ..selectors.processing_selector import SelectorProcessor, pad_rows


class BaseSelectorDataset(Dataset):
    """
    Queries and candidates, with the labels that a trainer learns from.

    Args:
        query_ids, candidate_ids (`Sequence[str]`, `Sequence[Sequence[str]]`):
            The Q queries, and the candidates of each query; their number may differ.
        queries, pool ([`ExampleEmbeddings`]):
            Embeddings of the queries and of the candidates; `ValueError` for an id without an embedding.
        processor ([`SelectorProcessor`]):
            Joins the features of an example.
        labels ([`ScoredPrefixes`] or [`RolloutGroups`]):
            Tensors whose first dimension is Q.
    """

    #: The tensors of `labels` that a batch holds.
    label_names: tuple[str, ...]

    def __init__(
        self,
        query_ids: Sequence[str],
        candidate_ids: Sequence[Sequence[str]],
        queries: ExampleEmbeddings,
        pool: ExampleEmbeddings,
        processor: SelectorProcessor,
        labels: Any,
    ):
        self.query_ids, self.labels = list(query_ids), labels
        self.queries, self.pool, self.processor = queries, pool, processor
        self.query_rows = queries.rows(self.query_ids)  # [Q]
        self.candidate_rows = pad_rows(pool, candidate_ids)  # [Q, K]

    def __len__(self) -> int:
        return len(self.query_ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch; the data loader of PyTorch calls this method if a dataset has it."""
        batch = self.processor.assemble(
            self.queries, self.query_rows[indices], self.pool, self.candidate_rows[indices]
        )  # query_embeds [B, D], candidate_embeds [B, K, D], candidate_mask [B, K], candidate_rows [B, K]
        # The next query over the same candidates shows whether the selector reads the query.
        swapped = self.query_rows[(np.array(indices) + 1) % len(self)]  # [B]
        batch["swapped_query_embeds"] = self.processor.fuse(self.queries, self.processor.query_features, swapped)
        return batch | {name: getattr(self.labels, name)[torch.tensor(indices)] for name in self.label_names}


def candidate_positions(query_id: str, candidate_ids: Sequence[str]) -> dict[str, int]:
    """The position of each candidate of a query; raises `ValueError` for a candidate that is listed twice."""
    positions = {name: position for position, name in enumerate(candidate_ids)}
    if len(positions) < len(candidate_ids):
        twice = next(name for position, name in enumerate(candidate_ids) if positions[name] != position)
        raise ValueError(
            f"The query {query_id!r} has the candidate {twice!r} more than once; expected different candidates. The "
            "table is damaged, make it again."
        )
    return positions


def picked_positions(query_id: str, ids: Sequence[str], positions: dict[str, int], insertion: str) -> list[int]:
    """A sequence in prompt order as [`candidate_positions`] in selection order; raises `ValueError` for an id that is
    not among the candidates."""
    try:
        return [positions[name] for name in selection_order(ids, insertion)]
    except KeyError as error:
        raise ValueError(
            f"The sequence {list(ids)} of the query {query_id!r} holds {error.args[0]!r}, which is not among its "
            "candidates: the table is damaged, or joins runs with different candidates. Make it again."
        ) from None


class RepeatedBlocks(Sampler[int]):
    """
    Queries in random order, cut into blocks of `block_size` queries (of one optimizer step, over all processes and
    accumulated micro-batches); each block comes `num_iterations` times in a row.

    All blocks are full: the last block of an epoch is filled up with queries from the beginning of the epoch. `epoch`
    returns the number of the epoch that begins: each epoch has its own order, also after a resume.
    """

    def __init__(self, num_queries: int, block_size: int, num_iterations: int, seed: int, epoch: Callable[[], int]):
        self.num_queries, self.block_size, self.num_iterations = num_queries, block_size, num_iterations
        self.seed, self.epoch = seed, epoch
        self.num_blocks = -(-num_queries // block_size)

    def __len__(self) -> int:
        return self.num_blocks * self.block_size * self.num_iterations

    def order(self) -> np.ndarray:
        """All queries `[Q]` in the order of this epoch."""
        return np.random.default_rng([self.seed, self.epoch()]).permutation(self.num_queries)

    def __iter__(self) -> Iterator[int]:
        # `resize` repeats the order from its beginning.
        for block in np.resize(self.order(), (self.num_blocks, self.block_size)).tolist():
            for _ in range(self.num_iterations):
                yield from block


class ShuffledBlocks(RepeatedBlocks):
    """Full blocks in the order in which transformers shuffles. The queries of a step do not depend on the number of
    processes and micro-batches."""

    def order(self) -> np.ndarray:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        return torch.randperm(self.num_queries, generator=generator).numpy()  # [Q]
