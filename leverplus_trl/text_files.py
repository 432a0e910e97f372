# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Reads CSV, TSV and JSON files as tables of text.

`datasets` infers a type for each column of such a file, which changes values: "NA" becomes a missing value, "007"
becomes 7, "2019-01-01" a time stamp, and 1990 becomes 1990.0 if another cell is empty. Here each cell keeps its text.
"""

import codecs
import csv
import decimal
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import datasets
from datasets import Dataset, DatasetBuilder, DownloadConfig, DownloadManager, Features, Json, List, Value
from datasets.exceptions import DatasetGenerationError
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.json.json import Json as JsonBuilder

from .provenance import json_hash


SEPARATORS = (",", "\t", ";", "|")
METADATA_FILES = {"metadata.csv": "csv", "metadata.jsonl": "json"}
#: Options of a dataset card that are supported for CSV files; with other options `datasets` reads the files.
CSV_OPTIONS = {"name", "version", "data_dir", "data_files", "description", "sep", "delimiter"}
#: The feature of each kind of column.
FEATURES = {None: Value("string"), "text": Value("string"), "texts": List(Value("string")), "nested": Json()}
#: A quoted cell.
QUOTED = re.compile(r'(?:^|(?<=[,\t;|\n\r]))"(?:[^"]|"")*"')
HEADER_SIZE = 2**16
EXACT = decimal.Context(decimal.MAX_PREC, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
MOST_PLACES = 40
LONGEST_CELL = 2**31 - 1
EXPECTED_JSON = "Expected an object on each line, or one list of objects"
#: Part of the cache key: after a change of this file, files are read again.
_CODE = json_hash(Path(__file__).read_text(encoding="utf-8"))


class TextFile(NamedTuple):
    """A file to read."""

    name: str  #: The name that the user knows, for messages.
    path: str  #: The local path.
    kind: str  #: `"csv"` or `"json"`.
    option: str | None  #: The separator of a CSV file, or the field of a JSON file that holds the records.
    image_dir: str | None  #: Folder of the images that the column `file_name` names.
    state: tuple[int, int]  #: Size and modification time, as part of the cache key.


def read_text_split(builder: DatasetBuilder, split: str, cache_dir: str | None = None) -> Dataset | None:
    """
    Loads a split of CSV, TSV or JSON files, or of an image folder with a metadata file in these formats, from the
    result of `datasets.load_dataset_builder`; returns `None` for another format.

    Columns hold strings, lists of strings (if a JSON file has lists), or `Json` (for objects or mixed types). Empty
    cells of a CSV file, and `null` and `NaN` of a JSON file, are missing. Raises `ValueError` with the file and line.
    """
    files = _files_of(builder, split)
    if not files:
        return None
    columns: dict[str, str | None] = {}
    for file in files:
        own = _columns_of(file)
        if columns and file.kind == "csv" and set(own) != set(columns):
            message = f"{files[0].name!r} has the columns {list(columns)} and {file.name!r} has {list(own)}"
            remedy = "Use the same header in all of them, or assign them to different splits."
            raise ValueError(f"{message}; files of one split need the same columns. {remedy}")
        columns |= {name: _joint_kind(columns.get(name), kind) for name, kind in own.items()}
    options = {"files": tuple(map(tuple, files)), "columns": tuple(columns), "code": _CODE}
    if next(_rows(**options), None) is None:
        raise ValueError(f"{', '.join(repr(file.name) for file in files)} holds no rows; expected at least one")
    try:
        return Dataset.from_generator(
            _rows,
            features=Features({name: FEATURES[kind] for name, kind in columns.items()}),
            cache_dir=cache_dir,
            gen_kwargs=options,
            fingerprint=json_hash([split, options]),
            split=datasets.NamedSplit(split),
        )
    except DatasetGenerationError as error:  # of a row
        raise error.__cause__ or error from None


def _files_of(builder: DatasetBuilder, split: str) -> list[TextFile]:
    """The text files of a split; none if it has another format, or options that only `datasets` supports."""
    config = builder.config
    named = list((config.data_files or {}).get(split, ()))
    if isinstance(builder, ImageFolder):
        named = [Path(name) for name in named if Path(name).name in METADATA_FILES and Path(name).is_file()]
        files = [(str(file), str(file), METADATA_FILES[file.name], None, str(file.parent)) for file in named]
    elif isinstance(builder, (Csv, JsonBuilder)):
        if not named:
            known = ", ".join(name for name, files in (config.data_files or {}).items() if files)
            raise ValueError(f"there is no file of the split {split!r}; there are files of {known or 'none'}")
        kind = "csv" if isinstance(builder, Csv) else "json"
        option = getattr(config, "field", None)
        if kind == "csv":
            default, names = type(config)(), [field.name for field in fields(config)]
            changed = {name for name in names if getattr(config, name) != getattr(default, name)}
            if changed - CSV_OPTIONS:
                return []
            option = config.sep if "sep" in changed else None
        manager = DownloadManager(builder.dataset_name, download_config=DownloadConfig(token=builder.token))
        pairs = zip(named, manager.download_and_extract(named), strict=True)  # does not copy a local file
        files = [(name, path, kind, option, None) for name, paths in pairs for path in manager.iter_files(paths)]
    else:
        return []
    states = [os.stat(file[1]) for file in files]
    return [TextFile(*file, (state.st_size, state.st_mtime_ns)) for file, state in zip(files, states, strict=True)]


@lru_cache(maxsize=64)
def _columns_of(file: TextFile) -> dict[str, str | None]:
    """The columns of a file and their kinds, see `FEATURES`; `None` if all values are missing."""
    if file.kind == "csv":
        return dict.fromkeys(next(_csv_rows(file)), "text")
    columns: dict[str, str | None] = {}
    for record in _json_rows(file):
        for name, value in record.items():
            kind = "text"
            if isinstance(value, list) and all(isinstance(item, str | None) for item in value):
                kind = "texts"
            elif not isinstance(value, str | None):
                kind = "nested"
            columns[name] = _joint_kind(columns.get(name), None if value is None else kind)
    return columns


def _joint_kind(first: str | None, second: str | None) -> str | None:
    return first or second if first == second or not first or not second else "nested"


def _rows(files: tuple[tuple, ...], columns: tuple[str, ...], code: str) -> Iterator[dict[str, Any]]:
    for values in files:
        file = TextFile(*values)
        for row in islice(_csv_rows(file), 1, None) if file.kind == "csv" else _json_rows(file):
            yield {name: row.get(name) for name in columns}


@contextmanager
def _opened(file: TextFile) -> Iterator[TextIO]:
    with open(file.path, "rb") as handle:
        head = handle.read(4096)
    is_utf_16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0\0" not in head[:4]
    if not is_utf_16 and b"\0" in head:
        raise ValueError(f"{file.name!r} is not a text file: it holds zero bytes. Expected {file.kind.upper()} text.")
    try:
        with open(file.path, encoding="utf-16" if is_utf_16 else "utf-8-sig", newline="") as handle:
            yield handle
    except UnicodeDecodeError as error:
        message = f"{file.name!r} is not text in UTF-8: it holds the byte 0x{error.object[error.start]:02x}"
        raise ValueError(f"{message}. Save it as UTF-8, e.g. with `iconv -f latin1 -t utf-8`.") from error


def _csv_rows(file: TextFile) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file, after a row with the names of the columns alone."""
    csv.field_size_limit(LONGEST_CELL)
    with _opened(file) as handle:
        unquoted = QUOTED.sub("x", handle.read(HEADER_SIZE)).lstrip()
        empty = f"{file.name!r} is empty. Expected a line with the names of the columns, then the rows."
        if not unquoted:
            raise ValueError(empty)
        is_tsv = ".tsv" in Path(file.name).suffixes[-2:]  # also a.tsv.gz
        guess = "\t" if is_tsv else max(SEPARATORS, key=unquoted.splitlines()[0].count)
        handle.seek(0)
        reader = csv.reader(handle, delimiter=file.option or guess, strict=True)
        rows = (row for row in reader if len(row) > 1 or "".join(row).strip())
        try:
            # An index that pandas wrote has no name; pandas names it like this.
            names = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(next(rows, []))]
            if not names:
                raise ValueError(empty)
            twice = _first_repeated(names)
            if twice is not None:
                raise ValueError(f"The header of {file.name!r} names the column {twice!r} twice. Rename one of them.")
            yield _with_image(file, dict.fromkeys(names, ""))
            for cells in rows:
                if len(cells) != len(names):
                    message = f"Line {reader.line_num} of {file.name!r} has {len(cells)} cells and the header has "
                    message += f"{len(names)} ({', '.join(names)})"
                    raise ValueError(f"{message}. Put a text with the separator in quotes, and leave no cell out.")
                yield _with_image(file, {name: cell or None for name, cell in zip(names, cells, strict=True)})
        except csv.Error as error:
            remedy = 'Put a text that holds quotes or separators in quotes, and write each quote in it twice ("").'
            raise ValueError(f"Line {reader.line_num} of {file.name!r} is not CSV: {error}. {remedy}") from error


