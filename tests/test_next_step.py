# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import shlex

import pytest

from leverplus_trl import cli
from leverplus_trl.cli import FOLLOWING, next_step
from leverplus_trl.recipe_parser import read_words
from leverplus_trl.scripts.parsers import make_parser


VALUES = {"dataset": "my data", "columns": {"question": "Frage"}, "pool_split": "pool", "output_dir": "out/it"}


def test_a_numbered_recipe_beside_it_comes_next(tmp_path):
    for name, stage in (("10_beams.yaml", "beams"), ("20_sft.yaml", "sft"), ("50_evaluate.yaml", "evaluate")):
        (tmp_path / name).write_text(f"stage: {stage}\n")
    (tmp_path / "12_notes.yaml").write_text("no recipe\n")
    (tmp_path / "11_beams_test.yaml").write_text("stage: beams\n")
    found = next_step("beams", str(tmp_path / "10_beams.yaml"), VALUES)
    assert shlex.split(found) == ["leverplus", "beams", "--config", str(tmp_path / "11_beams_test.yaml")]
    found = next_step("sft", str(tmp_path / "20_sft.yaml"), VALUES)
    assert shlex.split(found) == ["leverplus", "evaluate", "--config", str(tmp_path / "50_evaluate.yaml")]
    assert shlex.split(next_step("evaluate", str(tmp_path / "50_evaluate.yaml"), VALUES))[1] == "report"


@pytest.mark.parametrize("stage", FOLLOWING)
def test_without_one_the_command_takes_the_output_and_what_both_stages_share(stage):
    _, following, *words = shlex.split(next_step(stage, None, VALUES | {"seed": 3, "num_shots": 2}))
    parser = make_parser(following)
    values = parser.convert(*parser.read(words))
    assert following == FOLLOWING[stage][0] and values["output_dir"] == f"out/it_{following}"
    taken = values[FOLLOWING[stage][1]]
    assert taken == (["out/it"] if FOLLOWING[stage][1] == "selectors" else "out/it")
    if stage != "prepare":
        assert values["columns"] == {"question": "Frage"} and values["dataset"] == "my data"
    assert {"stage", "overwrite"}.isdisjoint(read_words(words))


def test_numbers_are_compared_as_numbers(tmp_path):
    for name, stage in (("2_sft.yaml", "sft"), ("9_grpo.yaml", "grpo"), ("10_evaluate.yaml", "evaluate")):
        (tmp_path / name).write_text(f"stage: {stage}\n")
    assert shlex.split(next_step("sft", str(tmp_path / "2_sft.yaml"), VALUES))[1] == "grpo"
    assert shlex.split(next_step("grpo", str(tmp_path / "9_grpo.yaml"), VALUES))[1] == "evaluate"


def test_beams_without_validation_queries_train_without_evaluation():
    words = shlex.split(next_step("beams", None, VALUES | {"query_splits": ["train"]}))[2:]
    parser = make_parser("sft")
    assert parser.convert(*parser.read(words))["eval_split"] is None
    assert "--eval_split null" in next_step("beams", None, VALUES)  # only train is searched by default
    assert "--eval_split" not in next_step("beams", None, VALUES | {"query_splits": ["train", "validation"]})


def test_a_split_of_one_stage_is_no_split_of_another():
    assert "--eval_split" not in next_step("sft", None, VALUES | {"eval_split": None, "train_split": "train"})


def test_the_report_is_to_be_looked_at():
    assert next_step("report", None, {"output_dir": "out"}) == "open out/index.html in a browser"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [((), 0, True), (("--quiet",), 0, False), (("--dry_run",), 0, False), ((), 1, False)],
)
def test_it_is_said_after_a_stage_that_succeeded(words, status, said, monkeypatch, capsys):
    monkeypatch.setattr(cli, "run_stage", lambda *_: status)
    given = ["report", "--dataset", "d", "--evaluation", "e", "--output_dir", "out", *words]
    assert cli.run(given) == status
    assert ("Next: open out/index.html" in capsys.readouterr().out) == said
