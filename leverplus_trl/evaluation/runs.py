# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A predictions table as runs: what one method answered at one number of shots with one seed, checked, by query id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from datasets import Dataset

from ..schema import PREDICTIONS
from .methods import SHUFFLED_SUFFIX, ZERO_SHOT, method_rank


SeedAccuracies = Mapping[tuple[str, int], Mapping[str, list[float]]]  # (method, shots) -> query id -> one a seed


@dataclass(frozen=True)
class Run:
    """What one method answered at one number of shots with one seed, by query id."""

    accuracies: Mapping[str, float]
    selections: Mapping[str, tuple[str, ...]]
    predictions: Mapping[str, str]
    confidences: Mapping[str, float | None]  # the VLM's in its own answer; only zero-shot has them

    def of(self, query_ids: Sequence[str]) -> "Run":
        """The same of some of the queries."""
        return Run(*({one: values[one] for one in query_ids} for values in vars(self).values()))


RunKey = tuple[str, int, int]  # method, shots, seed
Runs = Mapping[RunKey, Run]


def read_runs(predictions: Dataset) -> Runs:
    """
    The table as runs in the order of every table, each with its queries in the order of the table.

    Raises:
        `ValueError`: an empty table, a missing column, several splits, a duplicate row, an accuracy that is not a
        finite number, a confidence that is not in 0..1, methods answered on different queries, or no zero-shot.
    """
    if len(predictions) == 0:
        raise ValueError("The predictions table is empty: there is nothing to evaluate.")
    runs = _group(predictions)
    _check_same_queries(runs)
    return dict(sorted(runs.items(), key=lambda item: (method_rank(item[0][0]), item[0][1:])))


def read_order_probes(probes: Dataset, runs: Runs) -> Runs:
    """
    Answers behind the same demonstrations in another order, by the run that they are a probe of.

    Raises:
        `ValueError`: besides what [`read_runs`] finds in a row, a probe of a run or of a query that was not answered.
    """
    found = {}
    for (name, shots, seed), probe in _group(probes).items():
        method = name.removesuffix(SHUFFLED_SUFFIX)
        run = runs.get((method, shots, seed))
        if method == name or run is None or not probe.accuracies.keys() <= run.accuracies.keys():
            raise ValueError(
                f"The order probe {name!r} (shots {shots}, seed {seed}) has no answers to be compared with; expected "
                f"METHOD{SHUFFLED_SUFFIX}, where METHOD was answered at these shots and seed on the same queries."
            )
        found[method, shots, seed] = probe
    return found


def _group(predictions: Dataset) -> dict[RunKey, Run]:
    missing = sorted(set(PREDICTIONS) - set(predictions.column_names))
    if missing:
        raise ValueError(f"The predictions table lacks the columns {missing}; it has {predictions.column_names}.")
    names = ["method", "shots", "seed", "query_id", "accuracy", "demonstration_ids", "prediction", "confidence"]
    columns = predictions.with_format(None).select_columns(names)[:]
    splits = sorted(set(predictions["split"][:]))
    if len(splits) > 1:
        raise ValueError(f"The predictions come from several splits, {splits}; evaluate one split at a time.")
    runs: dict[RunKey, Run] = {}
    for method, shots, seed, query_id, accuracy, selection, prediction, confidence in zip(
        *(columns[name] for name in names), strict=True
    ):
        where = f"method {method!r}, shots {shots}, seed {seed}, query {query_id!r}"
        if (method == ZERO_SHOT) != (shots == 0):
            raise ValueError(f"{where}: {ZERO_SHOT}, and nothing else, has 0 shots.")
        run = runs.setdefault((method, shots, seed), Run({}, {}, {}, {}))
        if query_id in run.accuracies:
            raise ValueError(f"The predictions table holds two rows for {where}; every prompt is answered once.")
        if accuracy is None or not float("-inf") < accuracy < float("inf"):
            raise ValueError(f"The accuracy for {where} is {accuracy}; expected a finite number.")
        if confidence is not None and not 0.0 <= confidence <= 1.0:
            raise ValueError(f"The confidence for {where} is {confidence}; expected a number in 0..1, or null.")
        run.accuracies[query_id] = accuracy
        run.selections[query_id] = tuple(selection or ())
        run.predictions[query_id] = prediction or ""
        run.confidences[query_id] = confidence
    return runs


def _check_same_queries(runs: Runs) -> None:
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


def accuracies_by_seed(runs: Runs) -> SeedAccuracies:
    """Each query's accuracies with all seeds of a method, in the order of the seeds, by method and number of shots."""
    return {
        key: {one: [run.accuracies[one] for run in seeds.values()] for one in next(iter(seeds.values())).accuracies}
        for key, seeds in by_method(runs).items()
    }


def mean_accuracy(by_query: Mapping[str, Sequence[float]]) -> float:
    """Mean over queries and seeds."""
    return fmean(chain.from_iterable(by_query.values()))


def by_method(runs: Runs) -> dict[tuple[str, int], dict[int, Run]]:
    """The runs of each method and number of shots, by seed."""
    grouped: dict[tuple[str, int], dict[int, Run]] = {}
    for (method, shots, seed), run in runs.items():
        grouped.setdefault((method, shots), {})[seed] = run
    return grouped
