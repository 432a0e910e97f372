# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""What the datasets of selectors share: queries with their candidates as tensors, a batch by a few index operations;
and the order in which they are learned from."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..retrieval.embeddings import ExampleEmbeddings
from ..selectors.processing_selector import SelectorProcessor, pad_rows


class BaseSelectorDataset(Dataset):
    """
    Queries and their candidates; what is learned about them is added by [`~BaseSelectorDataset.targets`].

    Args:
        query_ids (`Sequence[str]`):
            The Q queries.
        candidate_ids (`Sequence[Sequence[str]]`):
            Candidates of each query; may differ in number.
        queries ([`ExampleEmbeddings`]):
            Embeddings that hold the queries.
        pool ([`ExampleEmbeddings`]):
            Embeddings that hold the candidates.
        processor ([`SelectorProcessor`]):
            Puts features together.

    Raises:
        `ValueError`: an id without embedding, e.g. of a candidate that is not in the pool.
    """

    def __init__(
        self,
        query_ids: Sequence[str],
        candidate_ids: Sequence[Sequence[str]],
        queries: ExampleEmbeddings,
        pool: ExampleEmbeddings,
        processor: SelectorProcessor,
    ):
        self.query_ids = list(query_ids)
        self.queries, self.pool, self.processor = queries, pool, processor
        self.query_rows = queries.rows(self.query_ids)  # [Q]
        self.candidate_rows = pad_rows(pool, candidate_ids)  # [Q, K]

    @abstractmethod
    def targets(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is learned about the queries at `rows` `[B]`."""

    def __len__(self) -> int:
        return len(self.query_ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once; PyTorch's data loader asks for it if it is there."""
        batch = self.processor.assemble(
            self.queries, self.query_rows[indices], self.pool, self.candidate_rows[indices]
        )  # query_embeds [B, D], candidate_embeds [B, K, D], candidate_mask [B, K], candidate_rows [B, K]
        swapped = self.query_rows[(np.array(indices) + 1) % len(self)]  # [B]
        return {
            **batch,
            # the next query, over the same candidates: does the selector read the query at all?
            "swapped_query_embeds": self.processor.fuse(self.queries, self.processor.query_features, swapped),
            **self.targets(torch.tensor(indices)),
        }


def candidate_positions(query_id: str, candidate_ids: Sequence[str]) -> dict[str, int]:
    """Where each candidate of a query stands; raises `ValueError` if one comes twice: it could be chosen twice."""
    found = {name: position for position, name in enumerate(candidate_ids)}
    if len(found) < len(candidate_ids):
        twice = next(name for position, name in enumerate(candidate_ids) if found[name] != position)
        raise ValueError(
            f"The query {query_id!r} has the candidate {twice!r} more than once; expected different candidates. The "
            "table is damaged, make it again."
        )
    return found


class RepeatedBlocks(Sampler[int]):
    """
    Queries in random order, cut into blocks of what one optimizer step takes, each block several times in a row.

    All blocks are full: the last one of an epoch is filled up with queries from the beginning of the epoch.

    Args:
        num_queries (`int`):
            Q.
        block_size (`int`):
            Queries of one optimizer step, over all processes and accumulated micro-batches.
        num_iterations (`int`):
            How often each block comes.
        seed (`int`):
            Seed of the order.
        epoch (`Callable[[], int]`):
            Tells which epoch begins; each has an order of its own, also after a resume.
    """

    def __init__(self, num_queries: int, block_size: int, num_iterations: int, seed: int, epoch: Callable[[], int]):
        self.num_queries, self.block_size, self.num_iterations = num_queries, block_size, num_iterations
        self.seed, self.epoch = seed, epoch

    @property
    def num_blocks(self) -> int:
        return -(-self.num_queries // self.block_size)

    def __len__(self) -> int:
        return self.num_blocks * self.block_size * self.num_iterations

    def order(self) -> np.ndarray:
        """All queries `[Q]` in the order of this epoch."""
        return np.random.default_rng([self.seed, self.epoch()]).permutation(self.num_queries)

    def __iter__(self) -> Iterator[int]:
        blocks = np.resize(
            self.order(), (self.num_blocks, self.block_size)
        )  # what is missing is taken from the beginning
        for block in blocks.tolist():
            for _ in range(self.num_iterations):
                yield from block


class ShuffledBlocks(RepeatedBlocks):
    """Full blocks in the order in which transformers shuffles: what a step sees does not depend on how many processes
    and micro-batches it is split over."""

    def order(self) -> np.ndarray:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        return torch.randperm(self.num_queries, generator=generator).numpy()  # [Q]
