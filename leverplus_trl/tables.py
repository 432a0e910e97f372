# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Writes, reads and pushes tables as dataset folders: parquet files and a card that `datasets.load_dataset` reads."""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from datasets import Dataset, Features
from datasets.data_files import SPLIT_KEYWORDS
from datasets.exceptions import DatasetGenerationError
from datasets.packaged_modules.csv.csv import Csv
from huggingface_hub import CommitInfo, hf_hub_download
from jinja2 import Environment, PackageLoader, StrictUndefined

from .hub import CARD, push_files
from .log import doing
from .output_files import UNFINISHED, naming, write_atomically
from .provenance import json_hash, overlap_sentence
from .text_files import METADATA_FILES, read_text_split


_ODD = re.compile(r"[*?\[\]$]|::")
_LONGEST_NAME = 100
DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None


@doing("writing the tables to {folder}")
def write_tables(
    folder: Path, tables: Mapping[str, Mapping[str, Dataset]], title: str, text: str, provenance: dict
) -> None:
    """
    Writes a dataset folder: `tables` as `{config: {split: table}}`, and a card with a title, a text in Markdown and
    the provenance in its metadata. Existing files are replaced, the card last; older files of the tables are deleted.
    """
    overlap = provenance.get("facts", {}).get("overlap", {})
    text = "\n\n".join([text, *(overlap_sentence(split, facts) for split, facts in overlap.items())])
    configs = []
    for config, splits in tables.items():
        paths = {split: _write_parquet(folder / "data", f"{config}-{split}", table) for split, table in splits.items()}
        data_files = [{"split": split, "path": path} for split, path in paths.items()]
        configs.append({"config_name": config, "data_files": data_files})
    metadata = {"configs": configs, "tags": ["leverplus_trl"], "leverplus_trl": provenance}
    environment = Environment(
        loader=PackageLoader("leverplus_trl"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    card = environment.get_template("dataset_card.md.jinja").render(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True), title=title, text=text, tables=tables
    )
    write_atomically(folder / CARD, card.encode())
    named = _named_files(configs)
    for config in tables:
        for file in (folder / "data").glob(f"{config}-*.parquet"):
            if f"data/{file.name}" not in named:
                file.unlink()


def _named_files(configs: list[dict]) -> list[str]:
    """The files that the metadata of a card names."""
    return [files["path"] for config in configs for files in config["data_files"]]


def _write_parquet(folder: Path, name: str, table: Dataset) -> str:
    """
    Writes a table and returns the file name relative to the parent of `folder`.

    The name contains a hash of the content, because `datasets` names its cache by the folder and the patterns in the
    card, not by the content of the files.
    """
    temporary = folder / f"{UNFINISHED}{uuid.uuid4().hex}"
    try:
        with naming(folder / name):
            folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:  # `datasets` would interpret `::` in a path as a chain of paths
                table.to_parquet(file)
            written = f"{name}-{file_hash(temporary)}.parquet"
            os.replace(temporary, folder / written)
    finally:
        temporary.unlink(missing_ok=True)
    return f"{folder.name}/{written}"


@doing("pushing the tables to {repo_id!r}")
def push_tables(folder: Path | str, repo_id: str, private: bool | None = None, **kwargs) -> CommitInfo:
    """
    Pushes the tables and the card that [`write_tables`] wrote to the dataset repository `repo_id` in one commit.

    Files of these tables from earlier pushes that the card does not name are deleted. `**kwargs` are `token`,
    `revision` and `message` of [`push_files`]. Raises `ValueError` if the folder has no tables of leverplus_trl, a
    file that its card names is missing, or the repository can't be written to.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r} with tables to push.")
    table_provenance(str(folder))
    configs = _card_metadata(folder / CARD)["configs"]
    files = {name: folder / name for name in (CARD, *_named_files(configs))}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise ValueError(f"The card of {str(folder)!r} names {missing[0]!r}, which does not exist.")
    replaces = tuple(f"data/{config['config_name']}-" for config in configs)
    return push_files(files, repo_id, "dataset", private, replaces=replaces, **kwargs)


def file_hash(path: Path) -> str:
    """A hash of a file's content, 12 hex digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:12]


def load_split(path_or_id: str, config: str | None, split: str, **kwargs) -> Dataset:
    """
    Loads a split like `datasets.load_dataset`, with two differences: the cache of a local folder depends on its files,
    so the result is never that of another folder or of older files; and CSV and JSON files are read as text (see
    [`~text_files.read_text_split`]).

    Raises an `Exception` of any class, which [`reading_error`] puts in a line.
    """
    builder, kwargs = _builder(path_or_id, config, kwargs)
    table = read_text_split(builder, split, kwargs.get("cache_dir"))
    if table is None:
        if isinstance(builder, Csv):  # with options that read_text_split does not support; "NA" remains a text
            kwargs |= {"keep_default_na": False, "na_values": builder.config.na_values or [""]}
            builder, _ = _builder(path_or_id, config, kwargs)
        builder.download_and_prepare()
        table = builder.as_dataset(split=split)
    return table


def split_names(path_or_id: str, config: str | None, **kwargs) -> list[str]:
    """The names of the splits that [`load_split`] can load; raises the same errors."""
    builder, _ = _builder(path_or_id, config, kwargs)
    return [name for name, files in (builder.config.data_files or {}).items() if files]


def _builder(path_or_id: str, config: str | None, kwargs: dict) -> tuple[datasets.DatasetBuilder, dict]:
    """The builder of a dataset, and its keyword arguments."""
    folder = Path(os.path.expanduser(path_or_id))
    if folder.is_dir():
        path_or_id, kwargs = readable_folder(folder), kwargs | {"cache_dir": str(_cache_of(folder))}
        kwargs["data_files"] = kwargs.get("data_files") or _image_folders(folder)
    if kwargs.get("data_files"):
        kwargs = kwargs | {"data_files": readable_files(kwargs["data_files"])}
    return datasets.load_dataset_builder(path_or_id, config, **kwargs), kwargs


def _image_folders(folder: Path) -> dict[str, list[str]] | None:
    """The subfolders with metadata of images, by split: `datasets` ignores splits other than train, validation and
    test."""
    card = folder / CARD
    if any((folder / name).is_file() for name in METADATA_FILES) or (card.is_file() and _card_metadata(card)):
        return None
    splits: dict[str, list[str]] = {}
    known = {word: str(split) for split, words in SPLIT_KEYWORDS.items() for word in words}
    for file in sorted(file for name in METADATA_FILES for file in folder.glob(f"*/{name}")):
        splits.setdefault(known.get(file.parent.name, file.parent.name), []).append(f"{file.parent.name}/**")
    return splits or None


# `datasets` interprets some characters of a path as a pattern (huggingface/datasets#7468), an environment variable or
# a chain of paths, even in the name of an existing folder, and then reads no files, or files of other folders. It also
# names its cache by the folder, which fails if that name is too long. Such folders and files are read through links.


def readable_folder(folder: Path) -> str:
    """A name that `datasets` can read: the folder's own, or a folder of links to its files."""
    if not _is_odd(folder.resolve()):
        return os.path.abspath(folder)
    return _links(_cache_of(folder), {str(file.relative_to(folder)): file for file in _files(folder)})


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
    return bool(_ODD.search(str(path))) or len(os.fsencode(path.name)) > _LONGEST_NAME


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


def _cache_of(folder: Path) -> Path:
    """A cache folder for the current files of a local folder: `datasets` does not always detect changed files."""
    state = [(str(file.relative_to(folder)), *_state(file)) for file in _files(folder)]
    return _cache(str(folder.resolve()), state)


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


def table_split(split: str) -> str:
    """The name of a split or slice in tables, without brackets: `train[60%:80%]` is `train_60pct_to_80pct`."""
    names = []
    for part in split.replace(" ", "").split("+"):
        name, bracket, span = part.partition("[")
        start, _, end = span.removesuffix("]").partition(":")
        span = f"_{start or 'start'}_to_{end or 'end'}" if bracket else ""
        names.append(re.sub(r"\W+", "_", name + span.replace("%", "pct").replace("-", "minus")))
    return "_and_".join(names)


def holding_split(split: str, known: Sequence[str]) -> str:
    """The split of a table, of those `known`, with the queries of a split or slice: its own, or the whole split."""
    return table_split(split) if table_split(split) in known else split.split("[")[0]


def reading_error(error: Exception) -> str:
    """The reason why [`load_split`] failed, in one line; `datasets` often hides it in the cause of its error."""
    while isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError | OSError) and text else f"{type(error).__name__}: {text}"


