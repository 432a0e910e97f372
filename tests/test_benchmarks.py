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

import runpy

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
