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

"""The stage, run on official files that are written first."""

import json

from data_sources.official_formats import write_dataset

from leverplus_trl.data_sources import DATA_SOURCES
from leverplus_trl.scripts import prepare
from leverplus_trl.scripts.stage_arguments import StageArguments


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
