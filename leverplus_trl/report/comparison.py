# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The tables of the papers, test samples x method x sampler x shots: measured results and published figures."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from ..evaluation.methods import RANDOM, method_label, method_rank
from .evaluations import Evaluation, facets
from .sections import Row, Section, Table
from .tables import ABSENT, TableRow, capital, estimate, in_shots, metric_of, prefixes_of, shots_of, table_rows


#: Columns of a file of published figures.
COLUMNS = ("vlm", "method", "test_samples", "sampler", "shots", "accuracy")


@dataclass(frozen=True)
class Line:
    """A method with one sampler on one test set; `cells` are rows of `results.json`, or published percentages."""

    source: str  # "here" or "published"
    vlm: str
    method: str
    test_samples: str  # a number, or "full"
    sampler: str
    cells: Mapping[int, Mapping | float]  # by number of shots
    bold: frozenset[int] = frozenset()  # numbers of shots
    kind: str = ""


@dataclass(frozen=True)
class PublishedFigures:
    """The lines of a file of figures that others published, and the source that its first lines name."""

    source: str
    lines: Sequence[Line]

    def mean_by_shots(self) -> dict[int, float]:
        """Mean of all cells by number of shots; `random`, which has no selector, is left out."""
        cells: dict[int, list[float]] = {}
        for line in self.lines:
            if line.method != RANDOM:
                for shots, accuracy in line.cells.items():
                    cells.setdefault(shots, []).append(accuracy)
        return {shots: fmean(values) for shots, values in sorted(cells.items())}


