# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that say where tables are shared."""

from dataclasses import dataclass, field


@dataclass
class HubArguments:
    """
    Hub: where a stage's tables are shared.

    Args:
        push_to_hub (`str`, *optional*):
            Dataset repository, `user/name`, that the tables are pushed to when they are complete. Whether it can be
            written to is asked before the work begins. A stage that is complete already only pushes.
        hub_private_repo (`bool`, *optional*, defaults to what the namespace does by default):
            Whether the repository is private when it is created.
    """

    push_to_hub: str | None = field(
        default=None, metadata={"help": "Dataset repository, user/name, that the tables are pushed to."}
    )
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether that repository is private."})

    def __post_init__(self):
        if self.push_to_hub is not None:
            from .hub import check_repo_id

            check_repo_id(self.push_to_hub)
