# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Files of an output folder: writes them atomically, lists and deletes those of each stage, and locks the folder.

Every launch holds its own lock while it runs, and checks whether a conflicting lock is held. All locks are exclusive:
shared locks of `filelock` need SQLite, which network file systems may corrupt, or leave files after a killed process.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

from filelock import FileLock, Timeout


#: Prefix of files and folders that are being written; a later run deletes those of a killed process.
UNFINISHED = ".unfinished-"
#: The lock of a launch that excludes all others; names of other locks begin with it.
WHOLE = ".lock"
_UNITS = ("units/*.parquet",)
#: The file of a checkpoint that is written last.
_LAST_OF_CHECKPOINT = "trainer_state.json"
_SELECTOR = (
    f"checkpoint-*/{_LAST_OF_CHECKPOINT}",
    *("config.json", "model*.safetensors*", "processor_config.json", "trainer_state.json", "README.md"),
)
#: The output files of each stage. A folder without any of these holds no output.
RESULTS = {
    "prepare": ("README.md", "data/default-*.parquet", "missing_images.txt", "broken_images.txt"),
    "beams": ("README.md", "data/beams-*.parquet", "data/ledger-*.parquet", "analysis.json", *_UNITS),
    "sft": _SELECTOR,
    "rollouts": ("README.md", "data/rollouts-*.parquet", "summary.json", *_UNITS),
    "grpo": _SELECTOR,
    "evaluate": (
        *("results.json", "answered.json", "predictions/README.md", "predictions/data/predictions-*.parquet"),
        *("order_probes/README.md", "order_probes/data/order_probes-*.parquet", *_UNITS),
    ),
    "report": (
        *("index.html", "report.md", "results.csv", "comparison.csv"),
        *("accuracy_by_shots*.png", "score_by_beam_position.png", "training_*.png"),
    ),
}
#: Folders of a stage that are deleted with its results.
_FOLDERS = {
    **dict.fromkeys(("beams", "rollouts", "evaluate"), ("units",)),
    **dict.fromkeys(("sft", "grpo"), ("checkpoint-[0-9]*", "encoder", "runs")),
}


def first_result(folder: Path, stage: str) -> Path | None:
    """A file in `folder` that `stage` wrote, or `None`."""
    return next((file for pattern in RESULTS[stage] for file in sorted(folder.glob(pattern))), None)


def delete_results(folder: Path, stage: str) -> None:
    """Deletes the files and folders in `folder` that `stage` writes, and no others."""
    for pattern in _FOLDERS.get(stage, ()):
        for part in folder.glob(pattern):
            shutil.rmtree(part)
    for pattern in RESULTS[stage]:
        for file in folder.glob(pattern):
            file.unlink()
    delete_unfinished(folder, stage)
    for parent in sorted({PurePath(pattern).parent for pattern in RESULTS[stage]}, reverse=True):
        if parent.name and "*" not in parent.name:
            with suppress(OSError):  # it does not exist, or holds other files
                (folder / parent).rmdir()


def delete_unfinished(folder: Path, stage: str) -> None:
    """Deletes unfinished files of killed processes of `stage`. No other process may write to `folder` meanwhile."""
    for place in {"", *(str(PurePath(pattern).parent) for pattern in RESULTS[stage])}:
        for left in folder.glob(str(PurePath(place, f"{UNFINISHED}*"))):
            delete(left)
    if RESULTS[stage] == _SELECTOR:
        for checkpoint in folder.glob("checkpoint-[0-9]*"):
            if not (checkpoint / _LAST_OF_CHECKPOINT).exists():
                delete(checkpoint)


def delete(path: Path) -> None:
    """Deletes a file or a folder with its content; a process that still writes into the folder fails."""
    if path.is_dir() and not path.is_symlink():
        # Renamed first, so that no process adds a file during the deletion.
        doomed = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class WriteError(OSError):
    """A file can't be written; the message gives the reason and the remedy."""


@contextmanager
def naming(path: Path | str, *errors: type[Exception]) -> Iterator[None]:
    """Converts an `OSError`, or one of the given errors, to a [`WriteError`] that names `path`."""
    try:
        yield
    except WriteError:
        raise
    except (OSError, *errors) as error:
        reason = getattr(error, "strerror", None) or error
        raise WriteError(
            f"{str(path)!r} can't be written ({reason}). The work so far is kept: fix this, and run the same command "
            "again."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Yields a temporary name in the folder of `path`, which is created, and renames that file to `path` if no error
    occurs. So readers see the complete old file or the complete new file. Raises [`WriteError`].
    """
    temporary = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")  # process ids may be equal on two machines
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a complete file or none, even if the power fails."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file with [`write_atomically`]."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def make_folder(path: Path) -> list[Path]:
    """
    Creates a folder and its parents, and returns the new folders, the innermost first.

    Raises `ValueError` if the folder can't be created or written to.
    """
    new: list[Path] = []
    try:
        new = [folder for folder in (path, *path.parents) if not folder.exists()]
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


class LockedError(ValueError):
    """Another launch is writing into a folder."""


def take_lock(path: Path, name: str, wait: bool = False) -> FileLock:
    """
    Acquires a lock. The operating system releases it when the process ends, even if it is killed.

    Raises [`LockedError`] if another launch holds it, and `ValueError` if the file system does not support locks.
    """
    lock = FileLock(path / name, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise LockedError(
            f"Another launch is writing into {str(path)!r} ({name} is locked). Wait until it ends, or set another "
            "`output_dir`. To use more processes, start them in one launch, or start each shard once, all with the "
            "same `num_shards`."
        ) from error
    except (OSError, NotImplementedError) as error:
        raise ValueError(
            f"{str(path / name)!r} can't be locked ({error}). Set `output_dir` to a file system that supports locks; "
            "or give each shard its own folder, and combine them with `leverplus merge`."
        ) from error
    return lock


@contextmanager
def recording(path: Path) -> Iterator[None]:
    """A context that one launch at a time can enter, to claim the folder or to change its record."""
    lock = take_lock(path, f"{WHOLE}-record", wait=True)
    try:
        yield
    finally:
        lock.release()


def other_shards(path: Path, own: str) -> list[str]:
    """Names of the locks that other shards hold."""
    held = []
    for name in sorted(file.name for file in path.glob(f"{WHOLE}-*-of-*") if file.name != own):
        try:
            take_lock(path, name).release()
        except LockedError:
            held.append(name)
    return held
