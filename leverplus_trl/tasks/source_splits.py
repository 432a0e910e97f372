# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Loads the splits of a dataset, and resolves slices to rows."""

import difflib
import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import datasets
from datasets import Dataset, DatasetDict
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as BUILDERS

from ..tables import load_split, reading_error, split_names
from .arguments import DataArguments


def read_splits(data_args: DataArguments, names: list[str], split: str, key: str) -> dict[str, Dataset]:
    """Loads whole splits of the dataset, by name; raises `ValueError`, which names the recipe key `key` and its value
    `split`, if the dataset, a file or a split does not exist or can't be read."""
    _check_files(data_args)
    dataset, tables = data_args.dataset, {}
    for name in names:
        try:
            on_disk = _on_disk(data_args)
            tables[name] = on_disk[name] if on_disk else load_split(split=name, **_source(data_args))
        except Exception as error:
            known = source_split_names(data_args)
            if known and name not in known:
                is_folder = name and os.path.isdir(os.path.join(os.path.expanduser(dataset), name))
                hint = f" Set `data_files: {{{name}: {name}/**}}` to read that folder." if is_folder else ""
                refuse_split(key, split, name, known, f"the dataset {dataset!r} has no split", hint)
            reason = reading_error(error)
            raise ValueError(f"Can't load split {name!r} of the dataset {dataset!r}: {reason}") from error
    return tables


def source_split_names(data_args: DataArguments) -> list[str]:
    """The names of the dataset's splits."""
    _check_files(data_args)
    try:
        return [str(name) for name in _on_disk(data_args) or split_names(**_source(data_args))]
    except Exception as error:
        hint = "" if "/" in data_args.dataset else did_you_mean(data_args.dataset, BUILDERS)
        raise ValueError(f"Can't load the dataset {data_args.dataset!r}: {reading_error(error)}.{hint}") from error


def refuse_split(key: str, split: str, name: str, known: Iterable[str], lacks: str, hint: str = "") -> NoReturn:
    """Raises `ValueError` for an unknown split `name`."""
    known = list(known)
    remedy = hint or did_you_mean(name, known) or f" Use one of these, or a slice such as {known[0]}[:60%]."
    raise ValueError(f"{key} is {split!r}, but {lacks} {name!r}, only {', '.join(known)}.{remedy}") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known name most similar to `name`, or an empty string."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def rows_of(split: str, sizes: Mapping[str, int], key: str) -> list[tuple[str, range]]:
    """
    Resolves splits and slices joined by `+`, such as `"train[:100]+validation[20%:]"`, to rows. `sizes` has the number
    of rows of each split. Raises `ValueError`, with the recipe key of `split`, for a wrong syntax or an empty slice.
    """
    first, lengths = next(iter(sizes)), ", ".join(f"{name!r} has {size} rows" for name, size in sizes.items())
    remedy = f"Write e.g. {first}[:100] or {first}[20%:80%], the start before the end; {lengths}."
    try:
        spans = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    except (AssertionError, ValueError) as error:
        raise ValueError(f"{key} is {split!r}, which is no split or slice of rows. {remedy}") from error
    rows_of_splits = [(span.splitname, range(span.from_, min(span.to, sizes[span.splitname]))) for span in spans]
    for name, rows in rows_of_splits:
        if not rows:
            raise ValueError(f"{key} is {split!r}, which names no row of {name!r}. {remedy}")
    return rows_of_splits


def _on_disk(data_args: DataArguments) -> dict[str, Dataset] | None:
    """The splits of a dataset that `save_to_disk` wrote, `None` for another dataset."""
    path = Path(data_args.dataset).expanduser()
    if not (path / "dataset_dict.json").is_file() and not (path / "state.json").is_file():
        return None
    loaded = datasets.load_from_disk(str(path))
    return dict(loaded) if isinstance(loaded, DatasetDict) else {str(loaded.split or "train"): loaded}


def _source(data_args: DataArguments) -> dict[str, Any]:
    return {
        "path_or_id": data_args.dataset,
        "config": data_args.dataset_config,
        "revision": data_args.dataset_revision,
        "data_files": data_args.data_files,
    }


def _check_files(data_args: DataArguments) -> None:
    """Raises `ValueError` for a local folder or local files that do not exist."""
    dataset, files = data_args.dataset, data_args.data_files
    if dataset.startswith(("/", "~", ".")) and not os.path.exists(os.path.expanduser(dataset)):
        remedy = "Set it to a folder, or to a dataset of the hub."
        raise ValueError(f"dataset is {dataset!r}, and there is no such folder. {remedy}")
    if dataset not in BUILDERS or os.path.isdir(dataset):
        return
    if not files:
        remedy = "Set the files of each split: `data_files: {train: FILE, test: FILE}`."
        raise ValueError(f"dataset is {dataset!r}, a kind of file, and no data_files are given. {remedy}")
    for group in files.values() if isinstance(files, Mapping) else [files]:
        for name in [group] if isinstance(group, str) else group:
            path = os.path.expanduser(name)
            if "://" not in name and not os.path.exists(path) and not glob.glob(path, recursive=True):
                folder = os.path.dirname(path) or "."
                near = did_you_mean(os.path.basename(path), os.listdir(folder) if os.path.isdir(folder) else [])
                hint = near or " Set it to a file that exists."
                message = f"data_files names {name!r}, and there is no such file in {os.path.abspath(folder)!r}."
                raise ValueError(message + hint)
