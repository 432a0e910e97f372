# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""An output folder: its record of the stage, the recipe and the versions that made it, its locks and its log."""

import json
import logging
import os
import shutil
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from filelock import FileLock

from .output_files import (
    RESULTS,
    WHOLE,
    delete_results,
    delete_unfinished,
    first_result,
    make_folder,
    other_shards,
    recording,
    remove_empty,
    take_lock,
    write_atomically,
    write_json,
)
from .provenance import versions
from .stage_arguments import Shard


logger = logging.getLogger(__name__)

#: Recipe keys that may differ between the run that began an output and the run that resumes it.
FREE_KEYS = (
    *("stage", "output_dir", "dry_run", "num_threads", "cache_mb", "embeddings_dir"),
    *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_always_push"),
    "hub_token",
)
#: Recipe keys of one launch; they are not recorded.
LAUNCH_KEYS = ("accelerate_config", "num_shards", "shard_index", "overwrite", "quiet", "verbose", "traceback")
#: The provenance of an output, in its folder.
RECORD = "provenance.json"
#: Values that the first launch finds out, if the recipe does not set them; see [`RunFolder.pin`].
PINNED_KEYS = ("memory_mb",)
#: Packages and facts that change the last bits of what a model computes. `prepare` is not compared by them.
NUMERIC_PACKAGES = ("torch", "transformers")
NUMERIC_FACTS = ("num_threads", "device")


class RunFolder:
    """
    Claims an output folder for one recipe, before anything expensive is loaded.

    Writes `recipe.yaml` (all arguments in `recipe`) and `provenance.json` (with `facts`, such as hashes, that are
    compared like the recipe), and sends everything that is logged to `run.log` (`run-3-of-8.log` for a shard) as well.
    With `overwrite` in the recipe, earlier output is deleted first. Shards of one job may work in one folder at the
    same time; every other launch has it to itself.

    A claim holds as long as this object lives. It lasts longer only once there is a result (a unit, a checkpoint, a
    table): a folder that a failed or killed run left without any is free for another recipe.

    Raises `ValueError` if the folder can't be written to, holds the output of another recipe or files that no stage
    wrote (they would be mixed or lost), or another launch is writing into it.
    """

    def __init__(
        self,
        output_dir: str,
        stage: str,
        recipe: dict[str, Any],
        facts: dict[str, Any] | None = None,
        shard: Shard | None = None,
    ):
        recorded = {key: value for key, value in recipe.items() if key not in LAUNCH_KEYS}
        provenance = {
            "stage": stage,
            "recipe": json.loads(json.dumps(recorded, default=str)),
            # The thread count in use: where the recipe sets none, launchers choose it.
            "facts": {**(facts or {}), "num_threads": torch.get_num_threads(), "device": PartialState().device.type},
            "versions": versions(),
        }
        self._open(output_dir, provenance, shard or Shard(), recipe.get("overwrite", False))

    @classmethod
    def of_record(cls, output_dir: str, provenance: dict[str, Any]) -> "RunFolder":
        """Claims a folder for a record that was made elsewhere or earlier, on any machine."""
        run = cls.__new__(cls)
        run._open(output_dir, provenance, Shard())
        return run

    @property
    def units(self) -> Path:
        """The folder of the results of units of work, until the job is complete."""
        return self.path / "units"

    def is_complete(self, last_file: str) -> bool:
        """Whether an earlier launch wrote `last_file`, the last of the output; then its units are deleted."""
        complete = (self.path / last_file).exists()
        if complete:
            if self.state.is_main_process:
                shutil.rmtree(self.units, ignore_errors=True)
            logger.info("%s is complete: nothing to do.", self.path)
        return complete

    def pin(self, name: str, value: int) -> int:
        """
        Fixes a value that influences the output and that the recipe does not set.

        The first launch records the smallest `value` of its processes under `name`, one of `PINNED_KEYS`. Returns the
        recorded value, which is the same on every process and in every later launch.
        """
        value, pinned = min(gather_object([value])), [None]
        if self.state.is_main_process:
            with recording(self.path):
                record = read_record(self.path)
                if name not in record["facts"]:
                    record["facts"][name] = value
                    write_json(self.path / RECORD, record)
            pinned = [record["facts"][name]]
            if value != pinned[0]:
                less = value < pinned[0]
                logger.log(
                    logging.WARNING if less else logging.INFO,
                    "This output was begun with %s %d, which is kept (this machine would have %d).%s",
                    *(name, pinned[0], value),
                    " If that is too much here, go on where there is more." if less else "",
                )
        broadcast_object_list(pinned)  # not from the file: another machine may still see an older version
        self.provenance["facts"][name] = pinned[0]
        return pinned[0]

    def waits_for_merge(self) -> bool:
        """Whether this launch did a part, so that the tables are yet to be merged; the log says how."""
        if self.shard.is_part:
            logger.info(
                "Shard %s is done. When all are, one command writes the tables: leverplus merge --output_dir %s",
                self.shard,
                self.path,
            )
        return self.shard.is_part

    def _open(self, output_dir: str, provenance: dict[str, Any], shard: Shard, overwrite: bool = False) -> None:
        self.path, self.provenance, self.shard = Path(os.path.expanduser(output_dir)), provenance, shard
        self.state = PartialState()
        if overwrite and shard.is_part:
            raise ValueError(
                f"overwrite is set, and num_shards is {shard.count}: each shard would delete what the others did. "
                f"Delete {str(self.path)!r} before the first shard starts, and leave `overwrite` out."
            )
        new: list[Path] = []
        locks: list[FileLock] = []
        if self.state.is_main_process:
            new = make_folder(self.path)
            try:
                with recording(self.path):  # shards that start together must agree on one recipe
                    own = f"{WHOLE}-{shard}" if shard.is_part else WHOLE
                    locks.append(take_lock(self.path, own))
                    others = other_shards(self.path, own)
                    for excluded in [WHOLE] if shard.is_part else others:
                        take_lock(self.path, excluded).release()
                    self._record(overwrite, bool(others))
                    if not shard.is_part:
                        delete_unfinished(self.path, provenance["stage"])
            except BaseException:
                _release(locks, new)
                raise
        self.state.wait_for_everyone()
        log = self.path / (f"run-{shard}.log" if shard.is_part else "run.log")
        new_log = None if log.exists() else log
        handler = _LogFile(log, self.state.is_main_process, self.state.process_index)
        weakref.finalize(self, _leave, os.getpid(), self.path, provenance["stage"], locks, handler, new, new_log)

    def _record(self, overwrite: bool, others: bool) -> None:
        """Checks the record of earlier output, deletes that output if it may go, and writes the own record."""
        stage = self.provenance["stage"]
        if (self.path / RECORD).exists():
            earlier = read_record(self.path)
            different = differences(earlier, self.provenance)
            if not overwrite and not different:
                return
            known = earlier["stage"] in RESULTS
            is_free = known and not others and first_result(self.path, earlier["stage"]) is None
            if not overwrite and not is_free:
                hints = [
                    f" A recipe without `{key}` goes on with the one that the output was begun with."
                    for key in PINNED_KEYS
                    if f"{key}: " in different
                ]
                raise ValueError(
                    f"{str(self.path)!r} holds the output of another recipe ({different}). Use another `output_dir`, "
                    "or set `overwrite` (`--overwrite`) to delete that output and start anew; outputs of different "
                    "recipes are never mixed." + "".join(hints)
                )
            if not known:
                raise ValueError(
                    f"overwrite is set, but {str(self.path)!r} was written by the stage {earlier['stage']!r}, which "
                    "this version does not know. Delete the folder yourself, or name another `output_dir`."
                )
            delete_results(self.path, earlier["stage"])
        foreign = first_result(self.path, stage)
        if foreign is not None:
            raise ValueError(
                f"{str(self.path)!r} holds {str(foreign.relative_to(self.path))!r}, which the stage {stage!r} would "
                f"replace, but no {RECORD} that says which recipe made it. Name another `output_dir`, or move that "
                "file away."
            )
        recipe = {**self.provenance["recipe"], "stage": stage}  # to be run again as it is
        write_atomically(self.path / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False).encode())
        write_json(self.path / RECORD, self.provenance)


