# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Tables as ordinary dataset folders: parquet, and a card whose metadata lets `datasets.load_dataset` find them."""

import hashlib
import os
import re
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

from .activity import doing
from .hub import push_files
from .output_files import UNFINISHED, naming, write_atomically
from .provenance import overlap_sentence
from .readable_names import cache_of, readable_files, readable_folder
from .text_files import METADATA_FILES, read_text_split


@doing("writing the tables to {folder}")
def write_tables(
    folder: Path, tables: Mapping[str, Mapping[str, Dataset]], title: str, text: str, provenance: dict
) -> None:
    """
    Writes a dataset folder.

    Args:
        folder (`Path`):
            Where to; what stands there already is replaced file by file, the card last. Files of these tables that
            the new card does not name are deleted.
        tables (`Mapping[str, Mapping[str, Dataset]]`):
            `{config: {split: table}}`.
        title (`str`):
            Heading of the card.
        text (`str`):
            What the tables hold, in Markdown.
        provenance (`dict`):
            What made them; stands in the card's metadata.
    """
    overlap = provenance.get("facts", {}).get("overlap", {})
    text = "\n\n".join([text, *(overlap_sentence(split, found) for split, found in overlap.items())])
    configs = []
    for config, splits in tables.items():
        data_files = []
        for split, table in splits.items():
            name = _write_parquet(folder / "data", f"{config}-{split}", table)
            data_files.append({"split": split, "path": name})
        configs.append({"config_name": config, "data_files": data_files})
    metadata = {"configs": configs, "tags": ["leverplus_trl"], "leverplus_trl": provenance}
    environment = Environment(
        loader=PackageLoader("leverplus_trl"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    card = environment.get_template("dataset_card.md.jinja").render(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True), title=title, text=text, tables=tables
    )
    write_atomically(folder / "README.md", card.encode())
    named = {files["path"] for config in configs for files in config["data_files"]}
    for config in tables:
        for file in (folder / "data").glob(f"{config}-*.parquet"):
            if f"data/{file.name}" not in named:
                file.unlink()


def _write_parquet(folder: Path, name: str, table: Dataset) -> str:
    """
    Writes a table, and gives its file's name from above `folder`.

    `datasets` names its cache by the folder's last name and the patterns in the card, not by what is in the files:
    with the content in the names, another table is another entry.
    """
    temporary = folder / f"{UNFINISHED}{uuid.uuid4().hex}"
    try:
        with naming(folder / name):
            folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:  # not by its path, in which `datasets` sees `::` as a chain of paths
                table.to_parquet(file)
            written = f"{name}-{file_digest(temporary)}.parquet"
            os.replace(temporary, folder / written)
    finally:
        temporary.unlink(missing_ok=True)
    return f"{folder.name}/{written}"


@doing("pushing the tables to {repo_id!r}")
def push_tables(folder: Path | str, repo_id: str, private: bool | None = None, **kwargs) -> CommitInfo:
    """
    Pushes a dataset folder to the hub: all its tables and splits, with the card and what made them, in one commit.

    Files of these tables that an earlier push left there go away, as in [`write_tables`].

    Args:
        folder (`Path`):
            What [`write_tables`] wrote.
        repo_id (`str`):
            Dataset repository, `user/name`; created if there is none.
        private (`bool`, *optional*):
            Whether it is private when it is created.
        **kwargs:
            `token`, `revision` and `message` of [`push_files`].

    Raises:
        `ValueError`: the folder holds no tables of this project, a file that its card names is missing, or the
            repository can't be written to.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r} with tables to push.")
    table_provenance(str(folder))
    configs = _card_metadata(folder / "README.md")["configs"]
    named = [files["path"] for config in configs for files in config["data_files"]]
    missing = [name for name in named if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"The card of {str(folder)!r} names {missing[0]!r}, which is not there.")
    files = {name: folder / name for name in ("README.md", *named)}
    replaces = tuple(f"data/{config['config_name']}-" for config in configs)
    return push_files(files, repo_id, "dataset", private, replaces=replaces, **kwargs)


def file_digest(path: Path) -> str:
    """Short hash of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:12]


def load_split(path_or_id: str, config: str | None, split: str, **kwargs) -> Dataset:
    """
    One split of a dataset as `datasets.load_dataset` gives it, with two differences: it is never what another
    local folder, or an older state of this one, held, and CSV and JSON files are read as text (see
    [`~text_files.read_text_split`]).

    For a folder with a card the cache of `datasets` does not look at the files (see [`write_tables`]), so each state
    of a local folder gets a cache of its own.

    Raises:
        `Exception`: no such dataset, configuration or split, or files that can't be read; see [`reading_error`].
    """
    builder, kwargs = _builder(path_or_id, config, kwargs)
    table = read_text_split(builder, split, kwargs.get("cache_dir"))
    if table is None:
        if isinstance(builder, Csv):  # with options of its own; words such as "NA" are words there, too
            kwargs |= {"keep_default_na": False, "na_values": builder.config.na_values or [""]}
            builder, _ = _builder(path_or_id, config, kwargs)
        builder.download_and_prepare()
        table = builder.as_dataset(split=split)
    return table


def split_names(path_or_id: str, config: str | None, **kwargs) -> list[str]:
    """The names of the splits that [`load_split`] can load; raises what it raises."""
    builder, _ = _builder(path_or_id, config, kwargs)
    return [name for name, files in (builder.config.data_files or {}).items() if files]


