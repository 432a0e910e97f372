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

"""From a recipe to running processes: which script a stage is, how it is launched, and what each process does
first."""

import logging
import os
import subprocess
import sys
import sysconfig
from datetime import timedelta
from pathlib import Path

import yaml


PACKAGE = Path(__file__).parent
#: Stages in the order of their recipe numbers; each is a file in `scripts/`.
STAGES = {"beams": "10", "sft": "20", "rollouts": "30", "grpo": "40", "evaluate": "50", "report": "60"}
#: Stages that call the VLM, often enough to ask for the price first.
COSTLY = ("beams", "rollouts", "evaluate")
#: How long a process of theirs that has nothing left to do waits for the others: a last unit may take hours, and
#: PyTorch gives up after 10 minutes (NCCL) or 30 (gloo).
PATIENCE = timedelta(days=7)
#: Loggers of what befalls one process and not the others, which each tells itself; all else is told by the main one.
OF_ONE_PROCESS = ("leverplus_trl.vlms.out_of_memory", "leverplus_trl.vlms.trie_scorer")
#: The stage that makes what the others need: a published dataset, or whatever the `script` of its recipe makes.
PREPARE = "prepare"
#: No stage of its own: the end of one that was done in shards.
MERGE = "merge"


def read_recipe(path: str | Path) -> dict:
    """
    A recipe as a mapping.

    Raises:
        `ValueError`: no such file, not a mapping, or a first key that is not `stage`.
    """
    try:
        recipe = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"Can't read the recipe {str(path)!r}: {error}") from error
    if not isinstance(recipe, dict) or next(iter(recipe), None) != "stage":
        raise ValueError(f"The recipe {str(path)!r} must be a mapping whose first key is `stage`.")
    if recipe["stage"] not in (*STAGES, PREPARE):
        raise ValueError(f"{str(path)!r} says `stage: {recipe['stage']}`; stages are {', '.join((PREPARE, *STAGES))}.")
    return recipe


def find_accelerate_config(name: str) -> Path:
    """
    The file of an accelerate config: a path, or the name of one in `accelerate_configs/` (here, or of the
    installation).

    Raises:
        `ValueError`: there is none; the message lists those there are.
    """
    installed = Path(sysconfig.get_path("data"), "share", "leverplus_trl")
    folders = [folder / "accelerate_configs" for folder in (Path(), PACKAGE.parent, installed)]
    for file in (Path(name), *(folder / f"{name}.yaml" for folder in folders)):
        if file.is_file():
            return file
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise ValueError(f"No accelerate config {name!r}: neither a file nor one of {', '.join(known)}.")


def stage_command(stage: str, arguments: list[str], recipe: dict, accelerate_config: str | None = None) -> list[str]:
    """The command that runs a stage: its script, under `accelerate launch` if an accelerate config is asked for."""
    if stage == PREPARE and recipe.get("script"):
        return [sys.executable, recipe["script"], *arguments]
    config = accelerate_config or recipe.get("accelerate_config")
    if config is None:
        return [sys.executable, "-m", f"leverplus_trl.scripts.{stage}", *arguments]
    file = str(find_accelerate_config(config))
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", file]
    values = yaml.safe_load(Path(file).read_text())
    if values.get("num_machines", 1) == 1 and "main_process_port" not in values:
        launcher += ["--main_process_port", "0"]  # a free one: launches on one machine must not meet
    return [*launcher, "-m", f"leverplus_trl.scripts.{stage}", *arguments]


def run_stage(stage: str, arguments: list[str], recipe: dict, accelerate_config: str | None = None) -> int:
    """Runs a stage in processes of its own and gives its exit status."""
    command = stage_command(stage, arguments, recipe, accelerate_config)
    config = accelerate_config or recipe.get("accelerate_config")
    environment = dict(os.environ)
    if config and yaml.safe_load(find_accelerate_config(config).read_text()).get("use_cpu"):
        # Of several processes accelerate does not tell the scripts that they are meant to stay on the CPU.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return subprocess.run(command, check=False, env=environment).returncode


def launched_by_accelerate() -> bool:
    """Whether this process was started by `accelerate launch` or `torchrun`."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ


def start_stage(stage_args, stage: str):
    """
    What every stage does first: refuses another stage's recipe, joins the other processes, and sets up the log.

    Returns:
        `accelerate.PartialState`: this process among the others.
    """
    import torch
    from accelerate import PartialState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    stage_args.check(stage)
    # Else ZeRO 3 splits all that is loaded from here on, frozen encoders included, with nobody to put it together.
    unset_hf_deepspeed_config()
    if stage_args.num_threads is not None:
        torch.set_num_threads(stage_args.num_threads)
    cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true")
    patience = {"timeout": PATIENCE} if stage in COSTLY else {}
    state = PartialState(cpu=cpu or not torch.cuda.is_available(), **patience)
    set_up_log(state)
    return state


def set_up_log(state) -> None:
    """The main process of a launch tells what it does; the others, with their rank, what befalls them alone."""
    import datasets
    import transformers

    level = logging.INFO if state.is_main_process else logging.ERROR
    rank = "" if state.is_main_process else f"[rank {state.process_index}] "
    logging.basicConfig(level=logging.WARNING, format=f"{rank}%(message)s", stream=sys.stderr)
    logging.getLogger("leverplus_trl").setLevel(level)
    for name in OF_ONE_PROCESS:
        logging.getLogger(name).setLevel(min(level, logging.WARNING))
    # One bar a run: that of the stage's own work.
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
