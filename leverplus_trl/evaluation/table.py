# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The numbers of a table: a row for each method, number of shots and seed, comparisons between methods, the best."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from ..selectors.collapse import is_collapsed, most_common_share
from .methods import HEURISTICS, ORACLE, POOL_SUFFIX, RANDOM, method_scope
from .runs import Accuracies, Averages, RunKey, Runs, average_over_seeds, by_method
from .significance import Interval, bootstrap_mean, holm, paired_difference, paired_p_value


@dataclass(frozen=True)
class Bootstrap:
    num_resamples: int
    confidence: float
    seed: int

    def mean(self, accuracies: Accuracies) -> Interval:
        return bootstrap_mean(list(accuracies.values()), **asdict(self))

    def difference(self, method: Accuracies, baseline: Accuracies) -> Interval:
        return paired_difference(method, baseline, **asdict(self))


def make_table(
    runs: Runs, swap_change_shares: Mapping[RunKey, float], selectors: Sequence[str], bootstrap: Bootstrap
) -> dict[str, list[dict[str, object]]]:
    """`rows`, `comparisons`, `best_heuristics` and `best` of [`~leverplus_trl.evaluation.evaluation.summarize`]."""
    averages = average_over_seeds(runs)
    rows = _rows(runs, averages, swap_change_shares, bootstrap)
    comparisons = _comparisons(averages, selectors, bootstrap)
    # The table shows one row a method and number of shots: only these are a family of tests.
    shown = {(row["method"], row["shots"]): row for row in rows if row["diff_p_value"] is not None}
    for row, p_holm in zip(shown.values(), holm([row["diff_p_value"] for row in shown.values()]), strict=True):
        row["diff_p_holm"] = p_holm
    # Two selectors are compared in both directions, which is one test.
    tests = {unordered_pair(one): one["p_value"] for one in comparisons}
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    for comparison in comparisons:
        p_holm = corrected[unordered_pair(comparison)]
        comparison |= {"p_holm": p_holm, "significant": p_holm <= 1.0 - bootstrap.confidence}
    return {
        "rows": rows,
        "comparisons": comparisons,
        "best_heuristics": _best_heuristics(averages, comparisons),
        "best": _best(averages, bootstrap),
    }


def unordered_pair(comparison: Mapping[str, object]) -> tuple[int, frozenset[str]]:
    """What tells a comparison from all but its mirror image."""
    return comparison["shots"], frozenset((comparison["method"], comparison["baseline"]))


def _rows(
    runs: Runs, averages: Averages, swap_change_shares: Mapping[RunKey, float], bootstrap: Bootstrap
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
            row = _accuracy_row(method, shots, seed, run.accuracies, averages, bootstrap)
            of_seeds.append(row | {"collapsed": collapsed, "most_common_selection": share})
        rows.extend(of_seeds)
        if len(of_seeds) > 1:
            row = of_seeds[0] | _accuracy_row(method, shots, None, averages[method, shots], averages, bootstrap)
            # One collapsed seed is enough: an average would hide it.
            row["collapsed"] = any(one["collapsed"] for one in of_seeds)
            row["most_common_selection"] = max((one["most_common_selection"] or 0.0) for one in of_seeds)
            rows.append(row)
    return rows


def _accuracy_row(
    method: str, shots: int, seed: int | None, accuracies: Accuracies, averages: Averages, bootstrap: Bootstrap
) -> dict[str, object]:
    scope = method_scope(method)
    interval = bootstrap.mean(accuracies)
    baseline = RANDOM + (POOL_SUFFIX if scope == "pool" else "")
    difference = p_value = regret = None
    if method != baseline and (baseline, shots) in averages:
        difference = bootstrap.difference(accuracies, averages[baseline, shots])
        p_value = paired_p_value(accuracies, averages[baseline, shots])
    if method != ORACLE and (ORACLE, shots) in averages:
        regret = bootstrap.difference(averages[ORACLE, shots], accuracies)
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


def _comparisons(averages: Averages, selectors: Sequence[str], bootstrap: Bootstrap) -> list[dict[str, object]]:
    """Each selector against all others at the same shots, and against zero-shot."""
    return [
        _comparison(shots, method, baseline, bootstrap.difference(averages[method, shots], averages[baseline, at]))
        | {"p_value": paired_p_value(averages[method, shots], averages[baseline, at])}
        for method, shots in averages
        for baseline, at in averages
        if method in selectors and baseline != method and at in (0, shots)
    ]


def _comparison(shots: int, method: str, baseline: str, difference: Interval) -> dict[str, object]:
    return {
        "shots": shots,
        "method": method,
        "baseline": baseline,
        "difference": difference.mean,
        "ci_low": difference.low,
        "ci_high": difference.high,
    }


def _best_heuristics(averages: Averages, comparisons: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Of each method's comparisons at one number of shots, the one with the most accurate heuristic."""
    best: dict[tuple[str, int], dict[str, object]] = {}
    for comparison in comparisons:
        if comparison["baseline"] in HEURISTICS:
            accuracy = fmean(averages[comparison["baseline"], comparison["shots"]].values())
            key = (comparison["method"], comparison["shots"])
            if key not in best or accuracy > best[key]["baseline_accuracy"]:
                best[key] = comparison | {"baseline_accuracy": accuracy}
    return list(best.values())


def _best(averages: Averages, bootstrap: Bootstrap) -> list[dict[str, object]]:
    """At each number of shots the best method, beside the one it is hardest to tell from; zero-shot competes too."""
    found = []
    for shots in sorted({at for _, at in averages if at > 0}):
        rivals = {method: averages[method, at] for method, at in averages if at in (0, shots) and method != ORACLE}
        best = max(rivals, key=lambda method: fmean(rivals[method].values()))
        differences = {
            method: bootstrap.difference(rivals[best], rivals[method]) for method in rivals if method != best
        }
        if differences:
            closest = min(differences, key=lambda method: (differences[method].low, differences[method].mean))
            clear = differences[closest].low > 0.0
            found.append(_comparison(shots, best, closest, differences[closest]) | {"clear": clear})
    return found