def _with_image(file: TextFile, row: dict[str, Any]) -> dict[str, Any]:
    if file.image_dir is not None and isinstance(row.get("file_name"), str):
        row["image"] = str(Path(file.image_dir, row.pop("file_name")))
    return row


def _json_rows(file: TextFile) -> Iterator[dict[str, Any]]:
    for where, record in _json_records(file):
        if not isinstance(record, dict):
            kind = "a list" if isinstance(record, list) else repr(record)[:40]
            message = f"{where} of {file.name!r} is {kind}. {EXPECTED_JSON}"
            raise ValueError(f"{message}, with the names of the columns as keys.")
        try:
            yield _with_image(file, {name: _as_text(value) for name, value in record.items()})
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} of {file.name!r} can't be used: {error}.") from error


def _json_records(file: TextFile) -> Iterator[tuple[str, Any]]:
    """Yields the place of each record, for messages, and the record: a file has one per line, or a list of records."""
    with _opened(file) as handle:
        first = next((line for line in handle if line.strip()), None)
        if first is None:
            raise ValueError(f"{file.name!r} is empty. {EXPECTED_JSON}.")
        whole = file.option is not None or first.lstrip().startswith("[")
        if not whole:
            try:
                _parsed(first)
            except ValueError:
                whole = True  # the first record may continue on the next line
        handle.seek(0)
        if not whole:
            for number, line in enumerate(handle, 1):
                try:
                    if line.strip():
                        yield f"Line {number}", _parsed(line)
                except ValueError as error:
                    raise ValueError(f"Line {number} of {file.name!r} is not JSON: {error}.") from error
            return
        text = handle.read()
    try:
        content = _parsed(text)
    except ValueError as error:
        raise ValueError(f"{file.name!r} can't be read as JSON: {error}. {EXPECTED_JSON}.") from error
    if file.option is not None:
        content = content.get(file.option) if isinstance(content, dict) else None
    for place, record in enumerate(content if isinstance(content, list) else [content]):
        yield f"Record {place} (counted from 0)", record


