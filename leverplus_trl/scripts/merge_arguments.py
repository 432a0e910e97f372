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

"""The arguments of `leverplus merge`."""

from dataclasses import dataclass, field

from ..fields import check_fields
from .stage_arguments import OutputArguments


@dataclass
class MergeArguments(OutputArguments):
    """
    What is merged.

    Args:
        output_dir (`str`):
            The `output_dir` of the shards if they shared one; else where the tables are to go.
        shards (`list[str]`, *optional*):
            Folders of shards that had one each; they are left as they are.
    """

    output_dir: str = field(
        metadata={"help": "Folder that the shards shared, or where the tables are to go.", "path": "folder"}
    )
    shards: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of shards that had one each.", "path": "folder", "unique": True},
    )

    def __post_init__(self):
        check_fields(self)
