# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Beam search over ordered demonstrations, as a pure function of candidates and scores, and its recipe keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..fields import check_fields, documented, option
from .info_score import SCORES


INSERTIONS = ("left", "right")
OBJECTIVES = ("cumulative", "marginal")

#: Scores a batch of sequences: `[(query index, demonstration ids in prompt order), ...] -> [InfoScore, ...]`.
ScoreFunction = Callable[[Sequence[tuple[int, tuple[str, ...]]]], Sequence[float]]


@documented
@dataclass
class BeamArguments:
    """Beam search: how it is done, and on which queries."""

    output_dir: str = option("Where the beams and ledger tables go.", path="folder")
    query_splits: list[str] = option("Splits whose examples are queries.", ["train"], not_empty=True, unique=True)
    num_queries: int | None = option("Only the first so many queries of each split.", None, min=1)
    num_shots: int = option("Demonstrations in a sequence (S).", 2, min=1)
    beam_size: int = option("Sequences kept for each query (B).", 5, min=1)
    insertion: str = option("left | right: where a new demonstration goes.", "left", choices=INSERTIONS)
    objective: str = option("cumulative | marginal: what beams are ranked by.", "cumulative", choices=OBJECTIVES)
    score: str = option(
        "prob | logprob | metric: the scale of InfoScore. prob is the length-normalised probability of the "
        "right answer, logprob its logarithm, metric the task's metric of a greedily generated answer, which "
        "costs much more.",
        "prob",
        choices=SCORES,
    )
    unit_size: int = option(
        "Queries in a unit of work. They are scored together, and are what an interrupted process can lose.", 8, min=1
    )
    preflight_seed: int = option("Seed of the preflight's random sequences.", 0, min=0)

    def __post_init__(self):
        check_fields(self)


@dataclass
class Beams:
    """The result of a search for one query; while it runs, the sequences that are kept."""

    demonstration_ids: list[tuple[str, ...]]  #: the best sequences, best first, in prompt order
    scores: list[float]  #: what they are ranked by: InfoScore, or its gain by the last choice (`marginal`)
    step_scores: list[list[float]]  #: InfoScore after each choice, in selection order


def insert(demonstration_id: str, sequence: tuple[str, ...], insertion: str) -> tuple[str, ...]:
    """A sequence in prompt order with a demonstration added at the far left, or at the right, next to the query."""
    return (demonstration_id, *sequence) if insertion == "left" else (*sequence, demonstration_id)


def selection_order(sequence: Sequence[str], insertion: str) -> list[str]:
    """The ids in selection order, from a sequence in prompt order; the inverse is the same function."""
    return list(reversed(sequence)) if insertion == "left" else list(sequence)


def num_scored_sequences(num_candidates: int, num_shots: int, beam_size: int) -> int:
    """The number of prompts that a search scores for a query, zero-shot included."""
    total, width = 1, 1
    for step in range(num_shots):
        extensions = width * (num_candidates - step)
        total += extensions
        width = min(beam_size, extensions)
    return total


def beam_search(
    score: ScoreFunction,
    candidate_ids: Sequence[Sequence[str]],
    num_shots: int,
    beam_size: int,
    insertion: str = "left",
    objective: str = "cumulative",
) -> list[Beams]:
    """
    Searches the best sequences of `num_shots` demonstrations for several queries together.

    Every step extends each kept sequence by every candidate it does not hold, scores all extensions of all queries in
    one call, and keeps the `beam_size` best. Ties go to the earlier beam, then to the earlier candidate. `insertion`
    is the position of a new demonstration: `"left"`, at the far left (as in Lever-LM), or `"right"`, at the query.
    The objective `"cumulative"` ranks a sequence by its own InfoScore, `"marginal"` by the gain of its last choice, as
    the reference implementation of Lever-LM does. `candidate_ids` are the candidates of each query.

    Returns the beams of each query, with fewer than `beam_size` sequences if there are no more. Raises `ValueError`
    for an unknown insertion or objective, a size below 1, a candidate that is listed twice, and a query with fewer
    candidates than shots.
    """
    for name, value, choices in (("insertion", insertion, INSERTIONS), ("objective", objective, OBJECTIVES)):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")
    if num_shots < 1 or beam_size < 1:
        raise ValueError(f"num_shots is {num_shots} and beam_size {beam_size}; both must be at least 1.")
    for query, candidates in enumerate(candidate_ids):
        if len(set(candidates)) != len(candidates):
            raise ValueError(f"The candidates of query {query} hold an id twice.")
        if len(candidates) < num_shots:
            raise ValueError(f"Query {query} has {len(candidates)} candidates; {num_shots} shots need as many.")
    beams = [Beams([()], [0.0], [[]]) for _ in candidate_ids]
    for _ in range(num_shots):
        sequences, parents = [], []
        for query, (candidates, kept) in enumerate(zip(candidate_ids, beams, strict=True)):
            for sequence, steps in zip(kept.demonstration_ids, kept.step_scores, strict=True):
                new = [candidate for candidate in candidates if candidate not in sequence]
                sequences += [(query, insert(candidate, sequence, insertion)) for candidate in new]
                parents += [steps] * len(new)
        extended: list[list[tuple]] = [[] for _ in candidate_ids]
        for (query, sequence), steps, value in zip(sequences, parents, score(sequences), strict=True):
            rank = value - steps[-1] if objective == "marginal" and steps else value
            extended[query].append((sequence, rank, [*steps, value]))
        for query, extensions in enumerate(extended):
            # `sorted` is stable, so ties keep the order of beams, then of candidates.
            best = sorted(extensions, key=lambda extension: -extension[1])[:beam_size]
            beams[query] = Beams(*map(list, zip(*best, strict=True)))
    return beams
