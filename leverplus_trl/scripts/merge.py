# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
After a job array: the results of all shards become the tables that a single launch would have written.

```bash
leverplus merge --output_dir outputs/demo/beams                                  # shards that shared one folder
leverplus merge --output_dir outputs/demo/beams --shards node0/beams node1/beams # shards with a folder each
```

Nothing is loaded but what the shards left, and for `evaluate` the examples, which predictions are judged by: no VLM,
so any machine that has the dataset will do.
"""

import json
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from accelerate import PartialState

from ..hub import check_writable
from ..launch import run_stage_here
from ..log import set_up_log
from ..run_folder import RECORD, RunFolder, differences, read_record
from ..tables import push_tables, table_split
from ..work_units import MANIFEST, files_by_split
from . import beams, evaluate, parsers, rollouts
from .arguments import MergeArguments


logger = logging.getLogger("leverplus_trl.scripts.merge")  # as a module that is run, __name__ is "__main__"

#: Stages that can be cut into shards; each has `LAST_FILE` and `finish`.
SCRIPTS = {"beams": beams, "rollouts": rollouts, "evaluate": evaluate}


make_parser = partial(parsers.make_parser, "merge")


def main(merge_args: MergeArguments) -> None:
    state = PartialState(cpu=True)
    set_up_log(True, 0, merge_args.quiet, merge_args.verbose)
    if state.num_processes > 1:
        raise ValueError(f"`leverplus merge` was started in {state.num_processes} processes; it takes one.")
    output = Path(merge_args.output_dir)
    folders = [output] if (output / RECORD).exists() or not merge_args.shards else []
    folders += [Path(shard) for shard in merge_args.shards]
    provenance = read_provenance(folders)
    if folders[0] != output:
        provenance["recipe"]["output_dir"] = merge_args.output_dir
    script, recipe = SCRIPTS[provenance["stage"]], provenance["recipe"]
    share = recipe.get("push_to_hub")
    if share:
        check_writable(share, "dataset", recipe["hub_private_repo"])
    run = RunFolder.of_record(merge_args.output_dir, provenance)
    if run.is_complete(script.LAST_FILE):
        pass
    elif script is evaluate and (run.path / evaluate.ANSWERED).exists():
        evaluate.write_summary(run)
    else:
        files = find_units(folders, provenance)
        splits = recipe["query_splits"] if "query_splits" in recipe else [recipe["eval_split"]]
        script.finish(run, files_by_split(map(table_split, splits), files.values()))
    if share:
        push_tables(run.path, share, recipe["hub_private_repo"])


def read_provenance(folders: Sequence[Path]) -> dict:
    """
    What all the folders were made by.

    Raises:
        `ValueError`: a folder without a record, of a stage that has no shards, or made by another recipe than the
            first one.
    """
    found = []
    for folder in folders:
        try:
            provenance = read_record(folder)
        except FileNotFoundError as error:
            raise ValueError(
                f"{str(folder)!r} has no {RECORD}: no stage has begun to write there. Name the `output_dir` of "
                "the shards, or with `--shards` the folder of each."
            ) from error
        if provenance["stage"] not in SCRIPTS:
            raise ValueError(
                f"{str(folder)!r} was written by the stage {provenance['stage']!r}; only {', '.join(SCRIPTS)} can be "
                "cut into shards and merged."
            )
        found.append(provenance)
        different = differences(found[0], provenance)
        if different:
            raise ValueError(
                f"{str(folder)!r} was made by another recipe than {str(folders[0])!r} ({different}). Merge shards of "
                "one recipe; outputs of different recipes are never mixed."
            )
    return found[0]


def find_units(folders: Sequence[Path], provenance: Mapping) -> dict[str, Path]:
    """
    The result file of every unit of the job, in order.

    Raises:
        `ValueError`: nobody has begun, what stands beside the units differs between the folders, or units are missing;
            the message names the shards that lack them and the command that does them.
    """
    begun = [folder / "units" for folder in folders if (folder / "units" / MANIFEST).exists()]
    if not begun:
        raise ValueError(f"No shard of {str(folders[0])!r} has begun with its units; there is nothing to merge.")
    for name in sorted({file.name for units in begun for file in units.glob("*.json")}):
        odd = [units for units in begun if (units / name).read_bytes() != (begun[0] / name).read_bytes()]
        if odd:
            raise ValueError(
                f"{str(odd[0] / name)!r} says something else than {str(begun[0] / name)!r}, though the recipe is the "
                "same: the machines don't agree. Delete the folder of one and run its shard again on the other."
            )
    units = json.loads((begun[0] / MANIFEST).read_text(encoding="utf-8"))
    files = {
        name: next((file for folder in begun if (file := folder / f"{name}.parquet").exists()), None) for name in units
    }
    missing = [number for number, file in enumerate(files.values()) if file is None]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(files)} units are missing: " + what_to_run(folders, provenance["stage"], missing)
        )
    return files


def what_to_run(folders: Sequence[Path], stage: str, missing: Sequence[int]) -> str:
    """Which shards lack how many units, by the number of shards that was used last, and how to do them."""
    logs = [log for folder in folders for log in folder.glob("run-*-of-*.log")]
    command = shlex.join(["leverplus", stage, "--config", str(folders[0] / "recipe.yaml")])
    if not logs:
        return f"run `{command}` again, which also writes the tables."
    count = int(max(logs, key=lambda log: log.stat().st_mtime).stem.rpartition("-")[2])
    lacking = Counter(number % count for number in missing)
    named = ", ".join(f"shard {index} of {count} lacks {lacking[index]}" for index in sorted(lacking))
    command += f" --num_shards {count} --shard_index {min(lacking)}"
    if folders[0].resolve() != folders[-1].resolve():
        command += " --output_dir FOLDER_OF_THE_SHARD"
    return f"{named} (counted from 0). Run each of them (again), e.g. `{command}`, then merge."


if __name__ == "__main__":
    sys.exit(run_stage_here("merge", sys.argv[1:]))
