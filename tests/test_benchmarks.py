# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import runpy
import sys

import pytest
import torch
import yaml
from paths import ROOT

from leverplus_trl import VLMArguments, make_task
from leverplus_trl.tasks import TaskArguments
from leverplus_trl.vlms.counting import CountingVLM


def test_selector_training(capsys):
    """Runs with a tiny CLIP; parity is asserted inside."""
    before = torch.get_num_threads()
    try:
        runpy.run_path(str(ROOT / "benchmarks" / "selector_training.py"))["main"](["--quick"])
    finally:
        torch.set_num_threads(before)
    lines = capsys.readouterr().out.splitlines()
    table = [line.split(" | ") for line in lines if line.startswith(("| SFT", "| GRPO"))]
    assert [row[0] for row in table] == ["| SFT"] * 3 + ["| GRPO"] * 3
    for _, way, milliseconds, _, gain, _ in table:
        assert float(milliseconds.split()[0].replace(",", "")) > 0
        if way == "leverplus_trl":  # even against a tiny CLIP
            assert float(gain.split()[0].replace(",", "")) > 1


@pytest.fixture
def beam_scoring(monkeypatch):
    """The benchmark's module, with the searches of a test."""
    folder, threads = ROOT / "benchmarks", torch.get_num_threads()
    monkeypatch.syspath_prepend(str(folder))
    yield runpy.run_path(str(folder / "beam_scoring.py"))
    torch.set_num_threads(threads)
    for name in ("scoring_models", "scoring_ways"):
        sys.modules.pop(name, None)


SMALL_SEARCH = ["--num_queries", "2", "--num_candidates", "6", "--beam_size", "2", "--shots", "2", "--repeats", "1"]
SMALL_SEARCH += ["--most", "99", "99", "--batch_sizes", "4", "8", "--no_memory"]


@pytest.mark.parametrize(
    "options", [["embedded"], ["qwen2.5-vl-3b", "--small", "--image_size", "56", "--pool_size", "12"]]
)
def test_beam_scoring(beam_scoring, capsys, options):
    """Parity, and that what was counted is what was run, is asserted inside."""
    beam_scoring["main"](["--model", *options, *SMALL_SEARCH])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| (", "| least"))]
    one, batched, ahead, shared, least = ([cell.strip() for cell in line.split("|")[1:]] for line in lines)
    assert ahead[0].startswith("(b2)") and shared[0] == "(c) leverplus_trl"
    rows = one, batched, shared, least
    tokens, images = ([float(row[place].replace(",", "")) for row in rows] for place in (5, 8))
    assert tokens[3] <= tokens[2] < tokens[0] <= tokens[1]  # padding costs, sharing pays
    assert images[2] == images[3] < images[0]
    assert 1 <= float(shared[7]) < float(one[7])


def test_memory_of_a_way(beam_scoring):
    options = SMALL_SEARCH[:-1]
    args = beam_scoring["parse"](options)
    setting = beam_scoring["make_setting"](args)
    calls = beam_scoring["record"](setting, 2, 2)
    assert beam_scoring["of_ids"](setting, beam_scoring["as_ids"](calls)) == calls
    found = beam_scoring["measure_memory"]("(b) batched", setting, calls, 20, args, options)
    assert 2**20 < found < 2**29  # bytes; the model alone takes 5 MB


@pytest.fixture
def recipe_costs(monkeypatch):
    folder = ROOT / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield runpy.run_path(str(folder / "recipe_costs.py"))
    sys.modules.pop("scoring_models", None)


def test_recipe_costs_are_those_that_stand_in_the_readme(recipe_costs, monkeypatch, capsys):
    folders = ("gsm8k_qwen2.5_3b", "sst2_qwen2.5_3b")
    monkeypatch.setattr(sys, "argv", ["recipe_costs.py", "--recipes", *folders])
    recipe_costs["main"]()
    rows = tuple(f"| {folder} " for folder in folders)
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith(rows)]
    readme = (ROOT / "recipes" / "README.md").read_text().splitlines()
    assert found == [line for line in readme if line.startswith(rows)]
    cells = [[cell.strip() for cell in line.split("|")] for line in found]
    prompts = {(row[1], row[2]): row[4] for row in cells}
    # Zero-shot, 64 candidates, and the 63 others before each of five beams.
    searches = {"10_beams.yaml": f"{900 * (1 + 64 + 5 * 63):,}", "11_test_beams.yaml": f"{300 * (1 + 64 + 5 * 63):,}"}
    assert prompts == {(folder, stage): count for folder in folders for stage, count in searches.items()} | {
        # 16 sequences, answered and scored, and zero-shot.
        ("gsm8k_qwen2.5_3b", "30_rollouts.yaml"): f"{900 * (2 * 16 + 1):,}",
        # Zero-shot, answered and scored; three seeds of two methods, two other methods and the selectors at 1 to 4
        # shots; the oracle at 1 and 2.
        ("gsm8k_qwen2.5_3b", "50_evaluate.yaml"): f"{300 * (2 + 4 * (3 * 2 + 2 + 2) + 2):,}",
        ("sst2_qwen2.5_3b", "50_evaluate.yaml"): f"{300 * (2 + 4 * (3 * 2 + 2 + 1) + 2):,}",
    }


def test_recipe_costs_of_rollouts_count_every_answer_of_the_annotators(recipe_costs):
    """Two sequences a query: both are answered, all different answers are scored behind them, and one without them."""
    task = make_task(TaskArguments(metric="okvqa_accuracy"))
    vlm = CountingVLM(recipe_costs["flamingo"](VLMArguments(vlm="unused", memory_mb=64), task).vlm)
    recipe = yaml.safe_load((ROOT / "recipes" / "okvqa_flamingo_3b" / "30_rollouts.yaml").read_text())
    few = {"num_rollouts": 2, "num_beam_sequences": 1, "num_samples": 0, "num_similar": 0, "selector": None}
    recipe = {name: value for name, value in (recipe | few).items() if name not in ("similarities", "temperatures")}
    asked, _ = recipe_costs["ask"]("rollouts", recipe, "okvqa", 2, vlm)
    assert (vlm.work.answered, vlm.work.scored) == (2 * asked, asked * (2 * 5 + 1))


def test_the_size_of_v0_is_the_one_that_stands_in_the_readme(recipe_costs):
    readme = " ".join((ROOT / "recipes" / "README.md").read_text().split())
    assert recipe_costs["v0_of"]("okvqa", 900, {}).split(" M ")[0] + " M parameters for OK-VQA's" in readme
    found = recipe_costs["v0_of"]("vqav2", 5500, {})
    count, size, whole = (found.split(" M ")[0], *(found.split()[place] for place in (-6, -2)))
    assert f"but {count} M for VQAv2's, {size} GB, and a checkpoint with its optimizer {whole} GB" in readme