class _LogFile(logging.FileHandler):
    """Logs everything of the main process, and with their rank what other processes log in leverplus_trl; a run does
    not fail if the file can't be written (disk full, folder deleted)."""

    def __init__(self, file: Path, is_main: bool, rank: int):
        super().__init__(file, delay=not is_main, encoding="utf-8")
        prefix = "" if is_main else f"[rank {rank}] "
        self.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s %(name)s: {prefix}%(message)s"))
        logging.getLogger(None if is_main else "leverplus_trl").addHandler(self)
        if is_main:
            logging.getLogger("leverplus_trl").setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def read_record(folder: Path) -> dict[str, Any]:
    """
    The record of the output in `folder`.

    Raises `FileNotFoundError` if there is none, and `ValueError` if it is not whole.
    """
    file = folder / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return {key: record[key] for key in ("stage", "recipe", "facts", "versions")}
    except (ValueError, KeyError, TypeError, IsADirectoryError) as error:
        raise ValueError(
            f"{str(file)!r} is not a whole record of what made this output ({error}). Stages write it whole or not at "
            f"all, so it was damaged later, by a copy or by hand: copy it again, or delete {str(folder)!r}."
        ) from error


def _leave(
    process: int,
    path: Path,
    stage: str,
    locks: Sequence[FileLock],
    handler: logging.Handler,
    new: Sequence[Path],
    new_log: Path | None,
) -> None:
    """Gives a folder back when its run is over; without any result it is left as it was, but for the log."""
    if os.getpid() != process:  # a worker that was forked off the run
        return
    for owner in (logging.getLogger(), logging.getLogger("leverplus_trl")):
        owner.removeHandler(handler)
    handler.close()
    if locks:  # of the main process
        with suppress(OSError, ValueError), recording(path):
            if first_result(path, stage) is None and not other_shards(path, Path(locks[0].lock_file).name):
                delete_results(path, stage)
                for name in (RECORD, "recipe.yaml"):
                    (path / name).unlink(missing_ok=True)
                if new and new_log and "Traceback (most recent call last)" not in new_log.read_text(encoding="utf-8"):
                    new_log.unlink()
        _release(locks, new)


def _release(locks: Sequence[FileLock], new: Sequence[Path]) -> None:
    for lock in locks:
        lock.release()
    remove_empty(new)


def differences(earlier: dict[str, Any], current: dict[str, Any]) -> str:
    """The differences between two records that matter to the output; empty if there are none."""

    def compared(record: dict[str, Any]) -> dict[str, Any]:
        recipe = {key: value for key, value in record["recipe"].items() if key not in FREE_KEYS}
        packages = {name: record["versions"].get(name) for name in NUMERIC_PACKAGES}
        values = {"stage": record["stage"], **recipe, **record["facts"], **packages}
        left_out = (*NUMERIC_FACTS, *NUMERIC_PACKAGES) if values["stage"] == "prepare" else ()
        return {key: value for key, value in values.items() if key not in left_out}

    old, new = compared(earlier), compared(current)
    unset = {key for key in PINNED_KEYS if new.get(key) is None}
    different = [key for key in sorted((old.keys() | new.keys()) - unset) if old.get(key) != new.get(key)]
    return "; ".join(f"{key}: {old.get(key)!r} there, {new.get(key)!r} here" for key in different)
