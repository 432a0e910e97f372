# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

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
