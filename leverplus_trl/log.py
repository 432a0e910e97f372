# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What a process says: this package's own lines on the terminal, those of other libraries in the log files alone.

On a terminal work has a bar; elsewhere it has a line every half minute.
"""

import functools
import inspect
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


OWN = "leverplus_trl"
#: Loggers of what befalls one process and not the others, which each tells itself; all else is told by the main one.
OF_ONE_PROCESS = ("leverplus_trl.vlms.segments",)
#: Seconds between the lines that stand for a bar.
BETWEEN_LINES = 30.0


class _Terminal(logging.StreamHandler):
    """The handler of the terminal: lines of other libraries only if `verbose`, and no line in place of a bar."""

    quiet = verbose = False

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # as it is now: tests and notebooks exchange it
        return sys.stderr

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "in_log_alone", False) or (getattr(record, "instead_of_bar", False) and has_bars()):
            return False
        own = record.name.split(".")[0] == OWN
        return (own and (record.levelno >= logging.WARNING or not self.quiet)) or self.verbose


_TERMINAL = _Terminal()


class _ToRoot(logging.Handler):
    """Hands records on to the handlers of the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger().callHandlers(record)


class _Logger(logging.Logger):
    """A logger whose library can't write to the terminal past the root logger; deepspeed and transformers would."""

    def addHandler(self, handler: logging.Handler) -> None:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr):
            self.propagate, handler = False, _ToRoot()
        super().addHandler(handler)


def keep_libraries_quiet() -> None:
    """Before anything heavy is imported: what libraries say, also while they are imported, is for the logs."""
    logging.getLogger().addHandler(_TERMINAL)
    logging.setLoggerClass(_Logger)
    logging.captureWarnings(True)


def set_up_log(is_main: bool, rank: int = 0, quiet: bool = False, verbose: bool = False) -> None:
    """
    The main process of a launch tells what it does, with `quiet` only warnings, with `verbose` those of other
    libraries, too; the others, with their rank, what befalls them alone.
    """
    logging.getLogger().addHandler(_TERMINAL)  # once, however often
    level = logging.INFO if is_main else logging.ERROR
    _TERMINAL.quiet, _TERMINAL.verbose = quiet, verbose and is_main
    _TERMINAL.setFormatter(logging.Formatter("%(message)s" if is_main else f"[rank {rank}] %(message)s"))
    logging.getLogger(OWN).setLevel(level)
    for name in OF_ONE_PROCESS:
        logging.getLogger(name).setLevel(min(level, logging.WARNING))


def has_bars() -> bool:
    """Whether work is shown by bars: on a terminal, unless all is quiet."""
    return sys.stderr.isatty() and not _TERMINAL.quiet


class Progress:
    """
    How far work is: a bar on a terminal, else a line every half minute; the lines go to the log files in any case.
    `done` of the `total` items were done before; `shown` says whether this process shows it.
    """

    def __init__(
        self,
        logger: logging.Logger,
        description: str,
        total: int,
        unit: str = "item",
        done: int = 0,
        shown: bool = True,
    ):
        self.logger, self.description, self.total, self.unit = logger, description, total, unit
        self.done = self.before = done
        self.shown, self.start = shown, time.monotonic()
        self.last = self.start
        self.bar: Any = None
        if shown and has_bars():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, desc=description, unit=unit)

    def update(self, done: int) -> None:
        """Says that so many items are done in all."""
        if self.bar is not None:
            self.bar.update(done - self.done)
        self.done = done
        now = time.monotonic()
        if self.shown and now - self.last >= BETWEEN_LINES:
            self.last = now
            new = done - self.before
            left = f", about {(self.total - done) * (now - self.start) / new:,.0f} s left" if new else ""
            self.logger.info(
                "%s: %s of %s%s.", self.description, done, self.total, left, extra={"instead_of_bar": True}
            )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


@contextmanager
def progress(*args: Any, **kwargs: Any) -> Iterator[Progress]:
    """A [`Progress`] that is closed in the end."""
    bar = Progress(*args, **kwargs)
    try:
        yield bar
    finally:
        bar.close()


def doing(what: str) -> Callable[[Callable], Callable]:
    """
    Decorates a function with what it does.

    Args:
        what (`str`):
            In words, with fields for its arguments: `"loading the VLM {args.vlm!r}"`.
    """

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if activity_of(error) is None:
                    error.activity = what.format(**signature.bind(*args, **kwargs).arguments)
                raise

        return named

    return decorate


def activity_of(error: BaseException) -> str | None:
    """What was being done when an error was raised: the innermost activity that has a name."""
    return getattr(error, "activity", None)
