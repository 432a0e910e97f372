# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import importlib
import logging
import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import PartialState
from accelerate.commands.config.config_args import load_config_from_file
from launches import Launch, free_port
from paths import ROOT

from leverplus_trl import __main__ as runner
from leverplus_trl import cli
from leverplus_trl.launch import (
    PATIENCE,
    PREPARE,
    STAGES,
    find_accelerate_config,
    stage_command,
    stage_of,
    start_stage,
)
from leverplus_trl.log import OF_ONE_PROCESS, set_up_log
from leverplus_trl.recipe import read_recipe
from leverplus_trl.run_folder import RunFolder
from leverplus_trl.scripts.parsers import make_parser
from leverplus_trl.stage_arguments import StageArguments
from leverplus_trl.vlms.segments import run_or_halve


RECIPES = sorted(ROOT.glob("recipes/**/*.yaml"))
EXPERIMENT = ROOT / "recipes" / "experiment.sh"
#: Scripts and what they are told; v4 goes on from v2, which is trained once all the same.
SCRIPTS = {path.parent.name: [path] for path in sorted(ROOT.glob("recipes/*/run.sh"))}
for folder in sorted(file.parent for file in ROOT.glob("recipes/*/11_test_beams.yaml")):
    selectors = ["v0", "v1", *["v4"] * (folder / "40_grpo.yaml").exists(), "v2"]
    of_texts = folder.name.endswith("qwen2.5_3b")
    SCRIPTS[folder.name] = [EXPERIMENT, folder.name, *(["text_sim"] if of_texts else ["mix", "v2_lora"]), *selectors]
