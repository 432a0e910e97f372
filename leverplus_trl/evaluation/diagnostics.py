# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What an accuracy hides: is the query read, do methods differ, does order count, is the test set known, do
demonstrations hurt?

Everything but the order probes comes from predictions that are there anyway; shares are of queries, averaged over a
method's seeds.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import fmean

from datasets import Dataset

from ..selectors.collapse import entropy, most_common_share
from .gate import gate
from .leakage import KINDS, LEAKED, NEAR_DUPLICATE, RATES, SAME_IMAGE, find_leaks, plain_text, select_by_id
from .methods import ZERO_SHOT, method_label, method_rank, method_scope
from .runs import Run, RunKey, Runs, by_method
from .significance import paired_p_value
from .table import IntervalSettings


#: Pairs of query and demonstration that are named in full; all are counted.
NUM_LEAKS_LISTED = 20


def diagnose(
    runs: Runs,
    rows: Sequence[Mapping],
    num_choices: Mapping[str, int],
    settings: IntervalSettings,
    order_probes: Runs | None = None,
    queries: Dataset | None = None,
    pool: Dataset | None = None,
) -> dict[str, object]:
    """
    Measures the selections and answers of an evaluation.

    Args:
        runs (`Runs`):
            What was answered.
        rows (`Sequence[Mapping]`):
            The rows of the results, for what they say of collapse.
        num_choices (`Mapping[str, int]`):
            How many examples there are to choose from in a scope, `"candidates"` or `"pool"`, over all queries.
        settings (`IntervalSettings`):
            Settings of the intervals.
        order_probes (`Runs`, *optional*):
            Answers behind the same demonstrations in another order.
        queries (`Dataset`, *optional*):
            Examples that were asked. Without them and the pool there is no audit of leaks and copies.
        pool (`Dataset`, *optional*):
            Examples that were chosen from.

    Returns:
        `dict`: JSON-ready.
        - `rows`, one a method and number of shots: `selection_entropy` (of the chosen examples over all picks, by the
          largest it could be: 0 if one example is always chosen, 1 if all are chosen alike), `repeated_share` (queries
          whose selection another query has too), `most_common_share`, `identical_across_seeds`, `hurt_share` and
          `helped_share` (against zero-shot), `oracle_gate_gain` (what a gate would gain that knew for which queries
          zero-shot is better: a bound, not a method), `gate_gain` (what a gate gains that goes by the VLM's confidence
          in its zero-shot answer, see `gate.py`) with `gate_ci_low` and `gate_ci_high`, `gate_kept_share` (queries
          that it leaves without demonstrations; these four are null without confidences), `copied_share` (predictions
          that equal the answer of a demonstration), `copied_accuracy`, `other_accuracy`, and a share for each of
          `leakage.KINDS`.
        - `overlaps`: the share of queries for which two methods select the same demonstrations in the same order, on
          average over their seeds; `same` if their seeds select the same, whichever selects what.
        - `order`: how answers change when the same demonstrations are shuffled.
        - `leaks`: the first pairs whose images are the same or nearly so, or that are the same in all.
        - `leak_verdict`: a sentence on how many queries were shown such a pair, and, where there are images, one on
          how reliable the search is; null without the audit.
        - `warnings`: sentences about what makes the numbers doubtful.
    """
    answers = leaks = None
    if queries is not None and pool is not None:
        shown = sorted({one for run in runs.values() for chosen in run.selections.values() for one in chosen})
        texts = select_by_id(pool, shown, "pool").select_columns(["id", "answer"])
        answers = {row["id"]: plain_text(row["answer"]) for row in texts}
        pairs = ((query_id, one) for run in runs.values() for query_id, ids in run.selections.items() for one in ids)
        leaks = find_leaks(pairs, queries, pool)
    zero_shot = next(run for (method, _, _), run in runs.items() if method == ZERO_SHOT)
    measured = []
    for (method, shots), seeds in by_method(runs).items():
        if shots == 0:
            continue
        of_seeds = [
            _selections(run, num_choices[method_scope(method)])
            | _against_zero_shot(run, zero_shot)
            | _copies(run, answers)
            | _leak_shares(run, leaks)
            for run in seeds.values()
        ]
        row = {name: _mean(one[name] for one in of_seeds) for name in of_seeds[0]}
        row |= gate(list(seeds.values()), zero_shot, settings)
        row["identical_across_seeds"] = _mean(_overlap(*two) for two in combinations(seeds.values(), 2))
        measured.append({"method": method, "shots": shots, **row})
    found = {
        "rows": measured,
        "overlaps": _overlaps(runs),
        "order": [_order(key, probe, runs[key], settings) for key, probe in (order_probes or {}).items()],
        "leaks": _listed(leaks or {}),
        "leak_verdict": None if leaks is None else _leak_verdict(leaks, zero_shot, pool, queries),
    }
    return found | {"warnings": _warnings(found, rows, leaks or {})}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _selections(run: Run, num_choices: int) -> dict[str, float | None]:
    selections = [chosen for chosen in run.selections.values() if chosen]
    if not selections:  # a selector that may stop and always does
        return {"selection_entropy": None, "repeated_share": None, "most_common_share": None}
    picks = [one for chosen in selections for one in chosen]
    most = min(num_choices, len(picks))
    counts = Counter(selections)
    return {
        "selection_entropy": min(1.0, entropy(picks) / math.log(most)) if most > 1 else None,
        "repeated_share": sum(count for count in counts.values() if count > 1) / len(selections),
        "most_common_share": most_common_share(selections),
    }


