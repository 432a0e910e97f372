# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What surrounds a stage in its process: it is parsed before anything heavy is imported, and its errors are sentences.

Exit status: 0; 2 for a mistake in the recipe or on the command line; 1 for a run that failed; 130 after Ctrl-C. A
traceback goes to the log files that are open, and with `--traceback` to the terminal.
"""

import atexit
import contextlib
import importlib
import json
import logging
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from .log import activity_of, keep_libraries_quiet
from .recipe import UsageError


PACKAGE = str(Path(__file__).parent)
FAILED, MISUSED, INTERRUPTED = 1, 2, 130
#: Environment variable that holds a path: of the processes of a launch, the one that creates the file says the error.
SPOKESMAN = "LEVERPLUS_SPOKESMAN"
#: Seconds that a process which isn't the first leaves the first one to say what failed, where no launcher decides.
_PATIENCE = 5.0
#: Longest message of another library that is repeated.
_LONGEST = 400


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


def guarded(work: Callable[[], None], with_traceback: bool = False, outputs: Sequence[str] = ()) -> int:
    """
    Calls a function, says in a sentence what it raises, with the traceback if asked for, and returns the exit status;
    of an interruption it tells what is saved in the output folder.
    """
    try:
        work()
    except UsageError as error:
        return _say(f"error: {error}", error, with_traceback, MISUSED)
    except KeyboardInterrupt as error:
        return _say(f"interrupted: {what_is_saved(outputs)}", error, with_traceback, INTERRUPTED)
    except Exception as error:
        return _say(f"error: {sentence(error)}", error, with_traceback, FAILED)
    return 0


def sentence(error: Exception) -> str:
    """An error in a sentence: one of this package's own as it is, one of another library with what was being done."""
    message = " ".join(str(error).split())
    if _is_own(error) and message:
        return message
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]} ..."
    activity = f" while {activity_of(error)}" if activity_of(error) else ""
    stop = "" if message.endswith(".") else "."
    return f"{type(error).__name__}{activity}: {message or 'no message'}{stop}{_remedy(error)}"


def _is_own(error: Exception) -> bool:
    """Whether this package raised an error itself, with a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    of_system = isinstance(error, OSError) and error.errno is not None
    is_here = bool(frames) and frames[-1].filename.startswith(PACKAGE)
    return is_here and isinstance(error, (ValueError, RuntimeError, OSError)) and not of_system


def _remedy(error: Exception) -> str:
    name = type(error).__name__
    if name == "OutOfMemoryError" or isinstance(error, MemoryError):
        return " Lower max_batch_tokens, memory_mb or the batch size."
    if isinstance(error, OSError) and error.errno == 28:
        return " Make room on the disk; what was done is saved."
    return ""


def what_is_saved(outputs: Sequence[str]) -> str:
    """What an interrupted run left, and how to go on."""
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
    found = f"{' and '.join(saved)} are saved in {folder}" if saved else f"nothing is saved in {folder} yet"
    return f"{found}. Run the same command again to go on."


def _say(message: str, error: BaseException, with_traceback: bool, status: int) -> int:
    if not _speaks_for_all():
        return status
    text = "".join(traceback.format_exception(error))
    if status == FAILED:
        logs = _write_to_logs(f"{message}\n{text}")
        if not _is_own(error) and not with_traceback:
            message += f" The traceback is in {logs[0]}." if logs else " --traceback shows where."
    if with_traceback:
        print(text, end="", file=sys.stderr)
    print(message, file=sys.stderr, flush=True)
    return status


def _write_to_logs(text: str) -> list[str]:
    """Writes to the log files that are open and returns their names."""
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "%s", (text,), None)
    found = []
    for handler in (*logging.getLogger().handlers, *logging.getLogger("leverplus_trl").handlers):
        if isinstance(handler, logging.FileHandler) and handler.baseFilename != os.devnull:
            handler.handle(record)
            found.append(handler.baseFilename.removeprefix(f"{Path.cwd()}/"))
    return found


def _speaks_for_all() -> bool:
    """Whether this process of a launch is the one that says what failed."""
    claim = os.environ.get(SPOKESMAN)
    if claim is None:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(_PATIENCE)  # the launcher ends this process meanwhile, if the first one failed, too
        return True
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
    except OSError:
        return False
    return True


def _interrupt_once(number: int, frame: object) -> None:
    """Ctrl-C may come twice, from the terminal and from the launcher; only the first counts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
