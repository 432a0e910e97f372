# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What every method puts into the prompt: the selector, the heuristics it has to beat, and the oracle it can't."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import beams, retrieval  # their names are loaded when they are used: argument classes import this module
from ..retrieval.sampler_arguments import RANDOM, SAMPLERS


if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from ..retrieval import ExampleEmbeddings

#: Behind the name of a sampler: the method that chooses by it from the whole pool.
POOL_SUFFIX = "_pool"


@dataclass
class Choices:
    """
    What methods choose from.

    Args:
        query_ids (`list[str]`):
            The queries.
        candidate_ids (`list[list[str]]`):
            The K candidates of each: the same for every method.
        pool_ids (`list[str]`):
            The whole pool, for the methods whose names end in `_pool`.
        pool ([`ExampleEmbeddings`], *optional*):
            Embeddings of the pool; only similarities need them.
        queries ([`ExampleEmbeddings`], *optional*):
            Embeddings of the queries.
        excluded (`Mapping[str, Sequence[str]]`, *optional*):
            Ids of the pool that a query is not offered, by the id of the query.
        ledger (`Dataset`, *optional*):
            What the search scored, with the columns of `schema.LEDGER`; only the oracle needs it.
        score (`str`, *optional*, defaults to `"prob"`):
            Scale of the InfoScore that the search was on.
    """

    query_ids: list[str]
    candidate_ids: list[list[str]]
    pool_ids: list[str]
    pool: "ExampleEmbeddings | None" = None
    queries: "ExampleEmbeddings | None" = None
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ledger: "Dataset | None" = None
    score: str = "prob"


def choose_by_sampler(sampler: str, whole_pool: bool, choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    """
    The demonstrations that a heuristic takes for each query.

    Args:
        sampler (`str`):
            One of `SAMPLERS`, of a single source if `whole_pool`. With several, the source of each demonstration is
            drawn with the sampler's shares.
        whole_pool (`bool`):
            Whether to choose from the whole pool instead of the query's candidates.
        choices ([`Choices`]):
            Queries, candidates and pool.
        num_shots (`int`):
            Demonstrations for each query.
        seed (`int`):
            Seed of what is random; each query draws by itself.

    Returns:
        `list[list[str]]`: ids in prompt order. The most similar example stands last, next to the query.

    Raises:
        `ValueError`: fewer candidates than shots.
    """
    fewest = min(len(ids) for ids in choices.candidate_ids)
    if num_shots > fewest:
        raise ValueError(f"{num_shots} shots were asked for, and a query has {fewest} candidates.")
    sources = SAMPLERS[sampler]
    ranked = {source: _ranked(source, whole_pool, choices, num_shots, seed) for source in sources}
    short = min(len(ids) for lists in ranked.values() for ids in lists)
    if short < num_shots:
        raise ValueError(f"{num_shots} shots were asked for, and a query has {short} examples to choose from.")
    chosen = []
    for row, query_id in enumerate(choices.query_ids):
        drawn = [*sources] * num_shots
        if len(sources) > 1:
            generator = _generator(seed, sampler, query_id)
            drawn = generator.choice(list(sources), size=num_shots, p=list(sources.values()))
        picks: list[str] = []
        for source in drawn[:num_shots]:
            picks.append(next(candidate for candidate in ranked[source][row] if candidate not in picks))
        chosen.append(list(reversed(picks)))
    return chosen


def _ranked(source: str, whole_pool: bool, choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    """What each query may be shown, in the order of a source: at least `num_shots`, if there are so many."""
    queries, pool = (choices.queries, choices.query_ids), choices.pool
    if source == RANDOM:
        return _shuffled(choices, seed, whole_pool)
    if whole_pool:
        return retrieval.rank_pool(*queries, pool, source, num_shots, choices.excluded)
    return retrieval.rank_candidates(*queries, pool, choices.candidate_ids, source)


def _generator(seed: int, *names: str) -> "np.random.Generator":
    import numpy as np

    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _shuffled(choices: Choices, seed: int, whole_pool: bool) -> list[list[str]]:
    """Every query's candidates (or the pool without the query) in an order of its own."""
    ranked = []
    for query_id, ids in zip(choices.query_ids, choices.candidate_ids, strict=True):
        if whole_pool:
            forbidden = {query_id, *choices.excluded.get(query_id, ())}
            ids = [i for i in choices.pool_ids if i not in forbidden]
        order = _generator(seed, RANDOM + POOL_SUFFIX * whole_pool, query_id).permutation(len(ids))
        ranked.append([ids[position] for position in order])
    return ranked


def reordered(
    query_ids: Sequence[str], chosen: Sequence[Sequence[str]], num_queries: int, seed: int
) -> list[list[str] | None]:
    """
    The same demonstrations in another order, drawn for each query by itself.

    Args:
        query_ids (`Sequence[str]`):
            The queries.
        chosen (`Sequence[Sequence[str]]`):
            The demonstrations of each, in prompt order.
        num_queries (`int`):
            How many of the queries, the first ones, get another order.
        seed (`int`):
            Seed of the orders.

    Returns:
        `list[list[str] | None]`: `None` for other queries and where fewer than two demonstrations leave no choice.
    """
    found: list[list[str] | None] = []
    for query_id, ids in list(zip(query_ids, chosen, strict=True))[:num_queries]:
        generator, order = _generator(seed, "order", query_id), list(ids)
        while len(ids) > 1 and order == list(ids):
            order = [ids[place] for place in generator.permutation(len(ids))]
        found.append(order if len(ids) > 1 else None)
    return found + [None] * (len(query_ids) - len(found))


def choose_oracle(choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    """What [`oracle`] takes; nothing of it is random."""
    return oracle(choices.ledger, choices.query_ids, num_shots, choices.score)


def oracle(ledger: "Dataset", query_ids: Sequence[str], num_shots: int, score: str) -> list[list[str]]:
    """
    The best sequence of a given length that the search has scored for each query, with the right answer in its hand.

    Raises:
        `ValueError`: the ledger holds no sequence of that length for a query, or not what the scale `score` needs.
    """
    wanted, zero_shot, rows = set(query_ids), {}, {}
    for query_id, ids, found in zip(
        ledger["query_id"][:], ledger["demonstration_ids"][:], beams.ledger_prompts(ledger), strict=True
    ):
        if query_id not in wanted:
            continue
        if not ids:
            zero_shot[query_id] = found
        elif len(ids) == num_shots:
            rows.setdefault(query_id, []).append((ids, found))
    absent = [query_id for query_id in query_ids if query_id not in rows or query_id not in zero_shot]
    if absent:
        raise ValueError(
            f"The ledger holds no sequences of {num_shots} demonstrations for {len(absent)} queries, e.g. "
            f"{absent[0]!r}. Search beams for this split and length, or leave the oracle out of `methods`."
        )
    return [
        list(max(rows[query_id], key=lambda row: beams.info_score(row[1], zero_shot[query_id], score))[0])
        for query_id in query_ids
    ]
