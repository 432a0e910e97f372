# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""How a selector was trained: the log of its trainer as curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from .plots import RC, STYLES, picture
from .sections import Chart, Section


STATE = "trainer_state.json"
TRAIN_COLOUR, EVAL_COLOUR = STYLES["image_text_sim"][0], STYLES["selector"][0]
#: What is drawn, in this order, where it was logged: measure without `eval_` -> title
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


def read_history(folder: str | Path) -> list[dict[str, float]]:
    """
    What a trainer logged: the `log_history` of the `trainer_state.json` in an output folder.

    Raises:
        `ValueError`: no such file, not whole, or nothing was logged.
    """
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


def _curves(history: Sequence[Mapping]) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """`{measure: {"training" or "held out": (steps, values)}}` of the measures that were logged."""
    found: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for name in PANELS:
        for which, key in (("training", name), ("held out", f"eval_{name}")):
            points = {entry["step"]: entry[key] for entry in history if isinstance(entry.get(key), (int, float))}
            if points:
                found.setdefault(name, {})[which] = (list(points), list(points.values()))
    return found


def plot_training(history: Sequence[Mapping]) -> bytes:
    """
    The curves of one training run, a panel a measure, as a PNG.

    Args:
        history (`Sequence[Mapping]`):
            What [`read_history`] returns.
    """
    curves = _curves(history)
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(3.7 * columns, 2.5 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, (name, lines) in zip(axes, curves.items(), strict=False):
            for which, (steps, values) in lines.items():
                colour = TRAIN_COLOUR if which == "training" else EVAL_COLOUR
                marker = "o" if which == "held out" or len(steps) == 1 else None
                axis.plot(steps, values, color=colour, marker=marker, markersize=4, linewidth=1.5, label=which)
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
    """The first and the last value of what was logged most tellingly, as a sentence."""
    parts = []
    for name, lines in _curves(history).items():
        for which, (_, values) in lines.items():
            if which == "held out" and len(values) > 1:
                parts.append(f"{PANELS[name]} {values[0]:.3g} → {values[-1]:.3g}")
    steps = max(entry["step"] for entry in history)
    said = f" On held-out queries: {'; '.join(parts)}." if parts else ""
    return f"{steps:,} steps.{said}"


def training_section(folders: Mapping[str, Path]) -> Section | None:
    """
    The training curves of some selectors; `None` without any.

    Args:
        folders (`Mapping[str, Path]`):
            Output folders of the stages sft and grpo, by label.
    """
    if not folders:
        return None
    histories = {label: read_history(folder) for label, folder in folders.items()}
    charts = [
        Chart(
            f"training_{number + 1}.png",
            plot_training(history),
            label,
            f"Training of {label}: {describe_training(history)}",
        )
        for number, (label, history) in enumerate(histories.items())
    ]
    return Section("Training", "training", charts=charts)
