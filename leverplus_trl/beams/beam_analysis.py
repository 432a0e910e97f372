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
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from datasets import Dataset

from ..output_files import write_atomically
from ..work_units import read_unit
from .beam_arguments import METRIC
from .beam_search import selection_order
from .info_score import ScoredPrompt, answer_score


ANALYSIS = "analysis.json"
#: A difference of probabilities, or of the metric, under this is called none.
NOTICEABLE = 0.01
#: If one ranking for all queries reaches this share of what choosing can gain, reading the query adds little.
CONSTANT_SHARE = 0.8
NUM_HUBS = 10


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
            rows = (row for part in parts for row in read_unit(part).to_pylist())
            splits[split] = analyze_queries(rows, insertion, score)
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
    zero_shot, beam_scores, best_gains, orders = [], [], [], []
    spreads: dict[int, list[tuple[float, float, float, float]]] = defaultdict(list)
    singles: list[dict[str, float]] = []
    chosen, offered = Counter(), Counter()
    for row in rows:
        scored = {tuple(entry["demonstration_ids"]): ScoredPrompt.of(entry) for entry in row["ledger"]}
        worth = {sequence: answer_score(found, scale) for sequence, found in scored.items()}
        nothing = worth.pop(())
        zero_shot.append(nothing)
        beam_scores.append(row["scores"])
        best_gains.append(max(worth.values()) - nothing)
        for shots, found in _steps(worth, nothing, insertion):
            spreads[shots].append(found)
        orders += _orders(worth, {sequence: _succeeds(scored[sequence], scale) for sequence in worth})
        singles.append({sequence[0]: value for sequence, value in worth.items() if len(sequence) == 1})
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
        "beam_positions": _beam_positions(beam_scores),
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


def _mean_step(shots: int, found: Sequence[tuple[float, ...]]) -> dict[str, float]:
    names = ("mean", "best", "choice", "spread")
    return {"shots": shots} | {
        name: fmean(column) for name, column in zip(names, zip(*found, strict=True), strict=True)
    }


def _orders(worth: Mapping[tuple, float], succeeds: Mapping[tuple, bool]) -> list[tuple[float, bool]]:
    """For each set that was scored in several orders: best minus worst, and whether some orders only succeed."""
    sets: dict[frozenset, list[tuple]] = defaultdict(list)
    for sequence in worth:
        if len(sequence) > 1:
            sets[frozenset(sequence)].append(sequence)
    found = []
    for sequences in sets.values():
        if len(sequences) > 1:
            values = [worth[sequence] for sequence in sequences]
            outcomes = {succeeds[sequence] for sequence in sequences}
            found.append((max(values) - min(values), len(outcomes) > 1))
    return found


def _mean_order(orders: Sequence[tuple[float, bool]]) -> dict[str, float] | None:
    if not orders:
        return None
    return {
        "num_sets": len(orders),
        "difference": fmean(difference for difference, _ in orders),
        "noticeable": fmean(difference >= NOTICEABLE for difference, _ in orders),
        "decisive": fmean(flips for _, flips in orders),
    }


def _beam_positions(beam_scores: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    found = []
    for position in range(max(map(len, beam_scores))):
        scores = [of_query[position] for of_query in beam_scores if position < len(of_query)]
        found.append({"position": position + 1, "mean": fmean(scores), "num_queries": len(scores)})
    return found


def _constant_ranking(singles: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """
    What the candidate that is best for the *other* queries gives each query, alone in the prompt.

    Each score is taken relative to the query's mean, and a candidate's own query is left out of its rank: else chance
    would look like skill.
    """
    totals, counts = defaultdict(float), Counter()
    centred = []
    for worth in singles:
        mean = fmean(worth.values())
        centred.append({name: value - mean for name, value in worth.items()})
        for name, value in centred[-1].items():
            totals[name] += value
            counts[name] += 1
    shared = sum(counts[name] > 1 for values in centred for name in values)
    if 2 * shared < sum(map(len, centred)):
        return None
    gains = []
    for values in centred:
        ranks = {
            name: (totals[name] - value) / (counts[name] - 1) for name, value in values.items() if counts[name] > 1
        }
        # A query whose candidates nobody shares gets what a random one gives: its mean.
        gains.append(values[max(ranks, key=lambda name: (ranks[name], name))] if ranks else 0.0)
    best = fmean(max(values.values()) for values in centred)
    return {"gain": fmean(gains), "share": fmean(gains) / best if best > 0.0 else 0.0}


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
