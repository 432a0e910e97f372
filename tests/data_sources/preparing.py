# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The stage, run on official files that are written first."""

import json

from data_sources.official_formats import write_dataset

from leverplus_trl.data_sources import DATA_SOURCES
from leverplus_trl.scripts import prepare
from leverplus_trl.stage_arguments import StageArguments


SIZES = {"train": 7, "validation": 4, "test": 3}


def sizes_of(name):
    """The splits of a dataset, as small as the fixtures are."""
    return {split: SIZES[split] for split in DATA_SOURCES[name].counts}


def prepared(tmp_path, name, **changes):
    """Runs the stage on official files, which are written if they are not there, and gives the output folder."""
    root = tmp_path / "official"
    if not root.exists():
        write_dataset(name, root, sizes_of(name))
    output = tmp_path / changes.pop("to", "examples")
    changes = {"root": str(root), "allow_other_counts": True} | changes
    prepare.main(StageArguments(), prepare.PrepareArguments(dataset=name, output_dir=str(output), **changes))
    return output


def edit_json(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
