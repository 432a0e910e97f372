# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Starts the processes of a stage, and runs a stage in one of them.

A process parses its arguments before it imports anything heavy, and reports errors in a sentence. Exit status: 0; 2
for a mistake in the recipe or on the command line; 1 for a run that failed; 130 after Ctrl-C. A traceback goes to the
log files that are open, and with `--traceback` to the terminal.

`python -m leverplus_trl.launch` is `accelerate launch` that leaves error messages to the stage, and ends with the
exit status of the stage.
"""

import atexit
import contextlib
import difflib
import importlib
import json
import logging
import os
import runpy
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import yaml

from .log import keep_libraries_quiet, set_up_log
from .recipe import Recipe, UsageError


PACKAGE = Path(__file__).parent
#: Stages in the order of their recipe numbers; each is a file in `scripts/`.
STAGES = {"beams": "10", "sft": "20", "rollouts": "30", "grpo": "40", "evaluate": "50", "report": "60"}
#: Stages that call the VLM so often that users should see a dry run first.
COSTLY = ("beams", "rollouts", "evaluate")
#: The stage that prepares a published dataset, or runs the `script` of its recipe.
PREPARE = "prepare"
#: Not a stage: writes the tables of a stage whose shards are done.
MERGE = "merge"
#: Time for which a process without work waits for the others. The last unit may take hours, and the default of PyTorch
#: is 10 minutes (NCCL) or 30 (gloo).
PATIENCE = timedelta(days=7)
FAILED, MISUSED, INTERRUPTED = 1, 2, 130
#: Environment variable that holds a path: the process of a launch that creates this file reports the error.
SPOKESMAN = "LEVERPLUS_SPOKESMAN"
#: Seconds that other processes wait for the first one to report its error, where no launcher decides.
_SECONDS_FOR_FIRST = 5.0
#: Longest message of another library that is repeated.
_LONGEST = 400


def stage_of(recipe: Recipe) -> str:
    """The stage that a recipe is for. Raises [`UsageError`] if the first key isn't `stage`, or its value no stage."""
    if next(iter(recipe.values), None) != "stage":
        raise UsageError(f"{recipe.path}: a recipe must be a mapping whose first key is `stage`.")
    stage = recipe.text("stage")
    if stage not in (PREPARE, *STAGES):
        near = difflib.get_close_matches(stage or "", (PREPARE, *STAGES), 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        names = ", ".join((PREPARE, *STAGES))
        raise UsageError(f"{recipe.place('stage')}: stage is {stage or 'null'}; expected one of {names}.{hint}")
    return stage


def find_accelerate_config(name: str) -> Path:
    """
    The file of an accelerate config: a path, or a name in `accelerate_configs/` (here, or of the installation).

    Raises [`UsageError`] if there is none; the message lists the names.
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
    command = ["-m", "leverplus_trl.scripts", stage, *words]
    if accelerate_config is None:
        return [sys.executable, *command]
    file = find_accelerate_config(accelerate_config)
    launcher = [sys.executable, "-m", "leverplus_trl.launch", "--config_file", str(file)]
    values = yaml.safe_load(file.read_text())
    if values.get("num_machines", 1) == 1 and "main_process_port" not in values:
        launcher += ["--main_process_port", "0"]  # a free port: launches on one machine must not meet
    return [*launcher, *command]


def run_stage(stage: str, words: Sequence[str], accelerate_config: str | None = None) -> int:
    """
    Runs a stage in processes of its own and returns its exit status.

    Ctrl-C and SIGTERM are sent to the stage, which reports what is saved.
    """
    command = stage_command(stage, words, accelerate_config)
    environment = dict(os.environ)
    if accelerate_config and yaml.safe_load(find_accelerate_config(accelerate_config).read_text()).get("use_cpu"):
        # With several processes accelerate does not pass `use_cpu` on to the scripts.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        environment[SPOKESMAN] = str(Path(folder, "spoken"))
        own_group = {"process_group": 0} if os.name == "posix" else {}
        process = subprocess.Popen(command, env=environment, **own_group)
        status = _wait(process)
        is_reported = Path(environment[SPOKESMAN]).exists()
    status = 128 - status if status < 0 else status
    if status > 128 and not is_reported:
        name = signal.Signals(status - 128).name
        print(
            f"error: {stage} was ended by {name}. What was done is saved: run the same command again to go on.",
            file=sys.stderr,
        )
    return status


def _wait(process: subprocess.Popen) -> int:
    """Waits for a process, and sends it and its children the signals that this process gets."""

    def send(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number) if os.name == "posix" else process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        return process.wait()
    before = {number: signal.signal(number, send) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def accelerate_launch() -> int:
    """`accelerate launch` without its messages; returns the exit status of the process that failed first."""
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


def run_stage_here(stage: str, words: Sequence[str]) -> int:
    """Runs a stage, or the script of a recipe if this is a path, in this process; returns its exit status."""
    from .scripts.parsers import PARSERS, make_parser

    def work() -> None:
        if stage not in PARSERS:
            sys.argv = [stage, *(word for word in words if word not in ("--quiet", "--verbose", "--traceback"))]
            runpy.run_path(stage, run_name="__main__")
            return
        parsed = make_parser(stage).parse_args_and_config(words)
        outputs.extend(args.output_dir for args in parsed if hasattr(args, "output_dir"))
        importlib.import_module(f"leverplus_trl.scripts.{stage}").main(*parsed)

    outputs: list[str] = []
    signal.signal(signal.SIGINT, _interrupt_once)
    keep_libraries_quiet()
    status = guarded(work, "--traceback" in words, outputs)
    if status and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        # Others of the launch may wait for this process in vain, and its destructors for them.
        atexit._run_exitfuncs()  # which give back what is claimed
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _interrupt_once(number: int, frame: object) -> None:
    """Ctrl-C may come twice, from the terminal and from the launcher; only the first counts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def start_stage(stage_args, stage: str):
    """Refuses another stage's recipe, joins the other processes, sets up the log, and returns `PartialState()`."""
    import datasets
    import torch
    import transformers
    from accelerate import PartialState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    if stage_args.stage not in (None, stage):
        raise ValueError(
            f"This recipe says `stage: {stage_args.stage}` and was given to the stage {stage!r}. Run it with "
            f"`leverplus {stage_args.stage}` or `python -m leverplus_trl RECIPE.yaml`."
        )
    # Otherwise ZeRO 3 splits every model that is loaded from here on, and nothing gathers frozen encoders.
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


def guarded(work: Callable[[], int | None], with_traceback: bool = False, outputs: Sequence[str] = ()) -> int:
    """
    The exit status that a function returns, or that of its error, which is reported in a sentence; after an
    interruption, with what is saved in the output folder.
    """
    try:
        return work() or 0
    except UsageError as error:
        return _report(f"error: {error}", error, with_traceback, MISUSED)
    except KeyboardInterrupt as error:
        return _report(f"interrupted: {what_is_saved(outputs)}", error, with_traceback, INTERRUPTED)
    except Exception as error:
        return _report(f"error: {sentence(error)}", error, with_traceback, FAILED)


def sentence(error: Exception) -> str:
    """An error in a sentence: an error of this package as it is, that of another library with its activity."""
    message = " ".join(str(error).split())
    if _is_own(error) and message:
        return message
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]} ..."
    activity = getattr(error, "activity", None)  # set by `log.doing`
    remedy = ""
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        remedy = " Lower max_batch_tokens, memory_mb or the batch size."
    elif isinstance(error, OSError) and error.errno == 28:
        remedy = " Make room on the disk; what was done is saved."
    named = type(error).__name__ + (f" while {activity}" if activity else "")
    return f"{named}: {message.removesuffix('.') or 'no message'}.{remedy}"