def _builder(path_or_id: str, config: str | None, kwargs: dict) -> tuple[datasets.DatasetBuilder, dict]:
    """What loads a dataset, and with which arguments."""
    folder = Path(os.path.expanduser(path_or_id))
    if folder.is_dir():
        path_or_id, kwargs = readable_folder(folder), kwargs | {"cache_dir": str(cache_of(folder))}
        kwargs["data_files"] = kwargs.get("data_files") or _image_folders(folder)
    if kwargs.get("data_files"):
        kwargs = kwargs | {"data_files": readable_files(kwargs["data_files"])}
    return datasets.load_dataset_builder(path_or_id, config, **kwargs), kwargs


def _image_folders(folder: Path) -> dict[str, list[str]] | None:
    """The subfolders with metadata of images, by split: `datasets` passes over those that are not named train,
    validation or test."""
    card = folder / "README.md"
    if any((folder / name).is_file() for name in METADATA_FILES) or (card.is_file() and _card_metadata(card)):
        return None
    splits: dict[str, list[str]] = {}
    known = {word: str(split) for split, words in SPLIT_KEYWORDS.items() for word in words}
    for file in sorted(file for name in METADATA_FILES for file in folder.glob(f"*/{name}")):
        splits.setdefault(known.get(file.parent.name, file.parent.name), []).append(f"{file.parent.name}/**")
    return splits or None


def table_split(split: str) -> str:
    """The name that tables have for a split, or for a slice of it, whose brackets a name can't have: `train[60%:80%]`
    is `train_60pct_to_80pct`."""
    names = []
    for part in split.replace(" ", "").split("+"):
        name, bracket, span = part.partition("[")
        start, _, end = span.removesuffix("]").partition(":")
        span = f"_{start or 'start'}_to_{end or 'end'}" if bracket else ""
        names.append(re.sub(r"\W+", "_", name + span.replace("%", "pct").replace("-", "minus")))
    return "_and_".join(names)


def holding_split(split: str, known: Sequence[str]) -> str:
    """Which of the splits of a table holds the queries of a split or slice: its own, or that of the whole split."""
    return table_split(split) if table_split(split) in known else split.split("[")[0]


def reading_error(error: Exception) -> str:
    """What went wrong in [`load_split`], in one line: `datasets`, and what it reads with, raise errors of many
    kinds, and hide the reason in the cause."""
    while isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError | OSError) and text else f"{type(error).__name__}: {text}"


@doing("reading the table {config!r} of {path_or_id!r}")
def read_table(path_or_id: str, config: str, split: str, features: Features, revision: str | None = None) -> Dataset:
    """
    Reads one split of a table from a folder or from the hub, and checks that it is the table it should be.

    Raises:
        `ValueError`: nothing there, no such split, a column that the schema names is missing, or a number is NaN or
            infinite.
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
            "another table, or one of another version of leverplus_trl: make it again."
        )
    table = table.select_columns(list(features)).cast(features)
    _check_finite(table, f"The table {config!r} (split {split!r}) of {path_or_id!r}")
    return table


def _check_finite(table: Dataset, name: str) -> None:
    """Raises `ValueError` for a number, in lists or not, that is NaN or infinite; null is neither."""
    start = 0
    for batch in table.data.to_batches():
        for column in batch.schema.names:
            values, rows = batch[column], pa.array(np.arange(len(batch)))  # rows: where each value stands
            while pa.types.is_list(values.type):
                rows = rows.take(pc.list_parent_indices(values))
                values = values.flatten()
            if pa.types.is_floating(values.type):
                broken = rows.filter(pc.invert(pc.is_finite(values)))
                if len(broken):
                    row = table[start + broken[0].as_py()]
                    raise ValueError(
                        f"{name} holds {row[column]} in column {column!r} of {row.get('query_id')!r}; expected finite "
                        "numbers. Make the table again, with `dtype: bfloat16` or `dtype: float32`."
                    )
        start += len(batch)


def splits_of(path_or_id: str, config: str, revision: str | None = None) -> list[str]:
    """Names of the splits of a table."""
    folder = Path(os.path.expanduser(path_or_id))
    try:
        name = readable_folder(folder) if folder.is_dir() else path_or_id
        return datasets.get_dataset_split_names(name, config, revision=revision)
    except (FileNotFoundError, ValueError, ConnectionError) as error:
        raise _no_table(path_or_id, error) from error


def _no_table(path_or_id: str, error: Exception) -> ValueError:
    return ValueError(
        f"There is no folder {path_or_id!r} with tables, nor can a dataset of that name be read from the hub "
        f"({error}). Run the stage that writes it first."
    )


def table_provenance(path_or_id: str, revision: str | None = None) -> dict[str, Any]:
    """
    What made a table: the entry that [`write_tables`] left in the card's metadata.

    Args:
        path_or_id (`str`):
            Folder or hub id.
        revision (`str`, *optional*):
            Hub revision.

    Raises:
        `ValueError`: no card, or a card without provenance: the table was not made by this project.
    """
    card = Path(os.path.expanduser(path_or_id)) / "README.md"
    if not card.exists():
        if card.parent.exists():
            raise ValueError(f"{path_or_id!r} has no README.md, so nothing says what made its tables.")
        try:
            card = Path(hf_hub_download(path_or_id, "README.md", repo_type="dataset", revision=revision))
        except (OSError, ValueError) as error:  # no such repository, no connection, not even a valid name
            raise _no_table(path_or_id, error) from error
    metadata = _card_metadata(card)
    if "leverplus_trl" not in metadata:
        raise ValueError(f"The card of {path_or_id!r} does not say what made its tables (no `leverplus_trl` entry).")
    return metadata["leverplus_trl"]


def _card_metadata(card: Path) -> dict[str, Any]:
    # Dashes at the beginning of a line end it; a prompt in a recipe may hold some, which then are indented.
    found = re.match(r"---\n(.*?\n)---\n", card.read_text(encoding="utf-8"), re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}
