# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Some units of work without a model, to be run by the processes that tests start and kill."""

import hashlib
import os
import sys
import time
from pathlib import Path

import pyarrow as pa
from accelerate import PartialState

from leverplus_trl.run_folder import RunFolder, Shard
from leverplus_trl.work_units import run_units


RECIPE = {"seed": 0}
UNITS = {f"train-{number:06d}": 4 for number in range(40)}


def do_units(folder, shard=Shard(), pauses=None):  # noqa: B008
    """Does all units of a shard, and writes down each that is begun; a process pauses as long as its rank says."""
    state = PartialState(cpu=True)
    run = RunFolder(str(folder), "beams", RECIPE, shard=shard)
    pause = (pauses or {}).get(state.process_index, 0.03)

    def work(name):
        with open(folder / "begun", "a") as handle:
            handle.write(f"{os.getpid()} {state.process_index} {name}\n")
        time.sleep(pause)
        return pa.table({"unit": [name], "value": [hashlib.sha256(name.encode()).hexdigest()]})

    run_units(run, UNITS, work, "Testing")


if __name__ == "__main__":
    do_units(Path(sys.argv[1]), pauses=dict.fromkeys(range(8), float(sys.argv[2])))
