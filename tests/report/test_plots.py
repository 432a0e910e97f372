# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import io

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from leverplus_trl.report import plots
from leverplus_trl.report.plots import plot_accuracy_by_shots, plot_score_by_beam_position, scores_by_beam_position


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def has_colour(png, colour):
    return bool((pixels(png) == np.array(colour)).all(axis=-1).any())


def test_accuracy_chart_is_a_picture_that_changes_with_the_numbers(results):
    png = plot_accuracy_by_shots(results)
    assert has_colour(png, (0xD5, 0x5E, 0x00))  # the selector's vermilion
    assert has_colour(png, (0x00, 0x72, 0xB2))
    assert plot_accuracy_by_shots(results) == png
    for row in results["rows"]:
        row["accuracy"] = row["ci_low"] = row["ci_high"] = 0.5
    assert plot_accuracy_by_shots(results) != png


def test_without_pool_methods_there_is_one_panel(results):
    both = pixels(plot_accuracy_by_shots(results)).shape[1]
    results["rows"] = [row for row in results["rows"] if row["scope"] != "pool"]
    assert pixels(plot_accuracy_by_shots(results)).shape[1] == both // 2


def test_unknown_methods_and_dollar_signs_are_drawn(results):
    for row in results["rows"]:
        row["method"] = row["method"].replace("text_sim", "$mine$")
    assert has_colour(plot_accuracy_by_shots(results), (0xE6, 0x9F, 0x00))


@pytest.fixture
def figure_of(monkeypatch):
    monkeypatch.setattr(plots, "picture", lambda figure: figure)
    return plot_accuracy_by_shots


def test_the_axis_is_that_of_the_metric(figure_of, results, captions):
    axis = figure_of(results).axes[0]
    assert axis.get_ylabel() == "accuracy in %, with 95% interval" and axis.get_ylim()[1] >= 102.0
    axis = figure_of(captions.results).axes[0]
    assert axis.get_ylabel() == "CIDEr times 100, with 95% interval" and axis.get_ylim()[1] > 187.0
    for row in captions.results["rows"]:
        row["accuracy"] = row["ci_low"] = row["ci_high"] = 0.5
    assert figure_of(captions.results).axes[0].get_ylim()[1] < 60.0  # no 100 that nothing comes near


def test_points_stand_near_their_tick_however_many_methods(figure_of, results):
    def farthest():
        points = [line.get_xdata() for line in figure_of(results).axes[0].get_lines() if line.get_marker() != "None"]
        found = [abs(x - round(x)) for xs in points for x in xs if len(xs) == 2 and xs[1] - xs[0] == pytest.approx(1)]
        return max(found)

    assert farthest() == pytest.approx(2 * 0.055)  # five methods
    selector = [row for row in results["rows"] if row["method"] == "selector"]
    results["rows"] += [row | {"method": f"v{number}"} for number in range(10) for row in selector]
    assert farthest() == pytest.approx(7 * 0.5 / 15)


def test_mean_scores_by_beam_position(beams):
    by_split = scores_by_beam_position(beams)
    assert list(by_split) == ["train", "test"]
    assert [one.mean for one in by_split["train"]] == pytest.approx([0.8, 0.4])
    # Two queries, 0.7 and 0.9, say little of others.
    assert by_split["train"][0].low < 0.4 and by_split["train"][0].high > 0.95
    assert [one.mean for one in by_split["test"]] == [0.4]
    png = plot_score_by_beam_position(by_split)
    assert has_colour(png, (0x00, 0x72, 0xB2)) and has_colour(png, (0xD5, 0x5E, 0x00))
    assert plot_score_by_beam_position(by_split) == png


def test_tables_without_beams_are_refused():
    with pytest.raises(ValueError, match="holds no beams"):
        scores_by_beam_position(Dataset.from_dict({"split": ["train"], "scores": [[]]}))
    with pytest.raises(ValueError, match=r"lacks the columns \['scores'\]"):
        scores_by_beam_position(Dataset.from_dict({"split": ["train"]}))
