# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The official files of a dataset: finds them in a folder, and checks that they are complete."""

import csv
import io
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from ..tables import file_hash


logger = logging.getLogger(__name__)

#: The search for files does not go deeper, because image folders hold tens of thousands of files.
LEVELS = ("", "*/", "*/*/")

Record = TypeVar("Record")


class RawFiles:
    """
    Finds files by their official names, in the folder `root` where they were unpacked (folders of images in
    `image_root`) or up to two levels below it; raises `ValueError` if a folder does not exist. With
    `allow_other_counts`, a number of records that differs from the official number is logged, not refused.
    """

    def __init__(self, root: str | Path, image_root: str | Path | None = None, allow_other_counts: bool = False):
        folders = {"root": root, "image_root": root if image_root is None else image_root}
        for name, path in folders.items():
            if not Path(path).expanduser().is_dir():
                raise ValueError(f"{name} is {str(path)!r}, which is not a folder.")
            # Not resolved: a user may point a link elsewhere later.
            setattr(self, name, Path(path).expanduser().absolute())
        self.allow_other_counts = allow_other_counts
        #: `{name: hash}` of each file that [`RawFiles.find`] returned.
        self.hashes: dict[str, str] = {}
        #: The place and the content of the record that is being read, for messages; see [`RawFiles.each`].
        self.at: tuple[str, object] | None = None

    def find(self, *names: str) -> Path:
        """Returns the first file that exists under one of the names; raises `ValueError` if none does, or two do."""
        file = self._search("root", Path.is_file, "", names)
        self.hashes[file.name] = file_hash(file)
        return file

    def image_folder(self, *names: str) -> Path:
        """Returns the first folder that exists under one of the names; raises `ValueError` like [`RawFiles.find`]."""
        return self._search("image_root", Path.is_dir, "folder ", names)

    def _search(self, argument: str, is_kind: Callable[[Path], bool], kind: str, names: tuple[str, ...]) -> Path:
        root = getattr(self, argument)
        for name, level in product(names, LEVELS):
            paths = sorted(filter(is_kind, root.glob(level + name)))
            if len(paths) > 1:
                places = ", ".join(map(str, paths[:3]))
                raise ValueError(f"{name!r} is in several places: {places}. Point `{argument}` at the right folder.")
            if paths:
                return paths[0]
        what = f"{kind}{' or '.join(names)}{' with images' if kind else ''}"
        remedy = (
            f"Point `{argument}` at the folder of the unpacked official files, or name in `splits` only the splits"
        )
        raise ValueError(f"There is no {what} in {str(root)!r} or up to two levels below it. {remedy} that you have.")

    def read_text(self, file: Path) -> str:
        """The text of a UTF-8 file, without a byte order mark."""
        try:
            return file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{str(file)!r} is not text in UTF-8: {error}. Fetch it again.") from error

    def read_json(self, file: Path) -> Any:
        text = self.read_text(file)
        try:
            return json.loads(text)
        except ValueError as error:
            message = f"{str(file)!r} ({file.stat().st_size:,} bytes) is not whole JSON: {error}"
            raise ValueError(f"{message}. It looks truncated: fetch it again.") from error

    def read_tsv(self, file: Path, quoting: int) -> tuple[list[str], list[dict[str, str]]]:
        """The columns and rows of a TSV file; `quoting` is a constant of `csv`."""
        csv.field_size_limit(sys.maxsize)
        reader = csv.DictReader(io.StringIO(self.read_text(file), newline=""), delimiter="\t", quoting=quoting)
        return list(reader.fieldnames or ()), list(reader)

    def records(self, file: Path, key: str, official: int | None = None, what: str = "") -> list[dict[str, Any]]:
        """The list that a JSON file holds under a key; raises `ValueError` if its length is not `official`."""
        content = self.read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{str(file)!r} holds no list {key!r}: it is not the official file of that name.")
        if official is not None:
            self.check_count(file, len(content[key]), official, what)
        return content[key]

    def each(self, file: Path, records: Iterable[Record]) -> Iterator[Record]:
        """Yields the records of a file, and keeps the current record in `at` for messages."""
        for position, record in enumerate(records):
            self.at = (f"Record {position} (counted from 0) of {str(file)!r}", record)
            yield record
        self.at = None

    def by_id(self, file: Path, records: Iterable[dict[str, Any]], key: str) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Like [`RawFiles.each`], yields ids, of the column `key`, and records; ids must not repeat."""
        known = set()
        for record in self.each(file, records):
            if record[key] in known:
                raise ValueError(f"the id {record[key]!r} appears twice: two versions of the dataset may be mixed")
            known.add(record[key])
            yield record[key], record

    def check_count(self, file: Path, count: int, official: int, what: str) -> None:
        """Raises `ValueError` if a file has another number of records than the official file."""
        if count == official:
            return
        guess = "it looks truncated: fetch it again" if count < official else "it is of another version"
        message = f"{str(file)!r} holds {count:,} {what}; the official file holds {official:,}"
        if not self.allow_other_counts:
            raise ValueError(f"{message}, so {guess}, or set `allow_other_counts` to read it anyway.")
        logger.warning("%s. It is read anyway.", message)
