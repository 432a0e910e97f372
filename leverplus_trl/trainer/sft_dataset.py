# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Beams and ledger as tensors: for each query, the scores after every prefix that the search expanded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset as Table

from ..beams.info_score import answer_score, ledger_prompts
from .base_selector_dataset import BaseSelectorDataset, candidate_positions, picked_positions


#: Scores are stored in single precision.
MAX_SCORE = 1e30
#: `{prefix: {next position: InfoScore}}`, positions among the candidates in selection order.
ScoreTree = dict[tuple[int, ...], dict[int, float]]


@dataclass
class ScoredPrefixes:
    """The scores of a search: for each query and each prefix, the InfoScore of every next choice."""

    #: `[Q, P, S]`: prefixes as positions among the candidates in selection order, -1 padded. The first is empty. The
    #: last column is always -1, since a prefix is shorter than a sequence.
    prefix_positions: torch.Tensor
    #: `[Q, P, A]`: InfoScore of the prefix with each candidate added; NaN where nothing was scored, and for padding.
    #: With STOP, the last action has the InfoScore of the prefix itself, and a candidate has the best InfoScore of all
    #: sequences that begin with it.
    prefix_scores: torch.Tensor
    #: `[Q, N, S]`: the beams in selection order, best first, -1 padded.
    beam_positions: torch.Tensor
    #: `[Q, N]`: scores of the beams; NaN for padding.
    beam_scores: torch.Tensor

    def __post_init__(self):
        self.prefix_lengths = (self.prefix_positions >= 0).sum(-1)  # [Q, P]
        used = ~self.prefix_scores.isnan().all(-1)  # [Q, P]
        same_step = self.prefix_lengths[:, :, None] == self.prefix_lengths[:, None, :]  # [Q, P, P]
        peers = (same_step & used[:, None, :]).sum(-1).clamp(min=1)  # [Q, P]
        # Every step has the same weight, however many prefixes of its length were expanded.
        self.prefix_weights = used / (peers * self.prefix_positions.shape[-1])  # [Q, P]


def scored_prefixes(beams: Table, ledger: Table, insertion: str, score: str, stop: bool = False) -> ScoredPrefixes:
    """
    Reads the beams and ledger tables of one split (columns of `schema.BEAMS` and `schema.LEDGER`), in the order of
    `beams`.

    `insertion` is that of the search, and turns prompt order into selection order; `score` is the scale of InfoScore,
    one of `SCORES`. With `stop`, STOP is an action, and the beams are the best sequences of the ledger of any length,
    zero-shot included.

    Raises:
        `ValueError`: tables of different runs, a ledger without the column that the scale needs, a query for which
            only zero-shot was scored, or a score that is NaN or infinite.
    """
    if len(beams) == 0:
        raise ValueError("The beams table is empty: there is nothing to learn from.")
    query_ids, sequences, candidate_ids = beams["query_id"][:], beams["demonstration_ids"][:], beams["candidate_ids"]
    for query_id, scores in zip(query_ids, beams["scores"], strict=True):
        for value in scores:
            if value is None or not abs(value) <= MAX_SCORE:
                raise ValueError(
                    f"A beam of the query {query_id!r} has the score {value}; expected finite numbers. The table is "
                    "damaged, or its VLM overflowed: search again, in `dtype: float32`."
                )
    positions = [candidate_positions(query_id, ids) for query_id, ids in zip(query_ids, candidate_ids, strict=True)]
    trees = _score_trees(query_ids, positions, ledger, insertion, score)
    num_candidates = max(map(len, positions))
    num_shots = max(
        1 + max(len(prefix) for tree in trees for prefix in tree),
        max((len(ids) for chosen in sequences for ids in chosen), default=0),
    )
    beams_of = [
        ([picked_positions(query_ids[row], ids, positions[row], insertion) for ids in chosen], scores)
        for row, (chosen, scores) in enumerate(zip(sequences, beams["scores"], strict=True))
    ]
    if stop:
        beams_of = [_best_of_any_length(tree, len(chosen)) for tree, chosen in zip(trees, sequences, strict=True)]
        trees = [_with_stop(tree, num_candidates) for tree in trees]
    size = (len(trees), max(map(len, trees)))
    prefix_positions = torch.full((*size, num_shots), -1, dtype=torch.long)
    prefix_scores = torch.full((*size, num_candidates + stop), torch.nan)
    beam_positions = torch.full((len(trees), max(map(len, sequences)), num_shots), -1, dtype=torch.long)
    beam_scores = torch.full(beam_positions.shape[:2], torch.nan)
    for row, (tree, (chosen, scores)) in enumerate(zip(trees, beams_of, strict=True)):
        for number, (prefix, gains) in enumerate(sorted(tree.items(), key=lambda item: (len(item[0]), item[0]))):
            prefix_positions[row, number, : len(prefix)] = torch.tensor(prefix, dtype=torch.long)
            prefix_scores[row, number, list(gains)] = torch.tensor(list(gains.values()), dtype=torch.float32)
        for number, picks in enumerate(chosen):
            beam_positions[row, number, : len(picks)] = torch.tensor(picks, dtype=torch.long)
        beam_scores[row, : len(scores)] = torch.tensor(scores, dtype=torch.float32)
    return ScoredPrefixes(prefix_positions, prefix_scores, beam_positions, beam_scores)


