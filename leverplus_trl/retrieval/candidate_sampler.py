# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The K candidates of each query, in the order of the sampler's sources: random, or the most similar first."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence

import numpy as np
from datasets import Dataset

from .embeddings import ExampleEmbeddings, embed_examples
from .sampler_arguments import RANDOM, SAMPLERS, SIMILARITIES, SamplerArguments, sampler_modalities
from .similarity_index import SimilarityIndex, excluded_positions, query_vectors


logger = logging.getLogger(__name__)


class CandidateSampler:
    """
    Draws `num_candidates` (K) candidates of each query from a pool; for `random`, the ids of the pool are enough. They
    depend only on the pool, the sampler, K, the seed and the query, not on the other queries or on the process.

    Each source of a sampler (one of `SAMPLERS`) gives its share of K, rounded down, and the first source the rest.
    Examples of an earlier source are skipped, so that the K candidates differ.

    Raises:
        `ValueError`: an unknown sampler, a repeated id, fewer examples than K, or missing embeddings.
    """

    def __init__(
        self, pool: ExampleEmbeddings | Sequence[str], sampler: str, num_candidates: int, seed: int = 0
    ) -> None:
        check_sampler(sampler, num_candidates)
        self.pool = pool if isinstance(pool, ExampleEmbeddings) else ExampleEmbeddings(list(pool))
        self.sampler, self.num_candidates, self.seed = sampler, num_candidates, seed
        if num_candidates > len(self.pool.ids):
            raise ValueError(
                f"num_candidates is {num_candidates}, but the pool holds {len(self.pool.ids)} examples; lower "
                "num_candidates or take a larger pool."
            )
        self._check_embeddings(self.pool, "the pool has")
        self.indexes = {kind: SimilarityIndex(self.pool, kind) for kind in SAMPLERS[sampler] if kind in SIMILARITIES}

    def sample(
        self,
        query_ids: Sequence[str],
        queries: ExampleEmbeddings | None = None,
        excluded: Mapping[str, Sequence[str]] | None = None,
    ) -> list[list[str]]:
        """
        Draws K different candidates for each query, or fewer if the pool without the excluded ids is smaller.

        Args:
            query_ids (`Sequence[str]`):
                The queries. A pool example with the id of a query is the query itself, and never its candidate.
            queries ([`ExampleEmbeddings`], *optional*):
                Embeddings of the queries by the encoder of the pool. Not needed for `random`.
            excluded (`Mapping[str, Sequence[str]]`, *optional*):
                Ids of the pool that must not be candidates, by the id of the query.

        Raises:
            `ValueError`: a query has no candidates, or its embedding is missing.
        """
        forbidden = [excluded_positions(query_id, self.pool, excluded) for query_id in query_ids]
        counts = [min(self.num_candidates, len(self.pool.ids) - len(positions)) for positions in forbidden]
        self._check_available(query_ids, counts)
        ranked = self._search(query_ids, queries, forbidden, counts)
        candidates = []
        for row, (query_id, positions, count) in enumerate(zip(query_ids, forbidden, counts, strict=True)):
            first, *others = sources = {name: int(share * count) for name, share in SAMPLERS[self.sampler].items()}
            sources[first] = count - sum(sources[name] for name in others)
            chosen: list[int] = []
            for name, own in sources.items():
                if name == RANDOM:
                    chosen += self._draw(query_id, sorted({*positions, *chosen}), own)
                else:
                    chosen += [int(place) for place in ranked[name][row] if place not in chosen][:own]
            candidates.append([self.pool.ids[place] for place in chosen])
        return candidates

    def _search(
        self,
        query_ids: Sequence[str],
        queries: ExampleEmbeddings | None,
        forbidden: list[list[int]],
        counts: list[int],
    ) -> dict[str, list[np.ndarray]]:
        """The nearest positions by each similarity of the sampler, as many as each query gets candidates."""
        if not self.indexes:
            return {}
        if queries is None:
            raise ValueError(f"The sampler {self.sampler!r} needs embeddings of the queries.")
        self._check_embeddings(queries, "the queries have")
        ranked = {kind: [np.empty(0)] * len(query_ids) for kind in self.indexes}
        for kind, index in self.indexes.items():
            vectors = query_vectors(queries, query_ids, self.pool, kind)  # [Q, D]
            for count in sorted(set(counts)):
                rows = [row for row, own in enumerate(counts) if own == count]
                names, excluded = [query_ids[row] for row in rows], [forbidden[row] for row in rows]
                nearest = index.search(vectors[rows], count, excluded, names)[0]  # [Q', count]
                for row, positions in zip(rows, nearest, strict=True):
                    ranked[kind][row] = positions
        return ranked

    def _draw(self, query_id: str, forbidden: list[int], count: int) -> list[int]:
        """Different positions, uniformly from all but the forbidden ones."""
        seed = hashlib.sha256(json.dumps([self.seed, query_id]).encode()).digest()
        generator = np.random.default_rng(int.from_bytes(seed, "big"))
        drawn = generator.choice(len(self.pool.ids) - len(forbidden), size=count, replace=False)
        for position in forbidden:
            drawn = drawn + (drawn >= position)
        return drawn.tolist()

    def _check_embeddings(self, embeddings: ExampleEmbeddings, owner: str) -> None:
        for modality in sampler_modalities(self.sampler):
            if getattr(embeddings, modality) is None:
                raise ValueError(
                    f"The sampler {self.sampler!r} compares {modality} embeddings, but {owner} none; embed the "
                    f"{modality}s, or take {'text_sim' if modality == 'image' else 'image_sim'!r} or 'random'."
                )

    def _check_available(self, query_ids: Sequence[str], counts: Sequence[int]) -> None:
        fewer = {name: count for name, count in zip(query_ids, counts, strict=True) if count < self.num_candidates}
        for query_id, count in fewer.items():
            if count == 0:
                raise ValueError(
                    f"The query {query_id!r} has no candidates: the pool holds only the query itself, or copies of it."
                )
        if fewer:
            first, num_fewer = next(iter(fewer)), sum(count < self.num_candidates for count in counts)
            logger.warning(
                f"num_candidates is {self.num_candidates}, but {num_fewer} of {len(counts)} queries have fewer "
                f"candidates, e.g. {first!r} has {fewer[first]}: the pool of {len(self.pool.ids)} holds the query "
                "itself, or copies of it. Such a query gets all others."
            )


def check_sampler(sampler: str, num_candidates: int) -> None:
    """Raises `ValueError` for an unknown sampler, or a number of candidates (K) that is no whole number above 0."""
    sampler_modalities(sampler)
    if isinstance(num_candidates, bool) or not isinstance(num_candidates, int) or num_candidates < 1:
        raise ValueError(f"num_candidates is {num_candidates!r}; expected a whole number of at least 1.")


def sample_candidates(
    args: SamplerArguments, pool: Dataset, queries: Dataset, excluded: Mapping[str, Sequence[str]] | None = None
) -> list[list[str]]:
    """Embeds the pool and the queries, if the sampler needs it, and returns [`CandidateSampler.sample`]."""
    embeddings = [None, None]
    if args.modalities:
        embeddings = [
            embed_examples(
                examples,
                args.encoder,
                revision=args.encoder_revision,
                modalities=args.modalities,
                batch_size=args.encoder_batch_size,
                embeddings_dir=args.embeddings_dir,
            )
            for examples in (pool, queries)
        ]
    sampler = CandidateSampler(embeddings[0] or pool["id"], args.sampler, args.num_candidates, args.sampler_seed)
    return sampler.sample(queries["id"], embeddings[1], excluded)
