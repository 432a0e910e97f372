# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Long work in units that any process may take: resumable, and the same bytes for any number of processes.

A unit is defined by the work, never by the rank that does it. Its result is one parquet file, written under a
temporary name and renamed, so every result file is whole. A later launch does the units that are missing. When one
process of a launch dies, `accelerate launch` and `torchrun` end all of them, so each process loses its current unit.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, Features

from .log import Progress, doing
from .output_files import UNFINISHED, delete, naming, write_json
from .run_folder import RunFolder


logger = logging.getLogger(__name__)

#: Beside the results: all units of the job, in order, and how many items each holds.
MANIFEST = "units.json"
#: Seconds after which a network file system shows what another machine wrote.
PATIENCE = 90
#: Seconds between two counts of the units that are done: there may be tens of thousands of files.
SECONDS_BETWEEN_COUNTS = 1.0


class Unit(NamedTuple):
    """Some queries of a split, by their rows."""

    split: str
    rows: range


def units_of(split: str, count: int, size: int) -> dict[str, Unit]:
    """The units of a split of `count` queries, by name, in order: `size` queries each, the last unit the rest."""
    starts = range(0, count, size)
    return {f"{split}-{n:06d}": Unit(split, range(start, min(start + size, count))) for n, start in enumerate(starts)}


def files_by_split(splits: Iterable[str], files: Iterable[Path]) -> dict[str, list[Path]]:
    """The results of units named by [`units_of`], by split in query order; an empty list for a split without any."""
    by_split: dict[str, list[Path]] = {split: [] for split in splits}
    for file in files:
        by_split[file.stem.rpartition("-")[0]].append(file)
    return by_split


@doing("working on {description!r}")
def run_units(
    run: RunFolder, units: Mapping[str, int], work: Callable[[str], pa.Table], description: str, item: str = "query"
) -> list[Path]:
    """
    Does the units that are missing in `run.units`, or those of them that are this shard's, together with the other
    processes of this launch. A process that is done with a unit claims the next free one.

    `units` holds the names of all units of the job, in order, and how many items each has. `work` does the unit of a
    name; its result must depend on the unit alone. `description` and `item` name the work and an item in the progress.

    Returns the result files of all units of the job, in order, once every process is done; those of other shards may
    be missing. Raises `RuntimeError` if own units are missing at the end; starting again does them.
    """
    state = PartialState()
    folder, shard = run.units, run.shard
    launch = [uuid.uuid4().hex]
    if state.num_processes > 1:
        broadcast_object_list(launch)
    # Unfinished files are in a folder of this launch and shard: no launch touches another's, and a process that
    # outlives its launch can add nothing once the folder is deleted.
    unfinished = folder / f"{UNFINISHED}{shard}-{launch[0]}"
    with naming(unfinished):
        unfinished.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}.parquet": count for name, count in units.items()}
    own = {file: count for number, (file, count) in enumerate(files.items()) if shard.takes(number)}
    try:
        if state.is_main_process:
            write_json(folder / MANIFEST, dict(units))
            for left in folder.glob(f"{UNFINISHED}{shard}-*" if shard.is_part else f"{UNFINISHED}*"):
                if left != unfinished:
                    delete(left)
            _delete_broken(own)
        state.wait_for_everyone()
        if shard.is_part:
            logger.info("%s: shard %s has %d of %d units.", description, shard, len(own), len(files))
        _take_units(own, unfinished, work, description, item)
    finally:
        if state.is_main_process:
            delete(unfinished)
    return list(files)


def _take_units(
    own: Mapping[Path, int], unfinished: Path, work: Callable[[str], pa.Table], description: str, item: str
) -> None:
    state = PartialState()

    def done() -> int:
        return sum(count for file, count in own.items() if file.exists())

    before, total = done(), sum(own.values())
    if before:
        logger.info("%s: resuming, %d of %d done.", description, before, total)
    bar = Progress(logger, description, total, item, before, shown=state.is_main_process)
    counted = time.monotonic()
    for file in own:
        if file.exists() or not _claim(unfinished / file.stem):
            continue
        result = work(file.stem)
        with naming(file):
            pq.write_table(result, unfinished / file.name)
            os.replace(unfinished / file.name, file)
        if state.is_main_process and time.monotonic() - counted > SECONDS_BETWEEN_COUNTS:
            bar.update(done())
            counted = time.monotonic()
    state.wait_for_everyone()
    latest = time.monotonic() + PATIENCE
    for file in own:
        while not file.exists():  # another machine wrote it, and this file system does not show it yet
            if time.monotonic() > latest:
                raise RuntimeError(f"{file} is missing, though its unit was taken. Run the same command again.")
            time.sleep(0.5)
    state.wait_for_everyone()  # a caller may delete the files once all processes have seen them
    if state.is_main_process:
        bar.update(done())
    bar.close()


def _claim(file: Path) -> bool:
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _delete_broken(files: Iterable[Path]) -> None:
    """So that units are done again whose files lost their end; damage elsewhere shows when they are read."""
    for file in files:
        if not file.exists():
            continue
        try:
            pq.read_metadata(file)
        except (pa.ArrowException, OSError) as error:
            logger.warning("%s is not whole (%s), so this unit of work is done again.", file, error)
            delete(file)


def read_unit(file: Path) -> pa.Table:
    """The result of a unit. Raises `ValueError` if the file is missing or damaged."""
    try:
        return pq.ParquetFile(file).read()  # not `read_table`, which takes `key=value` in a path for a column
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"The result of a unit of work, {str(file)!r}, can't be read ({reason}): the disk was full, or it was cut "
            "off by a copy. Delete that file and run the same command again: only what is missing is done."
        ) from error


class UnitRows:
    """The rows of some units in order, any number of times, with one unit in memory at a time."""

    def __init__(self, files: Sequence[Path]):
        self.files = files

    def __iter__(self) -> Iterator[dict]:
        for file in self.files:
            yield from read_unit(file).to_pylist()


def join_units(
    files: Sequence[Path], features: Features, joined: Path, rows: Callable[[pa.Table], pa.Table] | None = None
) -> Dataset:
    """
    The results of units, in order, as one table, which is read from disk as it is needed.

    It has the columns and types of `features`, and the rows that `rows` makes from those of a unit (by default the
    same). The Arrow file `joined` must be kept while the table is in use.
    """
    joined.parent.mkdir(parents=True, exist_ok=True)
    with naming(joined), pa.OSFile(str(joined), "wb") as file, pa.ipc.new_stream(file, features.arrow_schema) as out:
        for unit in map(read_unit, files):
            table = rows(unit) if rows else unit
            out.write_table(table.select(list(features)).cast(features.arrow_schema))
            del unit, table  # before the next is read
    return Dataset.from_file(str(joined))
