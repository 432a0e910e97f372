# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The stages that call the VLM, done in shards by launches that know nothing of each other, killed, and merged."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from launches import Launch, wait_for
from paths import WORLD
from small_world import VLM, write_examples

from leverplus_trl import cli
from leverplus_trl.provenance import model_revision
from leverplus_trl.retrieval import embed_examples
from leverplus_trl.run_folder import RunFolder, Shard
from leverplus_trl.scripts import beams, evaluate, grpo, merge, report, rollouts, sft
from leverplus_trl.scripts.merge import MergeArguments
from leverplus_trl.selectors import PointerSelectorConfig, PointerSelectorModel, SelectorProcessor
from leverplus_trl.stage_arguments import ShardedStageArguments


SCRIPTS = {"beams": beams, "rollouts": rollouts, "evaluate": evaluate}
NUM_UNITS = {"beams": 11, "rollouts": 6, "evaluate": 6}


def run_shard(stage, recipe, folder, index=0, count=1):
    """Runs in a child, in a folder of its own: what the recipe calls `outputs/...` lies there."""
    os.chdir(folder)
    shard = {"num_shards": count, "shard_index": index}
    SCRIPTS[stage].main(*SCRIPTS[stage].make_parser().parse_dict({**recipe, **shard}))


def run_merge(folder, *arguments):
    """Merges in a child that can't load the VLM, nor examples but to judge predictions by."""

    def refuse(*_, **__):
        raise AssertionError("a merge must not load this")

    os.chdir(folder)
    for stage, script in SCRIPTS.items():
        script.load_vlm = refuse
        if stage != "evaluate":
            script.load_examples = refuse
    merge.main(*merge.make_parser().parse_args_and_config(list(arguments)))


def contents(folder):
    """All that was written, but logs and locks."""
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.suffix != ".log"}


def save_selector(folder, pool, embeddings_dir):
    """An untrained one."""
    torch.manual_seed(0)
    clip = str(WORLD / "clip")
    found = embed_examples(pool, clip, embeddings_dir=embeddings_dir)
    config = PointerSelectorConfig(
        image_embed_dim=found.image.shape[1],
        text_embed_dim=found.text.shape[1],
        encoder=clip,
        encoder_commit=model_revision(clip),
        num_candidates=6,
        hidden_size=16,
    )
    for part in (PointerSelectorModel(config), SelectorProcessor(config.query_features, config.candidate_features)):
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def recipes(world, embeddings_dir, tmp_path_factory):
    """A small recipe of each stage; outputs go to relative folders, so that they are alike wherever they are made."""
    folder = tmp_path_factory.mktemp("examples")
    tables = {name: world[name].select(range(count)) for name, count in {"pool": 12, "train": 5, "test": 6}.items()}
    data = {"dataset": "parquet", "data_files": write_examples(folder, tables), "pool_split": "pool"}
    task = {"task": "vqa", "metric": "exact_match", "max_new_tokens": 4, "vlm": VLM, "max_batch_tokens": 1024}
    common = {"num_threads": 1, **data, **task}
    candidates = {"sampler": "random", "num_candidates": 6}
    searched = str(tmp_path_factory.mktemp("one") / "outputs" / "beams")
    selector = save_selector(folder / "selector", tables["pool"], embeddings_dir)
    answered = {"beams": searched, "embeddings_dir": embeddings_dir}
    return {
        "beams": {
            "stage": "beams",
            "output_dir": "outputs/beams",
            **common,
            **candidates,
            "query_splits": ["train", "test"],
            "num_shots": 2,
            "beam_size": 2,
            "unit_size": 1,
        },
        "rollouts": {
            "stage": "rollouts",
            "output_dir": "outputs/rollouts",
            **common,
            **answered,
            "selector": selector,
            "query_splits": ["train", "test"],
            "num_rollouts": 6,
            "num_beam_sequences": 2,
            "num_samples": 1,
            "unit_size": 2,
        },
        "evaluate": {
            "stage": "evaluate",
            "output_dir": "outputs/evaluate",
            **common,
            **answered,
            **candidates,
            "methods": ["random", "oracle", "selector"],
            "selectors": [f"v2={selector}"],
            "shots": [1, 2],
            "eval_split": "test",
            "unit_size": 1,
        },
    }


