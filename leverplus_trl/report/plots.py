# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The charts: accuracy by shots and method, and mean score by beam position. Drawn without a display.

Colours are those of Okabe and Ito (2008, "Color Universal Design"), which colour-blind readers can tell apart; each
method has its own marker too, and whatever chooses from the whole pool is dashed and hollow.
"""

import io
from collections.abc import Mapping, Sequence

import matplotlib
from datasets import Dataset
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evaluation.methods import METHODS, ORACLE, SELECTOR, ZERO_SHOT, method_label, method_rank, method_scope
from ..evaluation.significance import Interval, paired_difference
from .tables import average_rows, metric_of, shots_of


#: `{method: (colour, marker)}`.
STYLES = {name: row.style for name, row in METHODS.items() if row.style}
OTHER_COLOURS = ("#E69F00", "#5E4FA2", "#8C6D1F", "#17A398", "#B2182B", "#4D4D4D", "#6BAED6")
OTHER_MARKERS = ("X", "<", ">", "h", "p", "d", "8", "H")
#: For names that are not known: as many pairs as no report has methods, since 7 and 8 share no divisor.
OTHER_STYLES = [(OTHER_COLOURS[i % 7], OTHER_MARKERS[i % 8]) for i in range(56)]
DPI = 160
RC = {
    "font.family": "DejaVu Sans",
    "figure.dpi": DPI,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E3E3E3",
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "text.parse_math": False,  # names come from data: a dollar sign is a dollar sign
}


def plot_accuracy_by_shots(results: Mapping) -> bytes:
    """The accuracies of `results.json` with their intervals by number of shots, a line a method, as a PNG: left the
    methods that choose from the same candidates; right, if there are any, those that choose from the whole pool, with
    selectors and oracle. Zero-shot is the dotted line with its interval as a band."""
    methods = sorted({method for method, shots in average_rows(results) if shots > 0}, key=method_rank)
    pool = [method for method in methods if method_scope(method) == "pool"]
    panels = {"the same candidates for every method": [method for method in methods if method not in pool]}
    if pool:
        beside = [method for method in (*results["selectors"], ORACLE) if method in methods]
        panels["the whole pool, with selectors and oracle beside it"] = beside + pool
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(5.6 * len(panels), 5.2), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, shown) in zip(axes, panels.items(), strict=True):
            _draw_methods(axis, results, shown)
            axis.set_title(title, fontsize=10, loc="left", color="#444444")
            axis.set_xlabel("shots (demonstrations in the prompt)")
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False, fontsize=9)
        axes[0].set_ylabel(f"{metric_of(results).heading}, with {results['interval']['confidence']:.0%} interval")
        return picture(figure)


def _draw_methods(axis: Axes, results: Mapping, methods: Sequence[str]) -> None:
    rows, shots, selectors = average_rows(results), shots_of(results), results["selectors"]
    zero_shot = rows.get((ZERO_SHOT, 0))
    if zero_shot:
        axis.axhspan(100 * zero_shot["ci_low"], 100 * zero_shot["ci_high"], color="#000000", alpha=0.07, linewidth=0)
        axis.axhline(100 * zero_shot["accuracy"], color="#000000", linestyle=":", linewidth=1.3, label="zero-shot")
    # The first selector has the colour of the selector, whatever its name.
    styles = STYLES | dict.fromkeys(selectors[:1], STYLES[SELECTOR])
    # In the order in which selectors were named, so that a selector has the same style in both panels.
    unknown = [method for method in dict.fromkeys([*selectors, *methods]) if method not in styles]
    for place, method in enumerate(methods):
        of_pool = method_scope(method) == "pool"
        colour, marker = styles.get(method) or OTHER_STYLES[unknown.index(method) % len(OTHER_STYLES)]
        line_style = "-." if method == ORACLE else "-"
        points = [(x, rows[method, at]) for x, at in enumerate(shots) if (method, at) in rows]
        # Points of one column are side by side, so that no interval hides another, and near their tick.
        dodge = min(0.055, 0.5 / len(methods)) * (place - (len(methods) - 1) / 2)
        # An interval holds the mean but for rounding.
        below = [max(0.0, 100 * (row["accuracy"] - row["ci_low"])) for _, row in points]
        above = [max(0.0, 100 * (row["ci_high"] - row["accuracy"])) for _, row in points]
        collapsed = " (collapsed)" if any(row["collapsed"] for _, row in points) else ""
        style = {"color": colour, "marker": marker, "linestyle": "--" if of_pool else line_style, "capsize": 2.5}
        style |= {"markersize": 9 if method == ORACLE else 6.5, "markerfacecolor": "white" if of_pool else colour}
        style |= {"linewidth": 2.4, "zorder": 4} if method in selectors else {"linewidth": 1.3, "zorder": 3}
        places, accuracies = [x + dodge for x, _ in points], [100 * row["accuracy"] for _, row in points]
        label = method_label(method) + collapsed
        axis.errorbar(places, accuracies, yerr=[below, above], elinewidth=1.3, label=label, **style)
    axis.set_xticks(range(len(shots)), [str(at) for at in shots])
    axis.set_xlim(-0.5, len(shots) - 0.5)
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom=min(0.0, bottom), top=max(102.0, top) if metric_of(results).in_percent else top)


def scores_by_beam_position(beams: Dataset) -> dict[str, list[Interval]]:
    """Mean score with its interval at each beam position (best first), over the queries of each split that have a beam
    there; raises `ValueError` for a table without beams or one of the two columns."""
    missing = sorted({"split", "scores"} - set(beams.column_names))
    if missing:
        raise ValueError(f"The beams table lacks the columns {missing}; it has {beams.column_names}.")
    table = beams.with_format(None).select_columns(["split", "scores"])[:]
    gains: dict[str, dict[int, dict[int, float]]] = {}  # split -> position -> row -> score
    for row, (split, scores) in enumerate(zip(table["split"], table["scores"], strict=True)):
        for position, score in enumerate(scores):
            gains.setdefault(split, {}).setdefault(position, {})[row] = score
    if not gains:
        raise ValueError("The beams table holds no beams: there is nothing to draw.")
    means = {}
    for split, by_position in gains.items():  # a score is a paired difference: the gain over no demonstrations
        means[split] = [paired_difference(by_row, dict.fromkeys(by_row, 0.0)) for by_row in by_position.values()]
    return means


def plot_score_by_beam_position(by_split: Mapping[str, list[Interval]]) -> bytes:
    """The scores of [`scores_by_beam_position`] with their intervals as bands, a line a split, as a PNG."""
    styles = [STYLES[name] for name in ("image_text_sim", "selector", "image_sim")] + OTHER_STYLES
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axis = figure.subplots()
        for place, (split, scores) in enumerate(by_split.items()):
            colour, marker = styles[place % len(styles)]
            positions, means = range(1, len(scores) + 1), [score.mean for score in scores]
            lows, highs = [score.low for score in scores], [score.high for score in scores]
            axis.fill_between(positions, lows, highs, color=colour, alpha=0.18, linewidth=0)
            axis.plot(positions, means, color=colour, marker=marker, markersize=5, label=split)
        axis.axhline(0.0, color="#000000", linestyle=":", linewidth=1.3, label="no demonstrations")
        axis.set_xticks(range(1, 1 + max(map(len, by_split.values()))))
        axis.set_xlabel("beam position (1 = best)")
        axis.set_ylabel("mean score (gain over no demonstrations)")
        axis.legend(frameon=False, fontsize=9)
        return picture(figure)


def picture(figure: Figure) -> bytes:
    """A figure as a PNG that does not say which version drew it."""
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()
