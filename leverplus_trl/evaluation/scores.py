# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The predictions of an evaluation by every metric that applies, side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..metrics import all_metrics
from .runs import RunKey, Runs
from .table import IntervalSettings


Scores = Mapping[RunKey, Mapping[str, float]]  # query id -> score, of each run


def metric_scores(names: Sequence[str], runs: Runs, examples: Mapping[str, Mapping[str, object]]) -> dict[str, Scores]:
    """
    Scores the predictions of all runs; every distinct answer to a query once.

    Args:
        names (`Sequence[str]`):
            Metrics to consider, see [`~leverplus_trl.metrics.all_metrics`].
        runs (`Runs`):
            What was answered. Document frequencies are counted over these queries alone.
        examples (`Mapping[str, Mapping]`):
            The queries by id.

    Returns:
        `dict[str, Scores]`: of the metrics that apply to every query.

    Raises:
        `ValueError`: a score is not a finite number.
    """
    if not names:
        return {}
    distinct = list(dict.fromkeys(pair for run in runs.values() for pair in run.predictions.items()))
    found = all_metrics(names, [query_id for query_id, _ in distinct], [said for _, said in distinct], examples)
    scores = {}
    for name, values in found.items():
        for (query_id, said), value in zip(distinct, values, strict=True):
            if not math.isfinite(value):
                raise ValueError(
                    f"{name} of the prediction {said!r} to query {query_id!r} is {value}; expected a finite number. "
                    "Check the answers of the example."
                )
        worth = dict(zip(distinct, values, strict=True))
        scores[name] = {key: {pair[0]: worth[pair] for pair in run.predictions.items()} for key, run in runs.items()}
    return scores


def replace_accuracies(runs: Runs, scores: Scores) -> Runs:
    """The same runs, scored anew."""
    return {key: replace(run, accuracies=scores[key]) for key, run in runs.items()}


def check_scores(runs: Runs, scores: Scores, metric: str) -> None:
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


def metric_rows(scores: Scores, settings: IntervalSettings) -> list[dict[str, object]]:
    """The mean score of each run with its interval, and of the average over the seeds of a method that has several."""
    grouped: dict[tuple[str, int], dict[int | None, Mapping[str, float | list[float]]]] = {}
    for (method, shots, seed), values in scores.items():
        grouped.setdefault((method, shots), {})[seed] = values
    rows = []
    for (method, shots), seeds in grouped.items():
        if len(seeds) > 1:
            several = list(seeds.values())
            seeds[None] = {query_id: [values[query_id] for values in several] for query_id in several[0]}
        for seed, values in seeds.items():
            interval = settings.mean(values)
            row = {"method": method, "shots": shots, "seed": seed, "score": interval.mean}
            rows.append(row | {"ci_low": interval.low, "ci_high": interval.high})
    return rows
