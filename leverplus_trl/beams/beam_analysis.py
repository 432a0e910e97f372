# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What a search shows before anything is trained: can choosing and ordering demonstrations matter on this data, with
this VLM?

Everything is read off the ledger, on one of two scales: the length-normalised probability of the right answer, or, for
beams that were searched by it, the task's metric of the generated answer; and the gain over the prompt without
demonstrations.
"""

import json
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from datasets import Dataset

from ..output_files import write_atomically
from ..work_units import UnitRows
from .beam_arguments import METRIC
from .beam_search import selection_order
from .info_score import ScoredPrompt, answer_score


ANALYSIS = "analysis.json"
#: A difference of probabilities, or of the metric, under this is called none.
NOTICEABLE = 0.01
#: If one ranking for all queries reaches this share of what choosing can gain, reading the query adds little.
CONSTANT_SHARE = 0.8
NUM_HUBS = 10
#: Queries that are ranked at a time.
QUERIES = 4096


class Words(NamedTuple):
    """
    The words for a scale.

    Args:
        numbers (`str`):
            What the numbers of an analysis are.
        it (`str`):
            What a prompt changes.
        keeps (`str`):
            What happens where no choice matters.
        succeeds (`str`):
            What an order decides where it is decisive.
    """

    numbers: str
    it: str
    keeps: str
    succeeds: str


WORDS = {
    "prob": Words(
        "probabilities of the right answer, length-normalised",
        "the probability of the right answer",
        "the right answer keeps its probability",
        "the whole right answer, its length not normalised, has a probability of more than a half",
    ),
    METRIC: Words(
        "values of the task's metric of the answer that is generated",
        "the metric of the generated answer",
        "the metric of the generated answer stays the same",
        "the generated answer scores above 0",
    ),
}


def write_analysis(folder: Path, files: Mapping[str, Sequence[Path]], insertion: str, score: str) -> dict[str, object]:
    """
    Analyses a search that is complete and writes `analysis.json`.

    Args:
        folder (`Path`):
            Folder of the beams.
        files (`Mapping[str, Sequence[Path]]`):
            The units' files of each split, in query order.
        insertion (`str`):
            Where the search put new demonstrations, `"left"` or `"right"`.
        score (`str`):
            Scale of InfoScore that the search was on.

    Returns:
        `dict`: what was written, see [`analyze_queries`].
    """
    splits = {}
    for split, parts in files.items():
        if parts:
            splits[split] = analyze_queries(UnitRows(parts), insertion, score)
    analysis = {"insertion": insertion, "splits": splits}
    text = json.dumps(analysis, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / ANALYSIS, f"{text}\n".encode())
    return analysis


def analyze_tables(beams: Dataset, ledger: Dataset, insertion: str, score: str) -> dict[str, object]:
    """
    The same from the two tables, for beams that come without `analysis.json` (from the hub).

    Args:
        beams (`Dataset`):
            Columns of `schema.BEAMS`; any number of splits.
        ledger (`Dataset`):
            Columns of `schema.LEDGER`, of the same queries.
        insertion (`str`):
            Where the search put new demonstrations.
        score (`str`):
            Scale of InfoScore that the search was on.
    """
    entries: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for entry in ledger:
        entries[entry["split"], entry["query_id"]].append(entry)
    rows: dict[str, list[dict]] = {}
    for row in beams:
        rows.setdefault(row["split"], []).append({**row, "ledger": entries[row["split"], row["query_id"]]})
    splits = {split: analyze_queries(of, insertion, score) for split, of in rows.items()}
    return {"insertion": insertion, "splits": splits}


def analyze_queries(rows: Iterable[Mapping], insertion: str, score: str) -> dict[str, object]:
    """
    Analyses the queries of one split.

    Args:
        rows (`Iterable[Mapping]`):
            A row a query: the columns of `schema.BEAMS`, and all that was scored for it under `ledger`.
        insertion (`str`):
            Where the search put new demonstrations.
        score (`str`):
            Scale of InfoScore that the search was on.

    Returns:
        `dict`:
        - `scale`, on which all that follows stands: `"metric"` if the search was on it, else `"prob"`;
        - `num_queries`, `zero_shot` (mean worth of the prompt without demonstrations), `helped` (share of queries that
          the best sequence helps), `hurt` (share that every sequence hurts);
        - `beam_positions`: mean score at each position of the beams, in the scale they were searched with;
        - `steps`: for each number of demonstrations, over the sequences that share what was chosen before: mean gain
          over no demonstrations, `best` (mean gain of the best), `choice` (best minus mean: what choosing is worth),
          `spread` (standard deviation);
        - `order`: sets that were scored in several orders, the mean difference between their best and worst order, the
          share in which it is noticeable, and the share in which it is decisive: in some orders only the right answer
          has more than half of the probability, or the generated answer is worth anything by the metric; null where no
          set was scored twice;
        - `constant`: what one ranking of candidates for all queries would gain in place of `choice` at the first step;
          null where candidates are hardly ever shared;
        - `hubs`: which candidates the best sequences hold, and how often these were offered.
    """
    scale = METRIC if score == METRIC else "prob"
    zero_shot, best_gains = array("d"), array("d")
    beam_scores: dict[int, array] = defaultdict(lambda: array("d"))  # by position
    spreads: dict[int, list[array]] = defaultdict(lambda: [array("d") for _ in range(4)])  # by number of shots
    orders = Counter()
    singles = _Singles()
    chosen, offered = Counter(), Counter()
    for row in rows:
        scored = {tuple(entry["demonstration_ids"]): ScoredPrompt.of(entry) for entry in row["ledger"]}
        worth = {sequence: answer_score(found, scale) for sequence, found in scored.items()}
        nothing = worth.pop(())
        zero_shot.append(nothing)
        for position, value in enumerate(row["scores"]):
            beam_scores[position].append(value)
        best_gains.append(max(worth.values()) - nothing)
        for shots, found in _steps(worth, nothing, insertion):
            for column, value in zip(spreads[shots], found, strict=True):
                column.append(value)
        orders.update(_orders(worth, {sequence: _succeeds(scored[sequence], scale) for sequence in worth}))
        singles.add({sequence[0]: value for sequence, value in worth.items() if len(sequence) == 1})
        offered.update(row["candidate_ids"])
        chosen.update(row["demonstration_ids"][0])
    if not zero_shot:
        raise ValueError("There are no queries to analyse.")
    found = {
        "scale": scale,
        "num_queries": len(zero_shot),
        "zero_shot": fmean(zero_shot),
        "helped": fmean(gain > 0.0 for gain in best_gains),
        "hurt": fmean(gain < 0.0 for gain in best_gains),
        "beam_positions": [
            {"position": position + 1, "mean": fmean(scores), "num_queries": len(scores)}
            for position, scores in beam_scores.items()
        ],
        "steps": [_mean_step(shots, spreads[shots]) for shots in sorted(spreads)],
        "order": _mean_order(orders),
        "constant": _constant_ranking(singles),
        "hubs": _hubs(chosen, offered, len(zero_shot)),
    }
    return _rounded(found)


def _succeeds(found: ScoredPrompt, scale: str) -> bool:
    """Whether the right answer has more than half of the probability, or the generated one is worth anything."""
    return found.accuracy > 0.0 if scale == METRIC else found.logprob > math.log(0.5)


def _steps(worth: Mapping[tuple, float], nothing: float, insertion: str) -> Iterator[tuple[int, tuple]]:
    """For each number of demonstrations `(mean gain, best gain, best - mean, standard deviation)` of one query, among
    sequences that share what was chosen before, averaged over what that was."""
    groups: dict[tuple, list[float]] = defaultdict(list)
    for sequence, value in worth.items():
        groups[tuple(selection_order(sequence, insertion))[:-1]].append(value - nothing)
    by_shots: dict[int, list[tuple[float, float, float, float]]] = defaultdict(list)
    for prefix, gains in groups.items():
        mean = fmean(gains)
        by_shots[len(prefix) + 1].append((mean, max(gains), max(gains) - mean, float(np.std(gains))))
    for shots, found in by_shots.items():
        yield shots, tuple(fmean(column) for column in zip(*found, strict=True))


def _mean_step(shots: int, columns: Sequence[Sequence[float]]) -> dict[str, float]:
    names = ("mean", "best", "choice", "spread")
    return {"shots": shots} | {name: fmean(column) for name, column in zip(names, columns, strict=True)}


def _orders(worth: Mapping[tuple, float], succeeds: Mapping[tuple, bool]) -> dict[str, float]:
    """Sums over the sets of a query that were scored in several orders: of best minus worst, and of those in which
    that is noticeable, and in which only some orders succeed."""
    sets: dict[frozenset, list[tuple]] = defaultdict(list)
    for sequence in worth:
        if len(sequence) > 1:
            sets[frozenset(sequence)].append(sequence)
    several = [sequences for sequences in sets.values() if len(sequences) > 1]
    values = [[worth[sequence] for sequence in sequences] for sequences in several]
    differences = [max(of_set) - min(of_set) for of_set in values]
    return {
        "num_sets": len(several),
        "difference": math.fsum(differences),
        "noticeable": sum(difference >= NOTICEABLE for difference in differences),
        "decisive": sum(len({succeeds[sequence] for sequence in sequences}) > 1 for sequences in several),
    }


def _mean_order(sums: Mapping[str, float]) -> dict[str, float] | None:
    number = sums["num_sets"]
    return {name: value / number if name != "num_sets" else value for name, value in sums.items()} if number else None


class _Singles:
    """What each query's candidates are worth alone in the prompt, relative to their mean: 12 bytes a candidate."""

    def __init__(self) -> None:
        self.row_of: dict[str, int] = {}
        self.rows, self.values, self.counts = array("i"), array("d"), array("i")

    def add(self, worth: Mapping[str, float]) -> None:
        mean = fmean(worth.values())
        self.rows.extend(self.row_of.setdefault(name, len(self.row_of)) for name in worth)
        self.values.extend(value - mean for value in worth.values())
        self.counts.append(len(worth))

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For some queries at a time: candidates by number and their values, `[C]`, and where each query begins."""
        end, rows, values = 0, np.asarray(self.rows), np.asarray(self.values)
        for start in range(0, len(self.counts), QUERIES):
            counts = np.asarray(self.counts[start : start + QUERIES])
            begin, end = end, end + int(counts.sum())
            yield rows[begin:end], values[begin:end], np.cumsum(counts) - counts


def _constant_ranking(singles: _Singles) -> dict[str, float] | None:
    """
    What the candidate that is best for the *other* queries gives each query, alone in the prompt.

    Each score is taken relative to the query's mean, and a candidate's own query is left out of its rank: else chance
    would look like skill.
    """
    totals, counts = np.zeros(len(singles.row_of)), np.zeros(len(singles.row_of), dtype=np.int64)
    for rows, values, _ in singles.blocks():
        totals += np.bincount(rows, values, len(totals))
        counts += np.bincount(rows, minlength=len(totals))
    if 2 * counts[counts > 1].sum() < counts.sum():
        return None
    names = np.argsort(np.argsort(np.array(list(singles.row_of))))  # ties go to the later name
    gains, best = array("d"), array("d")
    for rows, values, starts in singles.blocks():
        others = counts[rows] - 1
        ranks = np.where(others > 0, (totals[rows] - values) / np.maximum(others, 1), -np.inf)
        query = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))
        ranked = np.lexsort((names[rows], ranks, query))
        first = ranked[np.append(starts[1:], len(rows)) - 1]
        # A query whose candidates nobody shares gets what a random one gives: its mean.
        gains.extend(np.where(others[first] > 0, values[first], 0.0))
        best.extend(np.maximum.reduceat(values, starts))
    return {"gain": fmean(gains), "share": fmean(gains) / fmean(best) if fmean(best) > 0.0 else 0.0}


def _hubs(chosen: Counter, offered: Counter, num_queries: int) -> dict[str, object]:
    ranked = sorted(chosen, key=lambda name: (-chosen[name], name))
    picks = sum(chosen.values())
    hundredth = ranked[: max(1, round(len(offered) / 100))]
    return {
        "num_offered": len(offered),
        "num_chosen": len(chosen),
        "hundredth_share": sum(chosen[name] for name in hundredth) / picks,
        "top": [
            {"id": name, "chosen": chosen[name], "offered": offered[name], "share": chosen[name] / num_queries}
            for name in ranked[:NUM_HUBS]
        ],
    }


def _rounded(value):
    """Six significant digits: what the last bits of a sum are is nobody's finding."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def can_matter(split: Mapping) -> str:
    """Whether the choice of demonstrations can matter, in a sentence, by the numbers of one split of an analysis."""
    first, constant = split["steps"][0], split["constant"]
    if max(step["choice"] for step in split["steps"]) < NOTICEABLE:
        return (
            f"Choosing can hardly matter here: with any demonstrations in the prompt, {WORDS[split['scale']].keeps}. "
            "Look at a few prompts and at what the VLM answers before you train a selector."
        )
    if first["choice"] >= NOTICEABLE and constant and constant["share"] >= CONSTANT_SHARE:
        return (
            "Choosing matters here, reading the query hardly does: one ranking of the demonstrations for all queries "
            f"reaches {constant['share']:.0%} of what the best choice gains."
        )
    return (
        f"Choosing can matter here: on {split['num_queries']} queries the best first demonstration changes "
        f"{WORDS[split['scale']].it} by {first['best']:+.3f}, the average candidate by {first['mean']:+.3f}."
    )


