# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The analysis of a search: can choosing and ordering demonstrations matter on this data, with this VLM?

All values come from the ledger. Their scale is the length-normalised probability of the right answer, or, for a search
with `score: metric`, the task's metric of the generated answer. A gain is a difference to the zero-shot value.
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
from .beam_search import selection_order
from .info_score import METRIC, ScoredPrompt, answer_score


ANALYSIS = "analysis.json"
#: A smaller difference of probabilities, or of the metric, is not noticeable.
NOTICEABLE = 0.01
#: If a single ranking for all queries reaches this share of the best possible gain, reading the query adds little.
CONSTANT_SHARE = 0.8
NUM_HUBS = 10
#: The measures of a step over the gains of sequences that extend the same prefix.
STEP_MEASURES = ("mean", "best", "choice", "spread")
#: Queries that are ranked at once.
QUERIES = 4096


class Words(NamedTuple):
    """The words for a scale in texts."""

    numbers: str  #: the values of an analysis
    it: str  #: the quantity that a prompt changes
    keeps: str  #: the result where no choice matters
    succeeds: str  #: the result that a decisive order decides


WORDS = {
    "prob": Words(
        "probabilities of the right answer, length-normalised",
        "the probability of the right answer",
        "the right answer keeps its probability",
        "the whole right answer, its length not normalised, has a probability of more than a half",
    ),
    METRIC: Words(
        "values of the task's metric of the generated answer",
        "the metric of the generated answer",
        "the metric of the generated answer stays the same",
        "the generated answer scores above 0",
    ),
}


def write_analysis(folder: Path, files: Mapping[str, Sequence[Path]], insertion: str, score: str) -> dict[str, object]:
    """Writes the analysis of a completed search to `analysis.json` in `folder`, and returns it: `insertion`, and under
    `splits` the result of [`analyze_queries`]. `files` are the units' files of each split, in query order."""
    splits = {split: analyze_queries(UnitRows(parts), insertion, score) for split, parts in files.items() if parts}
    analysis = {"insertion": insertion, "splits": splits}
    text = json.dumps(analysis, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / ANALYSIS, f"{text}\n".encode())
    return analysis


def analyze_tables(beams: Dataset, ledger: Dataset, insertion: str, score: str) -> dict[str, object]:
    """The same from the tables of `schema.BEAMS` (any number of splits) and `schema.LEDGER`, for beams without
    `analysis.json`, such as beams from the hub."""
    entries: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for entry in ledger:
        entries[entry["split"], entry["query_id"]].append(entry)
    rows: dict[str, list[dict]] = {}
    for row in beams:
        rows.setdefault(row["split"], []).append({**row, "ledger": entries[row["split"], row["query_id"]]})
    splits = {split: analyze_queries(of_split, insertion, score) for split, of_split in rows.items()}
    return {"insertion": insertion, "splits": splits}


def analyze_queries(rows: Iterable[Mapping], insertion: str, score: str) -> dict[str, object]:
    """
    Analyses the queries of one split: `rows` are those of `schema.BEAMS`, each with its ledger entries under `ledger`.

    Returns:
        `dict`:
        - `scale` (`"metric"` or `"prob"`), `num_queries`, `zero_shot` (mean value), `helped` and `hurt` (shares of
          queries with a positive gain, and with negative gains alone);
        - `beam_positions`: mean score at each position of the beams, on the scale of the search;
        - `steps`: for each number of demonstrations, over the sequences that extend the same prefix: `mean` gain,
          `best` gain, `choice` (best minus mean) and `spread` (standard deviation);
        - `order`: over the sets that were scored in several orders: their number, the mean `difference` between the
          best and the worst order, the share of `noticeable` differences, and of `decisive` ones, where only some
          orders succeed (see `WORDS`); null if no set was scored twice;
        - `constant`: the `gain` of a single ranking of candidates for all queries at the first step, and its `share`
          of the best gain; null if queries hardly share candidates;
        - `hubs`: the candidates in the best sequences, and how often each was offered.

    Raises:
        `ValueError`: no queries, or no accuracies in the ledger of a search with `score: metric`.
    """
    scale = METRIC if score == METRIC else "prob"
    totals = _Totals(scale, insertion)
    for row in rows:
        totals.add(row)
    if not totals.zero_shot:
        raise ValueError("There are no queries to analyse.")
    return _rounded({"scale": scale, "num_queries": len(totals.zero_shot), **totals.means()})


