# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace

import pytest

from leverplus_trl.evaluation.evaluation import write_results
from leverplus_trl.provenance import json_hash
from leverplus_trl.report.evaluations import read_evaluations
from leverplus_trl.tables import write_tables


@pytest.fixture
def write(tmp_path, results, predictions):
    def written(name, predictions=predictions, **changes):
        write_results(results | changes, tmp_path / name / "results.json")
        tables = {"predictions": {"test": predictions}}
        write_tables(tmp_path / name / "predictions", tables, "Predictions", "Answers.", {})
        return str(tmp_path / name)

    return written


def recipe(**settings):
    return {"provenance": {"recipe": settings}}


def test_one_evaluation_has_no_label(write):
    (one,) = read_evaluations([write("a")])
    assert one.label is None and one.results["num_queries"] == 20 and one.named("text") == "text"
    assert replace(one, label="mine").named("text") == "mine: text"


def test_several_are_told_apart_by_what_differs(write):
    a = write("a", **recipe(sampler="random", num_candidates=64))
    b = write("b", **recipe(sampler="mix", num_candidates=64))
    c = write("c", **recipe(sampler="mix", num_candidates=32))
    assert [one.label for one in read_evaluations([a, b])] == ["sampler random", "sampler mix"]
    labels = [one.label for one in read_evaluations([a, b, c])]
    assert labels == ["sampler random, candidates 64", "sampler mix, candidates 64", "sampler mix, candidates 32"]
    assert [one.label for one in read_evaluations([f"mine={a}", b])] == ["mine", "sampler mix"]
    with pytest.raises(ValueError, match="Two evaluations are called 'x'"):
        read_evaluations([f"x={a}", f"x={b}"])


def test_evaluations_that_nothing_tells_apart_go_by_their_folders(write):
    folders = [write("a"), write("b")]
    assert [one.label for one in read_evaluations(folders)] == folders


def test_different_test_sets_in_one_table_are_refused(write, predictions):
    a = write("a")
    fewer = predictions.filter(lambda row: row["query_id"] != "q3")
    b = write("b", fewer, num_queries=19, query_set=json_hash(sorted(set(fewer["query_id"]))))
    with pytest.raises(ValueError, match=r"different test sets.*20 queries.*19 queries"):
        read_evaluations([a, b])


def test_different_metrics_in_one_table_are_refused(write):
    with pytest.raises(ValueError, match="different metrics"):
        read_evaluations([write("a"), write("b", metric="vqa_accuracy")])


def test_a_metric_that_is_not_known_is_refused(write):
    with pytest.raises(ValueError, match="are by the metric 'bleu'; expected some of exact_match, "):
        read_evaluations([write("a", metric="bleu")])
    with pytest.raises(ValueError, match="are by the metric 'meteor'"):
        read_evaluations([write("a", metrics={"meteor": {"rows": []}})])


def test_half_written_results_are_named(write, tmp_path):
    folder = write("a")
    path = tmp_path / "a" / "results.json"
    path.write_text(path.read_text()[:300])
    with pytest.raises(ValueError, match=r"a/results\.json is not whole JSON"):
        read_evaluations([folder])
    with pytest.raises(FileNotFoundError, match=r"No results at .*nowhere"):
        read_evaluations([str(tmp_path / "nowhere")])


def test_predictions_of_other_queries_are_refused(write):
    with pytest.raises(ValueError, match="are of different queries; run the evaluate stage again"):
        read_evaluations([write("a", query_set="another")])


def test_zero_shot_alone_is_nothing_to_report(write, results):
    alone = [row for row in results["rows"] if row["shots"] == 0]
    with pytest.raises(ValueError, match="are zero-shot alone"):
        read_evaluations([write("a", rows=alone)])
