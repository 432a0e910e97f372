# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
Every stage killed (SIGKILL) at random moments, as two processes under `accelerate launch`, and at each of its writes,
as one process; then started again until it ends well.

    LEVERPLUS_KILLS=100 python -m pytest tests/test_kills.py

kills 100 launches, and 100 single processes at their writes; without the variable 12 of each.
"""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from data_sources.official_formats import write_dataset
from launches import Launch, wait_for
from paths import ROOT, WORLD
from small_world import VLM, write_examples


pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")]

KILLS = int(os.environ.get("LEVERPLUS_KILLS", "12"))
STAGES = ("beams", "sft", "rollouts", "grpo", "evaluate", "report")
EVERY = ("prepare", *STAGES)
#: What a stage leaves that tells times, or which files it happened to delete.
UNEQUAL = (".log", "trainer_state.json", "optimizer.pt", "scheduler.pt", "training_args.bin")
#: The folder that all work is done in: outputs have names that other programs take for patterns.
WORKPLACE = "lr=3e-4 [x]"


@pytest.fixture(scope="module")
def recipes(world, tmp_path_factory):
    """A small recipe of each stage, whose outputs go to relative folders."""
    folder = tmp_path_factory.mktemp("examples")
    sizes = {"pool": 16, "train": 6, "validation": 4, "test": 6}
    tables = {name: world[name].select(range(count)) for name, count in sizes.items()}
    data = {"dataset": "parquet", "data_files": write_examples(folder, tables), "pool_split": "pool"}
    vlm = {"task": "vqa", "metric": "exact_match", "max_new_tokens": 4, "vlm": VLM, "max_batch_tokens": 1024}
    candidates = {"encoder": str(WORLD / "clip"), "sampler": "mix", "num_candidates": 8}
    training = {"num_train_epochs": 6, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    write_dataset("scienceqa", folder / "official", {"train": 6, "validation": 2, "test": 2})
    own = {
        "prepare": {
            "dataset": "scienceqa",
            "root": str(folder / "official"),
            "allow_other_counts": True,
            "embed_images": True,
        },
        "beams": {**data, **vlm, **candidates, "query_splits": ["train", "validation", "test"], "unit_size": 1},
        "sft": {**data, **training, "beams": "outputs/beams", "hidden_size": 16},
        "rollouts": {
            **data,
            **vlm,
            "beams": "outputs/beams",
            "selector": "outputs/sft",
            "num_rollouts": 6,
            "num_beam_sequences": 2,
            "query_splits": ["train", "validation"],
            "num_samples": 1,
            "unit_size": 1,
        },
        "grpo": {**data, **training, "selector": "outputs/sft", "rollouts": "outputs/rollouts", "rce_epochs": 1},
        "evaluate": {
            **data,
            **vlm,
            **candidates,
            "beams": "outputs/beams",
            "selectors": ["v2=outputs/sft"],
            "shots": [1, 2],
            "unit_size": 1,
            "order_probes": 2,
        },
        "report": {**data, "evaluation": "outputs/evaluate", "beams": "outputs/beams"},
    }
    made = {}
    for stage, recipe in own.items():
        common = {"stage": stage, "output_dir": f"outputs/{stage}", "num_threads": 1, **recipe}
        if stage not in ("prepare", "report"):
            common["embeddings_dir"] = "embeddings"
        made[stage] = folder / f"{stage}.yaml"
        made[stage].write_text(yaml.safe_dump(common, sort_keys=False))
    return made


class Stage:
    """
    A stage in processes of its own, in a session that can be killed as a whole.

    Args:
        recipe (`Path`):
            Its recipe.
        workplace (`Path`):
            Where it runs.
        accelerate_config (`str`, *optional*):
            How it is launched.
    """

    def __init__(self, recipe, workplace, accelerate_config=None):
        self.mark = uuid.uuid4().hex
        stage = yaml.safe_load(recipe.read_text())["stage"]
        command = [sys.executable, "-m", "leverplus_trl.cli", stage, "--config", str(recipe)]
        command += ["--accelerate_config", accelerate_config] if accelerate_config else []
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KILL_MARK": self.mark}
        with open(workplace / "output", "w") as output:  # not a pipe: processes may outlive the launcher
            self.process = subprocess.Popen(
                command, cwd=workplace, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def kill(self):
        """Kills all its processes: launchers put theirs into sessions of their own, so they are known by a mark."""
        while found := self._processes():
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        return self.process.wait()

    def _processes(self):
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                alive = folder.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
                if alive and f"KILL_MARK={self.mark}".encode() in folder.joinpath("environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found


def contents(folder):
    """All that a stage wrote and that must be equal, by name; embeddings, too."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".lock")]
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in files
        if not file.name.endswith((*UNEQUAL, ".lock"))
    }


