# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The evaluations that one report is about: read, checked to be of the same test set, and told apart by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, Features, concatenate_datasets

from ..activity import doing
from ..evaluation.evaluation import check_same_test_set, describe_test_set, read_results
from ..metrics import METRICS
from ..provenance import json_hash
from ..recipe import named_folder
from ..schema import PREDICTIONS
from ..tables import read_table, splits_of
from .tables import shots_of


RESULTS = "results.json"


@dataclass(frozen=True)
class Evaluation:
    """
    What the evaluate stage wrote.

    Args:
        label (`str`, *optional*):
            What tells it from the others of the report; `None` for the only one.
        folder (`Path`):
            Where it was read from.
        results (`Mapping`):
            Content of `results.json`.
        predictions (`Dataset`):
            The predictions it was made from.
    """

    label: str | None
    folder: Path
    results: Mapping
    predictions: Dataset

    def named(self, text: str) -> str:
        """A text with the evaluation's label before it."""
        return f"{self.label}: {text}" if self.label else text


@doing("reading the evaluations {entries}")
def read_evaluations(entries: Sequence[str]) -> list[Evaluation]:
    """
    Reads what is to be reported together.

    Args:
        entries (`Sequence[str]`):
            Folders of the evaluate stage, or their `results.json`; `LABEL=FOLDER` gives it a name of its own.

    Raises:
        `FileNotFoundError`: there is no `results.json`.
        `ValueError`: it is not whole, is by an unknown metric, holds zero-shot alone, was made from other predictions,
            or the evaluations are of different test sets or measured differently.
    """
    read = [(*_named(entry), entry) for entry in entries]
    found = [(label, folder, *_read(folder)) for label, folder, _ in read]
    check_same_test_set({str(folder): results for _, folder, results, _ in found})
    if len(found) == 1:
        label, folder, results, predictions = found[0]
        return [Evaluation(label, folder, results, predictions)]
    labels = [
        label or automatic
        for (label, *_), automatic in zip(found, _labels([(folder, one) for _, folder, one, _ in found]), strict=True)
    ]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"Two evaluations are called {twice!r}; give each a name of its own: `LABEL=FOLDER`.")
    return [Evaluation(label, *one[1:]) for label, one in zip(labels, found, strict=True)]


def _named(entry: str) -> tuple[str | None, Path]:
    label, path = named_folder(entry)
    folder = Path(path)
    return label, folder.parent if folder.name == RESULTS else folder


def _read(folder: Path) -> tuple[dict, Dataset]:
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
    return results, predictions


def check_examples(evaluations: Sequence[Evaluation], queries: Dataset) -> None:
    """
    Checks that examples are those that were asked, by more than their ids.

    Raises:
        `ValueError`: their questions or answers are others.
    """
    examples = {row["id"]: row for row in queries.select_columns(["id", "question", "answers"])}
    for one in evaluations:
        asked = set(one.predictions["query_id"]) & examples.keys()
        if one.results["test_set"] not in (None, describe_test_set(asked, examples)["test_set"]):
            raise ValueError(
                f"The examples are not those that {str(one.folder)!r} was evaluated on: ids, questions or answers are "
                "others. Name the dataset that was evaluated (`dataset`, `data_files`), as it was then."
            )


def read_splits(path_or_id: str, config: str, features: Features) -> Dataset:
    """All splits of a table as one; its `split` column still tells them apart."""
    return concatenate_datasets(
        [read_table(path_or_id, config, split, features) for split in splits_of(path_or_id, config)]
    )


def facets(results: Mapping) -> dict[str, str]:
    """What usually differs between the evaluations of one study."""
    recipe = results["provenance"].get("recipe", {})
    found = {"VLM": results["vlm"], "sampler": recipe.get("sampler"), "candidates": recipe.get("num_candidates")}
    found |= {"method seeds": recipe.get("method_seeds"), "evaluation": results["name"]}
    return {name: str(value) for name, value in found.items() if value is not None}


def _labels(found: Sequence[tuple[Path, Mapping]]) -> list[str]:
    """The first facets that tell all of them apart; else their folders."""
    described = [facets(results) for _, results in found]
    parts: list[list[str]] = [[] for _ in found]
    for name in dict.fromkeys(name for one in described for name in one):
        values = [one.get(name) for one in described]
        if len(set(values)) > 1:
            for own, value in zip(parts, values, strict=True):
                own.append(f"{name} {value}" if value is not None else f"no {name}")
            labels = [", ".join(own) for own in parts]
            if len(set(labels)) == len(labels):
                return labels
    return [str(folder) for folder, _ in found]
