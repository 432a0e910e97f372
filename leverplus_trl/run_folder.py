# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""An output folder: who made it, with which recipe, and what it said while doing so."""

import fcntl
import json
import logging
import os
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from .provenance import versions
from .shard import Shard


logger = logging.getLogger(__name__)

#: Recipe keys that may differ between the run that began an output and the one that goes on with it.
FREE_KEYS = (
    *("stage", "output_dir", "dry_run", "accelerate_config", "num_threads", "cache_mb", "embeddings_dir"),
    # Where an output is shared says nothing about what it is.
    *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_always_push"),
    "hub_token",
)
#: Recipe keys that say which part of a job a launch does; nothing that is recorded knows of them.
SHARD_KEYS = ("num_shards", "shard_index")
#: What the first launch finds out where the recipe does not say, and later ones take over; see [`RunFolder.settle`].
FOUND_KEYS = ("memory_mb",)
#: Packages whose versions decide the last bits of what a model computes.
NUMERIC_PACKAGES = ("torch", "transformers")
#: Facts that decide them, too.
NUMERIC_FACTS = ("num_threads", "device")
#: Stages that compute nothing of which such bits could differ.
STAGES_WITHOUT_MODELS = ("prepare",)


class RunFolder:
    """
    Claims an output folder for one recipe, before anything expensive is loaded.

    Writes `recipe.yaml` and `provenance.json`, and lets everything that is logged go to `run.log` (`run-3-of-8.log`
    for a shard), too: all that the main process says, and with their rank what the others say of leverplus_trl's own.
    Shards of one job may work in one folder at the same time; everything else has it to itself.

    Args:
        output_dir (`str`):
            The folder.
        stage (`str`):
            Stage that writes into it.
        recipe (`dict`):
            All its arguments, by name.
        facts (`dict`, *optional*):
            What else the output depends on (fingerprints, revisions); compared like the recipe.
        shard ([`Shard`], *optional*, defaults to the whole job):
            Part of the job that this launch does.

    Raises:
        `ValueError`: the folder can't be written to, holds what another recipe made (nothing is ever mixed), or
            another launch is writing into it.
    """

    def __init__(
        self,
        output_dir: str,
        stage: str,
        recipe: dict[str, Any],
        facts: dict[str, Any] | None = None,
        shard: Shard | None = None,
    ):
        recipe = {key: value for key, value in recipe.items() if key not in SHARD_KEYS}
        provenance = {
            "stage": stage,
            "recipe": json.loads(json.dumps(recipe, default=str)),
            # The thread count in force, not the one asked for: launchers choose one where none is asked for.
            "facts": {**(facts or {}), "num_threads": torch.get_num_threads(), "device": PartialState().device.type},
            "versions": versions(),
        }
        self._open(output_dir, provenance, shard or Shard())

    @classmethod
    def of_record(cls, output_dir: str, provenance: dict[str, Any]) -> "RunFolder":
        """Claims a folder for what was recorded elsewhere or earlier, whatever machine this is."""
        run = cls.__new__(cls)
        run._open(output_dir, provenance, Shard())
        return run

    @property
    def units(self) -> Path:
        """Where the results of the units of work are kept until the job is complete."""
        return self.path / "units"

    def settle(self, name: str, found: int) -> int:
        """
        A value that is part of what makes the output, and is found rather than given: the first launch's holds.

        Args:
            name (`str`):
                One of `FOUND_KEYS`.
            found (`int`):
                What this process found, or was given; of a launch the least that one of its processes found counts.

        Returns:
            `int`: what is recorded, the same on every process.
        """
        found, settled = min(gather_object([found])), [None]
        if self.state.is_main_process:
            settled = [self._settle(name, found)]
        # Not from the file: another machine may still see an older one.
        broadcast_object_list(settled)
        self.provenance["facts"][name] = settled[0]
        return settled[0]

    def _settle(self, name: str, found: int) -> int:
        file = self.path / "provenance.json"
        with self._recording():
            record = json.loads(file.read_text(encoding="utf-8"))
            if name not in record["facts"]:
                record["facts"][name] = found
                write_json(file, record)
        settled = record["facts"][name]
        if found != settled:
            level, hint = logging.INFO, ""
            if found < settled:
                level, hint = logging.WARNING, " If that is too much here, go on where there is more."
            message = "This output was begun with %s %d, which is kept (this machine would have %d).%s"
            logger.log(level, message, name, settled, found, hint)
        return settled

    def waits_for_merge(self) -> bool:
        """Whether this launch did a part, and someone else has to write the tables; the log says how."""
        if self.shard.is_part:
            logger.info(
                "Shard %s is done. When all are, one command writes the tables: leverplus merge --output_dir %s",
                self.shard,
                self.path,
            )
        return self.shard.is_part

    def _open(self, output_dir: str, provenance: dict[str, Any], shard: Shard) -> None:
        self.path, self.provenance, self.shard = Path(output_dir), provenance, shard
        self.state = PartialState()
        if self.state.is_main_process:
            self._claim()
        self.state.wait_for_everyone()
        self._log_to_file()

    def _claim(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".writable-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"The output folder {str(self.path)!r} can't be written to ({error}). Name another `output_dir`."
            ) from error
        # Shards share the folder's lock, which everything else wants for itself, and have one of their own.
        self._lock(".lock", fcntl.LOCK_SH if self.shard.is_part else fcntl.LOCK_EX)
        if self.shard.is_part:
            self._lock(f".lock-{self.shard}", fcntl.LOCK_EX)
        with self._recording():  # shards that start together must agree on one recipe
            self._record()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        handle = os.open(self.path / ".lock-record", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _lock(self, name: str, kind: int) -> None:
        """Held until this object goes, and by the operating system no longer than the process lives."""
        handle = os.open(self.path / name, os.O_RDWR | os.O_CREAT)
        weakref.finalize(self, os.close, handle)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"Another launch is writing into {str(self.path)!r} ({name} is locked). Wait until it ends, or name "
                "another `output_dir`. To do one job with more processes, start them in one launch, or start all of "
                "its shards, each once, with the same `num_shards`."
            ) from error
        except OSError as error:
            raise ValueError(
                f"{str(self.path / name)!r} can't be locked ({error}). Name an `output_dir` on a file system that has "
                "locks; shards may have one folder each, which `leverplus merge` puts together."
            ) from error

    def _record(self) -> None:
        file = self.path / "provenance.json"
        if not file.exists():
            recipe = {**self.provenance["recipe"], "stage": self.provenance["stage"]}  # to be run again as it is
            (self.path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
            write_json(file, self.provenance)
            return
        different = differences(json.loads(file.read_text(encoding="utf-8")), self.provenance)
        if different:
            hints = [
                f" A recipe without `{key}` goes on with the one that the output was begun with."
                for key in FOUND_KEYS
                if f"{key}: " in different
            ]
            raise ValueError(
                f"{str(self.path)!r} holds the output of another recipe ({different}). Use another `output_dir`, or "
                "delete the folder if you don't need it any more; outputs of different recipes are never mixed."
                + "".join(hints)
            )

    def _log_to_file(self) -> None:
        main = self.state.is_main_process
        name = f"run-{self.shard}.log" if self.shard.is_part else "run.log"
        handler = logging.FileHandler(self.path / name, delay=not main)
        rank = "" if main else f"[rank {self.state.process_index}] "
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s %(name)s: {rank}%(message)s"))
        logging.getLogger(None if main else "leverplus_trl").addHandler(handler)
        if main:
            logging.getLogger("leverplus_trl").setLevel(logging.INFO)


def differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """In what two records of what made an output differ that matters to the output; empty if in nothing."""

    def plain(provenance: dict[str, Any]) -> dict[str, Any]:
        recipe = {key: value for key, value in provenance["recipe"].items() if key not in FREE_KEYS}
        numerics = {name: provenance["versions"].get(name) for name in NUMERIC_PACKAGES}
        made = {"stage": provenance["stage"], **recipe, **provenance["facts"], **numerics}
        left_out = (*NUMERIC_FACTS, *NUMERIC_PACKAGES) if made["stage"] in STAGES_WITHOUT_MODELS else ()
        return {key: value for key, value in made.items() if key not in left_out}

    old, new = plain(there), plain(here)
    open_still = {key for key in FOUND_KEYS if new.get(key) is None}
    different = [key for key in sorted((old.keys() | new.keys()) - open_still) if old.get(key) != new.get(key)]
    return "; ".join(f"{key}: {old.get(key)!r} there, {new.get(key)!r} here" for key in different)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes to a temporary name beside `path`, then renames: readers see the whole old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # processes on two machines may share a number
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file so that it is either whole or not there."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
