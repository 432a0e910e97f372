# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A predictions table as runs: the answers of a method at one number of shots with one seed, checked and scored."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from datasets import Dataset

from ..metrics import all_metrics
from ..schema import PREDICTIONS
from .methods import SHUFFLED_SUFFIX, ZERO_SHOT, method_rank
from .significance import IntervalSettings, columns


@dataclass(frozen=True)
class Run:
    """The answers of one method at one number of shots with one seed, by query id."""

    accuracies: Mapping[str, float]
    selections: Mapping[str, tuple[str, ...]]
    predictions: Mapping[str, str]
    confidences: Mapping[str, float | None]  # the VLM's in its own answer; only zero-shot has them

    def of(self, query_ids: Sequence[str]) -> "Run":
        """The same of some of the queries."""
        return Run(*({query_id: values[query_id] for query_id in query_ids} for values in vars(self).values()))


RunKey = tuple[str, int, int]  # method, shots, seed
Runs = Mapping[RunKey, Run]
RunScores = Mapping[RunKey, Mapping[str, float]]  # query id -> score, of each run
SeedScores = Mapping[tuple[str, int], Mapping[str, list[float]]]  # (method, shots) -> query id -> of each seed


def read_runs(predictions: Dataset) -> Runs:
    """The table as runs in the order of every table, each with its queries in the order of the predictions. Raises
    `ValueError` for an empty table, a missing column, several splits, a duplicate row, accuracies or confidences out
    of range, methods answered on different queries, or no zero-shot."""
    if len(predictions) == 0:
        raise ValueError("The predictions table is empty: there is nothing to evaluate.")
    runs = _group(predictions)
    if not any(method == ZERO_SHOT for method, _, _ in runs):
        raise ValueError(
            f"The predictions have no {ZERO_SHOT} rows, and every method is compared with these; evaluate {ZERO_SHOT}."
        )
    everything = set().union(*(run.accuracies for run in runs.values()))
    for (method, shots, seed), run in runs.items():
        absent = sorted(everything - run.accuracies.keys())
        if absent:
            raise ValueError(
                f"Methods were answered on different queries: method {method!r}, shots {shots}, seed {seed} lacks "
                f"{len(absent)} of {len(everything)}, e.g. {absent[:3]}. Answer the same queries with every method."
            )
    return dict(sorted(runs.items(), key=lambda item: (method_rank(item[0][0]), item[0][1:])))


def read_order_probes(probes: Dataset, runs: Runs) -> Runs:
    """Answers with the same demonstrations in another order, by the run that they are a probe of; raises `ValueError`
    for a row that [`read_runs`] refuses, or a probe of a run or of a query that was not answered."""
    by_run = {}
    for (name, shots, seed), probe in _group(probes).items():
        method = name.removesuffix(SHUFFLED_SUFFIX)
        run = runs.get((method, shots, seed))
        if method == name or run is None or not probe.accuracies.keys() <= run.accuracies.keys():
            raise ValueError(
                f"The order probe {name!r} (shots {shots}, seed {seed}) has no answers to be compared with; expected "
                f"METHOD{SHUFFLED_SUFFIX}, where METHOD was answered at these shots and seed on the same queries."
            )
        by_run[method, shots, seed] = probe
    return by_run


def _group(predictions: Dataset) -> dict[RunKey, Run]:
    missing = sorted(set(PREDICTIONS) - set(predictions.column_names))
    if missing:
        raise ValueError(f"The predictions table lacks the columns {missing}; it has {predictions.column_names}.")
    splits = sorted(set(predictions["split"][:]))
    if len(splits) > 1:
        raise ValueError(f"The predictions come from several splits, {splits}; evaluate one split at a time.")
    names = ["method", "shots", "seed", "query_id", "accuracy", "demonstration_ids", "prediction", "confidence"]
    table = predictions.with_format(None).select_columns(names)[:]
    runs: dict[RunKey, Run] = {}
    for method, shots, seed, query_id, accuracy, selection, prediction, confidence in zip(
        *(table[name] for name in names), strict=True
    ):
        where = f"method {method!r}, shots {shots}, seed {seed}, query {query_id!r}"
        if (method == ZERO_SHOT) != (shots == 0):
            raise ValueError(f"{where}: {ZERO_SHOT}, and nothing else, has 0 shots.")
        run = runs.setdefault((method, shots, seed), Run({}, {}, {}, {}))
        if query_id in run.accuracies:
            raise ValueError(f"The predictions table holds two rows for {where}; every prompt is answered once.")
        if accuracy is None or not math.isfinite(accuracy):
            raise ValueError(f"The accuracy for {where} is {accuracy}; expected a finite number.")
        if confidence is not None and not 0.0 <= confidence <= 1.0:
            raise ValueError(f"The confidence for {where} is {confidence}; expected a number in 0..1, or null.")
        run.accuracies[query_id] = accuracy
        run.selections[query_id] = tuple(selection or ())
        run.predictions[query_id] = prediction or ""
        run.confidences[query_id] = confidence
    return runs


