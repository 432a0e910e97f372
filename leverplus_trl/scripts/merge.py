# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
After a job array: the results of all shards become the tables that a single launch would have written.

```bash
leverplus merge --output_dir outputs/demo/beams                                  # shards that shared one folder
leverplus merge --output_dir outputs/demo/beams --shards node0/beams node1/beams # shards with a folder each
```

It reads the folders of the shards and, for `evaluate`, the examples, and loads no VLM: any machine with the dataset
will do.
"""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from accelerate import PartialState

from ..hub import check_writable
from ..log import set_up_log
from ..run_folder import RECORD, RunFolder, differences, read_record
from ..tables import push_tables, table_split
from ..work_units import MANIFEST, files_by_split
from . import beams, evaluate, parsers, rollouts
from .arguments import MergeArguments


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
    if not run.is_complete(script.LAST_FILE):
        if script is evaluate and (run.path / evaluate.ANSWERED).exists():
            evaluate.write_summary(run)
        else:
            files = find_units(folders, provenance)
            splits = recipe["query_splits"] if "query_splits" in recipe else [recipe["eval_split"]]
            script.finish(run, files_by_split(map(table_split, splits), files))
    if share:
        push_tables(run.path, share, recipe["hub_private_repo"])


def read_provenance(folders: Sequence[Path]) -> dict:
    """The provenance of the first folder; raises `ValueError` if a folder has none, if its stage has no shards, or if
    folders were made by different recipes."""
    records = []
    for folder in folders:
        try:
            records.append(read_record(folder))
        except FileNotFoundError as error:
            raise ValueError(
                f"{str(folder)!r} has no {RECORD}: no stage has begun to write there. Name the `output_dir` of "
                "the shards, or with `--shards` the folder of each."
            ) from error
        if records[-1]["stage"] not in SCRIPTS:
            raise ValueError(
                f"{str(folder)!r} was written by the stage {records[-1]['stage']!r}; only {', '.join(SCRIPTS)} can be "
                "cut into shards and merged."
            )
        different = differences(records[0], records[-1])
        if different:
            raise ValueError(
                f"{str(folder)!r} was made by another recipe than {str(folders[0])!r} ({different}). Merge shards of "
                "one recipe; outputs of different recipes are never mixed."
            )
    return records[0]


def find_units(folders: Sequence[Path], provenance: Mapping) -> list[Path]:
    """The result file of every unit of the job, in order; raises `ValueError` if no unit was begun, if other files of
    the shards differ, or if units are missing, with the shards that lack them and the command that does them."""
    begun = [folder / "units" for folder in folders if (folder / "units" / MANIFEST).exists()]
    if not begun:
        raise ValueError(f"No shard of {str(folders[0])!r} has begun with its units; there is nothing to merge.")
    for name in sorted({file.name for units in begun for file in units.glob("*.json")}):
        odd = [units for units in begun if (units / name).read_bytes() != (begun[0] / name).read_bytes()]
        if odd:
            raise ValueError(
                f"{str(odd[0] / name)!r} says something else than {str(begun[0] / name)!r}, though the recipe is the "
                "same: the machines don't agree. Delete a folder and run its shard again on the other machine."
            )
    files, missing = [], []
    for number, name in enumerate(json.loads((begun[0] / MANIFEST).read_text(encoding="utf-8"))):
        results = [units / f"{name}.parquet" for units in begun if (units / f"{name}.parquet").exists()]
        files += results[:1]
        missing += [] if results else [number]
    if missing:
        total = len(files) + len(missing)
        advice = what_to_run(folders, provenance["stage"], missing)
        raise ValueError(f"{len(missing)} of {total} units are missing: {advice}")
    return files


def what_to_run(folders: Sequence[Path], stage: str, missing: Sequence[int]) -> str:
    """Which shards lack how many units, by the number of shards that was used last, and how to do them."""
    logs = [log for folder in folders for log in folder.glob("run-*-of-*.log")]
    command = shlex.join(["leverplus", stage, "--config", str(folders[0] / "recipe.yaml")])
    if not logs:
        return f"run `{command}` again, which also writes the tables."
    count = int(max(logs, key=lambda log: log.stat().st_mtime).stem.rpartition("-")[2])
    lacking = Counter(number % count for number in missing)
    shards = ", ".join(f"shard {index} of {count} lacks {lacking[index]}" for index in sorted(lacking))
    command += f" --num_shards {count} --shard_index {min(lacking)}"
    if folders[0].resolve() != folders[-1].resolve():
        command += " --output_dir FOLDER_OF_THE_SHARD"
    return f"{shards} (counted from 0). Run each of them (again), e.g. `{command}`, then merge."


if __name__ == "__main__":
    parsers.run_script("merge")
