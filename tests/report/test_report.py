# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import csv
import importlib.util
import json
import math
import re
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from paths import ROOT

from leverplus_trl.evaluation.evaluation import write_results
from leverplus_trl.report.evaluations import read_evaluations
from leverplus_trl.report.report_arguments import ReportArguments
from leverplus_trl.schema import BEAMS, LEDGER
from leverplus_trl.scripts.report import main, make_parser, training_folders
from leverplus_trl.tables import write_tables


@pytest.fixture
def folder(tmp_path, results, predictions, queries, pool):
    """What the stages before leave behind."""
    DatasetDict({"train": pool, "test": queries}).save_to_disk(tmp_path / "data")
    write_evaluation(tmp_path / "evaluation", results, predictions)
    splits = {"train": [("a", [0.9, 0.5]), ("b", [0.7, 0.3])], "test": [("q1", [0.4])]}
    beams, ledger = {}, {}
    for split, rows in splits.items():
        found = [searched(query_id, split, scores) for query_id, scores in rows]
        beams[split] = Dataset.from_list([one for one, _ in found], features=BEAMS)
        ledger[split] = Dataset.from_list([entry for _, entries in found for entry in entries], features=LEDGER)
    made_by = {"recipe": {"insertion": "left", "score": "prob"}}
    write_tables(tmp_path / "beams", {"beams": beams, "ledger": ledger}, "Beams", "Sequences.", made_by)
    (tmp_path / "sft").mkdir()
    history = [{"step": step, "loss": 1 / step, "eval_loss": 2 / step} for step in (1, 2, 4)]
    (tmp_path / "sft" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    return tmp_path


def write_evaluation(where, results, predictions):
    write_results(results, where / "results.json")
    write_tables(where / "predictions", {"predictions": {"test": predictions}}, "Predictions", "Answers.", {})


def searched(query_id, split, scores):
    """A query of the beams table with its ledger: zero-shot 0.05, and each candidate alone."""
    sequences = [[f"p{place}"] for place in range(len(scores))]
    where = {"query_id": query_id, "split": split}
    row = where | {"candidate_ids": ["p0", "p1"], "demonstration_ids": sequences, "scores": scores}
    row |= {"step_scores": [[score] for score in scores], "zero_shot_score": 0.05}
    entries = [([], 0.05), *((ids, 0.05 + score) for ids, score in zip(sequences, scores, strict=True))]
    return row, [
        where | {"demonstration_ids": ids, "answer_logprob": math.log(prob), "num_answer_tokens": 1, "accuracy": None}
        for ids, prob in entries
    ]


def report(folder, *further):
    recipe = folder / "60_report.yaml"
    recipe.write_text(
        f"stage: report\ndataset: {folder / 'data'}\nevaluation: {folder / 'evaluation'}\n"
        f"output_dir: {folder / 'report'}\n"
    )
    main(*make_parser().parse_args_and_config(["--config", str(recipe), *further]))
    return folder / "report"


def test_the_stage_writes_page_tables_and_charts(folder, capsys):
    given = ("--beams", str(folder / "beams"), "--title", "My report", "--training", f"mine={folder / 'sft'}")
    output = report(folder, *given)
    assert re.search(r"\nselector  .* 50\.0 \[", capsys.readouterr().out)
    page = (output / "index.html").read_text()
    assert "<title>My report</title>" in page and "train: 0.800 at position 1, 0.400 at position 2." in page
    assert "train: Choosing" in page
    assert "Training of mine: 4 steps. On held-out queries: loss 2 → 0.5." in page
    for name in ("accuracy_by_shots.png", "score_by_beam_position.png", "training_1.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in (output / "report.md").read_text()
    assert len(list(csv.DictReader((output / "results.csv").open()))) == 15
    assert {row["source"] for row in csv.DictReader((output / "comparison.csv").open())} == {"here"}
    assert (output / "recipe.yaml").exists() and (output / "provenance.json").exists()
    assert "index.html" in (output / "run.log").read_text()


def test_a_second_report_replaces_the_first_with_the_same_bytes(folder):
    output = report(folder)
    first = {file.name: file.read_bytes() for file in output.iterdir() if file.name != "run.log"}
    assert "score_by_beam_position.png" not in first
    report(folder)
    assert {file.name: file.read_bytes() for file in output.iterdir() if file.name != "run.log"} == first


def test_evaluations_of_the_same_queries_stand_side_by_side(folder, results, predictions):
    other = json.loads(json.dumps(results)) | {"provenance": {"recipe": {"sampler": "mix"}}}
    write_evaluation(folder / "other", other, predictions)
    output = report(folder, "--evaluation", str(folder / "evaluation"), str(folder / "other" / "results.json"))
    text = (output / "report.md").read_text()
    assert "### no sampler" in text and "### sampler mix" in text and "All evaluations side by side" in text
    assert {"accuracy_by_shots_1.png", "accuracy_by_shots_2.png"} <= {file.name for file in output.iterdir()}


def test_selectors_that_left_a_log_show_their_training(folder, results):
    named = {"recipe": {"selectors": [f"first={folder / 'sft'}", "hub/one", f"again={folder / 'sft'}"]}}
    write_results(results | {"provenance": named}, folder / "evaluation" / "results.json")
    found = training_folders(None, read_evaluations([str(folder / "evaluation")]))
    assert found == {f"first ({folder / 'sft'})": folder / "sft"}
    assert training_folders([f"x={folder}", "y"], []) == {"x": folder, "y": Path("y")}
    (folder / "lr=0.1").symlink_to(folder / "sft")
    named = {"recipe": {"selectors": [f"v2={folder}/lr=0.1"]}}
    write_results(results | {"provenance": named}, folder / "evaluation" / "results.json")
    found = training_folders(None, read_evaluations([str(folder / "evaluation")]))
    assert found == {f"v2 ({folder}/lr=0.1)": folder / "lr=0.1"}


def test_other_examples_of_the_same_ids_are_refused(folder, results):
    evaluated = results | {"test_set": "of other questions"}
    write_results(evaluated, folder / "evaluation" / "results.json")
    with pytest.raises(ValueError, match=r"not those that .* was evaluated on: ids, questions or answers"):
        report(folder)
    assert not (folder / "report" / "index.html").exists()


def test_a_dry_run_writes_nothing(folder):
    assert not report(folder, "--dry_run", "True").exists()


def test_a_folder_that_nothing_was_trained_in_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"has no trainer_state\.json: name a folder that the stage sft or grpo wrote"
    ):
        report(folder, "--training", str(folder / "data"))


def test_an_unknown_recipe_key_is_refused(folder):
    with pytest.raises(ValueError, match="galery"):
        report(folder, "--galery", "3")


def test_a_negative_number_of_queries_is_refused():
    with pytest.raises(ValueError, match="num_gallery_queries is -1; expected a whole number of at least 0"):
        ReportArguments(evaluation="e", output_dir="o", num_gallery_queries=-1)


def test_one_folder_needs_no_list_and_none_is_refused():
    assert ReportArguments(evaluation="e", output_dir="o", training="t").evaluation == ["e"]
    with pytest.raises(ValueError, match="evaluation is an empty list"):
        ReportArguments(evaluation=[], output_dir="o")


def test_the_page_of_results_is_made_of_evaluations(folder, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_results", ROOT / "docs" / "make_results.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "make_results", module)
    spec.loader.exec_module(module)
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    results["provenance"] = {"versions": {"torch": "2.1"}, "facts": {"device": "cpu", "num_threads": 1}}
    (folder / "evaluation" / "results.json").write_text(json.dumps(results))
    study = module.Study("Mine", "`recipes/mine`", str(folder / "evaluation"), str(folder / "beams"))
    monkeypatch.setattr(module, "STUDIES", (study,))
    page = folder / "docs" / "results.md"
    monkeypatch.setattr(sys, "argv", ["make_results.py", "--output", str(page)])
    module.main()
    text = page.read_text()
    assert "## Mine" in text and "Recipes: `recipes/mine`." in text and "Made with torch 2.1; device cpu" in text
    assert "| selector | 50.0 [" in text and "### Trained selectors" in text and "### Diagnostics" in text
    charts = re.findall(r"\]\((results/[^)]+\.png)\)", text)
    assert len(charts) == 2 and all((page.parent / chart).read_bytes().startswith(b"\x89PNG") for chart in charts)
