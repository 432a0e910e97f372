# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Local folders and files under names that `datasets` reads.

`datasets` takes some characters of a path for a pattern (huggingface/datasets#7468), a variable of the environment or
a chain of paths, also in a folder's own name: it then finds nothing, or, worse, files of other folders. And it names
its cache by the folder, which may be too long for that.
"""

import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets

from .output_files import UNFINISHED
from .provenance import digest


_ODD = re.compile(r"[*?\[\]$]|::")
LONGEST_NAME = 100
DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None


def cache_of(folder: Path) -> Path:
    """A cache for one state of a local folder, since that of `datasets` does not always look at the files."""
    state = [(str(file.relative_to(folder)), *_state(file)) for file in _files(folder)]
    return _cache(str(folder.resolve()), state)


def readable_folder(folder: Path) -> str:
    """The name under which `datasets` reads a folder: its own, or that of a folder of links to the files in it."""
    if not _is_odd(folder.resolve()):
        return os.path.abspath(folder)
    return _links(cache_of(folder), {str(file.relative_to(folder)): file for file in _files(folder)})


def readable_files(data_files: DataFiles) -> DataFiles:
    """What `data_files` names, under names that `datasets` reads; a file that is there is meant, not a pattern."""
    if isinstance(data_files, Mapping):
        return {split: readable_files(files) for split, files in data_files.items()}
    if isinstance(data_files, Sequence) and not isinstance(data_files, str):
        return [readable_files(file) for file in data_files]
    file = Path(os.path.expanduser(data_files)) if data_files else None
    if file is None or not file.is_file():
        return data_files
    path = file.resolve()
    if not _is_odd(path):
        return os.path.abspath(file)
    name = f"file{''.join(path.suffixes)}"
    return str(Path(_links(_cache(str(path), _state(path)), {name: path}), name))


def _is_odd(path: Path) -> bool:
    return bool(_ODD.search(str(path))) or len(os.fsencode(path.name)) > LONGEST_NAME


def _files(folder: Path) -> list[Path]:
    """Those that may belong to a dataset: neither hidden nor a log."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in sorted(files) if not name.startswith(".") and name[-4:] != ".log"]
    return found


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _cache(*key: object) -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE, "leverplus_trl", digest(list(key)))


def _links(cache: Path, files: Mapping[str, Path]) -> str:
    """A folder in the cache with these files under these names; processes may ask for it at the same time."""
    links = cache / "links"
    if not links.exists():
        unfinished = cache / f"{UNFINISHED}{uuid.uuid4().hex}"
        for name, file in files.items():
            link = unfinished / name
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(file.resolve())
            except OSError:  # Windows allows links to administrators
                shutil.copyfile(file, link)
        try:
            os.rename(unfinished, links)
        except OSError:
            if not links.exists():
                raise
            shutil.rmtree(unfinished)
    return str(links)