def _against_zero_shot(run: Run, zero_shot: Run) -> dict[str, float]:
    pairs = [(accuracy, zero_shot.accuracies[query_id]) for query_id, accuracy in run.accuracies.items()]
    return {
        "hurt_share": fmean(accuracy < alone for accuracy, alone in pairs),
        "helped_share": fmean(accuracy > alone for accuracy, alone in pairs),
        "oracle_gate_gain": fmean(max(accuracy, alone) - accuracy for accuracy, alone in pairs),
    }


def _copies(run: Run, answers: Mapping[str, str] | None) -> dict[str, float | None]:
    if answers is None:
        return {"copied_share": None, "copied_accuracy": None, "other_accuracy": None}
    accuracies: dict[bool, list[float]] = {True: [], False: []}
    for query_id, prediction in run.predictions.items():
        copied = plain_text(prediction) in {answers[one] for one in run.selections[query_id]}
        accuracies[copied].append(run.accuracies[query_id])
    return {
        "copied_share": len(accuracies[True]) / len(run.predictions),
        "copied_accuracy": _mean(accuracies[True]),
        "other_accuracy": _mean(accuracies[False]),
    }


def _leak_shares(run: Run, leaks: Mapping[tuple[str, str], tuple[str, ...]] | None) -> dict[str, float | None]:
    if leaks is None:
        return dict.fromkeys(KINDS)
    kinds = [
        {kind for one in chosen for kind in leaks.get((query_id, one), ())}
        for query_id, chosen in run.selections.items()
    ]
    return {kind: fmean(kind in found for found in kinds) for kind in KINDS}


def _overlap(run: Run, other: Run) -> float:
    return fmean(chosen == other.selections[query_id] for query_id, chosen in run.selections.items())


def _overlaps(runs: Runs) -> list[dict[str, object]]:
    """Every two methods at the same shots, over all their seeds; those that never agree are left out."""
    found = []
    for ((method, shots), seeds), ((other, at), rivals) in combinations(by_method(runs).items(), 2):
        if shots == at and shots > 0:
            shares = [_overlap(run, rival) for run in seeds.values() for rival in rivals.values()]
            if any(shares):
                same = max(shares) == 1.0 and _selected(seeds) == _selected(rivals)
                found.append({"shots": shots, "methods": [method, other], "share": fmean(shares), "same": same})
    return found


def _selected(seeds: Mapping[int, Run]) -> set[frozenset]:
    return {frozenset(run.selections.items()) for run in seeds.values()}


