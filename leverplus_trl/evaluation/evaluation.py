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

"""From a predictions table to `results.json`: accuracies with intervals, paired comparisons, what has collapsed.

How the numbers are made:
- `diff_to_random` is paired, query by query, with random selection at the same shots and in the same scope: `random`
  for methods that rank the sampled candidates, `random_pool` for those that rank the whole pool. It is null where
  there is no such row, and for random itself and zero-shot.
- A method with several seeds has a row a seed and one row with `seed` null: each query's accuracy averaged over the
  seeds. Whatever is compared is this average. Intervals are over queries; they say nothing about other seeds.
- A heuristic is called the best by its accuracy on the very queries of the table, which favours the heuristic.
- `oracle` knows the answers, so others are compared with it but it is never called the best.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from datasets import Dataset

from ..provenance import digest
from ..schema import PREDICTIONS
from ..selectors.collapse import is_collapsed, most_common_share
from .significance import CONFIDENCE, NUM_RESAMPLES, Interval, bootstrap_mean, paired_difference


ZERO_SHOT, RANDOM, ORACLE, SELECTOR = "zero_shot", "random", "oracle", "selector"
SIMILARITIES = ("text_sim", "image_sim", "image_text_sim")
POOL_SUFFIX = "_pool"
POOL_HEURISTICS = tuple(name + POOL_SUFFIX for name in (RANDOM, *SIMILARITIES))
#: What a selector has to beat, over the sampled candidates or the whole pool.
HEURISTICS = (RANDOM, *SIMILARITIES, "mix", *POOL_HEURISTICS)
#: Order of methods in every table; selectors that have names of their own stand where `selector` does.
METHOD_ORDER = (ZERO_SHOT, RANDOM, *SIMILARITIES, "mix", SELECTOR, ORACLE, *POOL_HEURISTICS)
RESULT_KEYS = (
    *("name", "dataset", "vlm", "task", "metric", "num_queries"),
    *("selectors", "rows", "comparisons", "best", "provenance"),
)

Accuracies = Mapping[str, float]  # query id -> accuracy
Averages = Mapping[tuple[str, int], Accuracies]  # (method, shots) -> accuracies averaged over seeds


def method_scope(method: str) -> str:
    """What a method chooses from: `"candidates"` (the K sampled), `"pool"` (names that end in `_pool`) or `"none"`."""
    if method == ZERO_SHOT:
        return "none"
    return "pool" if method.endswith(POOL_SUFFIX) else "candidates"


def method_rank(method: str) -> tuple[int, str]:
    """Sorting key: the order of `METHOD_ORDER`; other names are those of selectors, in alphabetical order."""
    return (METHOD_ORDER.index(method if method in METHOD_ORDER else SELECTOR), method)


@dataclass(frozen=True)
class _Run:
    """What one method answered at one number of shots with one seed, by query id."""

    accuracies: dict[str, float]
    selections: dict[str, tuple[str, ...]]


_Runs = Mapping[tuple[str, int, int], _Run]  # by (method, shots, seed)


@dataclass(frozen=True)
class _Bootstrap:
    num_resamples: int
    confidence: float
    seed: int

    def mean(self, accuracies: Accuracies) -> Interval:
        return bootstrap_mean(list(accuracies.values()), **asdict(self))

    def difference(self, method: Accuracies, baseline: Accuracies) -> Interval:
        return paired_difference(method, baseline, **asdict(self))


def summarize(
    predictions: Dataset,
    *,
    name: str,
    dataset: str,
    vlm: str,
    task: str,
    metric: str,
    provenance: Mapping[str, object] | None = None,
    collapse: Mapping[str, Mapping[str, object]] | None = None,
    selectors: Sequence[str] = (SELECTOR,),
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, object]:
    """
    Turns a predictions table into the content of `results.json`.

    Args:
        predictions (`Dataset`):
            Table with the columns of `schema.PREDICTIONS`: one row a method, number of shots, seed and query. Every
            method must have answered the same queries, and zero-shot must be among them.
        name (`str`):
            Name of the evaluation.
        dataset (`str`):
            Dataset that the queries and demonstrations come from.
        vlm (`str`):
            Model that answered.
        task (`str`):
            Name of the task.
        metric (`str`):
            Name of the metric behind `accuracy`.
        provenance (`Mapping[str, object]`, *optional*):
            What made the predictions.
        collapse (`Mapping[str, Mapping[str, object]]`, *optional*):
            Collapse measures by method, each with at least `"collapsed"` (`bool`). For a method that is not named, the
            share of its most common selection decides, as in [`~leverplus_trl.selectors.collapse.is_collapsed`].
        selectors (`Sequence[str]`, *optional*, defaults to `("selector",)`):
            Methods that are trained selectors: each is compared with every other method at the same shots, and with
            zero-shot.
        num_resamples (`int`, *optional*, defaults to 10,000):
            Bootstrap resamples.
        confidence (`float`, *optional*, defaults to 0.95):
            Confidence of the intervals.
        seed (`int`, *optional*, defaults to 0):
            Seed of the bootstrap.

    Returns:
        `dict`: JSON-ready. `rows` (one a method, shots and seed), `comparisons`, `best_heuristics` (each
        selector against the best heuristic at the same shots), `best` (at each number of shots the best method, and
        whether its paired difference to every other method excludes 0), `collapse`, `query_set` (digest of the query
        ids).

    Raises:
        `ValueError`: an empty table, a missing column, several splits, a duplicate row, an accuracy that is not a
        finite number, methods answered on different queries, no zero-shot, or collapse measures without `"collapsed"`.
    """
    collapse = dict(collapse or {})
    for method, measures in collapse.items():
        if not isinstance(measures.get("collapsed"), bool):
            raise ValueError(
                f"The collapse measures of {method!r} need a bool 'collapsed'; they are {sorted(measures)}."
            )
    runs = _read_runs(predictions)
    bootstrap = _Bootstrap(num_resamples, confidence, seed)
    averages = _average_over_seeds(runs)
    query_ids = sorted(averages[ZERO_SHOT, 0])
    comparisons = _comparisons(averages, selectors, bootstrap)
    return {
        "stage": "evaluate",
        "name": name,
        "dataset": dataset,
        "vlm": vlm,
        "task": task,
        "metric": metric,
        "split": predictions[0]["split"],
        "num_queries": len(query_ids),
        "query_set": digest(query_ids),
        "interval": {"kind": "percentile bootstrap over queries", **asdict(bootstrap)},
        "selectors": [name for name in selectors if any(method == name for method, _ in averages)],
        "rows": _rows(runs, averages, collapse, bootstrap),
        "comparisons": comparisons,
        "best_heuristics": _best_heuristics(averages, comparisons),
        "best": _best(averages, bootstrap),
        "collapse": collapse,
        "provenance": dict(provenance or {}),
    }


def _read_runs(predictions: Dataset) -> _Runs:
    """The table as runs in the order of every table, checked."""
    if len(predictions) == 0:
        raise ValueError("The predictions table is empty: there is nothing to evaluate.")
    missing = sorted(set(PREDICTIONS) - set(predictions.column_names))
    if missing:
        raise ValueError(f"The predictions table lacks the columns {missing}; it has {predictions.column_names}.")
    names = ["method", "shots", "seed", "query_id", "accuracy", "demonstration_ids", "split"]
    columns = predictions.with_format(None).select_columns(names)[:]
    splits = sorted(set(columns["split"]))
    if len(splits) > 1:
        raise ValueError(f"The predictions come from several splits, {splits}; evaluate one split at a time.")
    runs: dict[tuple[str, int, int], _Run] = {}
    for method, shots, seed, query_id, accuracy, selection in zip(
        *(columns[name] for name in names[:-1]), strict=True
    ):
        where = f"method {method!r}, shots {shots}, seed {seed}, query {query_id!r}"
        if (method == ZERO_SHOT) != (shots == 0):
            raise ValueError(f"{where}: {ZERO_SHOT}, and nothing else, has 0 shots.")
        run = runs.setdefault((method, shots, seed), _Run({}, {}))
        if query_id in run.accuracies:
            raise ValueError(f"The predictions table holds two rows for {where}; every prompt is answered once.")
        if accuracy is None or not float("-inf") < accuracy < float("inf"):
            raise ValueError(f"The accuracy for {where} is {accuracy}; expected a finite number.")
        run.accuracies[query_id] = accuracy
        run.selections[query_id] = tuple(selection or ())
    _check_same_queries(runs)
    return dict(sorted(runs.items(), key=lambda item: (method_rank(item[0][0]), item[0][1:])))


def _check_same_queries(runs: _Runs) -> None:
    if not any(method == ZERO_SHOT for method, _, _ in runs):
        raise ValueError(
            f"The predictions have no {ZERO_SHOT} rows; without them nobody sees what demonstrations give."
        )
    everything = set().union(*(run.accuracies for run in runs.values()))
    for (method, shots, seed), run in runs.items():
        absent = sorted(everything - run.accuracies.keys())
        if absent:
            raise ValueError(
                f"Methods were answered on different queries: method {method!r}, shots {shots}, seed {seed} lacks "
                f"{len(absent)} of {len(everything)}, e.g. {absent[:3]}. Answer the same queries with every method."
            )


def _average_over_seeds(runs: _Runs) -> Averages:
    grouped: dict[tuple[str, int], list[dict[str, float]]] = {}
    for (method, shots, _), run in runs.items():
        grouped.setdefault((method, shots), []).append(run.accuracies)
    return {
        key: {query_id: fmean(accuracies[query_id] for accuracies in seeds) for query_id in seeds[0]}
        for key, seeds in grouped.items()
    }


def _rows(runs: _Runs, averages: Averages, collapse: Mapping[str, Mapping], bootstrap: _Bootstrap) -> list[dict]:
    """A row a run; for methods with several seeds, one more that holds the average and what the seeds say together."""
    rows = []
    for method, shots in averages:
        of_seeds = []
        for seed, run in ((key[2], run) for key, run in runs.items() if key[:2] == (method, shots)):
            share = collapsed = None  # without demonstrations there is nothing to collapse
            if any(run.selections.values()):
                share = most_common_share(list(run.selections.values()))
                # The same ids count, the same places do not: a sampler may put the likely candidates first.
                collapsed = is_collapsed(len(run.selections), share, most_common_position_share=0.0)
                if method in collapse:
                    collapsed = collapse[method]["collapsed"]
            identical = {
                other for (other, at, _), rival in runs.items() if at == shots and rival.selections == run.selections
            }
            row = _accuracy_row(method, shots, seed, run.accuracies, averages, bootstrap)
            row |= {"collapsed": collapsed, "most_common_selection": share}
            of_seeds.append(row | {"identical_to": sorted(identical - {method}, key=method_rank)})
        rows.extend(of_seeds)
        if len(of_seeds) > 1:
            row = of_seeds[0] | _accuracy_row(method, shots, None, averages[method, shots], averages, bootstrap)
            # One collapsed seed is enough: an average would hide it.
            row["collapsed"] = any(one["collapsed"] for one in of_seeds)
            row["most_common_selection"] = max((one["most_common_selection"] or 0.0) for one in of_seeds)
            in_all = set.intersection(*(set(one["identical_to"]) for one in of_seeds))
            rows.append(row | {"identical_to": sorted(in_all, key=method_rank)})
    return rows


def _accuracy_row(
    method: str, shots: int, seed: int | None, accuracies: Accuracies, averages: Averages, bootstrap: _Bootstrap
) -> dict[str, object]:
    scope = method_scope(method)
    interval = bootstrap.mean(accuracies)
    baseline = RANDOM + (POOL_SUFFIX if scope == "pool" else "")
    difference = None
    if method != baseline and (baseline, shots) in averages:
        difference = bootstrap.difference(accuracies, averages[baseline, shots])
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
    }


def _comparisons(averages: Averages, selectors: Sequence[str], bootstrap: _Bootstrap) -> list[dict[str, object]]:
    """Each selector against all others at the same shots, and against zero-shot."""
    return [
        _comparison(shots, method, baseline, bootstrap.difference(averages[method, shots], averages[baseline, at]))
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


def _best(averages: Averages, bootstrap: _Bootstrap) -> list[dict[str, object]]:
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


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes to a temporary name beside `path`, then renames: readers see the whole old file or the whole new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_results(results: Mapping[str, object], path: str | Path) -> None:
    """Writes `results.json`; numbers that JSON has no word for (NaN, infinity) raise `ValueError`."""
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def read_results(path: str | Path) -> dict[str, object]:
    """
    Reads `results.json`.

    Raises:
        `FileNotFoundError`: there is no such file.
        `ValueError`: the file is not whole JSON, or not what [`summarize`] makes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No results at {path}: run the evaluate stage first, or name the folder it wrote.")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not whole JSON ({error}); run the evaluate stage again.") from error
    absent = [key for key in RESULT_KEYS if not isinstance(results, dict) or key not in results]
    if absent:
        raise ValueError(f"{path} is not a result of the evaluate stage: it lacks {absent}.")
    return results