@pytest.fixture(scope="module")
def alone(recipes):
    """What one process writes, stage by stage."""
    folder = Path(recipes["rollouts"]["beams"]).parents[1]
    for stage, recipe in recipes.items():
        assert Launch(1, run_shard, stage, recipe, folder).wait() == [0]
    return {stage: contents(folder / "outputs" / stage) for stage in recipes}


@pytest.mark.parametrize("stage", SCRIPTS)
def test_three_shards_one_of_them_twice_give_the_bytes_of_one_process(stage, recipes, alone, tmp_path):
    shards = [Launch(1, run_shard, stage, recipes[stage], tmp_path, index, 3) for index in range(3)]
    assert [shard.wait() for shard in shards] == [[0]] * 3
    output = tmp_path / "outputs" / stage
    before = {file.name: file.stat().st_mtime_ns for file in (output / "units").glob("*.parquet")}
    assert Launch(1, run_shard, stage, recipes[stage], tmp_path, 1, 3).wait() == [0]
    assert {file.name: file.stat().st_mtime_ns for file in (output / "units").glob("*.parquet")} == before
    number = NUM_UNITS[stage]
    assert len(before) == number and not (output / SCRIPTS[stage].LAST_FILE).exists()
    assert Launch(1, run_merge, tmp_path, "--output_dir", f"outputs/{stage}").wait() == [0]
    assert contents(output) == alone[stage]
    log = (output / "run-1-of-3.log").read_text()
    assert f"shard 1-of-3 has {(number + 1) // 3} of {number} units" in log
    assert f"one command writes the tables: leverplus merge --output_dir outputs/{stage}" in log
    assert Launch(1, run_shard, stage, recipes[stage], tmp_path, 1, 3).wait() == [0]  # complete: nothing to do
    assert contents(output) == alone[stage]


def test_processes_killed_at_random_moments_cost_time_alone(recipes, alone, tmp_path):
    """One process of a launch is killed, the others end with it, and a launch with more or fewer goes on."""
    generator = random.Random(0)
    output = tmp_path / "outputs" / "beams"

    def done():
        return len(list((output / "units").glob("*.parquet")))

    for count in (2, 3):
        before, new = done(), generator.randrange(2)
        launch = Launch(count, run_shard, "beams", recipes["beams"], tmp_path)
        wait_for(lambda: done() >= before + new)  # noqa: B023
        time.sleep(generator.random() * 0.02)
        assert launch.kill(generator.randrange(count)) and before + new <= done() < NUM_UNITS["beams"]
        assert not (output / "README.md").exists()
    assert Launch(1, run_shard, "beams", recipes["beams"], tmp_path).wait() == [0]
    assert contents(output) == alone["beams"]


def test_shards_with_a_folder_each_are_merged_into_another(recipes, alone, tmp_path):
    stage = "evaluate"
    folders = [tmp_path / f"node{index}" for index in range(2)]
    for index, folder in enumerate(folders):
        folder.mkdir()
        assert Launch(1, run_shard, stage, recipes[stage], folder, index, 2).wait() == [0]
    left = [contents(folder) for folder in folders]
    names = [f"node{index}/outputs/{stage}" for index in range(2)]
    merging = Launch(1, run_merge, tmp_path, "--output_dir", f"outputs/{stage}", "--shards", *names)
    assert merging.wait() == [0]
    assert contents(tmp_path / "outputs" / stage) == alone[stage]
    assert [contents(folder) for folder in folders] == left