def _is_own(error: Exception) -> bool:
    """Whether this package raised an error itself, with a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    of_system = isinstance(error, OSError) and error.errno is not None
    is_here = bool(frames) and frames[-1].filename.startswith(str(PACKAGE))
    return is_here and isinstance(error, (ValueError, RuntimeError, OSError)) and not of_system


def what_is_saved(outputs: Sequence[str]) -> str:
    """The results that an interrupted run left, and how to go on."""
    if not outputs:
        return "nothing was begun."
    folder, saved = Path(outputs[0]), []
    with contextlib.suppress(OSError, ValueError):
        units = json.loads((folder / "units" / "units.json").read_text(encoding="utf-8"))
        done = sum((folder / "units" / f"{name}.parquet").exists() for name in units)
        saved.append(f"{done} of {len(units)} units")
    names = [path.parent.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*/trainer_state.json")]
    steps = [int(name) for name in names if name.isdigit()]
    if steps:
        saved.append(f"the checkpoint of step {max(steps)}")
    results = f"{' and '.join(saved)} are saved in {folder}" if saved else f"nothing is saved in {folder} yet"
    return f"{results}. Run the same command again to go on."


def _report(message: str, error: BaseException, with_traceback: bool, status: int) -> int:
    """Prints an error, if this process of a launch is the one to do so, and logs that of a failed run."""
    claim = os.environ.get(SPOKESMAN)
    if claim is None and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(_SECONDS_FOR_FIRST)  # the launcher ends this process meanwhile, if the first one failed, too
    if claim is not None:
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
        except OSError:
            return status
    text = "".join(traceback.format_exception(error))
    if status == FAILED:
        record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "%s", (f"{message}\n{text}",), None)
        logs = []
        for handler in (*logging.getLogger().handlers, *logging.getLogger("leverplus_trl").handlers):
            if isinstance(handler, logging.FileHandler) and handler.baseFilename != os.devnull:
                handler.handle(record)
                logs.append(handler.baseFilename.removeprefix(f"{Path.cwd()}/"))
        if not _is_own(error) and not with_traceback:
            message += f" The traceback is in {logs[0]}." if logs else " --traceback shows where."
    if with_traceback:
        print(text, end="", file=sys.stderr)
    print(message, file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    status = accelerate_launch()
    sys.exit(status if status >= 0 else 128 - status)
