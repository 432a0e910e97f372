# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import PartialState
from launches import Launch

from leverplus_trl.run_folder import RunFolder
from leverplus_trl.stage_arguments import Shard


RECIPE = {"seed": 0}


def make_unit(folder):
    """The least that counts as output of `beams`."""
    (folder / "units").mkdir(exist_ok=True)
    (folder / "units" / "train-000000.parquet").touch()


def test_a_folder_has_one_launch_at_a_time(tmp_path):
    code = f"""
import time
from leverplus_trl.run_folder import RunFolder
from leverplus_trl.stage_arguments import Shard
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
    make_unit(tmp_path)
    del run
    RunFolder(str(tmp_path), "beams", RECIPE)
    with pytest.raises(ValueError, match=r"another recipe \(seed: 0 there, 1 here\)"):
        RunFolder(str(tmp_path), "beams", {"seed": 1})


def test_what_changes_last_bits_is_another_recipe_only_where_models_compute(tmp_path):
    threads = torch.get_num_threads()
    try:
        for stage in ("prepare", "beams"):
            run = RunFolder(str(tmp_path / stage), stage, RECIPE)
            (run.path / "README.md").touch()
        del run
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
    assert run.pin("memory_mb", 512) == 512
    make_unit(tmp_path)
    del run
    other_machine = RunFolder(str(tmp_path), "beams", {**RECIPE, "memory_mb": None})
    assert "was begun with" not in caplog.text
    assert other_machine.pin("memory_mb", 2048) == 512
    assert other_machine.pin("memory_mb", 256) == 512
    more, less = (record for record in caplog.records if "was begun with memory_mb 512" in record.message)
    assert more.levelname == "INFO" and "(this machine would have 2048)" in more.message
    assert less.levelname == "WARNING" and "(this machine would have 256). If that is too much" in less.message
    assert other_machine.provenance["facts"]["memory_mb"] == 512
    del other_machine
    assert RunFolder(str(tmp_path), "beams", {**RECIPE, "memory_mb": 512}).pin("memory_mb", 512) == 512
    with pytest.raises(ValueError, match=r"memory_mb: 512 there, 2048 here.* without `memory_mb` goes on"):
        RunFolder(str(tmp_path), "beams", {**RECIPE, "memory_mb": 2048})


def pin_apart(folder):
    """The second process works on a machine that sees an old state of the folder, and has less memory."""
    state = PartialState()
    run = RunFolder(str(folder), "beams", {**RECIPE, "memory_mb": None})
    if state.is_main_process:
        make_unit(folder)
    else:
        stale = shutil.copytree(folder, f"{folder}-elsewhere")
        run.path = Path(stale)
    state.wait_for_everyone()
    assert run.pin("memory_mb", 512 - 256 * state.process_index) == 256
    assert run.provenance["facts"]["memory_mb"] == 256
    state.wait_for_everyone()


def test_all_processes_pin_one_value_whatever_they_see_of_the_folder(tmp_path):
    assert Launch(2, pin_apart, tmp_path / "run").wait() == [0, 0]
    assert '"memory_mb": 256' in (tmp_path / "run" / "provenance.json").read_text()
    assert '"memory_mb": 256' not in (tmp_path / "run-elsewhere" / "provenance.json").read_text()


def names(folder):
    """Of all files and folders in it but locks."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.name.startswith(".lock"))


def run_code(code, *arguments):
    """In a process of its own; gives its exit status."""
    imports = """
import logging, os, signal, sys
from pathlib import Path
from leverplus_trl.output_files import write_json
from leverplus_trl.run_folder import RunFolder
"""
    return subprocess.run([sys.executable, "-c", imports + code, *map(str, arguments)]).returncode


