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

"""Saving a selector so that its folder holds a whole one, old or new, or none that counts as complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..output_files import UNFINISHED, delete, naming


#: What is put into a selector's folder last: where it stands, everything else does.
COMPLETE = "processor_config.json"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """
    Gives an empty folder to save into, and moves the files over when that has gone well.

    Saving is what takes time and can fail; it leaves the folder as it was. While files are moved, [`COMPLETE`] is not
    there.

    Args:
        folder (`Path`):
            Where the files go in the end.
    """
    temporary = folder / f"{UNFINISHED}selector"
    try:
        with naming(folder, SafetensorError, RuntimeError):  # the latter is what torch raises
            delete(temporary)  # of a process that was killed
            temporary.mkdir(parents=True)
            yield temporary
            files = sorted(temporary.iterdir(), key=lambda file: (file.name == COMPLETE, file.name))
            (folder / COMPLETE).unlink(missing_ok=True)
            for file in files:
                os.replace(file, folder / file.name)
    finally:
        delete(temporary)
