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


import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from launches import Launch

from leverplus_trl.run_folder import RunFolder


RECIPE = {"seed": 0}


def test_a_folder_has_one_launch_at_a_time(tmp_path):
    code = f"""
import time
from leverplus_trl.run_folder import RunFolder
run = RunFolder({str(tmp_path)!r}, "beams", {RECIPE!r})
print("claimed", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        with pytest.raises(ValueError, match="Another launch is writing into"):
            RunFolder(str(tmp_path), "beams", RECIPE)
        other.kill()
        other.wait()
    RunFolder(str(tmp_path), "beams", RECIPE)  # the lock of a launch that was killed is no lock


def test_a_folder_is_free_again_when_its_run_is_over(tmp_path):
    run = RunFolder(str(tmp_path), "beams", RECIPE)
    with pytest.raises(ValueError, match="Another launch"):
        RunFolder(str(tmp_path), "beams", RECIPE)
    del run
    RunFolder(str(tmp_path), "beams", RECIPE)
    with pytest.raises(ValueError, match=r"another recipe \(seed: 0 there, 1 here\)"):
        RunFolder(str(tmp_path), "beams", {"seed": 1})


def test_what_changes_last_bits_is_another_recipe_only_where_models_compute(tmp_path):
    threads = torch.get_num_threads()
    try:
        for stage in ("prepare", "beams"):
            RunFolder(str(tmp_path / stage), stage, RECIPE)
        torch.set_num_threads(threads + 1)
        RunFolder(str(tmp_path / "prepare"), "prepare", RECIPE)
        with pytest.raises(ValueError, match=f"num_threads: {threads} there, {threads + 1} here"):
            RunFolder(str(tmp_path / "beams"), "beams", RECIPE)
        with pytest.raises(ValueError, match="seed: 0 there, 1 here"):
            RunFolder(str(tmp_path / "prepare"), "prepare", {"seed": 1})
    finally:
        torch.set_num_threads(threads)


def test_what_the_first_launch_finds_holds_for_those_that_do_not_say(tmp_path, caplog):
    caplog.set_level(logging.INFO, "leverplus_trl")
    run = RunFolder(str(tmp_path), "beams", {**RECIPE, "memory_mb": None})
    assert run.settle("memory_mb", 512) == 512
    del run
    other_machine = RunFolder(str(tmp_path), "beams", {**RECIPE, "memory_mb": None})
    assert "was begun with" not in caplog.text
    assert other_machine.settle("memory_mb", 2048) == 512
    assert other_machine.settle("memory_mb", 256) == 512
    more, less = (record for record in caplog.records if "was begun with memory_mb 512" in record.message)
    assert more.levelname == "INFO" and "(this machine would have 2048)" in more.message
    assert less.levelname == "WARNING" and "(this machine would have 256). If that is too much" in less.message
    assert other_machine.provenance["facts"]["memory_mb"] == 512
    del other_machine
    assert RunFolder(str(tmp_path), "beams", {**RECIPE, "memory_mb": 512}).settle("memory_mb", 512) == 512
    with pytest.raises(ValueError, match=r"memory_mb: 512 there, 2048 here.* without `memory_mb` goes on"):
        RunFolder(str(tmp_path), "beams", {**RECIPE, "memory_mb": 2048})


def settle_apart(folder):
    """The second process works on a machine that sees an old state of the folder, and has less memory."""
    state = PartialState()
    run = RunFolder(str(folder), "beams", {**RECIPE, "memory_mb": None})
    if not state.is_main_process:
        stale = shutil.copytree(folder, f"{folder}-elsewhere")
        run.path = Path(stale)
    state.wait_for_everyone()
    assert run.settle("memory_mb", 512 - 256 * state.process_index) == 256
    assert run.provenance["facts"]["memory_mb"] == 256
    state.wait_for_everyone()


def test_all_processes_settle_on_one_value_whatever_they_see_of_the_folder(tmp_path):
    assert Launch(2, settle_apart, tmp_path / "run").wait() == [0, 0]
    assert '"memory_mb": 256' in (tmp_path / "run" / "provenance.json").read_text()
    assert '"memory_mb": 256' not in (tmp_path / "run-elsewhere" / "provenance.json").read_text()
