# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The evaluations of a report: read, checked to be of the same test set, and told apart by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import Dataset, Features, concatenate_datasets

from ..evaluation.evaluation import check_same_test_set, describe_test_set, read_results
from ..evaluation.methods import method_label
from ..log import doing
from ..metrics import METRICS
from ..provenance import json_hash
from ..recipe import named_folder
from ..schema import PREDICTIONS
from ..tables import read_table, splits_of
from .sections import Row, Table
from .tables import shots_of


RESULTS = "results.json"


@dataclass(frozen=True)
class Evaluation:
    """The output of the evaluate stage."""

    label: str | None  # its name among several of the report
    folder: Path
    results: Mapping  # content of `results.json`
    predictions: Dataset

    def named(self, text: str) -> str:
        """A text after the evaluation's label."""
        return f"{self.label}: {text}" if self.label else text

    def row(self, method: str, *cells: str) -> Row:
        """A row of a table, with the method's label in front."""
        return Row([method_label(method), *cells], "selector" if method in self.results["selectors"] else "")

    def table(self, caption: str, head: Sequence[str], rows: Sequence[Row]) -> Table:
        """A table without groups."""
        return Table(self.named(caption), head, [("", rows)])


@doing("reading the evaluations {entries}")
def read_evaluations(entries: Sequence[str]) -> list[Evaluation]:
    """Reads folders of the evaluate stage, or their `results.json`, for one report; `LABEL=FOLDER` sets a label.
    Raises `FileNotFoundError` or `ValueError` for results that are missing, not complete, by an unknown metric, of
    zero-shot alone, made from other predictions, or of different test sets or metrics."""
    evaluations = [_read(entry) for entry in entries]
    check_same_test_set({str(evaluation.folder): evaluation.results for evaluation in evaluations})
    if len(evaluations) == 1:
        return evaluations
    labels = [
        evaluation.label or automatic for evaluation, automatic in zip(evaluations, _labels(evaluations), strict=True)
    ]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"Two evaluations are called {label!r}; give each a name of its own: `LABEL=FOLDER`.")
    return [replace(evaluation, label=label) for evaluation, label in zip(evaluations, labels, strict=True)]


def _read(entry: str) -> Evaluation:
    label, path = named_folder(entry)
    folder = Path(path).parent if Path(path).name == RESULTS else Path(path)
    results = read_results(folder / RESULTS)
    unknown = sorted({results["metric"], *results["metrics"]} - METRICS.keys())
    if unknown:
        raise ValueError(
            f"The results in {str(folder)!r} are by the metric {unknown[0]!r}; expected some of {', '.join(METRICS)}. "
            "Evaluate again with this version."
        )
    if not shots_of(results):
        raise ValueError(f"The results in {str(folder)!r} are zero-shot alone; evaluate a method with demonstrations.")
    predictions = read_splits(str(folder / "predictions"), "predictions", PREDICTIONS)
    if json_hash(sorted(set(predictions["query_id"]))) != results["query_set"]:
        raise ValueError(
            f"The predictions and results.json in {str(folder)!r} are of different queries; run the evaluate stage "
            "again."
        )
    return Evaluation(label, folder, results, predictions)


def check_examples(evaluations: Iterable[Evaluation], queries: Dataset) -> None:
    """Raises `ValueError` if the questions or answers of the examples are not those that were evaluated."""
    examples = {row["id"]: row for row in queries.select_columns(["id", "question", "answers"])}
    for evaluation in evaluations:
        query_ids = set(evaluation.predictions["query_id"]) & examples.keys()
        if evaluation.results["test_set"] not in (None, describe_test_set(query_ids, examples)["test_set"]):
            raise ValueError(
                f"The examples are not those that {str(evaluation.folder)!r} was evaluated on: ids, questions or "
                "answers are others. Name the dataset that was evaluated (`dataset`, `data_files`), as it was then."
            )


def read_splits(path_or_id: str, config: str, features: Features) -> Dataset:
    """All splits of a table as one table; its `split` column tells them apart."""
    splits = splits_of(path_or_id, config)
    return concatenate_datasets([read_table(path_or_id, config, split, features) for split in splits])


def facets(results: Mapping) -> dict[str, str]:
    """Settings that usually differ between the evaluations of one study."""
    recipe = results["provenance"].get("recipe", {})
    settings = {"VLM": results["vlm"], "sampler": recipe.get("sampler"), "candidates": recipe.get("num_candidates")}
    settings |= {"method seeds": recipe.get("method_seeds"), "evaluation": results["name"]}
    return {name: str(value) for name, value in settings.items() if value is not None}


def _labels(evaluations: Sequence[Evaluation]) -> list[str]:
    """The first facets that tell all of them apart; else their folders."""
    described = [facets(evaluation.results) for evaluation in evaluations]
    parts: list[list[str]] = [[] for _ in evaluations]
    for name in dict.fromkeys(name for of_evaluation in described for name in of_evaluation):
        values = [of_evaluation.get(name) for of_evaluation in described]
        if len(set(values)) > 1:
            for own, value in zip(parts, values, strict=True):
                own.append(f"{name} {value}" if value is not None else f"no {name}")
            labels = [", ".join(own) for own in parts]
            if len(set(labels)) == len(labels):
                return labels
    return [str(evaluation.folder) for evaluation in evaluations]
