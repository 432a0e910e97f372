# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The sections on the beams that selectors learn from, and on the training of selectors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from datasets import Dataset
from matplotlib.figure import Figure

from ..beams.beam_analysis import ANALYSIS, NOTICEABLE, WORDS, analyze_tables, can_matter
from ..schema import LEDGER
from ..tables import table_provenance
from .evaluations import read_splits
from .plots import RC, STYLES, picture, plot_score_by_beam_position, scores_by_beam_position
from .sections import Chart, Row, Section, Table
from .tables import ABSENT


NUM_HUBS_SHOWN = 5
STATE = "trainer_state.json"
COLOURS = {"training": STYLES["image_text_sim"][0], "held out": STYLES["selector"][0]}
#: What is drawn, in this order, where it was logged: measure without `eval_` -> title.
PANELS = {
    "loss": "loss",
    "regret": "regret (InfoScore lost to the best choice)",
    "info_score": "InfoScore of the greedy selections",
    "recall": "recall of the best beam",
    "reward": "mean reward of the stored sequences",
    "expected_reward": "expected reward",
    "greedy_reward": "reward of the greedy selections",
    "kl": "KL to the SFT selector (nats a step)",
    "beta": "beta",
    "changed": "share of selections changed since SFT",
    "entropy": "entropy of a step (nats)",
    "clip_ratio": "share of ratios clipped",
    "frac_reward_zero_std": "share of groups with equal rewards",
    "most_common_share": "share of the most common selection",
    "swap_change_share": "share of selections that change with the query",
}


def read_analysis(path_or_id: str, beams: Dataset) -> dict[str, object]:
    """The analysis of a search: `analysis.json` of its folder, which raises `ValueError` if it is not complete, or,
    for beams that come without it, made from the tables."""
    path = Path(path_or_id) / ANALYSIS
    if path.is_file():
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not whole JSON ({error}); delete it, and it is made anew.") from error
    recipe = table_provenance(path_or_id)["recipe"]
    return analyze_tables(beams, read_splits(path_or_id, "ledger", LEDGER), recipe["insertion"], recipe["score"])


def beams_section(beams: Dataset, analysis: Mapping) -> Section:
    """The section on beams (`schema.BEAMS`, all splits) with the analysis that [`read_analysis`] returns."""
    by_split, splits = scores_by_beam_position(beams), analysis["splits"]
    ends = " ".join(
        f"{split}: {means[0].mean:.3f} at position 1, {means[-1].mean:.3f} at position {len(means)}."
        for split, means in by_split.items()
    )
    chart = Chart(
        "score_by_beam_position.png",
        plot_score_by_beam_position(by_split),
        "Mean score by beam position",
        "Mean score of the sequences that the beam search kept, best first, with 95% intervals over queries. " + ends,
    )
    words = WORDS[next(iter(splits.values()))["scale"]]  # a search has one scale
    note = (
        f"All numbers but the chart's are {words.numbers}, or differences of such. A difference counts as "
        f"noticeable from {NOTICEABLE} on; order is decisive if {words.succeeds} in some orders only. Only what "
        "the search scored is compared: beyond the first step these are continuations of good beginnings, and "
        "sets of which two orders came up."
    )
    tables = [_steps(splits), _orders(splits), _hubs(splits)]
    paragraphs = [f"{name}: {can_matter(split)}" for name, split in splits.items()]
    return Section("Before training: the beams", "beams", paragraphs, [chart], tables, [note])


def _rows(texts: Sequence[str], items: Sequence[Mapping]) -> list[Row]:
    return [Row([text.format_map(item) for text in texts]) for item in items]


def _steps(splits: Mapping) -> Table:
    head = ["position", "average candidate", "best candidate", "gain of choosing", "standard deviation"]
    cells = ["{shots}", "{mean:+.3f}", "{best:+.3f}", "{choice:.3f}", "{spread:.3f}"]
    groups = []
    for name, split in splits.items():
        title = f"{name}: {split['num_queries']} queries, zero-shot {split['zero_shot']:.3f}"
        groups.append((title, _rows(cells, split["steps"])))
    return Table("What the choice at each position changes, against no demonstrations.", head, groups)