def example_rows(examples: Dataset, identifiers: Iterable[str], name: str) -> list[int]:
    """The rows of examples by their ids; raises `ValueError` for an id that none of the examples called `name` has."""
    row_of = {identifier: row for row, identifier in enumerate(examples["id"])}
    identifiers = list(identifiers)
    strangers = sorted({identifier for identifier in identifiers if identifier not in row_of})
    if strangers:
        raise ValueError(
            f"{len(strangers)} of the ids in the predictions are not among the {len(row_of)} examples of the {name}, "
            f"e.g. {strangers[:3]}. Name the dataset and splits that the predictions were made on."
        )
    return [row_of[identifier] for identifier in identifiers]


def by_method(runs: Mapping[RunKey, object]) -> dict[tuple[str, int], dict[int, object]]:
    """The runs, or values of each run, by method and number of shots, then by seed."""
    grouped: dict[tuple[str, int], dict[int, object]] = {}
    for (method, shots, seed), run in runs.items():
        grouped.setdefault((method, shots), {})[seed] = run
    return grouped


def by_seed(values: RunScores) -> SeedScores:
    """Each query's values with all seeds of a method, in the order of the seeds, by method and number of shots."""
    grouped = {}
    for key, seeds in by_method(values).items():
        runs = list(seeds.values())
        grouped[key] = {query_id: [run[query_id] for run in runs] for query_id in runs[0]}
    return grouped


def mean_accuracy(by_query: Mapping[str, Sequence[float]]) -> float:
    """Mean over queries and seeds."""
    return fmean(chain.from_iterable(by_query.values()))


def metric_scores(
    names: Sequence[str], runs: Runs, examples: Mapping[str, Mapping[str, object]]
) -> dict[str, RunScores]:
    """Scores the predictions of all runs by those metrics that apply to every query, see
    [`~leverplus_trl.metrics.all_metrics`]; `examples` are the queries by id. Raises `ValueError` for a score that is
    not finite."""
    distinct = list(dict.fromkeys(pair for run in runs.values() for pair in run.predictions.items()))
    scores = {}
    query_ids, predictions = [pair[0] for pair in distinct], [pair[1] for pair in distinct]
    for name, values in all_metrics(names, query_ids, predictions, examples).items():
        by_answer = dict(zip(distinct, values, strict=True))
        for (query_id, prediction), value in by_answer.items():
            if not math.isfinite(value):
                raise ValueError(
                    f"{name} of the prediction {prediction!r} to query {query_id!r} is {value}; expected a finite "
                    "number. Check the answers of the example."
                )
        scores[name] = {
            key: {pair[0]: by_answer[pair] for pair in run.predictions.items()} for key, run in runs.items()
        }
    return scores


def check_scores(runs: Runs, scores: RunScores, metric: str) -> None:
    """Raises `ValueError` if the accuracies that were recorded are not what the metric gives now."""
    for key, run in runs.items():
        for query_id, accuracy in run.accuracies.items():
            now = scores[key][query_id]
            if not math.isclose(accuracy, now, rel_tol=1e-9, abs_tol=1e-9):
                raise ValueError(
                    f"Query {query_id!r}: the prediction {run.predictions[query_id]!r} was recorded with an accuracy "
                    f"of {accuracy} and {metric} now gives {now}: the answers of the examples have changed since. "
                    "Evaluate again, into another folder."
                )


def metric_rows(scores: RunScores, settings: IntervalSettings) -> list[dict[str, object]]:
    """The mean score of each run with its interval, and of the average over the seeds of a method that has several."""
    rows, averaged = [], by_seed(scores)
    for (method, shots), seeds in by_method(scores).items():
        if len(seeds) > 1:
            seeds[None] = averaged[method, shots]
        for seed, values in seeds.items():
            row = {"method": method, "shots": shots, "seed": seed}
            rows.append(row | columns(settings.mean(values), "score"))
    return rows