def check(workplace, plain, stage):
    """That a stage which ended well after kills made what it makes without, and left nothing else."""
    left = sorted(str(path.relative_to(workplace)) for path in workplace.rglob(".unfinished-*"))
    assert left == [] and not (workplace / "outputs" / stage / "units").exists()
    made, expected = (contents(place / "outputs" / stage) for place in (workplace, plain))
    for checkpoint in (workplace / "outputs" / stage).glob("checkpoint-*"):
        assert (checkpoint / "trainer_state.json").exists() and (checkpoint / "model.safetensors").exists()
    if stage in ("sft", "grpo"):  # which checkpoints are kept depends on what was deleted before
        made, expected = (
            {k: v for k, v in one.items() if not k.startswith("checkpoint-")} for one in (made, expected)
        )
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name] != expected[name]] == []
    embedded, known = (contents(place / "embeddings") for place in (workplace, plain))
    assert {name: known.get(name) for name in embedded} == embedded
    if stage == "beams":
        for file in (workplace / "outputs" / "beams" / "data").glob("ledger-*.parquet"):
            rows = pq.ParquetFile(file).read(["query_id", "demonstration_ids"]).to_pylist()
            seen = Counter((row["query_id"], *row["demonstration_ids"]) for row in rows)
            assert seen and max(seen.values()) == 1


def ends_well(stage):
    return stage.process.wait(900) == 0


@pytest.fixture(scope="module")
def plain(recipes, tmp_path_factory):
    """What all stages make undisturbed, as two processes, and the seconds before and after each claim."""
    workplace = tmp_path_factory.mktemp("plain") / WORKPLACE
    workplace.mkdir()
    seconds = {}
    for name in EVERY:
        start = time.monotonic()
        stage = Stage(recipes[name], workplace, launcher(name))
        wait_for(lambda: stage.process.poll() is not None or log(workplace, name).exists(), 900)  # noqa: B023
        claimed = time.monotonic()
        assert ends_well(stage), (workplace / "output").read_text()
        seconds[name] = claimed - start, time.monotonic() - claimed
    return workplace, seconds


def launcher(stage):
    return None if stage == "prepare" else "ddp_cpu"


def log(workplace, stage):
    return workplace / "outputs" / stage / "run.log"


def furnish(workplace, plain, stage):
    """Gives a stage what earlier ones made, and nothing of its own."""
    shutil.rmtree(workplace, ignore_errors=True)
    workplace.mkdir(parents=True)
    for other in EVERY[: EVERY.index(stage)]:
        shutil.copytree(plain / "outputs" / other, workplace / "outputs" / other)


