# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that say where tables are shared."""

from dataclasses import dataclass

from .fields import documented, option


@documented
@dataclass
class HubArguments:
    """Hub: where a stage's tables are shared."""

    push_to_hub: str | None = option(
        "Dataset repository, user/name, that the tables are pushed to. Whether it can be written to is "
        "checked before the work begins; a stage that is complete only pushes.",
        None,
    )
    hub_private_repo: bool | None = option(
        "Whether that repository is private. If not given, the namespace decides when it is created.", None
    )

    def __post_init__(self):
        if self.push_to_hub is not None:
            from .hub import check_repo_id

            check_repo_id(self.push_to_hub)