@doing("reading the table {config!r} of {path_or_id!r}")
def read_table(path_or_id: str, config: str, split: str, features: Features, revision: str | None = None) -> Dataset:
    """
    Reads the columns `features` of a table from a folder or from the hub.

    Raises `ValueError` if the table, the split or a column does not exist, or a number is NaN or infinite.
    """
    try:
        table = load_split(path_or_id, config, split, revision=revision)
    except Exception as error:
        raise ValueError(
            f"Can't read the table {config!r} (split {split!r}) of {path_or_id!r}: {reading_error(error)}"
        ) from error
    missing = [name for name in features if name not in table.column_names]
    if missing:
        raise ValueError(
            f"The table {config!r} of {path_or_id!r} has no column {missing[0]!r}; it has {table.column_names}. It is "
            "another table, or another version of leverplus_trl wrote it: write it again."
        )
    table = table.select_columns(list(features)).cast(features)
    _check_finite(table, f"The table {config!r} (split {split!r}) of {path_or_id!r}")
    return table


def _check_finite(table: Dataset, name: str) -> None:
    """Raises `ValueError` for a number, also in lists, that is NaN or infinite."""
    start = 0
    for batch in table.data.to_batches():
        for column in batch.schema.names:
            values, rows = batch[column], pa.array(np.arange(len(batch)))  # rows: the row of each value
            while pa.types.is_list(values.type):
                rows = rows.take(pc.list_parent_indices(values))
                values = values.flatten()
            if pa.types.is_floating(values.type):
                broken = rows.filter(pc.invert(pc.is_finite(values)))
                if len(broken):
                    row = table[start + broken[0].as_py()]
                    raise ValueError(
                        f"{name} holds {row[column]} in column {column!r} of {row.get('query_id')!r}; expected finite "
                        "numbers. Write the table again, with `dtype: bfloat16` or `dtype: float32`."
                    )
        start += len(batch)


