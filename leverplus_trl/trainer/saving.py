# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Saving a selector: its folder holds the old or the new selector, or no file that marks it as complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..output_files import UNFINISHED, delete, naming


#: The last file that is written to a selector's folder; it marks the selector as complete.
COMPLETE = "processor_config.json"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """
    A context with an empty folder to save into; on exit, the files move to `folder`.

    If saving fails, `folder` stays as it was. While files are moved, it has no [`COMPLETE`].
    """
    temporary = folder / f"{UNFINISHED}selector"
    try:
        with naming(folder, SafetensorError, RuntimeError):  # torch raises RuntimeError
            delete(temporary)  # left by a process that was killed
            temporary.mkdir(parents=True)
            yield temporary
            files = sorted(temporary.iterdir(), key=lambda file: (file.name == COMPLETE, file.name))
            (folder / COMPLETE).unlink(missing_ok=True)
            for file in files:
                os.replace(file, folder / file.name)
    finally:
        delete(temporary)
