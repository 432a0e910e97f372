# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

import csv

import pytest
from datasets import DatasetDict

from leverplus_trl.evaluation.evaluation import write_results
from leverplus_trl.report.report_arguments import ReportArguments
from leverplus_trl.schema import BEAMS
from leverplus_trl.scripts.report import main, make_parser
from leverplus_trl.tables import write_tables


@pytest.fixture
def folder(tmp_path, results, predictions, queries, pool, beams):
    """What the stages before leave behind."""
    DatasetDict({"train": pool, "test": queries}).save_to_disk(tmp_path / "data")
    write_results(results, tmp_path / "evaluation" / "results.json")
    write_tables(
        tmp_path / "evaluation" / "predictions", {"predictions": {"test": predictions}}, "Predictions", "Answers.", {}
    )
    columns = {
        "query_id": ["a", "b", "c"],
        "candidate_ids": [["p0"]] * 3,
        "demonstration_ids": [[["p0"], ["p1"]], [["p0"], ["p1"]], [["p0"]]],
        "step_scores": [[[0.9], [0.5]], [[0.7], [0.3]], [[0.4]]],
        "zero_shot_score": [0.1] * 3,
    }
    for name, values in columns.items():
        beams = beams.add_column(name, values)
    beams = beams.select_columns(list(BEAMS)).cast(BEAMS)
    splits = {split: beams.filter(lambda row, split=split: row["split"] == split) for split in ("train", "test")}
    write_tables(tmp_path / "beams", {"beams": splits}, "Beams", "Sequences.", {})
    return tmp_path


def report(folder, *further):
    recipe = folder / "60_report.yaml"
    recipe.write_text(
        f"stage: report\ndataset: {folder / 'data'}\nevaluation: {folder / 'evaluation'}\n"
        f"output_dir: {folder / 'report'}\n"
    )
    main(*make_parser().parse_args_and_config(["--config", str(recipe), *further]))
    return folder / "report"


def test_the_stage_writes_page_tables_and_charts(folder, capsys):
    output = report(folder, "--beams", str(folder / "beams"), "--title", "My report")
    assert "| selector | 50.0 " in capsys.readouterr().out
    page = (output / "index.html").read_text()
    assert "<title>My report</title>" in page and "train: 0.800 at position 1, 0.400 at position 2." in page
    assert page.count('<article class="query">') == 12
    for name in ("accuracy_by_shots.png", "score_by_beam_position.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in (output / "report.md").read_text()
    assert len(list(csv.DictReader((output / "results.csv").open()))) == 15
    assert (output / "recipe.yaml").exists() and (output / "provenance.json").exists()
    assert "index.html" in (output / "run.log").read_text()


def test_a_second_report_replaces_the_first_with_the_same_bytes(folder):
    output = report(folder)
    first = {file.name: file.read_bytes() for file in output.iterdir() if file.name != "run.log"}
    assert "score_by_beam_position.png" not in first
    report(folder)
    assert {file.name: file.read_bytes() for file in output.iterdir() if file.name != "run.log"} == first


def test_a_dry_run_writes_nothing(folder):
    assert not report(folder, "--dry_run", "True").exists()


def test_predictions_of_other_queries_are_refused(folder, predictions, results):
    write_results(results | {"query_set": "another"}, folder / "evaluation" / "results.json")
    with pytest.raises(ValueError, match="are of different queries; run the evaluate stage again"):
        report(folder)
    assert not (folder / "report").exists()


def test_zero_shot_alone_is_nothing_to_report(folder, results):
    alone = [row for row in results["rows"] if row["shots"] == 0]
    write_results(results | {"rows": alone}, folder / "evaluation" / "results.json")
    with pytest.raises(ValueError, match="are zero-shot alone"):
        report(folder)


def test_an_unknown_recipe_key_is_refused(folder):
    with pytest.raises(ValueError, match="galery"):
        report(folder, "--galery", "3")


def test_a_negative_number_of_queries_is_refused():
    with pytest.raises(ValueError, match="num_gallery_queries is -1; expected 0 or more"):
        ReportArguments(evaluation="e", output_dir="o", num_gallery_queries=-1)
