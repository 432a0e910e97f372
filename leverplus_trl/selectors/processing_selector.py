# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From stored embeddings of examples to the tensors that a selector reads."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from ..retrieval.embeddings import ExampleEmbeddings, refuse_repeated


class SelectorProcessor(ProcessorMixin):
    """
    Gathers, concatenates and pads the embeddings of queries and candidates. Features are `"image"`, `"text"` and, for
    candidates, `"answer"`; they are concatenated in the given order.
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
        The inputs of B queries with their candidates, which may differ in number: `query_embeds` `[B, D]`,
        `candidate_embeds` `[B, K, D]`, `candidate_mask` `[B, K]` and `candidate_rows` `[B, K]`, -1 for padding. Raises
        `ValueError` for an unknown id, a repeated candidate, or a feature without embeddings.
        """
        return self.assemble(queries, queries.rows(query_ids), pool, pad_rows(pool, candidate_ids))

    def assemble(
        self, queries: ExampleEmbeddings, query_rows: np.ndarray, pool: ExampleEmbeddings, candidate_rows: np.ndarray
    ) -> BatchFeature:
        """The same for row numbers: of queries `[B]`, of candidates `[B, K]` with -1 for padding."""
        candidate_embeds = self.fuse(pool, self.candidate_features, np.maximum(candidate_rows, 0))
        return BatchFeature(
            {
                "query_embeds": self.fuse(queries, self.query_features, query_rows),  # [B, D]
                "candidate_embeds": candidate_embeds,  # [B, K, D]
                "candidate_mask": torch.from_numpy(candidate_rows >= 0),  # [B, K]
                "candidate_rows": torch.from_numpy(candidate_rows),  # [B, K]
            }
        )

    def fuse(
        self, embeddings: ExampleEmbeddings, features: Sequence[str], rows: np.ndarray | slice = slice(None)
    ) -> torch.Tensor:
        """The concatenated features `[..., D]` of the examples in `rows` `[...]`, all by default."""
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
    """Row numbers `[B, K]` of lists of ids, padded with -1 on the right; raises `ValueError` for unknown and repeated
    ids."""
    rows = np.full((len(ids), max(map(len, ids), default=0)), -1, dtype=np.int64)
    for row, names in zip(rows, ids, strict=True):
        refuse_repeated(names, "A list")
        row[: len(names)] = pool.rows(names)
    return rows