def _orders(splits: Mapping) -> Table:
    head = ["split", "sets in several orders", "best − worst order", "noticeable", "decisive"]
    texts = ["{num_sets:,}", "{difference:.3f}", "{noticeable:.1%}", "{decisive:.1%}"]
    rows = []
    for name, split in splits.items():
        order, constant = split["order"], split["constant"]
        cells = [text.format_map(order) if order else ABSENT for text in texts]
        rows.append(Row([name, *cells, f"{max(0.0, constant['share']):.0%}" if constant else ABSENT]))
    return Table("Does order matter, and does the query?", [*head, "one ranking for all queries gets"], [("", rows)])


def _hubs(splits: Mapping) -> Table:
    head = ["candidate", "in best sequences", "offered to queries", "share of queries"]
    cells = ["{id}", "{chosen}", "{offered}", "{share:.1%}"]
    groups = []
    for name, split in splits.items():
        hubs = split["hubs"]
        title = (
            f"{name}: {hubs['num_chosen']:,} of {hubs['num_offered']:,} candidates are ever in a best sequence; the "
            f"most frequent 1% of the candidates make up {hubs['hundredth_share']:.1%} of the picks"
        )
        groups.append((title, _rows(cells, hubs["top"][:NUM_HUBS_SHOWN])))
    return Table("Which candidates are chosen for everything?", head, groups)


def read_history(folder: str | Path) -> list[dict[str, float]]:
    """The `log_history` of the `trainer_state.json` in an output folder; raises `ValueError` if there is no such file,
    or if it is not complete or has nothing to draw."""
    path = Path(folder) / STATE
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} has no {STATE}: name a folder that the stage sft or grpo wrote.")
    try:
        history = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole state of a trainer ({error!r}); train again.") from error
    if not _curves(history):
        raise ValueError(f"{path} logged nothing that could be drawn; lower `logging_steps` and train again.")
    return history


def _curves(history: Sequence[Mapping]) -> dict[str, dict[str, dict[int, float]]]:
    """`{measure: {"training" or "held out": {step: value}}}` of the measures that were logged."""
    curves: dict[str, dict[str, dict[int, float]]] = {}
    for name in PANELS:
        for which, key in (("training", name), ("held out", f"eval_{name}")):
            points = {entry["step"]: entry[key] for entry in history if isinstance(entry.get(key), (int, float))}
            if points:
                curves.setdefault(name, {})[which] = points
    return curves


def plot_training(history: Sequence[Mapping]) -> bytes:
    """The curves of what [`read_history`] returns, a panel a measure, as a PNG."""
    curves = _curves(history)
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(3.7 * columns, 2.5 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, (name, lines) in zip(axes, curves.items(), strict=False):
            for which, points in lines.items():
                marker = "o" if which == "held out" or len(points) == 1 else None
                style = {"color": COLOURS[which], "marker": marker, "markersize": 4, "linewidth": 1.5}
                axis.plot(list(points), list(points.values()), label=which, **style)
            axis.set_title(PANELS[name], fontsize=9, loc="left", color="#444444")
            axis.tick_params(labelsize=8)
            axis.ticklabel_format(axis="y", useOffset=False)
            axis.set_xlabel("step", fontsize=8)
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        drawn = [axis.get_legend_handles_labels() for axis in axes]
        handles = {label: handle for pair in drawn for handle, label in zip(*pair, strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=2, frameon=False, fontsize=9)
        return picture(figure)


def describe_training(history: Sequence[Mapping]) -> str:
    """The number of steps, and the first and the last value on held-out queries, as sentences."""
    parts = []
    for name, lines in _curves(history).items():
        values = list(lines.get("held out", {}).values())
        if len(values) > 1:
            parts.append(f"{PANELS[name]} {values[0]:.3g} → {values[-1]:.3g}")
    held_out = f" On held-out queries: {'; '.join(parts)}." if parts else ""
    return f"{max(entry['step'] for entry in history):,} steps.{held_out}"


def training_section(folders: Mapping[str, Path]) -> Section | None:
    """The training curves of selectors, by label, from the output folders of the stages sft and grpo; `None` without
    any."""
    charts = []
    for number, (label, folder) in enumerate(folders.items(), 1):
        history = read_history(folder)
        description = f"Training of {label}: {describe_training(history)}"
        charts.append(Chart(f"training_{number}.png", plot_training(history), label, description))
    return Section("Training", "training", charts=charts) if charts else None
