# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Which launches may work in an output folder at the same time.

Every launch holds a lock of its own as long as it runs, and looks whether those that it excludes are held. All locks
are exclusive: shared ones of `filelock` need SQLite, which network file systems don't keep whole, or leave marks that
outlive a killed process.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .output_files import UNFINISHED, delete


#: The lock of a launch that has the folder to itself.
WHOLE = ".lock"
#: Those of shards.
SHARDS = ".lock-*-of-*"
#: Held for a moment, while a launch claims the folder or changes its record.
RECORDING = ".lock-record"


def make_folder(path: Path) -> list[Path]:
    """
    Makes a folder, and those above it, if there is none.

    Returns:
        `list[Path]`: the folders that are new, the innermost first.

    Raises:
        `ValueError`: it can't be made or written to.
    """
    new: list[Path] = []
    try:
        for folder in (path, *path.parents):
            if folder.exists():
                break
            new.append(folder)
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f"{UNFINISHED}probe"
        probe.touch()
        delete(probe)
    except OSError as error:
        remove_empty(new)
        reason = "it is a file" if os.path.isfile(path) else error
        raise ValueError(
            f"The output folder {str(path)!r} can't be written to ({reason}). Name another `output_dir`."
        ) from error
    return new


def remove_empty(folders: Sequence[Path]) -> None:
    """Deletes folders, the innermost first, as far as they are empty but for locks."""
    for folder in folders:
        with suppress(OSError):
            files = list(folder.iterdir())
            if all(file.name.startswith(WHOLE) for file in files):
                for file in files:
                    file.unlink()
                folder.rmdir()


@contextmanager
def recording(path: Path) -> Iterator[None]:
    """Only one launch at a time is in this context."""
    lock = FileLock(path / RECORDING, fallback_to_soft=False)
    with _naming_the_lock(path / RECORDING):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def take_lock(path: Path, name: str) -> FileLock:
    """
    Takes a lock, which the operating system gives back when the process ends, however it ends.

    Raises:
        `ValueError`: another launch holds it, or the file system has no locks.
    """
    lock = FileLock(path / name, thread_local=False, fallback_to_soft=False)
    with _naming_the_lock(path / name):
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise ValueError(
                f"Another launch is writing into {str(path)!r} ({name} is locked). Wait until it ends, or name "
                "another `output_dir`. To do one job with more processes, start them in one launch, or start all of "
                "its shards, each once, with the same `num_shards`."
            ) from error
    return lock


def other_shards(path: Path, own: str) -> list[str]:
    """Names of the locks that are held by shards, but for `own`."""
    held = []
    for file in sorted(path.glob(SHARDS)):
        lock = FileLock(file, thread_local=False, fallback_to_soft=False)
        with _naming_the_lock(file):
            try:
                if file.name != own:
                    lock.acquire(blocking=False)
            except Timeout:
                held.append(file.name)
            else:
                lock.release()
    return held


@contextmanager
def _naming_the_lock(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, NotImplementedError) as error:
        raise ValueError(
            f"{str(file)!r} can't be locked ({error}). Name an `output_dir` on a file system that has locks; shards "
            "may have one folder each, which `leverplus merge` puts together."
        ) from error
