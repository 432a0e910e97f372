# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""`leverplus prepare` as users type it."""

import subprocess
import sys

import datasets
from data_sources.official_formats import write_dataset

from leverplus_trl.cli import run_checked
from leverplus_trl.scripts import prepare


def test_the_command_and_a_recipe_make_the_same(tmp_path):
    root = tmp_path / "official"
    write_dataset("scienceqa", root, {"train": 3, "validation": 2, "test": 2})
    command = ["prepare", "--dataset", "scienceqa", "--root", str(root), "--num", "{train: 2}", "--allow_other_counts"]
    done = subprocess.run(
        [sys.executable, "-m", "leverplus_trl.cli", *command, "--output_dir", str(tmp_path / "typed")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ScienceQA, questions with an image: 2 train, 2 validation, 2 test." in done.stderr
    recipe = tmp_path / "00_prepare.yaml"
    recipe.write_text(
        f"stage: prepare\ndataset: scienceqa\nroot: {root}\nnum: {{train: 2}}\noutput_dir: {tmp_path / 'recipe'}\n"
        "allow_other_counts: true\n"
    )
    prepare.main(*prepare.make_parser().parse_args_and_config(["--config", str(recipe)]))
    typed, made = (datasets.load_dataset(str(tmp_path / name)) for name in ("typed", "recipe"))
    assert typed["train"]["id"] == made["train"]["id"] and len(made["test"]) == 2


def test_help_names_the_datasets():
    text = prepare.make_parser().format_help()
    assert "coco_karpathy" in text and "--embed_images" in text


def test_a_recipe_with_a_script_still_runs_it(tmp_path):
    (tmp_path / "make.py").write_text(
        f"import sys; open({str(tmp_path / 'made')!r}, 'w').write(' '.join(sys.argv[1:]))"
    )
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"stage: prepare\nscript: {tmp_path / 'make.py'}\n")
    assert run_checked("prepare", ["--config", str(recipe), "--seed", "3"]) == 0
    assert (tmp_path / "made").read_text() == f"--config {recipe} --seed 3"