FAILS = """
run = RunFolder(sys.argv[1], "beams", {"seed": 1})
run.pin("memory_mb", 512)
write_json(run.units / "units.json", {})
try:
    raise ValueError("no result")
except ValueError:
    logging.getLogger("leverplus_trl").exception("The run failed.")
    raise
"""
IS_KILLED = """
run = RunFolder(sys.argv[1], "sft", {"seed": 1})
(run.path / "checkpoint-5").mkdir()  # half a checkpoint, and half an encoder
(run.path / "checkpoint-5" / "model.safetensors").touch()
(run.path / ".unfinished-encoder").mkdir()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("there_before", [True, False])
def test_a_run_that_failed_without_a_result_claims_no_folder(tmp_path, there_before):
    folder = tmp_path / "outputs" / "run"
    if there_before:
        folder.mkdir(parents=True)
        (folder / "notes.txt").touch()
    assert run_code(FAILS, folder) == 1
    assert names(folder) == ["notes.txt"] * there_before + ["run.log"]
    assert "ValueError: no result" in (folder / "run.log").read_text()
    run = RunFolder(str(folder), "sft", {"seed": 2, "memory_mb": None})
    assert json.loads((folder / "provenance.json").read_text())["recipe"]["seed"] == 2
    assert run.pin("memory_mb", 256) == 256


def test_a_folder_that_a_run_made_and_left_empty_goes_with_it(tmp_path):
    run = RunFolder(str(tmp_path / "new" / "run"), "beams", RECIPE)
    logging.getLogger("leverplus_trl").info("Nothing that helps.")
    del run
    assert not (tmp_path / "new").exists() and tmp_path.exists()


def test_a_run_that_was_killed_without_a_result_claims_no_folder(tmp_path):
    assert run_code(IS_KILLED, tmp_path) == -signal.SIGKILL
    assert {"checkpoint-5", "provenance.json"} <= set(names(tmp_path))
    run = RunFolder(str(tmp_path), "beams", {"seed": 2})
    assert names(run.path) == ["provenance.json", "recipe.yaml", "run.log"]
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text()) == {"seed": 2, "stage": "beams"}


def test_a_checkpoint_or_a_unit_claims_the_folder_for_good(tmp_path):
    for stage, result in {"sft": "checkpoint-5/trainer_state.json", "evaluate": "units/test-000000.parquet"}.items():
        run = RunFolder(str(tmp_path / stage), stage, RECIPE)
        (run.path / result).parent.mkdir()
        (run.path / result).touch()
        del run
        with pytest.raises(
            ValueError, match=r"seed: 0 there, 1 here\)\. Use another `output_dir`, or set `overwrite`"
        ):
            RunFolder(str(tmp_path / stage), stage, {"seed": 1})
        assert (tmp_path / stage / result).exists()


def test_a_shard_without_a_result_still_binds_those_that_run_beside_it(tmp_path):
    first = RunFolder(str(tmp_path), "beams", RECIPE, shard=Shard(0, 3))
    with pytest.raises(ValueError, match="another recipe"):
        RunFolder(str(tmp_path), "beams", {"seed": 1}, shard=Shard(1, 3))
    second = RunFolder(str(tmp_path), "beams", RECIPE, shard=Shard(1, 3))
    del first
    assert (tmp_path / "provenance.json").exists()
    del second
    assert not (tmp_path / "provenance.json").exists()
    RunFolder(str(tmp_path), "beams", {"seed": 1}, shard=Shard(1, 3))


def test_a_process_that_was_forked_off_a_run_does_not_give_its_folder_back(tmp_path):
    run = RunFolder(str(tmp_path), "beams", RECIPE)
    child = os.fork()
    if not child:
        del run
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "provenance.json").exists()
    with pytest.raises(ValueError, match="Another launch"):
        RunFolder(str(tmp_path), "beams", RECIPE)
    del run


def test_overwrite_deletes_what_the_stage_wrote_and_nothing_else(tmp_path):
    run = RunFolder(str(tmp_path), "evaluate", RECIPE)
    ours = [
        *("results.json", "answered.json", "predictions/README.md", "predictions/data/predictions-test-0.parquet"),
        *("units/test-000000.parquet", "units/collapse.json", "order_probes/README.md"),
    ]
    theirs = ["notes.txt", "predictions/mine.csv", "beams/README.md", "beams/provenance.json", "order_probes.txt"]
    for name in [*ours, *theirs]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    del run
    for recipe in ({"seed": 1}, {"seed": 1}):  # another one, and the same again
        run = RunFolder(str(tmp_path), "evaluate", {**recipe, "overwrite": True})
        left = [name for name in names(tmp_path) if (tmp_path / name).is_file()]
        assert left == sorted([*theirs, "provenance.json", "recipe.yaml", "run.log"])
        assert not (tmp_path / "units").exists() and not (tmp_path / "order_probes").exists()
        assert "overwrite" not in run.provenance["recipe"]
        (tmp_path / "results.json").touch()
        del run
    assert "overwrite" not in (tmp_path / "recipe.yaml").read_text()
    RunFolder(str(tmp_path), "evaluate", {"seed": 1, "overwrite": False})


def test_overwrite_takes_a_folder_of_another_stage_but_none_of_another_program(tmp_path):
    run = RunFolder(str(tmp_path), "sft", RECIPE)
    (tmp_path / "config.json").touch()
    del run
    with pytest.raises(ValueError, match="stage: 'sft' there, 'beams' here"):
        RunFolder(str(tmp_path), "beams", RECIPE)
    run = RunFolder(str(tmp_path), "beams", {**RECIPE, "overwrite": True})
    assert not (tmp_path / "config.json").exists()
    del run
    (tmp_path / "README.md").write_text("My repository")
    for overwrite in (True, False):
        with pytest.raises(ValueError, match=r"holds 'README.md', which the stage 'beams' would replace"):
            RunFolder(str(tmp_path), "beams", {**RECIPE, "overwrite": overwrite})
    assert (tmp_path / "README.md").read_text() == "My repository"
    record = {"stage": "dream", "recipe": {}, "facts": {}, "versions": {}}
    (tmp_path / "provenance.json").write_text(json.dumps(record))
    for overwrite, message in {False: "stage: 'dream' there", True: "this version does not know"}.items():
        with pytest.raises(ValueError, match=message):
            RunFolder(str(tmp_path), "beams", {**RECIPE, "overwrite": overwrite})


def test_shards_overwrite_nothing(tmp_path):
    with pytest.raises(ValueError, match="each shard would delete what the others did"):
        RunFolder(str(tmp_path / "run"), "beams", {**RECIPE, "overwrite": True}, shard=Shard(0, 2))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_runs_is_not_overwritten(tmp_path):
    run = RunFolder(str(tmp_path), "beams", RECIPE)
    make_unit(tmp_path)
    with pytest.raises(ValueError, match="Another launch is writing into"):
        RunFolder(str(tmp_path), "beams", {**RECIPE, "overwrite": True})
    assert (run.units / "train-000000.parquet").exists()


def test_what_killed_runs_left_unfinished_is_deleted_but_not_that_of_a_folder_below(tmp_path):
    places = ["", "data", "units", "units/.unfinished-0-of-1-x"]
    for place in [*places, "other/data"]:
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / ".unfinished-0123").touch()
    run = RunFolder(str(tmp_path), "beams", RECIPE)
    assert [name for name in names(run.path) if ".unfinished" in name] == ["other/data/.unfinished-0123"]


def test_checkpoints_that_are_not_whole_are_deleted(tmp_path):
    """Half written, or half deleted, by a process that was killed."""
    run = RunFolder(str(tmp_path), "sft", RECIPE)
    for name in ("checkpoint-4", "checkpoint-6", "checkpoint-8", "checkpoint-best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    (tmp_path / "checkpoint-6" / "trainer_state.json").touch()
    del run
    run = RunFolder(str(tmp_path), "sft", RECIPE)
    assert sorted(path.name for path in run.path.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-best"]


@pytest.mark.parametrize("damaged", ["", '{"stage": "beams"', "[]", '{"stage": "beams"}'])
def test_a_damaged_record_is_named(tmp_path, damaged):
    (tmp_path / "provenance.json").write_text(damaged)
    with pytest.raises(ValueError, match=r"provenance.json' is not a whole record .* copy it again, or delete"):
        RunFolder(str(tmp_path), "beams", RECIPE)


def test_an_output_folder_that_can_not_be_one_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file' can't be written to \(it is a file\). Set another `output_dir`"):
        RunFolder(str(tmp_path / "file"), "beams", RECIPE)
    with pytest.raises(ValueError, match=r"file/below' can't be written to \(.*Not a directory"):
        RunFolder(str(tmp_path / "file" / "below"), "beams", RECIPE)
    with pytest.raises(ValueError, match=r"can't be written to \(.*File name too long"):
        RunFolder(str(tmp_path / "new" / ("x" * 300)), "beams", RECIPE)
    assert names(tmp_path) == ["file"]

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(ValueError, match=r"can't be written to \(.*Permission denied"):
        RunFolder(str(tmp_path / "locked"), "beams", RECIPE)
    assert names(tmp_path) == ["file"]


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    """As network file systems are that were mounted without a lock service."""

    def refuse(*_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(
        ValueError, match=r"can't be locked \(.*No locks available.*to a file system that supports locks"
    ):
        RunFolder(str(tmp_path), "beams", RECIPE)
