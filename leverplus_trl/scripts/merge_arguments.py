# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The arguments of `leverplus merge`."""

from dataclasses import dataclass, field

from ..fields import check_fields
from ..stage_arguments import OutputArguments


@dataclass
class MergeArguments(OutputArguments):
    """
    Shards: what is merged.

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
