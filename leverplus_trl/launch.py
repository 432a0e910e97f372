# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From a recipe to running processes: which script a stage is, how it is launched, and what each process does
first."""

import contextlib
import difflib
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import yaml

from .log import set_up_log
from .recipe import Recipe, UsageError
from .stage_process import SPOKESMAN


PACKAGE = Path(__file__).parent
#: Stages in the order of their recipe numbers; each is a file in `scripts/`.
STAGES = {"beams": "10", "sft": "20", "rollouts": "30", "grpo": "40", "evaluate": "50", "report": "60"}
#: Stages that call the VLM so often that users should see a dry run first.
COSTLY = ("beams", "rollouts", "evaluate")
#: Time for which a process without work waits for the others. The last unit may take hours, and the default of PyTorch
#: is 10 minutes (NCCL) or 30 (gloo).
PATIENCE = timedelta(days=7)
#: The stage that prepares a published dataset, or runs the `script` of its recipe.
PREPARE = "prepare"
#: Not a stage: writes the tables of a stage whose shards are done.
MERGE = "merge"


def stage_of(recipe: Recipe) -> str:
    """
    The stage that a recipe is for.

    Raises:
        [`UsageError`]: the first key isn't `stage`, or its value is no stage.
    """
    if next(iter(recipe.values), None) != "stage":
        raise UsageError(f"{recipe.path}: a recipe must be a mapping whose first key is `stage`.")
    stage = recipe.text("stage")
    if stage not in (*STAGES, PREPARE):
        near = difflib.get_close_matches(stage or "", (PREPARE, *STAGES), 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        names = ", ".join((PREPARE, *STAGES))
        raise UsageError(f"{recipe.place('stage')}: stage is {stage or 'null'}; expected one of {names}.{hint}")
    return stage


def find_accelerate_config(name: str) -> Path:
    """
    The file of an accelerate config: a path, or the name of one in `accelerate_configs/` (here, or of the
    installation).

    Raises:
        [`UsageError`]: there is none; the message lists those there are.
    """
    installed = Path(sysconfig.get_path("data"), "share", "leverplus_trl")
    folders = [folder / "accelerate_configs" for folder in (Path(), PACKAGE.parent, installed)]
    for file in (Path(name), *(folder / f"{name}.yaml" for folder in folders)):
        if file.is_file():
            return file
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise UsageError(f"No accelerate config {name!r}: neither a file nor one of {', '.join(known)}.")


def stage_command(stage: str, words: Sequence[str], accelerate_config: str | None = None) -> list[str]:
    """The command that runs a stage (or a script, by its path), under `accelerate launch` if a config is named."""
    if accelerate_config is None:
        return [sys.executable, "-m", "leverplus_trl.scripts", stage, *words]
    file = str(find_accelerate_config(accelerate_config))
    launcher = [sys.executable, "-m", "leverplus_trl.launch", "--config_file", file]
    values = yaml.safe_load(Path(file).read_text())
    if values.get("num_machines", 1) == 1 and "main_process_port" not in values:
        launcher += ["--main_process_port", "0"]  # a free one: launches on one machine must not meet
    return [*launcher, "-m", "leverplus_trl.scripts", stage, *words]


def run_stage(stage: str, words: Sequence[str], accelerate_config: str | None = None) -> int:
    """
    Runs a stage in processes of its own and returns its exit status.

    Ctrl-C and a request to end go to the stage, which says what is saved; this process waits for it.
    """
    command = stage_command(stage, words, accelerate_config)
    environment = dict(os.environ)
    if accelerate_config and yaml.safe_load(find_accelerate_config(accelerate_config).read_text()).get("use_cpu"):
        # Of several processes accelerate does not tell the scripts that they are meant to stay on the CPU.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        environment[SPOKESMAN] = str(Path(folder, "spoken"))
        own_group = {"process_group": 0} if os.name == "posix" else {}
        process = subprocess.Popen(command, env=environment, **own_group)
        status = _wait(process)
        spoken = Path(environment[SPOKESMAN]).exists()
    if status < 0 or status > 128:
        status = 128 - status if status < 0 else status
        if not spoken:
            name = signal.Signals(status - 128).name
            print(
                f"error: {stage} was ended by {name}. What was done is saved: run the same command again to go on.",
                file=sys.stderr,
            )
    return status


def _wait(process: subprocess.Popen) -> int:
    """Waits for a process, and hands it and its children the signals that are meant for it."""

    def hand_on(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number) if os.name == "posix" else process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        return process.wait()
    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launched_by_accelerate() -> bool:
    """Whether this process was started by `accelerate launch` or `torchrun`."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ


def start_stage(stage_args, stage: str):
    """
    What every stage does first: refuses another stage's recipe, joins the other processes, and sets up the log.

    Returns:
        `accelerate.PartialState`: this process among the others.
    """
    import datasets
    import torch
    import transformers
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
    set_up_log(state.is_main_process, state.process_index, stage_args.quiet, stage_args.verbose)
    # One bar a run: that of the stage's own work.
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    return state


def main() -> int:
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.CRITICAL)
    try:
        launch_command(launch_command_parser().parse_args())
    except subprocess.CalledProcessError as error:
        return error.returncode
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    status = main()
    sys.exit(status if status >= 0 else 128 - status)
