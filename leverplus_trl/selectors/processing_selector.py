# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
From stored embeddings of examples to the tensors a selector reads: the one place where features are put together.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from ..retrieval.embeddings import ExampleEmbeddings


class SelectorProcessor(ProcessorMixin):
    """
    Gathers, concatenates and pads the embeddings of queries and candidates.

    Args:
        query_features (`list[str]`, *optional*, defaults to `["image", "text"]`):
            Embeddings that describe the query, in the order in which they are concatenated.
        candidate_features (`list[str]`, *optional*, defaults to `["image", "text"]`):
            Embeddings that describe a candidate, of `"image"`, `"text"` and `"answer"`; may be empty.
    """

    def __init__(
        self, query_features: Sequence[str] = ("image", "text"), candidate_features: Sequence[str] = ("image", "text")
    ):
        self.query_features = list(query_features)
        self.candidate_features = list(candidate_features)
        super().__init__()

    def __call__(
        self,
        queries: ExampleEmbeddings,
        query_ids: Sequence[str],
        pool: ExampleEmbeddings,
        candidate_ids: Sequence[Sequence[str]],
    ) -> BatchFeature:
        """
        Args:
            queries ([`ExampleEmbeddings`]):
                Embeddings that hold the queries.
            query_ids (`Sequence[str]`):
                The B queries.
            pool ([`ExampleEmbeddings`]):
                Embeddings that hold the candidates.
            candidate_ids (`Sequence[Sequence[str]]`):
                Candidates of each query; may differ in number.

        Returns:
            `BatchFeature`: `query_embeds` `[B, D]`, `candidate_embeds` `[B, K, D]`, `candidate_mask` `[B, K]` and
            `candidate_rows` `[B, K]`, -1 for padding.

        Raises:
            `ValueError`: an id is unknown, or embeddings that are features are missing.
        """
        return self.assemble(queries, queries.rows(query_ids), pool, pad_rows(pool, candidate_ids))

    def assemble(
        self, queries: ExampleEmbeddings, query_rows: np.ndarray, pool: ExampleEmbeddings, candidate_rows: np.ndarray
    ) -> BatchFeature:
        """The same for row numbers: of queries `[B]`, of candidates `[B, K]` with -1 for padding."""
        return BatchFeature(
            {
                "query_embeds": self.fuse(queries, self.query_features, query_rows),  # [B, D]
                "candidate_embeds": self.fuse(
                    pool, self.candidate_features, np.maximum(candidate_rows, 0)
                ),  # [B, K, D]
                "candidate_mask": torch.from_numpy(candidate_rows >= 0),  # [B, K]
                "candidate_rows": torch.from_numpy(candidate_rows),  # [B, K]
            }
        )

    def fuse(
        self, embeddings: ExampleEmbeddings, features: Sequence[str], rows: np.ndarray | slice = slice(None)
    ) -> torch.Tensor:
        """
        Features of some examples, concatenated.

        Args:
            embeddings ([`ExampleEmbeddings`]):
                Where they stand.
            features (`Sequence[str]`):
                Which, of `"image"`, `"text"` and `"answer"`.
            rows (`np.ndarray`, *optional*, defaults to all):
                Row numbers of any shape `[...]`.

        Returns:
            `torch.FloatTensor` of shape `[..., D]`.
        """
        if not features:
            return torch.zeros((*np.arange(len(embeddings.ids))[rows].shape, 0))  # [..., 0]
        parts = []
        for name in features:
            table = getattr(embeddings, name)
            if table is None:
                raise ValueError(
                    f"The selector reads {name} embeddings, but there are none; embed the {name}s, or train a "
                    f"selector without {name!r} in its features."
                )
            parts.append(table[rows])
        return torch.from_numpy(np.concatenate(parts, axis=-1, dtype=np.float32))


def pad_rows(pool: ExampleEmbeddings, ids: Sequence[Sequence[str]]) -> np.ndarray:
    """
    Row numbers `[B, K]` of ragged lists of ids, padded with -1 on the right.

    Raises:
        `ValueError`: an id is unknown, or comes twice in a list: a selector could choose it twice.
    """
    for names in ids:
        if len(set(names)) < len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise ValueError(f"The candidate {twice!r} comes more than once in a list; expected different candidates.")
    rows = np.full((len(ids), max(map(len, ids), default=0)), -1, dtype=np.int64)
    for row, names in zip(rows, ids, strict=True):
        row[: len(names)] = pool.rows(names)
    return rows
