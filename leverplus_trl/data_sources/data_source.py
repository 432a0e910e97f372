# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The description of a published dataset, and the rows that its readers make."""

import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from datasets import Features, Image, List, Value

from ..schema import EXAMPLES
from ..tasks.columns import TEXT, value_text
from .raw_files import RawFiles


Row = dict[str, Any]
Kind = TypeVar("Kind")
KINDS = {str: "text", int: "a whole number", list: "a list"}


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