class _Totals:
    """Sums over the queries of a split, in few bytes for a query and a candidate."""

    def __init__(self, scale: str, insertion: str):
        self.scale, self.insertion = scale, insertion
        self.zero_shot, self.best_gains = array("d"), array("d")
        self.beam_scores: dict[int, array] = defaultdict(lambda: array("d"))  # by position
        self.steps: dict[int, list[array]] = defaultdict(lambda: [array("d") for _ in STEP_MEASURES])  # by shots
        self.orders, self.chosen, self.offered = Counter(), Counter(), Counter()
        # Sequences of one candidate: its number, its value relative to the query's mean, and their count in a query.
        self.row_of: dict[str, int] = {}
        self.rows, self.values, self.counts = array("i"), array("d"), array("i")

    def add(self, row: Mapping) -> None:
        scored = {tuple(entry["demonstration_ids"]): ScoredPrompt.of(entry) for entry in row["ledger"]}
        values = {sequence: answer_score(prompt, self.scale) for sequence, prompt in scored.items()}
        self.zero_shot.append(values.pop(()))
        self.best_gains.append(max(values.values()) - self.zero_shot[-1])
        for position, score in enumerate(row["scores"]):
            self.beam_scores[position].append(score)
        self._add_steps(values)
        self._add_orders(scored, values)
        singles = {sequence[0]: value for sequence, value in values.items() if len(sequence) == 1}
        mean = fmean(singles.values())
        self.rows.extend(self.row_of.setdefault(name, len(self.row_of)) for name in singles)
        self.values.extend(value - mean for value in singles.values())
        self.counts.append(len(singles))
        self.offered.update(row["candidate_ids"])
        self.chosen.update(row["demonstration_ids"][0])

    def _add_steps(self, values: Mapping[tuple, float]) -> None:
        """The measures of each number of demonstrations, averaged over prefixes."""
        groups: dict[tuple, list[float]] = defaultdict(list)
        for sequence, value in values.items():
            groups[tuple(selection_order(sequence, self.insertion))[:-1]].append(value - self.zero_shot[-1])
        by_shots: dict[int, list[tuple[float, ...]]] = defaultdict(list)
        for prefix, gains in groups.items():
            mean = fmean(gains)
            by_shots[len(prefix) + 1].append((mean, max(gains), max(gains) - mean, float(np.std(gains))))
        for shots, measures in by_shots.items():
            for column, of_prefixes in zip(self.steps[shots], zip(*measures, strict=True), strict=True):
                column.append(fmean(of_prefixes))

    def _add_orders(self, scored: Mapping[tuple, ScoredPrompt], values: Mapping[tuple, float]) -> None:
        sets: dict[frozenset, list[tuple]] = defaultdict(list)
        for sequence in values:
            sets[frozenset(sequence)].append(sequence)
        several = [sequences for sequences in sets.values() if len(sequences) > 1]
        of_sets = [[values[sequence] for sequence in sequences] for sequences in several]
        differences = [max(of_set) - min(of_set) for of_set in of_sets]
        successes = [{self._succeeds(scored[sequence]) for sequence in sequences} for sequences in several]
        self.orders["num_sets"] += len(several)
        self.orders["difference"] += math.fsum(differences)
        self.orders["noticeable"] += sum(difference >= NOTICEABLE for difference in differences)
        self.orders["decisive"] += sum(len(outcomes) > 1 for outcomes in successes)

    def _succeeds(self, prompt: ScoredPrompt) -> bool:
        return prompt.accuracy > 0.0 if self.scale == METRIC else prompt.logprob > math.log(0.5)

    def means(self) -> dict[str, object]:
        num_sets = self.orders.pop("num_sets")
        order = {"num_sets": num_sets} | {name: total / max(1, num_sets) for name, total in self.orders.items()}
        return {
            "zero_shot": fmean(self.zero_shot),
            "helped": fmean(gain > 0.0 for gain in self.best_gains),
            "hurt": fmean(gain < 0.0 for gain in self.best_gains),
            "beam_positions": [
                {"position": position + 1, "mean": fmean(scores), "num_queries": len(scores)}
                for position, scores in self.beam_scores.items()
            ],
            "steps": [
                {"shots": shots} | dict(zip(STEP_MEASURES, map(fmean, columns), strict=True))
                for shots, columns in sorted(self.steps.items())
            ],
            "order": order if num_sets else None,
            "constant": self._constant_ranking(),
            "hubs": self._hubs(),
        }

    def _blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Blocks of queries: numbers and values of their C candidates, and the start of each query."""
        end, rows, values = 0, np.asarray(self.rows), np.asarray(self.values)
        for start in range(0, len(self.counts), QUERIES):
            counts = np.asarray(self.counts[start : start + QUERIES])
            begin, end = end, end + int(counts.sum())
            yield rows[begin:end], values[begin:end], np.cumsum(counts) - counts

    def _constant_ranking(self) -> dict[str, float] | None:
        """The gain of the candidate that is best for the *other* queries. A candidate's value for the query itself is
        left out of its rank, or chance would look like skill."""
        totals, counts = np.zeros(len(self.row_of)), np.zeros(len(self.row_of), dtype=np.int64)
        for rows, values, _ in self._blocks():
            totals += np.bincount(rows, values, len(totals))
            counts += np.bincount(rows, minlength=len(totals))
        if 2 * counts[counts > 1].sum() < counts.sum():
            return None
        names = np.argsort(np.argsort(np.array(list(self.row_of))))  # ties go to the later name
        gains, best = array("d"), array("d")
        for rows, values, starts in self._blocks():
            others = counts[rows] - 1
            ranks = np.where(others > 0, (totals[rows] - values) / np.maximum(others, 1), -np.inf)
            query = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))
            ranked = np.lexsort((names[rows], ranks, query))
            first = ranked[np.append(starts[1:], len(rows)) - 1]
            # A query that shares no candidate gets the gain of a random candidate: 0, relative to its mean.
            gains.extend(np.where(others[first] > 0, values[first], 0.0))
            best.extend(np.maximum.reduceat(values, starts))
        return {"gain": fmean(gains), "share": fmean(gains) / fmean(best) if fmean(best) > 0.0 else 0.0}

    def _hubs(self) -> dict[str, object]:
        chosen, offered, num_queries = self.chosen, self.offered, len(self.zero_shot)
        ranked = sorted(chosen, key=lambda name: (-chosen[name], name))
        hundredth = ranked[: max(1, round(len(offered) / 100))]
        return {
            "num_offered": len(offered),
            "num_chosen": len(chosen),
            "hundredth_share": sum(chosen[name] for name in hundredth) / chosen.total(),
            "top": [
                {"id": name, "chosen": chosen[name], "offered": offered[name], "share": chosen[name] / num_queries}
                for name in ranked[:NUM_HUBS]
            ],
        }


def _rounded(value):
    """The value with floats rounded to six significant digits: the last bits of a sum depend on the platform."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def can_matter(split: Mapping) -> str:
    """A sentence on whether the choice of demonstrations can matter, by the analysis of a split."""
    first, constant = split["steps"][0], split["constant"]
    if max(step["choice"] for step in split["steps"]) < NOTICEABLE:
        return (
            f"Choosing can hardly matter here: with any demonstrations in the prompt, {WORDS[split['scale']].keeps}. "
            "Check a few prompts and answers of the VLM before you train a selector."
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
    """The result of [`analyze_queries`] for a split as a table for the terminal; [`can_matter`] is the last line."""
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
