# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Measures that an accuracy hides: does a selection depend on the query, do methods differ, does order count, is the test
set known, do demonstrations hurt?

Shares are of queries, averaged over a method's seeds.

`gate` estimates the gain of a gate that keeps the zero-shot answer if the VLM's confidence in it is at least t, and
otherwise answers with the method's demonstrations. Queries fall into folds by a hash of their ids, and each fold is
gated by the t with the best accuracy on all others (cross-fitting, Stone 1974, "Cross-validatory choice and assessment
of statistical predictions"). The interval takes the thresholds as given, so it is somewhat too narrow.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
from datasets import Dataset

from ..retrieval.near_duplicates import MEASURED
from ..selectors.collapse import entropy, most_common_share
from ..tasks.images import image_batches
from .leakage import KINDS, LEAKED, NEAR_DUPLICATE, SAME_IMAGE, Leaks, find_leaks, plain_text
from .methods import ZERO_SHOT, method_label, method_rank, method_scope
from .runs import Run, RunKey, Runs, by_method, example_rows
from .significance import IntervalSettings, columns, paired_p_value


#: Pairs of query and demonstration that are listed; all are counted.
NUM_LEAKS_LISTED = 20
#: Kinds of leaks that give a query away, the worst first, in words; a question alone gives nothing away.
LEAKS_IN_WORDS = {
    LEAKED: "the same question about the same or nearly the same image (or about none)",
    SAME_IMAGE: "the same image",
    NEAR_DUPLICATE: "nearly the same image",
}
NUM_FOLDS = 5
#: What [`gate`] measures.
MEASURES = ("gate_gain", "gate_ci_low", "gate_ci_high", "gate_kept_share")


def diagnose(
    runs: Runs,
    rows: Sequence[Mapping],
    predictions: Dataset,
    settings: IntervalSettings,
    order_probes: Runs | None = None,
    queries: Dataset | None = None,
    pool: Dataset | None = None,
) -> dict[str, object]:
    """
    Measures the selections and answers of the runs. `rows` are those of the results, for their `collapsed`, and
    `predictions` the table of the runs, for its candidates. Without `queries` and `pool` there is no audit of leaks.

    Returns:
        `dict`: JSON-ready.
        - `rows`, by method and number of shots: `selection_entropy` (of the chosen examples over all picks, by the
          largest it could be: 0 if one example is always chosen, 1 if all are chosen alike), `repeated_share` (queries
          whose selection another query has too), `most_common_share`, `identical_across_seeds`, `hurt_share` and
          `helped_share` (against zero-shot), `oracle_gate_gain` (the gain of a gate that knows for which queries
          zero-shot is better: a bound, not a method), [`MEASURES`] of the gate by confidence (null without
          confidences), `copied_share` (predictions that equal the answer of a demonstration), `copied_accuracy`,
          `other_accuracy`, and a share for each of `leakage.KINDS`.
        - `overlaps`: the share of queries for which two methods select the same demonstrations in the same order, on
          average over their seeds; `same` if their seeds select the same, whichever selects what.
        - `order`: how answers change when the same demonstrations are shuffled.
        - `leaks`: the first pairs of [`LEAKS_IN_WORDS`]; `leak_verdict`: how many queries had such a demonstration,
          and, for images, how reliable the search is, in a sentence each; null without the audit.
        - `warnings`: sentences on what makes the numbers doubtful.
    """
    texts = leaks = None
    if queries is not None and pool is not None:
        pairs = {
            (query_id, other) for run in runs.values() for query_id, ids in run.selections.items() for other in ids
        }
        leaks = find_leaks(pairs, queries, pool)
        rows_of_pool = example_rows(pool, {other for _, other in pairs}, "pool")
        del pairs  # all demonstrations of all queries
        examples = pool.select_columns(["id", "answer"]).select(rows_of_pool)
        texts = {example["id"]: plain_text(example["answer"]) for example in examples}
    zero_shot = next(run for (method, _, _), run in runs.items() if method == ZERO_SHOT)
    zero_shot_rows = [row for row, method in enumerate(predictions["method"]) if method == ZERO_SHOT]
    candidates = predictions.select(zero_shot_rows)["candidate_ids"]
    num_candidates = len({identifier for ids in candidates for identifier in ids or ()})
    num_choices = {"candidates": num_candidates, "pool": num_candidates if pool is None else len(pool)}
    measured = []
    for (method, shots), seeds in by_method(runs).items():
        if shots == 0:
            continue
        of_seeds = [
            _selections(run, num_choices[method_scope(method)]) | _answers(run, zero_shot, texts, leaks)
            for run in seeds.values()
        ]
        row = {name: _mean(of_seed[name] for of_seed in of_seeds) for name in of_seeds[0]}
        row |= gate(list(seeds.values()), zero_shot, settings)
        row["identical_across_seeds"] = _mean(_overlap(*two) for two in combinations(seeds.values(), 2))
        measured.append({"method": method, "shots": shots, **row})
    results = {
        "rows": measured,
        "overlaps": _overlaps(runs),
        "order": [_order(key, probe, runs[key], settings) for key, probe in (order_probes or {}).items()],
        "leaks": _listed(leaks or {}),
        "leak_verdict": None if leaks is None else _leak_verdict(leaks, zero_shot, pool, queries),
    }
    return results | {"warnings": _warnings(results, rows, leaks or {})}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _selections(run: Run, num_choices: int) -> dict[str, float | None]:
    selections = [chosen for chosen in run.selections.values() if chosen]
    if not selections:  # a selector that may stop and always does
        return {"selection_entropy": None, "repeated_share": None, "most_common_share": None}
    picks = [identifier for chosen in selections for identifier in chosen]
    most = min(num_choices, len(picks))
    counts = Counter(selections)
    return {
        "selection_entropy": min(1.0, entropy(picks) / math.log(most)) if most > 1 else None,
        "repeated_share": sum(count for count in counts.values() if count > 1) / len(selections),
        "most_common_share": most_common_share(selections),
    }


def _answers(
    run: Run, zero_shot: Run, texts: Mapping[str, str] | None, leaks: Leaks | None
) -> dict[str, float | None]:
    """Measures of the answers beside zero-shot, of answers that copy the `texts` of demonstrations, and of leaks."""
    pairs = [(accuracy, zero_shot.accuracies[query_id]) for query_id, accuracy in run.accuracies.items()]
    measures = {
        "hurt_share": fmean(accuracy < alone for accuracy, alone in pairs),
        "helped_share": fmean(accuracy > alone for accuracy, alone in pairs),
        "oracle_gate_gain": fmean(max(accuracy, alone) - accuracy for accuracy, alone in pairs),
    }
    if leaks is None:
        return measures | dict.fromkeys(("copied_share", "copied_accuracy", "other_accuracy", *KINDS))
    accuracies: dict[bool, list[float]] = {True: [], False: []}
    kinds = Counter()
    for query_id, chosen in run.selections.items():
        copied = plain_text(run.predictions[query_id]) in {texts[identifier] for identifier in chosen}
        accuracies[copied].append(run.accuracies[query_id])
        kinds.update({kind for identifier in chosen for kind in leaks.get((query_id, identifier), ())})
    measures["copied_share"] = len(accuracies[True]) / len(run.predictions)
    measures |= {"copied_accuracy": _mean(accuracies[True]), "other_accuracy": _mean(accuracies[False])}
    return measures | {kind: kinds[kind] / len(run.selections) for kind in KINDS}


def _overlap(run: Run, other: Run) -> float:
    return fmean(chosen == other.selections[query_id] for query_id, chosen in run.selections.items())


def _overlaps(runs: Runs) -> list[dict[str, object]]:
    """Every two methods at the same shots, over all their seeds; those that never agree are left out."""
    overlaps = []
    for ((method, shots), seeds), ((other, at), rivals) in combinations(by_method(runs).items(), 2):
        if shots == at and shots > 0:
            shares = [_overlap(run, rival) for run in seeds.values() for rival in rivals.values()]
            if any(shares):
                same = max(shares) == 1.0 and _selected(seeds) == _selected(rivals)
                overlaps.append({"shots": shots, "methods": [method, other], "share": fmean(shares), "same": same})
    return overlaps


def _selected(seeds: Mapping[int, Run]) -> set[frozenset]:
    return {frozenset(run.selections.items()) for run in seeds.values()}


def _order(key: RunKey, probe: Run, run: Run, settings: IntervalSettings) -> dict[str, object]:
    run = run.of(list(probe.accuracies))
    p_value = paired_p_value(probe.accuracies, run.accuracies)
    changed = [probe.predictions[query_id] != prediction for query_id, prediction in run.predictions.items()]
    measures = {"method": key[0], "shots": key[1], "num_probes": len(changed), "changed_share": fmean(changed)}
    measures |= {name: fmean(of.accuracies.values()) for name, of in (("accuracy", run), ("shuffled_accuracy", probe))}
    measures |= columns(settings.difference(probe.accuracies, run.accuracies), "difference")
    return measures | {"p_value": p_value, "significant": settings.differs(p_value)}


def _listed(leaks: Leaks) -> list[dict[str, str]]:
    """The first pairs, the worst kind first."""
    listed = []
    for rank, kind in enumerate(LEAKS_IN_WORDS):
        worse = set(list(LEAKS_IN_WORDS)[:rank])
        pairs = sorted(pair for pair, kinds in leaks.items() if kind in kinds and not worse & set(kinds))
        listed += [{"query_id": pair[0], "demonstration_id": pair[1], "kind": kind} for pair in pairs]
    return listed[:NUM_LEAKS_LISTED]


def _leaked_queries(leaks: Leaks) -> dict[str, set[str]]:
    """The queries by kind of leak."""
    queries = defaultdict(set)
    for (query_id, _), kinds in leaks.items():
        for kind in kinds:
            queries[kind].add(query_id)
    return queries


def _leak_verdict(leaks: Leaks, zero_shot: Run, pool: Dataset, queries: Dataset) -> str:
    leaked = _leaked_queries(leaks)
    verdict = (
        f"Leaks: of {len(zero_shot.accuracies):,} queries, {len(leaked[LEAKED]):,} were shown "
        f"{LEAKS_IN_WORDS[LEAKED]}, {len(leaked[SAME_IMAGE]):,} the same image, and "
        f"{len(leaked[NEAR_DUPLICATE]):,} nearly the same image."
    )
    if all(any(images.null_count < len(images) for images in image_batches(part)) for part in (pool, queries)):
        verdict += f" The search for nearly the same images {MEASURED}."
    return verdict


def _warnings(results: Mapping, rows: Sequence[Mapping], leaks: Leaks) -> list[str]:
    warnings = []
    for method in dict.fromkeys(row["method"] for row in rows if row["collapsed"]):
        warnings.append(f"{method_label(method)} has collapsed: it selects (nearly) the same for every query.")
    same = defaultdict(list)
    for overlap in results["overlaps"]:
        if overlap["same"]:
            same[tuple(sorted(overlap["methods"], key=method_rank))].append(overlap["shots"])
    for (method, other), shots in same.items():
        warnings.append(
            f"{method_label(method)} and {method_label(other)} are the same (shots: {', '.join(map(str, shots))}): "
            "they select the same demonstrations in the same order for every query."
        )
    leaked = _leaked_queries(leaks)
    for kind, meaning in LEAKS_IN_WORDS.items():
        if leaked[kind]:
            warning = (
                f"{len(leaked[kind])} queries were shown a demonstration with {meaning}, e.g. {min(leaked[kind])!r}"
            )
            consequence = ": the test set is known to the pool, so scores are too high" if kind == LEAKED else ""
            warnings.append(f"{warning}{consequence}.")
    for probe in results["order"]:
        if probe["significant"]:
            warnings.append(
                f"Order counts: shuffled, the demonstrations of {method_label(probe['method'])} "
                f"(shots: {probe['shots']}) give {100 * probe['difference']:+.1f} points on {probe['num_probes']} "
                "queries."
            )
    return warnings


def fold_of(query_id: str) -> int:
    """The fold of a query: the same in every evaluation that answers it."""
    return int.from_bytes(hashlib.sha256(query_id.encode()).digest()[:8], "big") % NUM_FOLDS


def best_threshold(confidences: Sequence[float], gains: Sequence[float]) -> float:
    """The threshold of a gate with the largest mean accuracy; of several that are as good, the highest. `confidences`
    are those in the zero-shot answers, and `gains` by how much these are better than the answers with demonstrations,
    both by query. The threshold is halfway between two neighbouring confidences, or 0, which keeps every zero-shot
    answer, or infinity, which keeps none."""
    order = np.lexsort((gains, confidences))[::-1]  # the surest first; the order of the queries can't matter
    sure, gained = np.asarray(confidences)[order], np.asarray(gains)[order]  # [N], [N]
    # Rounded, since 0.3 - 0.1 - 0.2 is not 0.
    totals = np.cumsum(gained).round(9)  # [N]; of keeping the n + 1 surest
    cuts = np.flatnonzero(np.append(sure[:-1] > sure[1:], sure.size > 0))  # [T]; after these a threshold can be
    if cuts.size == 0 or totals[cuts].max() <= 0.0:
        return math.inf
    cut = cuts[totals[cuts].argmax()]  # of equal totals the first: the highest threshold
    return float((sure[cut] + sure[cut + 1]) / 2.0) if cut + 1 < sure.size else 0.0


def kept_queries(run: Run, zero_shot: Run) -> set[str]:
    """The queries whose zero-shot answer is kept instead of the run's, each by a threshold that the queries of the
    other folds chose; an answer without a confidence is never kept."""
    known = {query_id: sure for query_id, sure in zero_shot.confidences.items() if sure is not None}
    kept = set()
    for fold in range(NUM_FOLDS):
        others = [query_id for query_id in known if fold_of(query_id) != fold]
        gains = [zero_shot.accuracies[query_id] - run.accuracies[query_id] for query_id in others]
        threshold = best_threshold([known[query_id] for query_id in others], gains)
        kept |= {query_id for query_id, sure in known.items() if fold_of(query_id) == fold and sure >= threshold}
    return kept


def gate(seeds: Sequence[Run], zero_shot: Run, settings: IntervalSettings) -> dict[str, float | None]:
    """[`MEASURES`]: the gain of the gate and the share of queries that stay with zero-shot, averaged over a method's
    runs; all null without confidences, or with fewer queries than folds."""
    query_ids = list(zero_shot.accuracies)
    if len(query_ids) < NUM_FOLDS or all(sure is None for sure in zero_shot.confidences.values()):
        return dict.fromkeys(MEASURES)
    kept = [kept_queries(run, zero_shot) for run in seeds]
    # The gain of a seed is one number, so its answers and the gated answers are not two methods.
    gains = {
        query_id: [
            zero_shot.accuracies[query_id] - run.accuracies[query_id] if query_id in of_seed else 0.0
            for run, of_seed in zip(seeds, kept, strict=True)
        ]
        for query_id in query_ids
    }
    gain = settings.difference(gains, dict.fromkeys(query_ids, 0.0))
    share = fmean(len(of_seed) / len(query_ids) for of_seed in kept)
    return columns(gain, "gate_gain", "gate_ci") | {"gate_kept_share": share}
