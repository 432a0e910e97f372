# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Messages of a process: this package's own lines on the terminal, those of other libraries in the log files alone.

On a terminal work has a bar; elsewhere it has a line every half minute. Functions name their activity, for the message
about an error that another library raises in them.
"""

import functools
import inspect
import logging
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, TextIO


OWN = "leverplus_trl"
#: Loggers of events that differ between processes. Every process prints them; the main process alone prints the rest.
OF_ONE_PROCESS = ("leverplus_trl.vlms.segments",)
#: Seconds between the lines that replace a bar.
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


class _Logger(logging.Logger):
    """A logger whose library can't write to the terminal past the root logger; deepspeed and transformers would."""

    def addHandler(self, handler: logging.Handler) -> None:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr):
            self.propagate, handler = False, logging.Handler()
            handler.emit = logging.getLogger().callHandlers
        super().addHandler(handler)


def keep_libraries_quiet() -> None:
    """Sends messages of libraries, also while they are imported, to the logs; to be called before any import."""
    logging.getLogger().addHandler(_TERMINAL)
    logging.setLoggerClass(_Logger)
    logging.captureWarnings(True)


def set_up_log(is_main: bool, rank: int = 0, quiet: bool = False, verbose: bool = False) -> None:
    """
    Sets what a process prints: the main process its messages, with `quiet` only warnings, with `verbose` also those of
    other libraries; every other process, with its rank, the loggers `OF_ONE_PROCESS`.
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
    A bar on a terminal, else a line every half minute; the lines go to the log files in any case.

    `done` of the `total` items were done before; `shown` says whether this process shows its progress.
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
        self.logger, self.description, self.total = logger, description, total
        self.done = self.before = done
        self.shown, self.start = shown, time.monotonic()
        self.last = self.start
        self.bar: Any = None
        if shown and has_bars():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, desc=description, unit=unit)

    def update(self, done: int) -> None:
        """Shows that so many items are done in all."""
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


def progress(*args: Any, **kwargs: Any) -> closing[Progress]:
    """A context with a [`Progress`] that is closed at its end."""
    return closing(Progress(*args, **kwargs))


def doing(what: str) -> Callable[[Callable], Callable]:
    """Decorates a function with its activity, which may name arguments: `"loading the VLM {args.vlm!r}"`."""

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                if not hasattr(error, "activity"):  # the innermost activity counts
                    error.activity = what.format(**signature.bind(*args, **kwargs).arguments)
                raise

        return named

    return decorate
