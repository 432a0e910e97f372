# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The table of the methods that an evaluation compares, and how heuristics and the oracle choose demonstrations."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from .. import beams, retrieval  # their names are loaded when they are used: argument classes import this module
from ..retrieval.sampler_arguments import RANDOM, SAMPLERS, sampler_modalities


if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from ..retrieval import ExampleEmbeddings

ZERO_SHOT, SELECTOR, ORACLE = "zero_shot", "selector", "oracle"
#: Suffix of the methods that choose by a sampler from the whole pool.
POOL_SUFFIX = "_pool"
#: Suffix of order probes: a method whose demonstrations were put in another order.
SHUFFLED_SUFFIX = "~shuffled"


@dataclass
class Choices:
    """What methods choose from."""

    query_ids: list[str]
    candidate_ids: list[list[str]]  # the K candidates of each query, the same for every method
    pool_ids: list[str]
    pool: "ExampleEmbeddings | None" = None  # only similarities need embeddings
    queries: "ExampleEmbeddings | None" = None
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)  # query id -> ids of the pool it can't have
    ledger: "Dataset | None" = None  # columns of `schema.LEDGER`, for the oracle
    score: str = "prob"  # scale of the InfoScore that the search used


def choose_by_sampler(sampler: str, whole_pool: bool, choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    """The choice of a heuristic, see [`Method`]. A sampler with several sources draws the source of each demonstration
    with its shares; each query draws by itself."""
    sources = SAMPLERS[sampler]
    ranked = {source: _ranked(source, whole_pool, choices, num_shots, seed) for source in sources}
    fewest = min(len(ids) for lists in ranked.values() for ids in lists)
    if fewest < num_shots:
        scope = "examples of the pool" if whole_pool else "candidates"
        raise ValueError(f"shots holds {num_shots}, but a query has {fewest} {scope}; use {fewest} shots or fewer.")
    chosen = []
    for row, query_id in enumerate(choices.query_ids):
        drawn = [*sources] * num_shots
        if len(sources) > 1:
            generator = _generator(seed, sampler, query_id)
            drawn = generator.choice(list(sources), size=num_shots, p=list(sources.values()))
        picks: list[str] = []
        for source in drawn:
            picks.append(next(candidate for candidate in ranked[source][row] if candidate not in picks))
        chosen.append(picks[::-1])
    return chosen


def _ranked(source: str, whole_pool: bool, choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    """The examples that each query may have, in the order of a source: at least `num_shots`, if there are so many."""
    embeddings = choices.queries, choices.query_ids, choices.pool
    if source != RANDOM and whole_pool:
        return retrieval.rank_pool(*embeddings, source, num_shots, choices.excluded)
    if source != RANDOM:
        return retrieval.rank_candidates(*embeddings, choices.candidate_ids, source)
    ranked = []
    for query_id, ids in zip(choices.query_ids, choices.candidate_ids, strict=True):
        if whole_pool:
            forbidden = {query_id, *choices.excluded.get(query_id, ())}
            ids = [identifier for identifier in choices.pool_ids if identifier not in forbidden]
        order = _generator(seed, RANDOM + POOL_SUFFIX * whole_pool, query_id).permutation(len(ids))
        ranked.append([ids[position] for position in order])
    return ranked


def _generator(seed: int, *names: str) -> "np.random.Generator":
    import numpy as np

    seed_hash = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(seed_hash, "big"))


def reordered(
    query_ids: Sequence[str], chosen: Sequence[Sequence[str]], num_queries: int, seed: int
) -> list[list[str] | None]:
    """Another order of the demonstrations of each of the first `num_queries` queries, drawn by query; `None` for other
    queries and for fewer than two demonstrations."""
    orders: list[list[str] | None] = [None] * len(query_ids)
    for row, (query_id, ids) in enumerate(zip(query_ids, chosen, strict=True)):
        if row < num_queries and len(ids) > 1:
            generator, order = _generator(seed, "order", query_id), list(ids)
            while order == list(ids):
                order = [ids[place] for place in generator.permutation(len(ids))]
            orders[row] = order
    return orders


def choose_oracle(choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    return oracle(choices.ledger, choices.query_ids, num_shots, choices.score)


def oracle(ledger: "Dataset", query_ids: Sequence[str], num_shots: int, score: str) -> list[list[str]]:
    """The sequence of `num_shots` demonstrations with the best InfoScore in the ledger, for each query; raises
    `ValueError` if there is none for a query, or if the ledger lacks what the scale `score` needs."""
    known, zero_shot, sequences = set(query_ids), {}, {}
    for query_id, ids, prompt in zip(
        ledger["query_id"][:], ledger["demonstration_ids"][:], beams.ledger_prompts(ledger), strict=True
    ):
        if query_id in known and not ids:
            zero_shot[query_id] = prompt
        elif query_id in known and len(ids) == num_shots:
            sequences.setdefault(query_id, []).append((ids, prompt))
    absent = [query_id for query_id in query_ids if query_id not in sequences or query_id not in zero_shot]
    if absent:
        raise ValueError(
            f"The ledger holds no sequences of {num_shots} demonstrations for {len(absent)} queries, e.g. "
            f"{absent[0]!r}. Search beams for this split and length, or leave the oracle out of `methods`."
        )
    chosen = []
    for query_id in query_ids:
        scores = [beams.info_score(prompt, zero_shot[query_id], score) for _, prompt in sequences[query_id]]
        chosen.append(list(sequences[query_id][scores.index(max(scores))][0]))
    return chosen


@dataclass(frozen=True)
class Method:
    """A row of the table of methods."""

    label: str
    meaning: str  # which demonstrations it puts into the prompt, as a sentence
    style: tuple[str, str] | None = None  # colour and marker of its line in charts
    #: From choices, a number of shots and a seed to the ids of each query's demonstrations in prompt order: the most
    #: similar example is last, next to the query. None for zero-shot, and for selectors, which are models.
    choose: Callable[[Choices, int, int], list[list[str]]] | None = None
    sampler: str | None = None  # the row of `SAMPLERS` that a heuristic chooses by
    scope: str = "candidates"  # what it chooses from: "candidates", "pool" or "none"
    needs: str | None = None  # the recipe key that it can't do without

    @property
    def modalities(self) -> tuple[str, ...]:
        """The embeddings that it compares, of `"image"` and `"text"`."""
        return sampler_modalities(self.sampler) if self.sampler else ()

    @property
    def is_random(self) -> bool:
        """Whether it draws at random, once with each seed."""
        return RANDOM in SAMPLERS.get(self.sampler, ())


#: `{sampler: (label, colour, marker, meaning)}`.
_HEURISTICS = {
    RANDOM: ("random", "#7F7F7F", "v", "Demonstrations drawn at random, seeded per query."),
    "text_sim": (
        *("text similarity", "#56B4E9", "s"),
        "The examples whose questions are most similar to the query's question.",
    ),
    "image_sim": (
        *("image similarity", "#009E73", "^"),
        "The examples whose images are most similar to the query's image.",
    ),
    "image_text_sim": (
        *("image+text similarity", "#0072B2", "D"),
        "The examples with the largest sum of image and question similarity.",
    ),
    "mix": ("mix", "#CC79A7", "P", "Half random, a quarter by question similarity, a quarter by image similarity."),
}


def _heuristics(whole_pool: bool) -> dict[str, Method]:
    """The rows of the samplers; over the whole pool, of those with a single source."""
    suffix, in_words, scope = (POOL_SUFFIX, " (whole pool)", "pool") if whole_pool else ("", "", "candidates")
    rows = {}
    for sampler, (label, colour, marker, meaning) in _HEURISTICS.items():
        if not whole_pool or len(SAMPLERS[sampler]) == 1:
            method = partial(choose_by_sampler, sampler, whole_pool)
            rows[sampler + suffix] = Method(label + in_words, meaning, (colour, marker), method, sampler, scope)
    return rows


#: The table, in the order in which methods answer.
METHODS = {
    ZERO_SHOT: Method("zero-shot", "The VLM answers the query alone, without demonstrations.", scope="none"),
    **_heuristics(whole_pool=False),
    **_heuristics(whole_pool=True),
    SELECTOR: Method(
        *("selector", "The trained model: it chooses and orders the demonstrations.", ("#D55E00", "o")),
        needs="selectors",
    ),
    ORACLE: Method(
        "oracle",
        "The best sequence that the beam search scored for the query. It knows the answer: a mark, not a rival.",
        ("#000000", "*"),
        choose_oracle,
        needs="beams",
    ),
}
HEURISTICS = tuple(name for name, row in METHODS.items() if row.sampler)
RANDOM_METHODS = tuple(name for name, row in METHODS.items() if row.is_random)


def method_scope(method: str) -> str:
    """What a method chooses from; a name that is not in the table is a selector's."""
    return METHODS.get(method, METHODS[SELECTOR]).scope


def method_rank(method: str) -> tuple[bool, int, str]:
    """Sorting key: the order of the table, the whole pool last; selectors of other names in alphabetical order."""
    return (method_scope(method) == "pool", list(METHODS).index(method if method in METHODS else SELECTOR), method)


def method_label(method: str) -> str:
    """A method's name in words; names that are not in the table stay as they are."""
    return METHODS[method].label if method in METHODS else method


def default_methods(modalities: Collection[str], has_selectors: bool, has_beams: bool) -> list[str]:
    """The methods to compare if a recipe names none: all that selectors, beams and the `modalities` that can be
    compared (`"image"`, `"text"`) allow."""
    absent = {"selectors": not has_selectors, "beams": not has_beams}
    return [
        method
        for method, row in METHODS.items()
        if not absent.get(row.needs) and set(row.modalities) <= set(modalities)
    ]
