# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What more demonstrations do: each method from the fewest to the most shots, paired query by query."""

from collections.abc import Sequence

from datasets import Dataset

from ..evaluation.methods import ZERO_SHOT
from ..evaluation.significance import paired_difference, paired_p_value
from .evaluations import Evaluation
from .plots import plot_accuracy_by_shots
from .published import PublishedFigures
from .sections import Chart, Row, Section, Table
from .tables import capital, interval, metric_of, percent, shots_of, small_p, table_rows


def accuracies_by_query(predictions: Dataset) -> dict[tuple[str, int], dict[str, list[float]]]:
    """`{(method, shots): {query id: accuracies}}`, one a seed, in the order of the seeds."""
    names = ["method", "shots", "seed", "query_id", "accuracy"]
    columns = predictions.with_format(None).select_columns(names)[:]
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    for method, shots, _, query_id, accuracy in sorted(zip(*(columns[name] for name in names), strict=True)):
        found.setdefault((method, shots), {}).setdefault(query_id, []).append(accuracy)
    return found


def shots_section(evaluations: Sequence[Evaluation], published: PublishedFigures | None = None) -> Section:
    """Accuracy by number of shots as charts, and what the most shots give beyond the fewest."""
    charts, tables = [], []
    for number, one in enumerate(evaluations):
        file_name = "accuracy_by_shots.png" if len(evaluations) == 1 else f"accuracy_by_shots_{number + 1}.png"
        title = metric_of(one.results).title
        confidence = f"{one.results['interval']['confidence']:.0%}"
        charts.append(
            Chart(
                file_name,
                plot_accuracy_by_shots(one.results),
                one.named(f"{capital(title)} by number of shots"),
                one.named(
                    f"{title} of each method by number of shots, with {confidence} intervals; the dotted line and "
                    "its band are zero-shot. The numbers stand in the table."
                ),
            )
        )
        if len(shots_of(one.results)) > 1:
            tables.append(_more_shots(one))
    return Section("Number of shots", "shots", [_published_shots(published)] if published else [], charts, tables)


def _more_shots(one: Evaluation) -> Table:
    by_query = accuracies_by_query(one.predictions)
    confidence = one.results["interval"]["confidence"]
    rows = []
    for row in table_rows(one.results):
        cells = {at: cell for at, cell in zip(shots_of(one.results), row.cells, strict=True) if cell}
        if row.method == ZERO_SHOT or len(cells) < 2:
            continue
        fewest, most = min(cells), max(cells)
        best = max(cells, key=lambda at, cells=cells: (cells[at]["accuracy"], -at))
        pair = by_query[row.method, most], by_query[row.method, fewest]
        found, p_value = paired_difference(*pair, confidence), paired_p_value(*pair)
        rows.append(
            Row(
                [
                    row.label,
                    f"{percent(cells[fewest]['accuracy'])} ({fewest})",
                    f"{percent(cells[most]['accuracy'])} ({most})",
                    f"{percent(found.mean, True)} {interval(found.low, found.high, True)}, {small_p(p_value)}",
                    _said(found.mean, p_value <= 1.0 - confidence),
                    f"{percent(cells[best]['accuracy'])} ({best})",
                ],
                "selector" if row.method in one.results["selectors"] else "",
            )
        )
    head = ["method", "fewest shots", "most shots", "difference, paired", "more demonstrations", "best at"]
    caption = f"{capital(metric_of(one.results).heading)}, with the number of shots behind it."
    return Table(one.named(caption), head, [("", rows)])


def _said(difference: float, differs: bool) -> str:
    return ("help" if difference > 0.0 else "hurt") if differs else "can't tell"


def _published_shots(published: PublishedFigures) -> str:
    means = ", ".join(f"{accuracy:.1f} at {shots}" for shots, accuracy in published.mean_by_shots().items())
    return f"The mean of the published cells with a selector: {means} (shots); not measured here."
