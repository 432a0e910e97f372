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

"""Reads recipes."""

import os


def named_folder(entry: str) -> tuple[str | None, str]:
    """
    Splits `NAME=FOLDER` into the name and the folder or hub id.

    A folder may have `=` in its own name, too: what stands before the first `=` is a name only if it has no `/`, and
    if there is no folder of the whole name.

    Returns:
        `tuple[str | None, str]`: the name, if there is one, and the folder or hub id.

    Raises:
        `ValueError`: both readings name a folder.
    """
    name, equals, folder = entry.partition("=")
    whole, folder = os.path.expanduser(entry), os.path.expanduser(folder)
    if not equals or not name or set(name) & {"/", "\\"}:
        return None, whole
    if not os.path.exists(whole):
        return name, folder
    if os.path.exists(folder):
        raise ValueError(
            f"{entry!r} names the folder {entry!r}, or {folder!r} under the name {name!r}; both are there. Write "
            f"'./{entry}' for the first, or '{name}=./{folder}' for the second."
        )
    return None, whole
