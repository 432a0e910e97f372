# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Long work in units that any process may take: resumable, and the same bytes for any number of processes.

A unit is defined by the work, never by the rank that does it. Its result is one parquet file, written under a
temporary name and renamed, so a file that is there is whole. Whoever starts again goes on with the units that are
missing. When one process of a launch dies, `accelerate launch` and `torchrun` end all of them, so each process loses
the unit it has in hand, and no more.
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
from .stage_arguments import Shard


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
    """
    The units of a split, by name, in order.

    Args:
        split (`str`):
            The split.
        count (`int`):
            Number of its queries.
        size (`int`):
            Queries in a unit; the last one may have fewer.
    """
    starts = range(0, count, size)
    return {f"{split}-{n:06d}": Unit(split, range(start, min(start + size, count))) for n, start in enumerate(starts)}


def files_by_split(splits: Iterable[str], files: Iterable[Path]) -> dict[str, list[Path]]:
    """The results of units named by [`units_of`], by split in query order; of a split without any an empty list."""
    found: dict[str, list[Path]] = {split: [] for split in splits}
    for file in files:
        found[file.stem.rpartition("-")[0]].append(file)
    return found


@doing("working on {description!r}")
def run_units(
    run: RunFolder, units: Mapping[str, int], work: Callable[[str], pa.Table], description: str, item: str = "query"
) -> list[Path]:
    """
    Does the units that are missing in `run.units`, or those of them that are this shard's, together with the other
    processes of this launch.

    Units are taken, not dealt: a process that is done with one claims the next free one, so uneven speeds balance out.

    Args:
        run ([`RunFolder`]):
            Where the results of the units are kept, and which of them are this launch's.
        units (`Mapping[str, int]`):
            Names of all units of the job, in order, and how many items each holds (for the progress).
        work (`Callable[[str], pa.Table]`):
            Does one unit; its result must depend on the unit alone.
        description (`str`):
            What is done, for the progress.
        item (`str`, *optional*, defaults to `"query"`):
            What an item is, for the progress.

    Returns:
        `list[Path]`: the result files of all units of the job, in order, once every process is done. Those of other
        shards need not be there.

    Raises:
        `RuntimeError`: units are missing at the end; starting again does them.
    """
    state = PartialState()
    folder, shard = run.units, run.shard
    # Everything unfinished is in a folder of this launch, whose name says which shard it is of: nobody touches what is
    # another's, and a process that outlives its launch can add nothing once the folder is gone.
    unfinished = folder / f"{UNFINISHED}{shard}-{_launch_id(state)}"
    with naming(unfinished):
        unfinished.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.parquet" for name in units}
    own = {name: count for number, (name, count) in enumerate(units.items()) if shard.takes(number)}
    try:
        if state.is_main_process:
            write_json(folder / MANIFEST, dict(units))
            _sweep(folder.glob(f"{UNFINISHED}{shard}-*" if shard.is_part else f"{UNFINISHED}*"), keep=unfinished)
            _delete_broken(files[name] for name in own)
        state.wait_for_everyone()
        _take_units(own, files, unfinished, work, description, item, shard)
    finally:
        if state.is_main_process:
            delete(unfinished)
    return list(files.values())


def _take_units(
    own: Mapping[str, int],
    files: Mapping[str, Path],
    unfinished: Path,
    work: Callable[[str], pa.Table],
    description: str,
    item: str,
    shard: Shard,
) -> None:
    state = PartialState()

    def done() -> int:
        return sum(count for name, count in own.items() if files[name].exists())

    if shard.is_part:
        logger.info("%s: shard %s has %d of %d units.", description, shard, len(own), len(files))
    before, total = done(), sum(own.values())
    if before:
        logger.info("%s: resuming, %d of %d done.", description, before, total)
    bar = Progress(logger, description, total, item, before, shown=state.is_main_process)
    counted = time.monotonic()
    for name in own:
        if files[name].exists() or not _claim(unfinished / name):
            continue
        result = work(name)
        with naming(files[name]):
            pq.write_table(result, unfinished / f"{name}.parquet")
            os.replace(unfinished / f"{name}.parquet", files[name])
        if state.is_main_process and time.monotonic() - counted > SECONDS_BETWEEN_COUNTS:
            bar.update(done())
            counted = time.monotonic()
    state.wait_for_everyone()
    _wait_to_see(files[name] for name in own)
    state.wait_for_everyone()  # whoever goes on may delete the files once all have looked
    if state.is_main_process:
        bar.update(done())
    bar.close()


def read_unit(file: Path) -> pa.Table:
    """
    The result of a unit.

    Raises:
        `ValueError`: the file is missing or damaged.
    """
    try:
        return pq.ParquetFile(file).read()  # not `read_table`, which takes `key=value` in a path for a column
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"The result of a unit of work, {str(file)!r}, can't be read ({reason}): the disk was full, or it was cut "
            "off by a copy. Delete that file and run the same command again: only what is missing is done."
        ) from error


class UnitRows:
    """
    The rows of some units in order, as often as they are asked for; one unit is in memory at a time.

    Args:
        files (`Sequence[Path]`):
            Results of the units.
    """

    def __init__(self, files: Sequence[Path]):
        self.files = files

    def __iter__(self) -> Iterator[dict]:
        for file in self.files:
            yield from read_unit(file).to_pylist()


def join_units(
    files: Sequence[Path], features: Features, joined: Path, rows: Callable[[pa.Table], pa.Table] = lambda unit: unit
) -> Dataset:
    """
    The results of units as one table, which is read from disk as it is needed.

    Args:
        files (`Sequence[Path]`):
            Results of the units, in order.
        features (`Features`):
            Columns and types of the table; other columns of the units are left out.
        joined (`Path`):
            Where the rows are kept, an Arrow file that has to stay while the table is in use.
        rows (`Callable[[pa.Table], pa.Table]`, *optional*):
            Makes the rows of the table from those of a unit; by default they are the same.

    Raises:
        `ValueError`: a file is missing or damaged.
    """
    joined.parent.mkdir(parents=True, exist_ok=True)
    with naming(joined), pa.OSFile(str(joined), "wb") as file, pa.ipc.new_stream(file, features.arrow_schema) as out:
        for unit in files:
            out.write_table(rows(read_unit(unit)).select(list(features)).cast(features.arrow_schema))
    return Dataset.from_file(str(joined))


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


def _launch_id(state: PartialState) -> str:
    """A name that all processes of this launch share and no earlier launch had."""
    holder = [uuid.uuid4().hex]
    if state.num_processes > 1:
        broadcast_object_list(holder)
    return holder[0]


def _claim(file: Path) -> bool:
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _sweep(left: Iterable[Path], keep: Path) -> None:
    """Deletes what launches that were killed left."""
    for path in left:
        if path != keep:
            delete(path)


def _wait_to_see(files: Iterable[Path]) -> None:
    """All processes are through, so all files are there; but another machine's may take a while to show."""
    latest = time.monotonic() + PATIENCE
    for file in files:
        while not file.exists():
            if time.monotonic() > latest:
                raise RuntimeError(f"{file} is missing, though its unit was taken. Run the same command again.")
            time.sleep(0.5)
