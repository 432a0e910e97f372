# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Figures that others published, from a CSV file beside the recipe; reports show them next to measured results."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean


COLUMNS = ("vlm", "method", "test_samples", "sampler", "shots", "accuracy")


@dataclass(frozen=True)
class PublishedRow:
    """A method's accuracies in percent by number of shots, with candidates of one sampler."""

    vlm: str
    method: str
    test_samples: str  # a number, or "full"
    sampler: str
    accuracies: Mapping[int, float]


@dataclass(frozen=True)
class PublishedFigures:
    """The rows of a file, and the source that its first lines name."""

    source: str
    rows: Sequence[PublishedRow]

    def mean_by_shots(self) -> dict[int, float]:
        """Mean of all cells by number of shots; `random`, which has no selector, is left out."""
        cells: dict[int, list[float]] = {}
        for row in self.rows:
            if row.method != "random":
                for shots, accuracy in row.accuracies.items():
                    cells.setdefault(shots, []).append(accuracy)
        return {shots: fmean(values) for shots, values in sorted(cells.items())}


def read_published(path: str | Path) -> PublishedFigures:
    """
    Reads published figures.

    Args:
        path (`str` or `Path`):
            A CSV file with a row a cell and the columns of `COLUMNS`, accuracies in percent. Lines at the beginning
            that start with `#` name the source.

    Raises:
        `ValueError`: no such file, no source, a missing column, or a number that is none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"published is {str(path)!r}, and that file can't be read: {error}.") from error
    comments = [line for line in lines if line.startswith("#")]
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    if not comments or set(table.fieldnames or ()) != set(COLUMNS):
        raise ValueError(
            f"{str(path)!r} is no file of published figures: expected a first line `# SOURCE` and the columns "
            f"{', '.join(COLUMNS)}; found the columns {', '.join(table.fieldnames or ['(none)'])}."
        )
    rows: dict[tuple[str, ...], dict[int, float]] = {}
    for cell in table:
        accuracies = rows.setdefault(tuple(cell[name] for name in COLUMNS[:4]), {})
        try:
            accuracies[int(cell["shots"])] = float(cell["accuracy"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r}, row {cell}: shots and accuracy must be numbers.") from error
    source = " ".join(line.lstrip("# ") for line in comments)
    return PublishedFigures(source, [PublishedRow(*key, accuracies) for key, accuracies in rows.items()])
