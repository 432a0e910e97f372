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

from pathlib import Path


def named_folder(entry: str) -> tuple[str | None, str]:
    """The name, if it has one, and the folder or hub id of `NAME=FOLDER`; a folder may have `=` in its own name."""
    name, equals, folder = entry.partition("=")
    return (None, entry) if not equals or Path(entry).exists() else (name, folder)