def splits_of(path_or_id: str, config: str, revision: str | None = None) -> list[str]:
    """Names of the splits of a table."""
    try:
        return split_names(path_or_id, config, revision=revision)
    except (FileNotFoundError, ValueError, ConnectionError) as error:
        raise _no_table(path_or_id, error) from error


def _no_table(path_or_id: str, error: Exception) -> ValueError:
    return ValueError(
        f"There is no folder {path_or_id!r} with tables, nor can a dataset of that name be read from the hub "
        f"({error}). Run the stage that writes it first."
    )


def table_provenance(path_or_id: str, revision: str | None = None) -> dict[str, Any]:
    """The provenance that [`write_tables`] stored in the card. Raises `ValueError` if there is none."""
    card = Path(os.path.expanduser(path_or_id)) / CARD
    if not card.exists():
        if card.parent.exists():
            raise ValueError(f"{path_or_id!r} has no README.md, so the provenance of its tables is unknown.")
        try:
            card = Path(hf_hub_download(path_or_id, CARD, repo_type="dataset", revision=revision))
        except (OSError, ValueError) as error:  # no such repository, no connection, or an invalid name
            raise _no_table(path_or_id, error) from error
    metadata = _card_metadata(card)
    if "leverplus_trl" not in metadata:
        raise ValueError(f"The card of {path_or_id!r} does not say what made its tables (no `leverplus_trl` entry).")
    return metadata["leverplus_trl"]


def _card_metadata(card: Path) -> dict[str, Any]:
    # Only dashes at the beginning of a line end the metadata: dashes in a prompt of a recipe are indented.
    match = re.match(r"---\n(.*?\n)---\n", card.read_text(encoding="utf-8"), re.DOTALL)
    return yaml.safe_load(match[1]) if match else {}
