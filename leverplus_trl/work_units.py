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

"""Long work in units that any process may take: resumable, and the same bytes for any number of processes.

A unit is defined by the work, never by the rank that does it. Its result is one parquet file, written under a
temporary name and renamed, so a file that is there is whole. Whoever starts again goes on with the units that are
missing.
"""

import logging
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm


logger = logging.getLogger(__name__)


def run_units(
    folder: Path, units: Mapping[str, int], work: Callable[[str], pa.Table], description: str, item: str = "query"
) -> list[Path]:
    """
    Does the units that are missing in `folder`, together with the other processes of this launch.

    Units are taken, not dealt: a process that is done with one claims the next free one, so uneven speeds balance out.

    Args:
        folder (`Path`):
            Where the results of the units are kept.
        units (`Mapping[str, int]`):
            Names of the units, in order, and how many items each holds (for the progress bar).
        work (`Callable[[str], pa.Table]`):
            Does one unit; its result must depend on the unit alone.
        description (`str`):
            What the progress bar says.
        item (`str`, *optional*, defaults to `"query"`):
            What the progress bar counts.

    Returns:
        `list[Path]`: the result files of all units, in order, once every process is done.

    Raises:
        `RuntimeError`: units are missing at the end, because a process died; starting again does them.
    """
    state = PartialState()
    folder.mkdir(parents=True, exist_ok=True)
    claims = folder / f".claims-{_launch_id(state)}"
    claims.mkdir(exist_ok=True)
    files = {name: folder / f"{name}.parquet" for name in units}
    # Claims of a launch that was killed mean nothing, nor do its half-written files.
    if state.is_main_process:
        _sweep(folder, keep=claims)
    state.wait_for_everyone()

    def done() -> int:
        return sum(count for name, count in units.items() if files[name].exists())

    before = done()
    if before:
        logger.info("%s: resuming, %d of %d done.", description, before, sum(units.values()))
    bar = tqdm(
        total=sum(units.values()), initial=before, desc=description, unit=item, disable=not state.is_main_process
    )
    for name in units:
        if files[name].exists() or not _claim(claims / name):
            continue
        table = work(name)
        temporary = folder / f".{name}.{os.getpid()}"
        pq.write_table(table, temporary)
        os.replace(temporary, files[name])
        if state.is_main_process:
            bar.update(done() - bar.n)
            logger.info("%s: %d of %d.", description, bar.n, bar.total)
    state.wait_for_everyone()
    if state.is_main_process:
        bar.update(done() - bar.n)
        shutil.rmtree(claims)
    bar.close()
    missing = [name for name in units if not files[name].exists()]
    state.wait_for_everyone()  # whoever goes on may delete the files once all have looked
    if missing:
        raise RuntimeError(
            f"{len(missing)} units of {folder} are missing, e.g. {missing[0]}. Run the same command again."
        )
    return list(files.values())


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


def _sweep(folder: Path, keep: Path) -> None:
    for left in folder.glob(".*"):
        if left == keep:
            continue
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
