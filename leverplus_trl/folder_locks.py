# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Locks that decide which launches may work in an output folder at the same time.

Every launch holds its own lock while it runs, and checks whether a conflicting lock is held. All locks are exclusive:
shared locks of `filelock` need SQLite, which network file systems may corrupt, or leave files after a killed process.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .output_files import UNFINISHED, delete


#: The lock of a launch that excludes all others.
WHOLE = ".lock"
#: The locks of shards.
SHARDS = ".lock-*-of-*"
#: The lock that a launch holds while it claims the folder or changes its record.
RECORDING = ".lock-record"


def make_folder(path: Path) -> list[Path]:
    """
    Creates a folder and its parents, and returns the new folders, the innermost first.

    Raises:
        `ValueError`: the folder can't be created or written to.
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
            f"The output folder {str(path)!r} can't be written to ({reason}). Set another `output_dir`."
        ) from error
    return new


def remove_empty(folders: Sequence[Path]) -> None:
    """Deletes the folders, the innermost first, that contain nothing or only locks."""
    for folder in folders:
        with suppress(OSError):
            files = list(folder.iterdir())
            if all(file.name.startswith(WHOLE) for file in files):
                for file in files:
                    file.unlink()
                folder.rmdir()


@contextmanager
def recording(path: Path) -> Iterator[None]:
    """A context that one launch at a time can enter."""
    lock = FileLock(path / RECORDING, fallback_to_soft=False)
    with _naming_the_lock(path / RECORDING):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def take_lock(path: Path, name: str) -> FileLock:
    """
    Acquires a lock. The operating system releases it when the process ends, even if it is killed.

    Raises:
        `ValueError`: another launch holds the lock, or the file system does not support locks.
    """
    lock = FileLock(path / name, thread_local=False, fallback_to_soft=False)
    with _naming_the_lock(path / name):
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise ValueError(
                f"Another launch is writing into {str(path)!r} ({name} is locked). Wait until it ends, or set "
                "another `output_dir`. To use more processes, start them in one launch, or start each shard once, all "
                "with the same `num_shards`."
            ) from error
    return lock


def other_shards(path: Path, own: str) -> list[str]:
    """Names of the locks that other shards hold."""
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
            f"{str(file)!r} can't be locked ({error}). Set `output_dir` to a file system that supports locks; or "
            "give each shard its own folder, and combine them with `leverplus merge`."
        ) from error