def _order(key: RunKey, probe: Run, run: Run, settings: IntervalSettings) -> dict[str, object]:
    method, shots, _ = key
    asked = run.of(list(probe.accuracies))
    difference = settings.difference(probe.accuracies, asked.accuracies)
    p_value = paired_p_value(probe.accuracies, asked.accuracies)
    return {
        "method": method,
        "shots": shots,
        "num_probes": len(probe.accuracies),
        "changed_share": fmean(probe.predictions[one] != said for one, said in asked.predictions.items()),
        "accuracy": fmean(asked.accuracies.values()),
        "shuffled_accuracy": fmean(probe.accuracies.values()),
        "difference": difference.mean,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "p_value": p_value,
        "significant": settings.differs(p_value),
    }


def _listed(leaks: Mapping[tuple[str, str], tuple[str, ...]]) -> list[dict[str, str]]:
    """The first pairs, the worst kind first; a question alone gives nothing away."""
    worst_first = (LEAKED, SAME_IMAGE, NEAR_DUPLICATE)
    listed = [
        (worst_first.index(kind), *pair)
        for pair, kinds in leaks.items()
        if (kind := next((kind for kind in worst_first if kind in kinds), None))
    ]
    return [
        {"query_id": query_id, "demonstration_id": one, "kind": worst_first[rank]}
        for rank, query_id, one in sorted(listed)[:NUM_LEAKS_LISTED]
    ]


def _leak_verdict(leaks: Mapping, zero_shot: Run, pool: Dataset, queries: Dataset) -> str:
    counts = {
        kind: len({query_id for (query_id, _), kinds in leaks.items() if kind in kinds})
        for kind in (LEAKED, SAME_IMAGE, NEAR_DUPLICATE)
    }
    said = (
        f"Leaks: of {len(zero_shot.accuracies):,} queries, {counts[LEAKED]:,} were shown the same question about the "
        f"same or nearly the same image (or about none), {counts[SAME_IMAGE]:,} the same image, and "
        f"{counts[NEAR_DUPLICATE]:,} nearly the same image."
    )
    return f"{said} {RATES}" if _has_images(pool) and _has_images(queries) else said


def _has_images(examples: Dataset) -> bool:
    batches = examples.select_columns(["image"]).with_format("arrow").iter(batch_size=1000)
    return any(batch["image"].null_count < len(batch) for batch in batches)


def _warnings(found: Mapping, rows: Sequence[Mapping], leaks: Mapping) -> list[str]:
    said = []
    for method in dict.fromkeys(row["method"] for row in rows if row["collapsed"]):
        said.append(f"{method_label(method)} has collapsed: it selects (nearly) the same whatever the query.")
    same = {}
    for overlap in found["overlaps"]:
        if overlap["same"]:
            same.setdefault(tuple(sorted(overlap["methods"], key=method_rank)), []).append(overlap["shots"])
    for (method, other), shots in same.items():
        said.append(
            f"{method_label(method)} and {method_label(other)} are the same (shots: {', '.join(map(str, shots))}): "
            "they select the same demonstrations in the same order for every query."
        )
    for kind, meaning in {
        LEAKED: "the same question about the same or nearly the same image (or about none)",
        SAME_IMAGE: "the same image",
        NEAR_DUPLICATE: "nearly the same image",
    }.items():
        known = {query_id for (query_id, _), kinds in leaks.items() if kind in kinds}
        if known:
            said.append(
                f"{len(known)} queries were shown a demonstration with {meaning}, e.g. {min(known)!r}"
                + (": the test set is known to the pool, and scores say too much." if kind == LEAKED else ".")
            )
    for probe in found["order"]:
        if probe["significant"]:
            said.append(
                f"Order counts: shuffled, the demonstrations of {method_label(probe['method'])} "
                f"(shots: {probe['shots']}) give {100 * probe['difference']:+.1f} points on {probe['num_probes']} "
                "queries."
            )
    return said
