# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Similarity of examples: cosine similarity of questions, of images, or the sum of both.

faiss only makes a shortlist. Its scores are computed again in float64, row by row, so that the ranking depends neither
on the number of threads nor on the other queries of the call, and equal scores tie exactly.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import faiss
import numpy as np

from .embeddings import ROWS_AT_ONCE, ExampleEmbeddings, refuse_repeated
from .sampler_arguments import SIMILARITIES


SHORTLIST_MARGIN = 8
FAISS_ERROR = 1e-5  # more than the rounding error of a float32 inner product of unit vectors
LENGTH_ERROR = 1e-3  # of a unit vector


class SimilarityIndex:
    """
    Exact nearest neighbours in a pool, by faiss. `kind` is one of `SIMILARITIES`.

    Raises:
        `ValueError`: the kind is unknown, the pool lacks the embeddings it compares, or they are not of unit length.
    """

    def __init__(self, pool: ExampleEmbeddings, kind: str) -> None:
        self.kind = kind
        self.vectors = similarity_vectors(pool, kind)  # [N, D]
        self.index = faiss.IndexFlatIP(self.vectors.shape[1])
        self.index.add(self.vectors)

    def search(
        self,
        vectors: np.ndarray,
        k: int,
        excluded: Sequence[int | Sequence[int] | None] | None = None,
        query_ids: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        The k most similar examples of each query, the most similar first: positions in the pool `[Q, k]`, and float64
        scores `[Q, k]`.

        Args:
            vectors (`np.ndarray`):
                `[Q, D]` float32 vectors of [`similarity_vectors`].
            excluded (`Sequence[int | Sequence[int] | None]`, *optional*):
                Position, or positions, in the pool that are excluded for each query, or `None`.
            query_ids (`Sequence[str]`, *optional*):
                Seeds of the order of equal scores, see [`tie_order`]; defaults to the order of the pool.

        Raises:
            `ValueError`: vectors that are not float32, finite, of unit length and as wide as the pool's, different
                numbers of queries and vectors, or a pool of fewer than k examples.
        """
        excluded = [None] * len(vectors) if excluded is None else excluded
        excluded = [np.atleast_1d([] if own is None else own).astype(int) for own in excluded]
        size = len(self.vectors)
        self._check_search(vectors, k, excluded, query_ids)
        vectors = np.ascontiguousarray(vectors)
        positions, scores = np.empty((len(vectors), k), np.int64), np.empty((len(vectors), k), np.float64)
        # The excluded examples may be among the results of faiss.
        needed = min(k + max((1, *map(len, excluded))), size)
        width, pending = min(needed + SHORTLIST_MARGIN, size), np.arange(len(vectors))
        while pending.size:
            rough, shortlist = self.index.search(vectors[pending], width)  # [P, width] both
            # A shortlist is complete if its last score is clearly below the last needed score.
            complete = (rough[:, needed - 1] - rough[:, -1] > 2 * FAISS_ERROR) | (width == size)  # [P]
            for row, nearest in zip(pending[complete], shortlist[complete], strict=True):
                kept = np.sort(nearest[~np.isin(nearest, excluded[row])])
                if query_ids is not None:
                    kept = kept[np.argsort(tie_order(query_ids[row], size)[kept])]
                exact = inner_products(vectors[row], self.vectors[kept])
                order = np.argsort(-exact, kind="stable")[:k]
                positions[row], scores[row] = kept[order], exact[order]
            pending, width = pending[~complete], min(4 * width, size)
        return positions, scores

    def _check_search(
        self, vectors: np.ndarray, k: int, excluded: Sequence[np.ndarray], query_ids: Sequence[str] | None
    ) -> None:
        size = len(self.vectors)
        available = size - max((len(np.unique(positions)) for positions in excluded), default=0)
        if not isinstance(k, int) or not 1 <= k <= available:
            raise ValueError(
                f"Can't find {k} examples other than the query itself in a pool of {size}; expected 1 to {available}."
            )
        if not isinstance(vectors, np.ndarray):
            raise ValueError(f"The query vectors are a {type(vectors).__name__}; expected a float32 np.ndarray.")
        check_width(vectors, self.vectors)
        names = [f"query {row}" for row in range(len(vectors))] if query_ids is None else query_ids
        if not len(vectors) == len(excluded) == len(names):
            raise ValueError(
                f"Got {len(vectors)} query vectors, {len(excluded)} excluded positions and {len(names)} query ids; "
                "expected as many of each."
            )
        outside = [place for positions in excluded for place in positions.tolist() if not 0 <= place < size]
        if outside:
            raise ValueError(f"The excluded positions are {outside}; expected positions in a pool of {size}.")
        if vectors.dtype != np.float32:
            raise ValueError(f"The query vectors are {vectors.dtype}; expected float32, as the pool's.")
        check_lengths(vectors, names, self.kind, math.hypot(*SIMILARITIES[self.kind].values()))


def tie_order(query_id: str, size: int) -> np.ndarray:
    """
    A rank for each of `size` examples, which orders equal scores of a query: many examples may have the same question,
    and in the order of the pool every query would get the same few of them.
    """
    seed = hashlib.sha256(query_id.encode()).digest()
    return np.random.default_rng(int.from_bytes(seed, "big")).permutation(size)


def similarity_vectors(
    embeddings: ExampleEmbeddings, kind: str, rows: np.ndarray | None = None, weighted: bool = False
) -> np.ndarray:
    """
    The float32 vectors `[R, D]` of the examples in `rows` `[R]` (all by default), whose inner product with the
    `weighted` vector of a query is the similarity.

    Raises:
        `ValueError`: the kind is unknown, the embeddings it compares are missing, or a row is not of unit length.
    """
    if kind not in SIMILARITIES:
        raise ValueError(f"Unknown similarity {kind!r}; expected one of {', '.join(SIMILARITIES)}.")
    ids = embeddings.ids if rows is None else [embeddings.ids[row] for row in rows]
    parts = []
    for modality, weight in SIMILARITIES[kind].items():
        table = getattr(embeddings, modality)
        if table is None:
            other = {"image": "text_sim", "text": "image_sim"}[modality]
            owner = "the queries have" if weighted else "the pool has"
            raise ValueError(
                f"{kind} compares {modality} embeddings, but {owner} none; embed the {modality}s, or use {other} or "
                "random for a dataset without any."
            )
        part = table if rows is None else table[rows]
        check_lengths(part, ids, modality, 1.0)
        parts.append(weight * part if weighted else part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)  # [R, D_image + D_text]


def check_lengths(vectors: np.ndarray, names: Sequence[str], kind: str, length: float) -> None:
    """Raises `ValueError` for a vector of `[N, D]` that has another length, or NaN."""
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        part = vectors[start : start + ROWS_AT_ONCE]
        lengths = np.sqrt(np.einsum("nd,nd->n", part, part))  # [N]
        broken = np.flatnonzero(~(np.abs(lengths - length) <= LENGTH_ERROR))
        if broken.size:
            raise ValueError(
                f"The {kind} vector of {names[start + broken[0]]!r} has the length {lengths[broken[0]]:.6g}; expected "
                f"{length:.6g}, since similarity is the cosine of unit vectors. Normalise the embeddings; a vector "
                "that is NaN, infinite or zero has no cosine."
            )


def inner_products(vector: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products `[N]` of a vector `[D]` and rows `[N, D]` in float64; each is independent of the other rows."""
    return (rows.astype(np.float64) * vector.astype(np.float64)).sum(axis=1)


def check_width(queries: np.ndarray, pool: np.ndarray) -> None:
    """Raises `ValueError` if the widths of queries `[Q, D]` and pool `[N, D]` differ, so their encoders differ."""
    if queries.ndim != 2 or queries.shape[1] != pool.shape[1]:
        raise ValueError(
            f"Queries of shape {queries.shape} can't be compared with a pool of shape {pool.shape}; embed both with "
            "the same encoder."
        )


def query_vectors(
    queries: ExampleEmbeddings, query_ids: Sequence[str], pool: ExampleEmbeddings, kind: str
) -> np.ndarray:
    """The weighted [`similarity_vectors`] `[Q, D]` of queries; raises `ValueError` if the pool has other widths."""
    vectors = similarity_vectors(queries, kind, queries.rows(query_ids), weighted=True)
    similarity_vectors(pool, kind, pool.rows([]))  # refuses a pool without these embeddings
    for modality in SIMILARITIES[kind]:  # the sums of the widths may be equal
        check_width(getattr(queries, modality), getattr(pool, modality))
    return vectors


def similarity(
    queries: ExampleEmbeddings,
    query_ids: Sequence[str],
    pool: ExampleEmbeddings,
    candidate_ids: Sequence[Sequence[str]],
    kind: str,
) -> list[np.ndarray]:
    """
    The float64 similarities of each query to its own candidates, in their order. `kind` is one of `SIMILARITIES`.

    Raises:
        `ValueError`: an id or the kind is unknown, or embeddings are missing, not of unit length or of two encoders.
    """
    vectors = query_vectors(queries, query_ids, pool, kind)  # [Q, D]
    return [
        inner_products(vector, similarity_vectors(pool, kind, pool.rows(candidates)))
        for vector, candidates in zip(vectors, candidate_ids, strict=True)
    ]


def rank_candidates(
    queries: ExampleEmbeddings,
    query_ids: Sequence[str],
    pool: ExampleEmbeddings,
    candidate_ids: Sequence[Sequence[str]],
    kind: str,
) -> list[list[str]]:
    """
    The candidates of each query by [`similarity`], the most similar first; [`tie_order`] orders equal scores. Raises
    `ValueError` as [`similarity`], and for a repeated candidate.
    """
    ranked = []
    scores = similarity(queries, query_ids, pool, candidate_ids, kind)
    for query_id, candidates, candidate_scores in zip(query_ids, candidate_ids, scores, strict=True):
        refuse_repeated(candidates, f"The query {query_id!r}")
        ties = tie_order(query_id, len(pool.ids))[pool.rows(candidates)]
        order = np.lexsort((ties, -candidate_scores))
        ranked.append([candidates[position] for position in order])
    return ranked


def rank_pool(
    queries: ExampleEmbeddings,
    query_ids: Sequence[str],
    pool: ExampleEmbeddings,
    kind: str,
    k: int,
    excluded: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
    """
    The k examples of the pool that are most similar to each query, the most similar first; [`tie_order`] orders equal
    scores. The query itself and the ids that `excluded` names for it are left out. Raises `ValueError` as
    [`similarity`], and for a pool that is smaller than k.
    """
    vectors = query_vectors(queries, query_ids, pool, kind)  # [Q, D]
    own = [excluded_positions(query_id, pool, excluded) for query_id in query_ids]
    positions, _ = SimilarityIndex(pool, kind).search(vectors, k, own, query_ids)
    return [[pool.ids[position] for position in row] for row in positions]


def excluded_positions(
    query_id: str, pool: ExampleEmbeddings, excluded: Mapping[str, Sequence[str]] | None = None
) -> list[int]:
    """Positions in the pool of a query itself and of the ids that are excluded for it, in ascending order."""
    ids = {query_id, *(excluded or {}).get(query_id, ())}
    return sorted(pool.positions[example_id] for example_id in ids & pool.positions.keys())