def describe(name: str, split: Mapping) -> str:
    """
    One split of an analysis as a small table for the terminal, and the verdict as its last line.

    Args:
        name (`str`):
            Name of the split.
        split (`Mapping`):
            What [`analyze_queries`] returns.
    """
    words, constant, order, hub = WORDS[split["scale"]], split["constant"], split["order"], split["hubs"]["top"][0]
    rows = [("without demonstrations", f"{split['zero_shot']:.3f}")]
    for step in split["steps"]:
        shots = "1 demonstration" if step["shots"] == 1 else f"{step['shots']} demonstrations"
        rows.append((f"{shots}: average candidate", f"{step['mean']:+.3f}"))
        rows.append((f"{shots}: best candidate", f"{step['best']:+.3f}"))
    rows += [
        ("queries that the best sequence helps", f"{split['helped']:.1%}"),
        ("queries that every sequence hurts", f"{split['hurt']:.1%}"),
    ]
    if constant:
        rows.append(("gain of one ranking for all queries", f"{max(0.0, constant['share']):.0%} of the best choice"))
    if order:
        rows.append(("change by another order of the same set", f"{order['difference']:.3f} on average"))
        rows.append(("sets whose order decides", f"{order['decisive']:.1%} of {order['num_sets']:,}"))
    rows.append(("most frequent candidate", f"{hub['id']}, in {hub['share']:.1%} of the best sequences"))
    width = max(len(label) for label, _ in rows)
    lines = [f"Beams of {name!r}, {split['num_queries']} queries: {words.numbers}"]
    return "\n".join([*lines, *(f"  {label:<{width}}  {value}" for label, value in rows), can_matter(split)])