def _with_stop(tree: ScoreTree, stop_action: int) -> ScoreTree:
    """The tree with STOP as an action. Each pick has the best InfoScore of the sequences that begin with it."""

    def best_from(prefix: tuple[int, ...], own: float) -> float:
        return max([own, *(best_from((*prefix, pick), score) for pick, score in tree.get(prefix, {}).items())])

    stopping: ScoreTree = {}
    for prefix, scores in tree.items():
        own = tree[prefix[:-1]][prefix[-1]] if prefix else 0.0  # InfoScore of zero-shot
        stopping[prefix] = {pick: best_from((*prefix, pick), score) for pick, score in scores.items()}
        stopping[prefix][stop_action] = own
    return stopping


def _best_of_any_length(tree: ScoreTree, count: int) -> tuple[list[list[int]], list[float]]:
    """The best sequences and their InfoScores; of equal scores the shorter sequence comes first."""
    scored = [([], 0.0)]
    scored += [([*prefix, pick], score) for prefix, scores in tree.items() for pick, score in scores.items()]
    best = sorted(scored, key=lambda item: (-item[1], len(item[0]), item[0]))[:count]
    return [picks for picks, _ in best], [score for _, score in best]


def _score_trees(
    query_ids: Sequence[str], positions: list[dict[str, int]], ledger: Table, insertion: str, score: str
) -> list[ScoreTree]:
    """The tree of each query; the empty prefix is always in it."""
    rows = {query_id: row for row, query_id in enumerate(query_ids)}
    zero_shot: dict[int, float] = {}
    scored: list[tuple[int, list[int], float]] = []
    columns = ledger["query_id"][:], ledger["demonstration_ids"][:], _ledger_scores(ledger, score).tolist()
    for query_id, ids, value in zip(*columns, strict=True):
        row = rows.get(query_id)
        if row is None:
            continue  # the beams may hold fewer queries than the ledger
        if not ids:
            zero_shot[row] = value
        else:
            scored.append((row, picked_positions(query_id, ids, positions[row], insertion), value))
    _refuse("no zero-shot row for", [query_id for query_id, row in rows.items() if row not in zero_shot])
    trees: list[ScoreTree] = [{(): {}} for _ in query_ids]
    for row, picks, value in scored:
        trees[row].setdefault(tuple(picks[:-1]), {})[picks[-1]] = value - zero_shot[row]
    empty = [query_id for query_id, row in rows.items() if not any(trees[row].values())]
    _refuse("only the zero-shot row of", empty)
    return trees


def _refuse(what: str, query_ids: list[str]) -> None:
    if query_ids:
        raise ValueError(
            f"The ledger has {what} the query {query_ids[0]!r} ({len(query_ids)} such queries). Beams and ledger must "
            "come from one run of the stage `beams`."
        )


def _ledger_scores(ledger: Table, score: str) -> np.ndarray:
    """The score of each row `[L]`, before the zero-shot score is subtracted."""
    logprobs = np.array(ledger["answer_logprob"], dtype=np.float64)  # [L]; null becomes NaN
    tokens = np.array(ledger["num_answer_tokens"], dtype=np.float64)  # [L]
    broken = ~(np.abs(logprobs) <= MAX_SCORE) | ~(tokens >= 1)
    values = np.zeros(len(ledger))
    if not broken.any():
        values = np.array([answer_score(prompt, score) for prompt in ledger_prompts(ledger)])
        broken = ~(np.abs(values) <= MAX_SCORE)
    if broken.any():
        row = ledger[int(np.flatnonzero(broken)[0])]
        raise ValueError(
            f"The ledger's score of {row['demonstration_ids']} for the query {row['query_id']!r} is not finite "
            f"(answer_logprob {row['answer_logprob']}, num_answer_tokens {row['num_answer_tokens']}, accuracy "
            f"{row['accuracy']}). The table is damaged, or its VLM overflowed: search again, in `dtype: float32`."
        )
    return values


class SelectorDataset(BaseSelectorDataset):
    """Queries, their candidates and the scores of the search. The arguments are those of [`BaseSelectorDataset`], with
    [`ScoredPrefixes`] as labels."""

    label_names = ("prefix_positions", "prefix_lengths", "prefix_weights", "prefix_scores")
    label_names += ("beam_positions", "beam_scores")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scored: ScoredPrefixes = self.labels