@pytest.mark.parametrize("name", STAGES)
def test_launches_killed_at_random_moments(name, recipes, plain, tmp_path):
    plain, seconds = plain
    generator = random.Random(name)
    workplace = tmp_path / WORKPLACE
    wanted = KILLS // len(STAGES) + (STAGES.index(name) < KILLS % len(STAGES))
    furnish(workplace, plain, name)
    killed = launches = ended = 0
    while killed < wanted or not ended:
        stage, launches = Stage(recipes[name], workplace, launcher(name)), launches + 1
        before, after = seconds[name]
        if killed == wanted:
            assert ends_well(stage), (workplace / "output").read_text()
        elif generator.random() < 0.2:
            time.sleep(generator.uniform(0.0, before))
        else:  # most of the time nothing is written yet
            begun = log(workplace, name).stat().st_size if log(workplace, name).exists() else -1
            wait_for(
                lambda: (
                    stage.process.poll() is not None  # noqa: B023
                    or (log(workplace, name).exists() and log(workplace, name).stat().st_size > begun)  # noqa: B023
                ),
                900,
            )
            time.sleep(generator.uniform(0.0, after))
        status = stage.kill()
        assert status in (0, -signal.SIGKILL), (workplace / "output").read_text()
        killed += status != 0
        ended = status == 0
        if ended:
            check(workplace, plain, name)
            if killed < wanted:
                furnish(workplace, plain, name)
    print(f"{name}: {killed} of {launches} launches killed.")


@pytest.mark.parametrize("name", ["beams", "sft"])
def test_after_ctrl_c_a_launch_goes_on(name, recipes, plain, tmp_path):
    plain, _ = plain
    workplace = tmp_path / WORKPLACE
    furnish(workplace, plain, name)
    output = workplace / "outputs" / name
    done = "units/*.parquet" if name == "beams" else "checkpoint-*/trainer_state.json"
    stage = Stage(recipes[name], workplace, launcher(name))
    wait_for(lambda: stage.process.poll() is not None or len(list(output.glob(done))) >= 2, 900)
    assert stage.process.poll() is None, (workplace / "output").read_text()
    os.killpg(stage.process.pid, signal.SIGINT)  # as a terminal does
    assert stage.process.wait(120) != 0
    wait_for(lambda: not stage._processes())
    kept = {file: file.stat().st_mtime_ns for file in output.glob(done)}
    assert kept and not list(workplace.rglob(".unfinished-*"))
    assert ends_well(Stage(recipes[name], workplace, launcher(name)))
    if name == "sft":
        assert all(file.stat().st_mtime_ns == changed for file, changed in kept.items() if file.exists())
    check(workplace, plain, name)


def die_at_write(number, recipe, workplace):
    """Runs a stage in this process, which is killed before its write of that number; counts writes into a file."""
    os.chdir(workplace)
    count = 0

    def watch(event, arguments):
        nonlocal count
        if event == "open":
            if not isinstance(arguments[0], str | bytes) or not arguments[2] & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"):
            return
        if not os.path.abspath(os.fsdecode(arguments[0])).startswith(f"{workplace}/"):
            return
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    stage = yaml.safe_load(recipe.read_text())["stage"]
    script = importlib.import_module(f"leverplus_trl.scripts.{stage}")
    recorded = ["--accelerate_config", launcher(stage)] if launcher(stage) else []  # as beside two processes
    arguments = script.make_parser().parse_args_and_config(["--config", str(recipe), *recorded])
    sys.addaudithook(watch)
    script.main(*arguments)
    Path(workplace).with_name("writes").write_text(json.dumps(count))


@pytest.mark.parametrize("name", EVERY)
def test_a_process_killed_at_each_of_its_writes(name, recipes, plain, tmp_path):
    plain, _ = plain
    workplace, undisturbed = tmp_path / WORKPLACE, tmp_path / "undisturbed"
    furnish(workplace, plain, name)
    assert Launch(1, die_at_write, 0, recipes[name], workplace).wait() == [0]
    if name not in ("sft", "grpo"):  # one process and two train alike up to the order of sums
        check(workplace, plain, name)
    workplace.rename(undisturbed)
    writes = json.loads(workplace.with_name("writes").read_text())
    wanted = min(writes, max(1, KILLS // len(EVERY)))
    generator = random.Random(name)
    for number in sorted(generator.sample(range(1, writes + 1), wanted)):
        furnish(workplace, plain, name)
        assert Launch(1, die_at_write, number, recipes[name], workplace).wait() == [-signal.SIGKILL], number
        assert Launch(1, die_at_write, 0, recipes[name], workplace).wait() == [0], number
        check(workplace, undisturbed, name)
    print(f"{name}: killed at {wanted} of {writes} writes.")
