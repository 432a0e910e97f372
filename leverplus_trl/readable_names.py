# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Gives local folders and files names that `datasets` can read.

`datasets` interprets some characters of a path as a pattern (huggingface/datasets#7468), an environment variable or a
chain of paths, even in the name of an existing folder. It then finds no files, or files of other folders. It also
names its cache by the folder, which fails if that name is too long.
"""

import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets

from .output_files import UNFINISHED
from .provenance import json_hash


_ODD = re.compile(r"[*?\[\]$]|::")
LONGEST_NAME = 100
DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None


def cache_of(folder: Path) -> Path:
    """A cache folder for the current files of a local folder: `datasets` does not always detect changed files."""
    state = [(str(file.relative_to(folder)), *_state(file)) for file in _files(folder)]
    return _cache(str(folder.resolve()), state)


def readable_folder(folder: Path) -> str:
    """A name that `datasets` can read: the folder's own, or a folder of links to its files."""
    if not _is_odd(folder.resolve()):
        return os.path.abspath(folder)
    return _links(cache_of(folder), {str(file.relative_to(folder)): file for file in _files(folder)})


def readable_files(data_files: DataFiles) -> DataFiles:
    """`data_files` with names that `datasets` can read; the name of an existing file is not treated as a pattern."""
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
    """Files that may belong to a dataset: neither hidden nor a log."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(parent, name) for name in sorted(files) if not name.startswith(".") and name[-4:] != ".log"]
    return paths


def _state(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _cache(*key: object) -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE, "leverplus_trl", json_hash(list(key)))


def _links(cache: Path, files: Mapping[str, Path]) -> str:
    """A folder in the cache with links to these files; several processes may create it at the same time."""
    links = cache / "links"
    if not links.exists():
        unfinished = cache / f"{UNFINISHED}{uuid.uuid4().hex}"
        for name, file in files.items():
            link = unfinished / name
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(file.resolve())
            except OSError:  # Windows allows only administrators to create links
                shutil.copyfile(file, link)
        try:
            os.rename(unfinished, links)
        except OSError:
            if not links.exists():
                raise
            shutil.rmtree(unfinished)
    return str(links)
