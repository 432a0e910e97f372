# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What every method puts into the prompt: the selector, the heuristics it has to beat, and the oracle it can't."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from ..beams import ScoredPrompt, info_score
from ..beams.info_score import ledger_prompts
from ..retrieval import ExampleEmbeddings, rank_candidates, rank_pool
from .methods import HEURISTICS, MIX, POOL_SUFFIX, RANDOM


#: Shares of the sources that `mix` draws from, as the sampler of that name.
MIX_SOURCES = {RANDOM: 0.5, "text_sim": 0.25, "image_sim": 0.25}


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
    """

    query_ids: list[str]
    candidate_ids: list[list[str]]
    pool_ids: list[str]
    pool: ExampleEmbeddings | None = None
    queries: ExampleEmbeddings | None = None
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)


def choose(method: str, choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    """
    The demonstrations that a baseline takes for each query.

    Args:
        method (`str`):
            One of `HEURISTICS`.
        choices ([`Choices`]):
            Queries, candidates and pool.
        num_shots (`int`):
            Demonstrations for each query.
        seed (`int`):
            Seed of `random` and `mix`; each query draws by itself.

    Returns:
        `list[list[str]]`: ids in prompt order. The most similar example stands last, next to the query. `mix` draws
        the source of each demonstration (half random, a quarter text-, a quarter image-similar) and takes that
        source's next candidate.

    Raises:
        `ValueError`: an unknown method, or fewer candidates than shots.
    """
    if method not in HEURISTICS:
        raise ValueError(f"Unknown heuristic {method!r}; expected one of {', '.join(HEURISTICS)}.")
    fewest = min(len(ids) for ids in choices.candidate_ids)
    if num_shots > fewest:
        raise ValueError(f"{num_shots} shots were asked for, and a query has {fewest} candidates.")
    if method == MIX:
        return _mix(choices, num_shots, seed)
    name = method.removesuffix(POOL_SUFFIX)
    whole_pool = name != method
    if name == RANDOM:
        ranked = _shuffled(choices, seed, method if whole_pool else None)
    elif whole_pool:
        ranked = rank_pool(choices.queries, choices.query_ids, choices.pool, name, num_shots, choices.excluded)
    else:
        ranked = rank_candidates(choices.queries, choices.query_ids, choices.pool, choices.candidate_ids, name)
    short = min(map(len, ranked))
    if short < num_shots:
        raise ValueError(f"{num_shots} shots were asked for, and a query has {short} examples to choose from.")
    return [list(reversed(ids[:num_shots])) for ids in ranked]


def _generator(seed: int, *names: str) -> np.random.Generator:
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _shuffled(choices: Choices, seed: int, pool_method: str | None) -> list[list[str]]:
    """Every query's candidates (or the pool without the query) in an order of its own."""
    ranked = []
    for query_id, candidates in zip(choices.query_ids, choices.candidate_ids, strict=True):
        ids = candidates
        if pool_method:
            forbidden = {query_id, *choices.excluded.get(query_id, ())}
            ids = [i for i in choices.pool_ids if i not in forbidden]
        order = _generator(seed, pool_method or RANDOM, query_id).permutation(len(ids))
        ranked.append([ids[position] for position in order])
    return ranked


def _mix(choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    ranked = {
        RANDOM: _shuffled(choices, seed, None),
        **{
            name: rank_candidates(choices.queries, choices.query_ids, choices.pool, choices.candidate_ids, name)
            for name in MIX_SOURCES
            if name != RANDOM
        },
    }
    chosen = []
    for row, query_id in enumerate(choices.query_ids):
        sources = _generator(seed, MIX, query_id).choice(
            list(MIX_SOURCES), size=num_shots, p=list(MIX_SOURCES.values())
        )
        picks: list[str] = []
        for source in sources:
            picks.append(next(candidate for candidate in ranked[source][row] if candidate not in picks))
        chosen.append(list(reversed(picks)))
    return chosen


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


def oracle(ledger: Dataset, query_ids: Sequence[str], num_shots: int, score: str) -> list[list[str]]:
    """
    The best sequence of a given length that the search has scored for each query, with the right answer in its hand.

    Raises:
        `ValueError`: the ledger holds no sequence of that length for a query, or not what the scale `score` needs.
    """
    wanted = set(query_ids)
    zero_shot: dict[str, ScoredPrompt] = {}
    rows: dict[str, list[tuple[list[str], ScoredPrompt]]] = {}
    for query_id, ids, found in zip(
        ledger["query_id"][:], ledger["demonstration_ids"][:], ledger_prompts(ledger), strict=True
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
        list(max(rows[query_id], key=lambda row: info_score(row[1], zero_shot[query_id], score))[0])
        for query_id in query_ids
    ]
