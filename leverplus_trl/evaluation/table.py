# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The numbers of a table: a row for each method, number of shots and seed, comparisons between methods, the best."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ..selectors.collapse import is_collapsed, most_common_share
from .baselines import POOL_SUFFIX, RANDOM
from .methods import HEURISTICS, ORACLE, ZERO_SHOT, method_scope
from .runs import RunKey, Runs, SeedAccuracies, accuracies_by_seed, by_method, mean_accuracy
from .significance import Interval, Scores, bootstrap_mean, holm, paired_difference, paired_p_value


@dataclass(frozen=True)
class IntervalSettings:
    num_resamples: int
    confidence: float
    seed: int

    def mean(self, scores: Scores) -> Interval:
        return bootstrap_mean(list(scores.values()), **asdict(self))

    def difference(self, method: Scores, baseline: Scores) -> Interval:
        return paired_difference(method, baseline, self.confidence)

    def differs(self, p_value: float) -> bool:
        """Whether a p-value says that a difference is there."""
        return p_value <= 1.0 - self.confidence


def make_table(
    runs: Runs, swap_change_shares: Mapping[RunKey, float], selectors: Sequence[str], settings: IntervalSettings
) -> dict[str, list[dict[str, object]]]:
    """`rows`, `comparisons`, `best_baselines` and `best` of [`~leverplus_trl.evaluation.evaluation.summarize`]."""
    by_seed = accuracies_by_seed(runs)
    rows = _rows(runs, by_seed, swap_change_shares, settings)
    comparisons = _comparisons(by_seed, selectors, settings)
    # The table shows one row a method and number of shots: only these are a family of tests.
    shown = {(row["method"], row["shots"]): row for row in rows if row["diff_p_value"] is not None}
    for row, p_holm in zip(shown.values(), holm([row["diff_p_value"] for row in shown.values()]), strict=True):
        row["diff_p_holm"] = p_holm
    # Two selectors are compared in both directions, which is one test.
    tests = {unordered_pair(one): one["p_value"] for one in comparisons}
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    for comparison in comparisons:
        p_holm = corrected[unordered_pair(comparison)]
        comparison |= {"p_holm": p_holm, "significant": settings.differs(p_holm)}
    return {
        "rows": rows,
        "comparisons": comparisons,
        "best_baselines": _best_baselines(by_seed, comparisons),
        "best": _best(by_seed, settings),
    }


def unordered_pair(comparison: Mapping[str, object]) -> tuple[int, frozenset[str]]:
    """What tells a comparison from all but its mirror image."""
    return comparison["shots"], frozenset((comparison["method"], comparison["baseline"]))


def _rows(
    runs: Runs, by_seed: SeedAccuracies, swap_change_shares: Mapping[RunKey, float], settings: IntervalSettings
) -> list[dict]:
    """A row a run; for methods with several seeds, one more that holds the average and what the seeds say together."""
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
            row = _accuracy_row(method, shots, seed, run.accuracies, by_seed, settings)
            of_seeds.append(row | {"collapsed": collapsed, "most_common_selection": share})
        rows.extend(of_seeds)
        if len(of_seeds) > 1:
            row = of_seeds[0] | _accuracy_row(method, shots, None, by_seed[method, shots], by_seed, settings)
            # One collapsed seed is enough: an average would hide it.
            row["collapsed"] = any(one["collapsed"] for one in of_seeds)
            row["most_common_selection"] = max((one["most_common_selection"] or 0.0) for one in of_seeds)
            rows.append(row)
    return rows


def _accuracy_row(
    method: str, shots: int, seed: int | None, accuracies: Scores, by_seed: SeedAccuracies, settings: IntervalSettings
) -> dict[str, object]:
    scope = method_scope(method)
    interval = settings.mean(accuracies)
    baseline = RANDOM + (POOL_SUFFIX if scope == "pool" else "")
    difference = p_value = regret = None
    if method != baseline and (baseline, shots) in by_seed:
        difference = settings.difference(accuracies, by_seed[baseline, shots])
        p_value = paired_p_value(accuracies, by_seed[baseline, shots])
    if method != ORACLE and (ORACLE, shots) in by_seed:
        regret = settings.difference(by_seed[ORACLE, shots], accuracies)
    return {
        "method": method,
        "scope": scope,
        "shots": shots,
        "seed": seed,
        "num_queries": len(accuracies),
        "accuracy": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "diff_to_random": difference and difference.mean,
        "diff_ci_low": difference and difference.low,
        "diff_ci_high": difference and difference.high,
        "diff_p_value": p_value,
        "diff_p_holm": None,  # the whole table decides
        "regret": regret and regret.mean,
        "regret_ci_low": regret and regret.low,
        "regret_ci_high": regret and regret.high,
    }


def _comparisons(
    by_seed: SeedAccuracies, selectors: Sequence[str], settings: IntervalSettings
) -> list[dict[str, object]]:
    """Each selector against all others at the same shots, and against zero-shot."""
    return [
        _comparison(shots, (method, by_seed[method, shots]), (baseline, by_seed[baseline, at]), settings)
        for method, shots in by_seed
        for baseline, at in by_seed
        if method in selectors and baseline != method and at in (0, shots)
    ]


def _comparison(
    shots: int, method: tuple[str, Scores], baseline: tuple[str, Scores], settings: IntervalSettings
) -> dict[str, object]:
    difference = settings.difference(method[1], baseline[1])
    return {
        "shots": shots,
        "method": method[0],
        "baseline": baseline[0],
        "difference": difference.mean,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "p_value": paired_p_value(method[1], baseline[1]),
    }


def _best_baselines(by_seed: SeedAccuracies, comparisons: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Of each selector's comparisons at one number of shots, the one with the most accurate heuristic or zero-shot."""
    best: dict[tuple[str, int], dict[str, object]] = {}
    for comparison in comparisons:
        if comparison["baseline"] in (ZERO_SHOT, *HEURISTICS):
            shots = 0 if comparison["baseline"] == ZERO_SHOT else comparison["shots"]
            accuracy = mean_accuracy(by_seed[comparison["baseline"], shots])
            key = (comparison["method"], comparison["shots"])
            if key not in best or accuracy > best[key]["baseline_accuracy"]:
                best[key] = comparison | {"baseline_accuracy": accuracy}
    return list(best.values())


def _best(by_seed: SeedAccuracies, settings: IntervalSettings) -> list[dict[str, object]]:
    """At each number of shots the best method, beside the one it is hardest to tell from; zero-shot competes too."""
    found = []
    for shots in sorted({at for _, at in by_seed if at > 0}):
        rivals = {method: by_seed[method, at] for method, at in by_seed if at in (0, shots) and method != ORACLE}
        best = max(rivals, key=lambda method: mean_accuracy(rivals[method]))
        compared = [
            _comparison(shots, (best, rivals[best]), rival, settings) for rival in rivals.items() if rival[0] != best
        ]
        if compared:
            closest = max(compared, key=lambda one: (one["p_value"], -one["difference"]))
            clear = closest["difference"] > 0.0 and settings.differs(closest["p_value"])
            found.append(closest | {"clear": clear})
    return found
