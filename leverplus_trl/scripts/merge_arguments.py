# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The arguments of `leverplus merge`."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option
from ..stage_arguments import OutputArguments


@documented
@dataclass
class MergeArguments(OutputArguments):
    """Shards: what is merged."""

    output_dir: str = option("Folder that the shards shared, or where the tables are to go.", path="folder")
    shards: list[str] = option(
        "Folders of shards that had one each. They are not changed.", [], path="folder", unique=True
    )

    def __post_init__(self):
        check_fields(self)