def read_published(path: str | Path) -> PublishedFigures:
    """Reads published figures from a CSV file with a row a cell and the columns [`COLUMNS`], accuracies in percent.
    The first lines start with `#` and name the source. Raises `ValueError` for any other file."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"published is {str(path)!r}, and that file can't be read: {error}.") from error
    comments = [line for line in lines if line.startswith("#")]
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    if not comments or set(table.fieldnames or ()) != set(COLUMNS):
        raise ValueError(
            f"{str(path)!r} is no file of published figures: expected a first line `# SOURCE` and the columns "
            f"{', '.join(COLUMNS)}; it has the columns {', '.join(table.fieldnames or ['(none)'])}."
        )
    rows: dict[tuple[str, ...], dict[int, float]] = {}
    for cell in table:
        accuracies = rows.setdefault(tuple(cell[name] for name in COLUMNS[:4]), {})
        try:
            accuracies[int(cell["shots"])] = float(cell["accuracy"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{str(path)!r}, row {cell}: shots and accuracy must be numbers.") from error
    source = " ".join(line.lstrip("# ") for line in comments)
    lines = [Line("published", *key, accuracies, kind="published") for key, accuracies in rows.items()]
    return PublishedFigures(source, lines)


def comparison_lines(evaluations: Sequence[Evaluation], published: PublishedFigures | None = None) -> list[Line]:
    """The lines of the evaluations, and after them the published lines. A line that several evaluations share
    (zero-shot, the whole pool) is listed once; lines that only their evaluation tells apart are named by it."""
    own: dict[tuple, list[tuple[Evaluation, Line]]] = {}
    for evaluation in evaluations:
        for size, results in prefixes_of(evaluation.results):
            for row in table_rows(results):
                line = _own(evaluation, size, results, row)
                alike = own.setdefault((method_rank(row.method), line.vlm, size, line.sampler), [])
                for place, (first, other) in enumerate(alike):
                    if _numbers(line) == _numbers(other):  # bold is the best in every evaluation
                        alike[place] = (first, replace(other, bold=other.bold & line.bold))
                        break
                else:
                    alike.append((evaluation, line))
    lines = []
    for alike in (own[key] for key in sorted(own, key=lambda key: key[0])):
        for evaluation, line in alike:
            name = f"{line.method} ({evaluation.label})" if len(alike) > 1 else line.method
            lines.append(replace(line, method=name))
    for line in published.lines if published else ():
        lines.append(replace(line, method=f"{method_label(line.method)} (published)"))
    return lines


def _own(evaluation: Evaluation, size: int, results: Mapping, row: TableRow) -> Line:
    cells = dict(zip(shots_of(results), row.cells, strict=True))
    bold = frozenset(at for at, bold in zip(cells, row.bold, strict=True) if bold)
    sampler = facets(evaluation.results).get("sampler", ABSENT) if row.scope == "candidates" else ABSENT
    kind = "selector" if row.method in evaluation.results["selectors"] else ""
    shown = {at: cell for at, cell in cells.items() if cell}
    return Line("here", evaluation.results["vlm"], row.label, str(size), sampler, shown, bold, kind)


def _numbers(line: Line) -> dict[int, list]:
    """The numbers of a line that do not depend on the rest of the table, as a corrected p does."""
    names = ("accuracy", "ci_low", "ci_high", "collapsed")
    return {at: [cell[name] for name in names] for at, cell in line.cells.items()}


def comparison_section(evaluations: Sequence[Evaluation], published: PublishedFigures | None = None) -> Section | None:
    """All evaluations in one table, a group for each VLM and number of test samples; `None` if it would repeat the
    table of the only evaluation."""
    lines = comparison_lines(evaluations, published)
    groups: dict[tuple[str, float, str], list[Line]] = {}
    for line in lines:
        size = float(line.test_samples) if line.test_samples.isdigit() else float("inf")
        groups.setdefault((line.vlm.rstrip("/").rsplit("/")[-1], size, line.test_samples), []).append(line)
    if len(evaluations) == 1 and len(groups) == 1 and not published:
        return None
    shots = sorted({at for line in lines for at in line.cells})
    titled = []
    for vlm, size, samples in sorted(groups):
        rows = []
        for line in groups[vlm, size, samples]:
            bold = frozenset(2 + place for place, at in enumerate(shots) if at in line.bold)
            cells = (_text(line.cells.get(at)) for at in shots)
            rows.append(Row([line.method, line.sampler, *cells], line.kind, bold))
        titled.append((f"{vlm}, {'all' if samples == 'full' else samples} test samples", rows))
    heading = capital(metric_of(evaluations[0].results).heading)
    caption = f"{heading}, by VLM, test samples, method, sampler of the candidates and shots."
    head = ["method", "sampler", *(in_shots(at).replace(" ", "\N{NO-BREAK SPACE}") for at in shots)]
    notes = [
        "In brackets 95% intervals, where they are known. Bold: the best of its evaluation at this number of shots, "
        "if a test of the paired differences tells it from all others; never a published figure."
    ]
    title = "By number of test samples"
    if published:
        title = "Beside the published figures"
        notes.append(f"Published figures: {published.source}")
    if len(evaluations) > 1:
        title = "All evaluations side by side"
    return Section(title, "comparison", tables=[Table(caption, head, titled)], notes=notes)


def _text(cell: Mapping | float | None) -> str:
    if cell is None:
        return ABSENT
    if isinstance(cell, float):
        return f"{cell:.2f}"  # to the digit that was published
    return estimate(cell, "accuracy") + " collapsed" * bool(cell["collapsed"])


def comparison_csv(evaluations: Sequence[Evaluation], published: PublishedFigures | None = None) -> str:
    """The lines as CSV, a row a cell; `source` tells measured numbers from published ones."""
    rows = []
    for line in comparison_lines(evaluations, published):
        row = {"source": line.source, "vlm": line.vlm, "test_samples": line.test_samples, "method": line.method}
        row["sampler"] = "" if line.sampler == ABSENT else line.sampler
        for at, cell in line.cells.items():
            if isinstance(cell, float):
                rows.append(row | {"shots": at, "accuracy": f"{cell / 100:.4f}"})
            else:
                measured = {"shots": at} | {name: cell[name] for name in ("accuracy", "ci_low", "ci_high")}
                rows.append(row | measured | {"best": at in line.bold, "collapsed": cell["collapsed"]})
    return _csv(evaluations, rows)


def results_csv(evaluations: Sequence[Evaluation]) -> str:
    """Every row of every `results.json` as CSV, seeds and prefixes included."""
    rows = []
    for evaluation in evaluations:
        name = evaluation.label or evaluation.results["name"]
        for _, results in prefixes_of(evaluation.results):
            rows += [{"evaluation": name, **row} for row in results["rows"]]
    return _csv(evaluations, rows)


def _csv(evaluations: Sequence[Evaluation], rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV. Scores are not times 100; their column is called `accuracy`, or like the metric."""
    results, names = evaluations[0].results, list(dict.fromkeys(name for row in rows for name in row))
    score = "accuracy" if metric_of(results).in_percent else results["metric"]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writerow({name: score if name == "accuracy" else name for name in names})
    writer.writerows(rows)
    return out.getvalue()