@pytest.fixture(scope="module")
def first_of_three(recipes, alone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    assert Launch(1, run_shard, "beams", recipes["beams"], folder, 0, 3).wait() == [0]
    return folder


def test_what_is_missing_is_named_with_the_command_that_does_it(first_of_three, recipes, alone, monkeypatch):
    monkeypatch.chdir(first_of_three)
    with pytest.raises(ValueError) as caught:
        merge.main(MergeArguments("outputs/beams"))
    message = str(caught.value)
    assert "7 of 11 units are missing: shard 1 of 3 lacks 4, shard 2 of 3 lacks 3 (counted from 0)" in message
    command = shlex.split(re.search(r"`(leverplus .*?)`", message)[1])
    assert command[:2] == ["leverplus", "beams"] and command[-2:] == ["--shard_index", "1"]
    parsed = beams.make_parser().parse_args_and_config(command[2:])  # the folder's own recipe.yaml
    assert parsed[0].shard == Shard(1, 3)
    expected = beams.make_parser().parse_dict({**recipes["beams"], "num_shards": 3, "shard_index": 1})
    assert list(map(vars, parsed)) == list(map(vars, expected))


def test_a_folder_that_is_being_written_is_not_merged(tmp_path):
    running = RunFolder(str(tmp_path), "beams", {"seed": 0}, shard=Shard(2, 3))
    with pytest.raises(ValueError, match="Another launch is writing into"):
        merge.main(MergeArguments(str(tmp_path)))
    assert running.shard == Shard(2, 3)


def write_record(folder, **changes):
    folder.mkdir()
    record = {"stage": "beams", "recipe": {"seed": 0}, "facts": {}, "versions": {}}
    (folder / "provenance.json").write_text(json.dumps({**record, **changes}))
    return str(folder)


def test_what_can_not_be_merged_is_refused(tmp_path):
    output = str(tmp_path / "output")

    def refuses(message, *shards):
        with pytest.raises(ValueError, match=message):
            merge.main(MergeArguments(output, list(shards)))

    refuses("has no provenance.json: no stage has begun")
    one = write_record(tmp_path / "one")
    refuses("only beams, rollouts, evaluate can be", write_record(tmp_path / "sft", stage="sft"))
    other = write_record(tmp_path / "other", recipe={"seed": 1, "output_dir": "elsewhere"})
    refuses(r"'.*other' was made by another recipe than '.*one' \(seed: 0 there, 1 here\)", one, other)
    refuses(
        "num_threads: 1 there, 2 here", *(write_record(tmp_path / f"{n}", facts={"num_threads": n}) for n in (1, 2))
    )
    refuses("No shard of .* has begun", one)
    for folder, collapse in ((one, 1), (write_record(tmp_path / "again"), 2)):
        (tmp_path / folder / "units").mkdir()
        (tmp_path / folder / "units" / "units.json").write_text("{}")
        (tmp_path / folder / "units" / "collapse.json").write_text(str(collapse))
    refuses("says something else than .* the machines don't agree", one, str(tmp_path / "again"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_shards": 0}, "num_shards is 0; expected a whole number of at least 1"),
        ({"num_shards": 3}, "set shard_index, 0 to 2, to say which one this is"),
        ({"num_shards": 3, "shard_index": 3}, "shard_index is 3, num_shards 3; expected 0 to 2"),
        ({"shard_index": 1}, "shard_index is 1, num_shards 1; expected 0 to 0"),
    ],
)
def test_shards_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShardedStageArguments(stage="beams", **arguments)
    assert ShardedStageArguments(num_shards=1, shard_index=0).shard == Shard()


def test_shards_on_gpus_must_name_their_memory():
    shard = {"num_shards": 2, "shard_index": 1}
    gpu = "cuda"
    with pytest.raises(ValueError, match=r"num_shards is 2 and memory_mb is not set.*`memory_mb` in the recipe"):
        ShardedStageArguments(**shard).check_memory(None, gpu)
    ShardedStageArguments(**shard).check_memory(20000, gpu)
    ShardedStageArguments(**shard).check_memory(None, "cpu")  # a constant there
    ShardedStageArguments(**shard, dry_run=True).check_memory(None, gpu)  # which says how much there is
    ShardedStageArguments().check_memory(None, gpu)


@pytest.mark.parametrize("stage", SCRIPTS)
def test_every_stage_looks_at_the_memory_of_its_shards_before_anything_else(stage, recipes, monkeypatch):
    monkeypatch.setattr("leverplus_trl.stage.start_stage", lambda *_: SimpleNamespace(device=torch.device("cuda", 0)))
    monkeypatch.setattr("leverplus_trl.stage.load_examples", lambda *_: pytest.fail("examples were loaded"))
    arguments = SCRIPTS[stage].make_parser().parse_dict({**recipes[stage], "num_shards": 2, "shard_index": 0})
    with pytest.raises(ValueError, match="memory_mb is not set"):
        SCRIPTS[stage].main(*arguments)


def test_stages_that_train_have_no_shards():
    for script in (sft, grpo, report):
        assert not any(hasattr(kind, "num_shards") for kind in script.make_parser().dataclass_types)
    assert ShardedStageArguments in evaluate.make_parser().dataclass_types


def test_the_command_line_merges_by_the_recipe(tmp_path, monkeypatch):
    file = tmp_path / "10_beams.yaml"
    file.write_text("stage: beams\noutput_dir: outputs/beams\naccelerate_config: ddp\n")
    calls = []
    monkeypatch.setattr(cli, "run_stage", lambda *arguments: calls.append(arguments) or 0)
    for arguments in (["--config", str(file), "--shards", "a", "b"], ["--output_dir", "x"]):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["merge", *arguments])
    assert calls[0] == ("merge", ["--output_dir", "outputs/beams", "--shards", "a", "b"])
    assert calls[1] == ("merge", ["--output_dir", "x"])
    parsed = merge.make_parser().parse_args_and_config(calls[0][1])
    assert parsed == (MergeArguments("outputs/beams", ["a", "b"]),)


