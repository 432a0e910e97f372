# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import runpy
import sys

import pytest
import torch
from paths import ROOT


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
    """Parity is asserted inside."""
    beam_scoring["main"](["--model", *options, *SMALL_SEARCH])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| (", "| least"))]
    one, batched, ahead, shared, least = ([cell.strip() for cell in line.split("|")[1:]] for line in lines)
    assert ahead[0].startswith("(b2)") and shared[0] == "(c) leverplus_trl"
    rows = one, batched, shared, least
    tokens, images = ([float(row[place].replace(",", "")) for row in rows] for place in (5, 7))
    assert tokens[3] <= tokens[2] < tokens[0] <= tokens[1]  # padding costs, sharing pays
    assert images[2] == images[3] < images[0]
    assert 1 <= float(shared[6]) < float(one[6])


def test_memory_of_a_way(beam_scoring):
    options = SMALL_SEARCH[:-1]
    args = beam_scoring["parse"](options)
    setting = beam_scoring["make_setting"](args)
    calls = beam_scoring["record"](setting, 2, 2)
    assert beam_scoring["of_ids"](setting, beam_scoring["as_ids"](calls)) == calls
    found = beam_scoring["measure_memory"]("(b) batched", setting, calls, 20, args, options)
    assert 2**20 < found < 2**29  # bytes; the model alone takes 5 MB
