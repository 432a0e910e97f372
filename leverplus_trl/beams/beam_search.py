# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Beam search over ordered demonstrations, as a pure function of the candidates and a score function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


INSERTIONS = ("left", "right")
OBJECTIVES = ("cumulative", "marginal")

#: Scores a batch of sequences: `[(query index, demonstration ids in prompt order), ...] -> [InfoScore, ...]`.
ScoreFunction = Callable[[Sequence[tuple[int, tuple[str, ...]]]], Sequence[float]]


@dataclass
class Beams:
    """
    The result of a search for one query.

    Args:
        demonstration_ids (`list[tuple[str, ...]]`):
            The best sequences, best first, in prompt order.
        scores (`list[float]`):
            Ranking scores: InfoScore of the sequence (`cumulative`), or its gain over the sequence without the last
            choice (`marginal`).
        step_scores (`list[list[float]]`):
            InfoScore after each choice, in selection order.
    """

    demonstration_ids: list[tuple[str, ...]]
    scores: list[float]
    step_scores: list[list[float]]


@dataclass
class _Hypothesis:
    sequence: tuple[str, ...] = ()
    rank_score: float = 0.0
    step_scores: tuple[float, ...] = ()


def insert(demonstration_id: str, sequence: tuple[str, ...], insertion: str) -> tuple[str, ...]:
    """A sequence in prompt order with a demonstration added at the far left, or at the right, next to the query."""
    return (demonstration_id, *sequence) if insertion == "left" else (*sequence, demonstration_id)


def selection_order(sequence: Sequence[str], insertion: str) -> list[str]:
    """The ids in selection order, from a sequence in prompt order; the inverse is the same function."""
    return list(reversed(sequence)) if insertion == "left" else list(sequence)


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

    Every step extends each kept sequence by every candidate it does not hold, scores all extensions in one call, and
    keeps the `beam_size` best. Ties go to the earlier beam, then to the earlier candidate.

    Args:
        score (`Callable`):
            Returns the InfoScores of sequences; called once for each step, with the sequences of all queries.
        candidate_ids (`Sequence[Sequence[str]]`):
            The candidates of each query.
        num_shots (`int`):
            Length of the sequences.
        beam_size (`int`):
            Sequences kept after each step and returned.
        insertion (`str`, *optional*, defaults to `"left"`):
            Position of a new demonstration: `"left"`, at the far left (as in Lever-LM), or `"right"`, next to the
            query.
        objective (`str`, *optional*, defaults to `"cumulative"`):
            `"cumulative"` ranks a sequence by its own InfoScore, `"marginal"` by the gain of its last choice, as the
            reference implementation of Lever-LM does.

    Returns:
        `list[Beams]`: the beams of each query, with fewer than `beam_size` sequences if there are no more.

    Raises:
        `ValueError`: an unknown insertion or objective, a size below 1, a candidate that is listed twice, or a query
            with fewer candidates than shots.
    """
    _check(candidate_ids, num_shots, beam_size, insertion, objective)
    beams = [[_Hypothesis()] for _ in candidate_ids]
    for _ in range(num_shots):
        parents, sequences = [], []
        for query, candidates in enumerate(candidate_ids):
            for hypothesis in beams[query]:
                for candidate in candidates:
                    if candidate not in hypothesis.sequence:
                        parents.append((query, hypothesis))
                        sequences.append((query, insert(candidate, hypothesis.sequence, insertion)))
        extended: list[list[_Hypothesis]] = [[] for _ in candidate_ids]
        for (query, parent), (_, sequence), value in zip(parents, sequences, score(sequences), strict=True):
            gain = value - parent.step_scores[-1] if objective == "marginal" and parent.step_scores else value
            extended[query].append(_Hypothesis(sequence, gain, (*parent.step_scores, value)))
        # `sorted` is stable, so ties keep the order of beams, then of candidates.
        # `sorted` is stable, so ties keep the order of beams, then of candidates.
        beams = [sorted(of_query, key=lambda h: -h.rank_score)[:beam_size] for of_query in extended]
    return [
        Beams(
            demonstration_ids=[hypothesis.sequence for hypothesis in of_query],
            scores=[hypothesis.rank_score for hypothesis in of_query],
            step_scores=[list(hypothesis.step_scores) for hypothesis in of_query],
        )
        for of_query in beams
    ]


def _check(
    candidate_ids: Sequence[Sequence[str]], num_shots: int, beam_size: int, insertion: str, objective: str
) -> None:
    if insertion not in INSERTIONS:
        raise ValueError(f"insertion is {insertion!r}; expected one of {', '.join(INSERTIONS)}.")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is {objective!r}; expected one of {', '.join(OBJECTIVES)}.")
    if num_shots < 1 or beam_size < 1:
        raise ValueError(f"num_shots is {num_shots} and beam_size {beam_size}; both must be at least 1.")
    for query, candidates in enumerate(candidate_ids):
        if len(set(candidates)) != len(candidates):
            raise ValueError(f"The candidates of query {query} hold an id twice.")
        if len(candidates) < num_shots:
            raise ValueError(f"Query {query} has {len(candidates)} candidates; {num_shots} shots need as many.")
