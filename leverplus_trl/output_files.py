# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Files of an output folder: written whole or not at all, known by stage, and cleared away."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any


#: How the names of files and folders begin that are being written; a later run deletes those of a killed process.
UNFINISHED = ".unfinished-"
_UNITS = ("units/*.parquet",)
#: The file of a checkpoint that is written last.
_LAST_OF_CHECKPOINT = "trainer_state.json"
_SELECTOR = (
    f"checkpoint-*/{_LAST_OF_CHECKPOINT}",
    *("config.json", "model*.safetensors*", "processor_config.json", "trainer_state.json", "README.md"),
)
#: What each stage makes. A folder without any of these holds no output yet.
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
    """A file in `folder` that `stage` makes, or `None` if there is none."""
    found = (file for pattern in RESULTS[stage] for file in sorted(folder.glob(pattern)))
    return next(found, None)


def delete_results(folder: Path, stage: str) -> None:
    """Deletes what `stage` writes into `folder`, and nothing else."""
    for pattern in _FOLDERS.get(stage, ()):
        for part in folder.glob(pattern):
            shutil.rmtree(part)
    for pattern in RESULTS[stage]:
        for file in folder.glob(pattern):
            file.unlink()
    delete_unfinished(folder, stage)
    for parent in sorted({PurePath(pattern).parent for pattern in RESULTS[stage]}, reverse=True):
        if parent.name and "*" not in parent.name:
            with suppress(OSError):  # not there, or holds files of others
                (folder / parent).rmdir()


def delete_unfinished(folder: Path, stage: str) -> None:
    """Deletes what killed processes of `stage` left unfinished in `folder`. No other process may be writing there."""
    places = {"", *(str(PurePath(pattern).parent) for pattern in RESULTS[stage])}
    for place in places:
        for left in folder.glob(str(PurePath(place, f"{UNFINISHED}*"))):
            delete(left)
    if RESULTS[stage] == _SELECTOR:
        for checkpoint in folder.glob("checkpoint-[0-9]*"):
            if not (checkpoint / _LAST_OF_CHECKPOINT).exists():
                delete(checkpoint)


def delete(path: Path) -> None:
    """Deletes a file, or a folder with all that is in it; a process that is still writing into it fails."""
    if path.is_dir() and not path.is_symlink():
        # Under another name first: nobody adds a file to a folder that is being emptied.
        doomed = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class WriteError(OSError):
    """What could not be written, in a sentence that says why and what to do."""


@contextmanager
def naming(path: Path | str, *errors: type[Exception]) -> Iterator[None]:
    """
    Names what is written, should that fail with an `OSError` or one of the given errors.

    Raises:
        `WriteError`: the operating system refused (disk full, no permission, a file where a folder belongs).
    """
    try:
        yield
    except WriteError:
        raise
    except (OSError, *errors) as error:
        reason = getattr(error, "strerror", None) or error
        raise WriteError(
            f"{str(path)!r} can't be written ({reason}). What is done so far is kept: mend that, and run the same "
            "command again."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Gives a temporary name beside `path` and renames it when all has gone well: readers see the whole old file, or the
    whole new one.

    Args:
        path (`Path`):
            The file; folders above it are made.

    Raises:
        `WriteError`: see [`naming`].
    """
    temporary = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")  # processes on two machines may share a number
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that it is whole, even after a power failure, or not there."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file so that it is whole or not there."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