@pytest.mark.slow
def test_the_commands_of_a_job_array(recipes, alone, tmp_path):
    """As they are typed; one task of the array is itself a launch of two processes."""
    file = tmp_path / "10_beams.yaml"
    file.write_text(yaml.safe_dump(recipes["beams"], sort_keys=False))

    def leverplus(*arguments):
        command = [sys.executable, "-m", "leverplus_trl.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)

    shard = ("beams", "--config", str(file), "--num_shards", "2", "--shard_index")
    done = leverplus(*shard, "1", "--accelerate_config", "ddp_cpu")
    assert done.returncode == 0 and "on 2 processes" in done.stderr, done.stderr
    done = leverplus("merge", "--config", str(file))
    assert done.returncode != 0 and "6 of 11 units are missing: shard 0 of 2 lacks 6" in done.stderr
    assert leverplus(*shard, "0").returncode == 0
    done = leverplus("merge", "--config", str(file))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "outputs" / "beams") == alone["beams"]


@pytest.mark.slow
def test_a_search_under_torchrun_that_loses_processes_ends_with_the_same_bytes(recipes, tmp_path):
    """Two processes, one of them killed; two, and their launcher killed; one, killed; three finish."""
    # Units that take long enough for a killed rank to be noticed while some are left, on a fast machine too.
    recipe = recipes["beams"] | {"num_candidates": 11, "beam_size": 9, "num_shots": 6}
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert Launch(1, run_shard, "beams", recipe, undisturbed).wait() == [0]
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    units = tmp_path / "outputs" / "beams" / "units"
    generator = random.Random(0)

    def launch(count):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "-m"]
        command += ["leverplus_trl.scripts.beams", "--config", str(file)]
        with open(tmp_path / "log", "a") as log:
            return subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)

    def ranks(launcher):
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    for count, victim in ((2, "rank"), (2, "launcher"), (1, "rank")):
        before = len(list(units.glob("*.parquet")))
        launcher = launch(count)
        wait_for(lambda: len(list(units.glob("*.parquet"))) > before)  # noqa: B023
        children = ranks(launcher)
        assert len(children) == count
        time.sleep(generator.random() * 0.05)
        os.kill(generator.choice(children) if victim == "rank" else launcher.pid, signal.SIGKILL)
        assert launcher.wait(300) != 0
        for child in children:  # processes that outlive their launcher: here they go with it
            if os.path.exists(f"/proc/{child}"):
                os.kill(child, signal.SIGKILL)
        assert not (units.parent / "README.md").exists()
    assert launch(3).wait(600) == 0, (tmp_path / "log").read_text()
    assert contents(units.parent) == contents(undisturbed / "outputs" / "beams")
