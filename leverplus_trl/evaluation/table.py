# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The numbers of a table: a row for each method, number of shots and seed, comparisons between methods, the best."""

from collections.abc import Iterable, Mapping, Sequence

from ..retrieval.sampler_arguments import RANDOM
from ..selectors.collapse import is_collapsed, most_common_share
from .methods import HEURISTICS, ORACLE, POOL_SUFFIX, ZERO_SHOT, method_scope
from .runs import RunKey, Runs, SeedScores, by_method, by_seed, mean_accuracy
from .significance import IntervalSettings, Scores, columns, holm, paired_p_value


def make_table(
    runs: Runs, swap_change_shares: Mapping[RunKey, float], selectors: Sequence[str], settings: IntervalSettings
) -> dict[str, list[dict[str, object]]]:
    """`rows`, `comparisons`, `best_baselines` and `best` of [`~leverplus_trl.evaluation.evaluation.summarize`]."""
    scores = by_seed({key: run.accuracies for key, run in runs.items()})
    rows = _rows(runs, scores, swap_change_shares, settings)
    # Each selector against all others at the same shots, and against zero-shot.
    comparisons = [
        _comparison(shots, (method, scores[method, shots]), (baseline, scores[baseline, at]), settings)
        for method, shots in scores
        for baseline, at in scores
        if method in selectors and baseline != method and at in (0, shots)
    ]
    # The table shows one row a method and number of shots: only these are a family of tests.
    shown = {(row["method"], row["shots"]): row for row in rows if row["diff_p_value"] is not None}
    for row, p_holm in zip(shown.values(), holm([row["diff_p_value"] for row in shown.values()]), strict=True):
        row["diff_p_holm"] = p_holm
    # Two selectors are compared in both directions, which is one test.
    tests = {unordered_pair(comparison): comparison["p_value"] for comparison in comparisons}
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    for comparison in comparisons:
        p_holm = corrected[unordered_pair(comparison)]
        comparison |= {"p_holm": p_holm, "significant": settings.differs(p_holm)}
    best_baselines = _best_baselines(scores, comparisons)
    best = list(_best(scores, settings))
    return {"rows": rows, "comparisons": comparisons, "best_baselines": best_baselines, "best": best}


def unordered_pair(comparison: Mapping[str, object]) -> tuple[int, frozenset[str]]:
    """A key that a comparison shares with its mirror image alone."""
    return comparison["shots"], frozenset((comparison["method"], comparison["baseline"]))


def _rows(
    runs: Runs, scores: SeedScores, swap_change_shares: Mapping[RunKey, float], settings: IntervalSettings
) -> list[dict]:
    """A row a run; for methods with several seeds, a further row with the average and the interval over all seeds."""
    rows = []
    for (method, shots), seeds in by_method(runs).items():
        of_seeds = []
        for seed, run in seeds.items():
            share = collapsed = None  # without demonstrations there is nothing to collapse
            if any(run.selections.values()):
                share = most_common_share(list(run.selections.values()))
                # The same ids count, the same places do not: a sampler may put the likely candidates first.
                swap = swap_change_shares.get((method, shots, seed))
                collapsed = is_collapsed(len(run.selections), share, 0.0, swap)
            row = _accuracy_row(method, shots, seed, run.accuracies, scores, settings)
            of_seeds.append(row | {"collapsed": collapsed, "most_common_selection": share})
        rows.extend(of_seeds)
        if len(of_seeds) > 1:
            row = of_seeds[0] | _accuracy_row(method, shots, None, scores[method, shots], scores, settings)
            # One collapsed seed is enough: an average would hide it.
            row["collapsed"] = any(of_seed["collapsed"] for of_seed in of_seeds)
            row["most_common_selection"] = max(of_seed["most_common_selection"] or 0.0 for of_seed in of_seeds)
            rows.append(row)
    return rows


def _accuracy_row(
    method: str, shots: int, seed: int | None, accuracies: Scores, scores: SeedScores, settings: IntervalSettings
) -> dict[str, object]:
    scope = method_scope(method)
    baseline = RANDOM + POOL_SUFFIX if scope == "pool" else RANDOM
    difference = p_value = regret = None
    if method != baseline and (baseline, shots) in scores:
        difference = settings.difference(accuracies, scores[baseline, shots])
        p_value = paired_p_value(accuracies, scores[baseline, shots])
    if method != ORACLE and (ORACLE, shots) in scores:
        regret = settings.difference(scores[ORACLE, shots], accuracies)
    row = {"method": method, "scope": scope, "shots": shots, "seed": seed, "num_queries": len(accuracies)}
    row |= columns(settings.mean(accuracies), "accuracy") | columns(difference, "diff_to_random", "diff_ci")
    row |= {"diff_p_value": p_value, "diff_p_holm": None}  # the whole table decides the latter
    return row | columns(regret, "regret", "regret_ci")


def _comparison(
    shots: int, method: tuple[str, Scores], baseline: tuple[str, Scores], settings: IntervalSettings
) -> dict[str, object]:
    names = {"shots": shots, "method": method[0], "baseline": baseline[0]}
    difference = columns(settings.difference(method[1], baseline[1]), "difference")
    return names | difference | {"p_value": paired_p_value(method[1], baseline[1])}


def _best_baselines(scores: SeedScores, comparisons: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Of each selector's comparisons at one number of shots, that with the most accurate heuristic or zero-shot."""
    best: dict[tuple[str, int], dict[str, object]] = {}
    for comparison in comparisons:
        if comparison["baseline"] in (ZERO_SHOT, *HEURISTICS):
            shots = 0 if comparison["baseline"] == ZERO_SHOT else comparison["shots"]
            accuracy = mean_accuracy(scores[comparison["baseline"], shots])
            key = (comparison["method"], comparison["shots"])
            if key not in best or accuracy > best[key]["baseline_accuracy"]:
                best[key] = comparison | {"baseline_accuracy": accuracy}
    return list(best.values())


def _best(scores: SeedScores, settings: IntervalSettings) -> Iterable[dict[str, object]]:
    """At each number of shots the best method, compared with the rival of the largest p-value; zero-shot competes."""
    for shots in sorted({at for _, at in scores if at > 0}):
        rivals = {method: scores[method, at] for method, at in scores if at in (0, shots) and method != ORACLE}
        best = max(rivals, key=lambda method: mean_accuracy(rivals[method]))
        compared = [
            _comparison(shots, (best, rivals[best]), rival, settings) for rival in rivals.items() if rival[0] != best
        ]
        if compared:
            closest = max(compared, key=lambda comparison: (comparison["p_value"], -comparison["difference"]))
            clear = closest["difference"] > 0.0 and settings.differs(closest["p_value"])
            yield closest | {"clear": clear}