OF_IMAGES = ("image_sim", "image_text_sim", "mix")
ACCELERATE_CONFIGS = sorted(ROOT.glob("accelerate_configs/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT / "recipes")))
def test_every_recipe_is_understood_by_its_stage(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    recipe = read_recipe(path)
    stage = stage_of(recipe)
    if stage == PREPARE and recipe.text("script"):
        assert Path(recipe.text("script")).is_file()
        return  # the script's own tests parse it
    if recipe.text("accelerate_config"):
        assert find_accelerate_config(recipe.text("accelerate_config")).is_file()
    make_parser(stage).parse_args_and_config(["--config", str(path)])
    tens = {PREPARE: "00", **STAGES}[stage][0]
    assert path.name[0] == tens  # a second recipe of a stage has another unit place


@pytest.mark.parametrize("command", SCRIPTS.values(), ids=SCRIPTS)
def test_every_command_of_a_recipe_script_is_understood_by_its_stage(command, tmp_path, monkeypatch):
    """The script is run with a Python that only writes down what it is asked to do."""
    monkeypatch.chdir(ROOT)
    calls = tmp_path / "calls"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> {calls}\nprintf "\\n" >> {calls}\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "VLM_ARGS": "--memory_mb 30000"}
    subprocess.run(["bash", *map(str, command)], check=True, env=environment)
    outputs = []
    for line in calls.read_text().splitlines():
        module, name, stage, *arguments = line.rstrip("\0").split("\0")
        if Path(module).is_file():  # a script that prepares something; its own tests parse its recipes
            continue
        assert (module, name) == ("-m", "leverplus_trl.cli")
        parsed = make_parser(stage).parse_args_and_config(arguments)
        outputs += [args.output_dir for args in parsed if hasattr(args, "output_dir")]
    assert len(outputs) > 5 and len(set(outputs)) == len(outputs)


def test_what_is_meant_for_stages_that_call_the_vlm_goes_to_these_alone(monkeypatch):
    monkeypatch.chdir(ROOT)
    environment = {**os.environ, "PYTHON": "echo", "VLM_ARGS": "--accelerate_config single", "SEEDS": "4 7"}
    command = ["bash", str(EXPERIMENT), "okvqa_qwen2.5_vl_3b", "mix", "v4"]
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    stages = ["prepare", "beams", "beams", *["sft", "rollouts", "grpo"] * 2, "evaluate", "report"]
    assert [words[2] for words in lines] == stages
    for words in lines:
        assert ("--accelerate_config" in words) == (words[2] in ("beams", "rollouts", "evaluate"))
        assert words[2] not in ("beams", "evaluate") or words[words.index("--sampler") + 1] == "mix"
    evaluated = lines[-2]
    start = evaluated.index("--selectors") + 1
    here = "outputs/okvqa_qwen2.5_vl_3b/mix"
    assert evaluated[start : start + 2] == [f"v4={here}/v4/4", f"v4={here}/v4/7"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "no recipe ''; expected one of coco_captions_flamingo_3b"),
        (["okvqa"], "no recipe 'okvqa'; expected one of"),
        (["okvqa_flamingo_3b", "best"], "no sampler 'best'; expected random, text_sim"),
        (["okvqa_flamingo_3b", "mix", "v5"], "no selector 'v5'; expected v0, v1"),
        (["sst2_qwen2.5_3b", "text_sim", "v4"], "v4 is offline RL, which recipes/sst2_qwen2.5_3b has no recipes for"),
        (
            ["gsm8k_qwen2.5_3b", "random", "v2", "v2_lora"],
            "v2_lora looks at images, which recipes/gsm8k_qwen2.5_3b has",
        ),
        *((["sst2_qwen2.5_3b", sampler], f"{sampler} looks at images") for sampler in OF_IMAGES),
    ],
)
def test_an_experiment_that_there_is_not_is_refused_before_anything_runs(words, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = ["bash", str(EXPERIMENT), *words]
    done = subprocess.run(command, env={**os.environ, "PYTHON": "echo"}, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and not done.stdout


def test_a_report_is_of_evaluations_of_one_kind_and_the_last_one_stays_until_it_is_whole(tmp_path):
    """Beside those of the script lie that of a recipe as it is written, and one of the whole split, both newer."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    outputs = tmp_path / "outputs" / "okvqa_flamingo_3b"
    for age, name in enumerate(("evaluation_all", "evaluation", "evaluation_v1+v2_seeds_0", "evaluation_v2_seeds_0")):
        (outputs / "text_sim" / name).mkdir(parents=True)
        (outputs / "text_sim" / name / "results.json").touch()
        os.utime(outputs / "text_sim" / name / "results.json", (1e9 - age, 1e9 - age))
    (outputs / "report").mkdir()
    (outputs / "report" / "index.html").write_text("before")
    (outputs / "report" / "chart.png").touch()
    python = tmp_path / "python"
    python.write_text(
        """\
#!/bin/bash
test "$3" = report || exit 0
folder="${@: -1}" && mkdir "$folder" && echo "$@" > "$folder/index.html" && ! test -e broken
"""
    )
    python.chmod(0o755)

    def experiment() -> tuple[int, str]:
        command = ["bash", "recipes/experiment.sh", "okvqa_flamingo_3b", "mix"]
        environment = {**os.environ, "PYTHON": str(python), "SEEDS": "0"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout

    (tmp_path / "broken").touch()
    code, said = experiment()
    assert code != 0 and "report now" not in said
    assert (outputs / "report" / "index.html").read_text() == "before"
    (tmp_path / "broken").unlink()
    assert experiment() == (0, "The report now is outputs/okvqa_flamingo_3b/report/index.html.\n")
    assert [path.name for path in outputs.iterdir() if "report" in path.name] == ["report"]
    assert [path.name for path in (outputs / "report").iterdir()] == ["index.html"]
    words = (outputs / "report" / "index.html").read_text().split()
    folder = "outputs/okvqa_flamingo_3b"
    assert words[words.index("--evaluation") + 1 : words.index("--beams")] == [
        f"mix={folder}/mix/evaluation_v2_seeds_0",
        f"text_sim={folder}/text_sim/evaluation_v1+v2_seeds_0",
    ]


@pytest.mark.parametrize("path", ACCELERATE_CONFIGS, ids=lambda path: path.stem)
def test_every_accelerate_config_says_what_it_is_for_and_parses(path):
    text = path.read_text()
    assert text.startswith("# ")
    config = load_config_from_file(str(path))
    assert config.num_processes == yaml.safe_load(text)["num_processes"]


def test_the_accelerate_configs_are_all_there():
    assert {path.stem for path in ACCELERATE_CONFIGS} == {"single", "ddp", "ddp_cpu", "zero2", "zero3", "fsdp2"}


def test_commands(monkeypatch):
    monkeypatch.chdir(ROOT)
    plain = stage_command("beams", ["--config", "r.yaml"])
    assert plain[1:] == ["-m", "leverplus_trl.scripts", "beams", "--config", "r.yaml"]
    launched = stage_command("beams", [], "ddp_cpu")
    assert launched[1:4] == ["-m", "leverplus_trl.launch", "--config_file"]
    assert Path(launched[4]).name == "ddp_cpu.yaml"
    assert launched[5:] == ["--main_process_port", "0", "-m", "leverplus_trl.scripts", "beams"]
    with pytest.raises(ValueError, match=r"No accelerate config 'zero9': neither a file nor one of ddp, ddp_cpu"):
        find_accelerate_config("zero9")


@pytest.mark.parametrize(
    "text, message",
    [
        ("- a\n", "must be a mapping of keys to values, whose first key is `stage`"),
        ("dataset: x\nstage: beams\n", "whose first key is `stage`"),
        ("stage: bemas\n", r"r\.yaml, line 1: stage is bemas; expected one of prepare, beams.*Did you mean beams\?"),
        ("stage: null\n", "line 1: stage is null; expected one of prepare"),
        ("stage: [beams]\n", r"stage is \[beams\]; expected a single text"),
        ("stage: [", "line 1: the recipe is no valid YAML: expected the node content"),
        ("", "must be a mapping"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, text, message):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        stage_of(read_recipe(file))


MINIMAL = {
    "beams": "stage: beams\ndataset: x\nvlm: y\noutput_dir: z\n",
    "sft": "stage: sft\ndataset: x\nbeams: y\noutput_dir: z\n",
    "report": "stage: report\ndataset: x\nevaluation: y\noutput_dir: z\n",
}


def test_recipes_are_checked_before_the_first_one_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "10.yaml").write_text(MINIMAL["beams"])
    (tmp_path / "20.yaml").write_text(MINIMAL["sft"] + "top_n: 0\n")
    monkeypatch.setattr(runner, "run_checked", lambda *_: pytest.fail("a stage was run"))
    for second, message in (("21.yaml", "There is no recipe"), ("20.yaml", "line 5: top_n is 0; expected a whole")):
        with pytest.raises(SystemExit) as ended:
            runner.main([str(tmp_path / "10.yaml"), str(tmp_path / second)])
        assert ended.value.code == 2 and message in capsys.readouterr().err


def test_recipes_run_in_order_and_a_failure_stops(tmp_path, monkeypatch, capsys):
    files = []
    for stage, text in MINIMAL.items():
        files.append(str(tmp_path / f"{stage}.yaml"))
        Path(files[-1]).write_text(text)
    ran = []
    monkeypatch.setattr(runner, "run_checked", lambda stage, words: ran.append(stage) or 7 * (stage == "sft"))
    with pytest.raises(SystemExit) as ended:
        runner.main(files)
    assert ended.value.code == 7 and ran == ["beams", "sft"]
    with pytest.raises(SystemExit) as ended:
        runner.main([*files, "--seed", "1"])
    assert ended.value.code == 2
    assert "error: --seed was given to several recipes at once" in capsys.readouterr().err


def test_a_dry_run_says_something_of_every_recipe(tmp_path, monkeypatch, capsys):
    files = []
    for stage, text in MINIMAL.items():
        files.append(str(tmp_path / f"{stage}.yaml"))
        Path(files[-1]).write_text(text)
    ran = []
    monkeypatch.setattr(runner, "run_checked", lambda stage, words: ran.append((stage, words[-1])) or 0)
    with pytest.raises(SystemExit) as ended:
        runner.main(["--dry_run", *files])
    assert ended.value.code == 0 and ran == [("beams", "--dry_run")]
    said = capsys.readouterr().out
    assert said.count("The recipe is valid") == 2 and "sft would write z." in said


def test_the_command_line_refuses_a_recipe_of_another_stage(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("stage: sft\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["beams", "--config", str(tmp_path / "r.yaml")])
    assert ended.value.code == 2
    assert "line 1: this recipe is for the stage sft, not beams" in capsys.readouterr().err


def test_a_recipe_under_accelerate_launch_runs_in_the_processes_there_are(tmp_path):
    (tmp_path / "r.yaml").write_text("stage: beams\ndataset: x\nvlm: y\noutput_dir: z\nbeam_sise: 4\n")
    command = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_configs" / "single.yaml")]
    done = subprocess.run(
        [sys.executable, *command, "-m", "leverplus_trl", str(tmp_path / "r.yaml")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode != 0 and "unknown key beam_sise: did you mean beam_size?" in done.stderr


def come_late(stage, port):
    """Two processes join as a stage's do, where PyTorch has little patience; the second is slow with its work."""
    PartialState().destroy_process_group()  # that of the test's launch
    PartialState._reset_state()
    os.environ["MASTER_PORT"] = str(port)
    torch.distributed.distributed_c10d.default_pg_timeout = timedelta(seconds=3)
    state = start_stage(StageArguments(), stage)
    patience = torch.distributed.distributed_c10d._get_default_group()._get_backend(state.device).options._timeout
    assert patience == (timedelta(seconds=3) if stage == "sft" else PATIENCE)
    state.wait_for_everyone()
    if not state.is_main_process:
        time.sleep(5)
    state.wait_for_everyone()


def test_who_has_nothing_left_to_do_waits_for_the_last_unit_of_another():
    assert Launch(2, come_late, "beams", free_port()).wait() == [0, 0]
    assert Launch(2, come_late, "sft", free_port()).wait() != [0, 0]  # what PyTorch would do


def halve(folder):
    """Warns of what is alike in all processes, and in the second one of what is not."""
    logging.getLogger().handlers.clear()  # those of pytest
    state = PartialState()
    sys.stderr = open(folder / f"stderr-{state.process_index}", "w", buffering=1)  # noqa: SIM115
    set_up_log(state.is_main_process, state.process_index)
    held = RunFolder(str(folder / "run"), "beams", {})  # a run without a result takes its log with it
    logging.getLogger("leverplus_trl.scripts.beams").info("news")
    logging.getLogger("leverplus_trl.vlms.vlm").warning("alike everywhere")
    logging.getLogger("another_library").warning("of another library")

    def run(batch):
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return batch

    if not state.is_main_process:
        run_or_halve(run, [1, 2])
    state.wait_for_everyone()
    if state.is_main_process:
        shutil.copy(held.path / "run.log", folder / "run.log")


def test_a_process_that_runs_out_of_memory_says_so_with_its_rank_and_the_rest_is_said_once(tmp_path):
    assert Launch(2, halve, tmp_path).wait() == [0, 0]
    main, other = ((tmp_path / f"stderr-{rank}").read_text().splitlines() for rank in range(2))
    assert main == ["news", "alike everywhere"]  # another library speaks in the log alone
    assert len(other) == 1 and other[0].startswith("[rank 1] Out of memory with")
    log = (tmp_path / "run.log").read_text().splitlines()
    assert len(log) == 4 and sum("alike everywhere" in line for line in log) == 1
    (said,) = [line for line in log if "[rank 1]" in line]
    assert "WARNING leverplus_trl.vlms.segments: [rank 1] Out of memory with" in said


@pytest.mark.parametrize("name", OF_ONE_PROCESS)
def test_what_each_process_tells_itself_has_a_logger(name):
    assert importlib.import_module(name).logger.name == name
