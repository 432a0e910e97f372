# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The tables of the papers: test samples x method x sampler x shots, with published figures beside one's own."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..evaluation.methods import method_label, method_rank
from .evaluations import Evaluation, facets
from .published import PublishedFigures, PublishedRow
from .sections import Row, Section, Table
from .tables import (
    ABSENT,
    TableRow,
    capital,
    interval,
    metric_of,
    percent,
    prefixes_of,
    shots_of,
    table_rows,
)


HERE, PUBLISHED = "here", "published"


@dataclass(frozen=True)
class Line:
    """One method with one sampler on one test set; `cells` are rows of `results.json`, or published percentages."""

    source: str
    vlm: str
    test_samples: str
    method: str
    sampler: str
    cells: Mapping[int, Mapping | float]
    bold: frozenset[int] = frozenset()  # numbers of shots
    kind: str = ""


def comparison_lines(evaluations: Sequence[Evaluation], published: PublishedFigures | None = None) -> list[Line]:
    """
    One's own lines, and behind them published ones.

    What several evaluations say alike (zero-shot, the whole pool) stands there once; lines that only their evaluation
    tells apart are named by it.
    """
    own: dict[tuple, list[tuple[Evaluation, Line]]] = {}
    for one in evaluations:
        for size, results in prefixes_of(one.results):
            for row in table_rows(results):
                line = _own(one, size, results, row)
                alike = own.setdefault((method_rank(row.method), line.vlm, size, line.sampler), [])
                same = next((place for place, (_, other) in enumerate(alike) if _same_numbers(line, other)), None)
                if same is None:
                    alike.append((one, line))
                else:  # bold is what is the best in every evaluation that says so
                    first, other = alike[same]
                    alike[same] = (first, replace(other, bold=other.bold & line.bold))
    lines = []
    for alike in (own[key] for key in sorted(own, key=lambda key: key[0])):
        several = len(alike) > 1
        lines += [replace(line, method=f"{line.method} ({one.label})") if several else line for one, line in alike]
    return lines + [_published(row) for row in (published.rows if published else ())]


def _same_numbers(line: Line, other: Line) -> bool:
    """Whether two lines say the same of a method; what a whole table decides (corrected p, bold) may differ."""
    shown, others = (
        {at: [cell[name] for name in ("accuracy", "ci_low", "ci_high", "collapsed")] for at, cell in of.cells.items()}
        for of in (line, other)
    )
    return shown == others


def _own(one: Evaluation, size: int, results: Mapping, row: TableRow) -> Line:
    cells = {at: cell for at, cell in zip(shots_of(results), row.cells, strict=True) if cell}
    bold = frozenset(at for at, bold in zip(shots_of(results), row.bold, strict=True) if bold)
    sampler = facets(one.results).get("sampler", ABSENT) if row.scope == "candidates" else ABSENT
    kind = "selector" if row.method in one.results["selectors"] else ""
    return Line(HERE, one.results["vlm"], str(size), row.label, sampler, cells, bold, kind)


def _published(row: PublishedRow) -> Line:
    label = f"{method_label(row.method)} (published)"
    return Line(PUBLISHED, row.vlm, row.test_samples, label, row.sampler, row.accuracies, kind="published")


def comparison_section(evaluations: Sequence[Evaluation], published: PublishedFigures | None = None) -> Section | None:
    """
    All evaluations in one table, a group a VLM and number of test samples; `None` where it would say no more than the
    table of the only evaluation.
    """
    lines = comparison_lines(evaluations, published)
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.vlm.rstrip("/").rsplit("/")[-1], line.test_samples), []).append(line)
    if len(evaluations) == 1 and len(groups) == 1 and not published:
        return None
    shots = sorted({at for line in lines for at in line.cells})
    ordered = sorted(groups.items(), key=lambda one: (one[0][0], _size(one[0][1]), one[0][1]))
    head = ["method", "sampler", *(f"{at}\N{NO-BREAK SPACE}shot{'s' * (at != 1)}" for at in shots)]
    heading = capital(metric_of(evaluations[0].results).heading)
    table = Table(
        f"{heading}, by VLM, test samples, method, sampler of the candidates and shots.",
        head,
        [
            (f"{vlm}, {'all' if size == 'full' else size} test samples", [_row(line, shots) for line in found])
            for (vlm, size), found in ordered
        ],
    )
    notes = [
        "In brackets 95% intervals, where they are known. Bold: the best of its evaluation at this number of shots, "
        "if a test of the paired differences tells it from all others; never a published figure.",
    ]
    if published:
        notes.append(f"Published figures: {published.source}")
    title = "Beside the published figures" if published else "By number of test samples"
    if len(evaluations) > 1:
        title = "All evaluations side by side"
    return Section(title, "comparison", tables=[table], notes=notes)


def _size(text: str) -> float:
    return float(text) if text.isdigit() else float("inf")


def _row(line: Line, shots: Sequence[int]) -> Row:
    cells = [_text(line.cells.get(at)) for at in shots]
    bold = frozenset(2 + place for place, at in enumerate(shots) if at in line.bold)
    return Row([line.method, line.sampler, *cells], line.kind, bold)


def _text(cell: Mapping | float | None) -> str:
    if cell is None:
        return ABSENT
    if isinstance(cell, float):
        return f"{cell:.2f}"  # to the digit that was published
    text = f"{percent(cell['accuracy'])} {interval(cell['ci_low'], cell['ci_high'])}"
    return f"{text} collapsed" if cell["collapsed"] else text


def comparison_csv(evaluations: Sequence[Evaluation], published: PublishedFigures | None = None) -> str:
    """The same as CSV, a row a cell; `source` tells one's own numbers from published ones."""
    out = io.StringIO()
    score = _score_name(evaluations)
    names = ["source", "vlm", "test_samples", "method", "sampler", "shots", score, "ci_low", "ci_high", "best"]
    writer = csv.DictWriter(out, fieldnames=[*names, "collapsed"], lineterminator="\n")
    writer.writeheader()
    for line in comparison_lines(evaluations, published):
        row = {"source": line.source, "vlm": line.vlm, "test_samples": line.test_samples, "method": line.method}
        for at, cell in line.cells.items():
            found = {"sampler": "" if line.sampler == ABSENT else line.sampler, "shots": at}
            if isinstance(cell, float):
                found[score] = f"{cell / 100:.4f}"
            else:
                found |= {name: cell[name] for name in ("ci_low", "ci_high", "collapsed")}
                found[score] = cell["accuracy"]
                found["best"] = at in line.bold
            writer.writerow(row | found)
    return out.getvalue()


def _score_name(evaluations: Sequence[Evaluation]) -> str:
    """Head of the scores in a CSV, where they are as they were measured: an accuracy, or the metric by its name."""
    results = evaluations[0].results
    return "accuracy" if metric_of(results).in_percent else results["metric"]


def results_csv(evaluations: Sequence[Evaluation]) -> str:
    """Every row of every `results.json` as CSV, seeds and prefixes included; lists are joined with spaces."""
    rows, score = [], _score_name(evaluations)
    for one in evaluations:
        for _, results in prefixes_of(one.results):
            for row in results["rows"]:
                plain = {
                    score if key == "accuracy" else key: " ".join(value) if isinstance(value, list) else value
                    for key, value in row.items()
                }
                rows.append({"evaluation": one.label or one.results["name"], **plain})
    out = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(out, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
