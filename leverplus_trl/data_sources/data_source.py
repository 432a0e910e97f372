# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The description of a published dataset, its official files, and the rows that its readers make."""

import csv
import io
import json
import logging
import reprlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from datasets import Features, Image, List, Value

from ..schema import EXAMPLES
from ..tables import file_hash
from ..tasks.columns import TEXT, value_text


logger = logging.getLogger(__name__)

Row = dict[str, Any]
Kind, Record = TypeVar("Kind"), TypeVar("Record")
#: The search for files does not go deeper, because image folders hold tens of thousands of files.
LEVELS = ("", "*/", "*/*/")
KINDS = {str: "text", int: "a whole number", list: "a list"}


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
        remedy = f"Point `{argument}` at the folder that holds it"
        if not kind:
            remedy += ", unpacked, or name in `splits` only the splits that you have"
        raise ValueError(f"There is no {what} in {str(root)!r} or up to two levels below it. {remedy}.")

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


@dataclass(frozen=True)
class DataSource:
    """A published dataset: its description, and functions that read its files."""

    title: str
    homepage: str  #: Where the official files can be downloaded.
    licence: str  #: The licence, as far as the publishers state it.
    citation: str  #: Key of the paper, as in `author2019name`.
    reference: str  #: The paper.
    task: str  #: The task that recipes usually set.
    metric: str  #: The metric that recipes usually set.
    #: Official number of examples of each split that has answers, `None` if it is not known; in order of the splits.
    counts: Mapping[str, int | None]
    #: `read(raw, split)` yields the rows of a split of the official files, see [`example`].
    read: Callable[[RawFiles, str], Iterator[Row]]
    #: `read_hub(row, split, position)` returns the row, without its image, for a row of a hub dataset.
    read_hub: Callable[[Row, str, int], Row]
    #: Hub datasets that `read_hub` supports, and the configuration to load.
    hub_ids: Mapping[str, str | None]
    #: Columns in addition to those of `schema.EXAMPLES`: `TEXT`, or `TEXTS` for lists of texts.
    extras: Mapping[str, Value | List] = field(default_factory=dict)
    #: `keep(row)` tells whether a row of a hub dataset, with its image undecoded, belongs to this dataset.
    keep: Callable[[Row], bool] | None = None
    has_images: bool = True  #: Whether every example has an image.
    num_annotators: int | None = None  #: Answers per question that the official metric expects.
    note: str = ""  #: Further text of the dataset card, in Markdown.

    @property
    def features(self) -> Features:
        """Features of the rows: images are undecoded, and `problem` is an additional column."""
        return Features({**EXAMPLES, "image": Image(decode=False), **self.extras, "problem": TEXT})


def example(
    identifier: object,
    question: str | None,
    answers: Sequence[str | None],
    answer: str | None = None,
    image: dict | None = None,
    problem: str = "",
    **extras: object,
) -> Row:
    """
    Returns a row of an examples table. Numbers become text; an answer or text that is `None` becomes empty.

    `answer`, the scoring target, defaults to the most frequent of `answers`, the first of them if several tie.
    `problem` is why the row can't be used; an empty question or empty answers set it, too. `extras` are texts or lists
    of texts. Raises `ValueError` if the id is empty, or a value can't be converted to text.
    """
    identifier = (value_text(identifier, "its id") or "").strip()
    if not identifier:
        raise ValueError("its id is empty")
    question = expect(str, "question", question) or ""
    columns = {"answers": list(answers), **extras}
    for name, value in columns.items():
        if isinstance(value, list):
            columns[name] = [value_text(item, name) or "" for item in value]
        else:
            columns[name] = value_text(value, name)
    counts = Counter(text for text in columns["answers"] if text.strip())
    if answer is None:
        answer = counts.most_common(1)[0][0] if counts else ""
    if not problem and not question.strip():
        problem = "the question is empty"
    if not problem and not (counts and answer.strip()):
        problem = "all its answers are empty"
    row = {"id": identifier, "image": image, "question": question, "answer": answer}
    return {**row, "problem": problem, **columns}


def expect(kind: type[Kind], name: str, value: object, is_needed: bool = False) -> Kind | None:
    """Returns a value of a record; raises `ValueError` if it is of another type, or `None` although it is needed."""
    if (value is None and not is_needed) or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{name} is {shown(value)}; expected {KINDS[kind]}")


def shown(value: object) -> str:
    """The `repr` of a value for messages; long texts and lists are shortened."""
    short = reprlib.Repr()
    short.maxdict, short.maxlist, short.maxstring, short.maxother = 30, 3, 60, 60
    return short.repr(value)


def first_text(answers: Sequence[str | None]) -> str:
    """The first answer that is not empty."""
    return next((answer for answer in answers if answer and answer.strip()), "")


def image_file(folder: Path, *names: object) -> dict[str, Any]:
    """A reference to the image file at `names` below `folder`; raises `ValueError` for a name that is a path."""
    return {"path": str(folder.joinpath(*map(file_name, names))), "bytes": None}


def file_name(name: object) -> str:
    """Returns a file name of an annotation file; raises `ValueError` if it is a path."""
    if not isinstance(name, str) or PurePosixPath(name).parts != (name,) or name in ("/", ".."):
        raise ValueError(f"An annotation file names the image {name!r}; expected the name of a file, not a path.")
    return name