def _parsed(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_float=number_text, parse_int=number_text, parse_constant=_constant
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = _first_repeated([name for name, _ in pairs])
    if twice is not None:
        raise ValueError(f"the key {twice!r} appears twice in an object")
    return dict(pairs)


def _first_repeated(names: list[str]) -> str | None:
    if len(set(names)) == len(names):
        return None
    return next(name for place, name in enumerate(names) if name in names[:place])


def number_text(number: Any) -> str:
    """The canonical text of a finite number, or of its text: 3 for 3.0, 3.5 for 3.50, 1000 for 1e3. A number with more
    than 40 zeros or decimal places has an exponent."""
    try:
        value = EXACT.create_decimal(str(number)).normalize(EXACT)
    except ArithmeticError as error:
        raise ValueError(f"the number {str(number)[:40]} is out of range") from error
    plain = abs(value.as_tuple().exponent) <= MOST_PLACES
    return f"{value:{'f' if plain else 'e'}}" if value else "0"


def _constant(name: str) -> None:
    if name != "NaN":  # pandas and NumPy write a missing value as NaN
        raise ValueError(f"{name} is no number that can be used")


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{value[:40]!r} holds half of a surrogate pair, which is no character") from error
    return value


def read_json_cell(text: str | None) -> Any:
    """Parses a JSON text; scalar values become text. Raises `ValueError` if it is not JSON."""
    return None if text is None else _as_text(_parsed(text))
