# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What is known of a published dataset, and the row that every reader of one makes."""

import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from datasets import Features, Image, Value

from ..schema import EXAMPLES
from ..tasks.columns import value_text
from .raw_files import RawFiles


Row = dict[str, Any]
Kind = TypeVar("Kind")
KINDS = {str: "text", int: "a whole number", list: "a list"}


@dataclass(frozen=True)
class DataSource:
    """
    A published dataset: its facts, and how its files are read.

    Args:
        title (`str`):
            Its name.
        homepage (`str`):
            Where its files come from.
        licence (`str`):
            Under which terms, as far as the publishers say.
        citation (`str`):
            Key of the paper, as in `author2019name`.
        reference (`str`):
            The paper.
        task, metric (`str`):
            What recipes usually say about it.
        counts (`Mapping[str, int | None]`):
            Official number of examples of each split that has answers, where it is known; in the order of the splits.
        read (`Callable`):
            `read(raw, split)` gives the rows of a split of the official files, see [`example`].
        read_hub (`Callable`):
            `read_hub(row, split, position)` gives the row, without its image, for one of a hub dataset.
        hub_ids (`Mapping[str, str | None]`):
            Hub datasets whose columns `read_hub` was written for, and the configuration to load.
        extras (`Features`, *optional*):
            Columns beside those of `schema.EXAMPLES`.
        keep (`Callable`, *optional*):
            `keep(row)` says which rows of a hub dataset, images undecoded, belong to the source.
        has_images (`bool`, *optional*, defaults to `True`):
            Whether every example has an image.
        num_annotators (`int`, *optional*):
            Answers that the official metric expects of each question.
        note (`str`, *optional*, defaults to `""`):
            What else the card should say, in Markdown.
    """

    title: str
    homepage: str
    licence: str
    citation: str
    reference: str
    task: str
    metric: str
    counts: Mapping[str, int | None]
    read: Callable[[RawFiles, str], Iterator[Row]]
    read_hub: Callable[[Row, str, int], Row]
    hub_ids: Mapping[str, str | None]
    extras: Features = field(default_factory=Features)
    keep: Callable[[Row], bool] | None = None
    has_images: bool = True
    num_annotators: int | None = None
    note: str = ""

    @property
    def features(self) -> Features:
        """Columns of the rows: images undecoded, and `problem` beside the columns that are kept."""
        return Features({**EXAMPLES, "image": Image(decode=False), **self.extras, "problem": Value("string")})


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
    A row of an examples table.

    Args:
        identifier (`object`):
            Its id, a text or a number; made a text.
        question (`str`):
            The question.
        answers (`Sequence[str]`):
            All annotators' answers. `None` is an annotator who gave nothing, and becomes an empty answer.
        answer (`str`, *optional*):
            The scoring target; the most frequent of `answers` if not given, the first among equals.
        image (`dict`, *optional*):
            `{"path", "bytes"}`.
        problem (`str`, *optional*, defaults to `""`):
            Why the row can't be used. Empty questions and answers are found here.
        **extras:
            The other columns of the source: texts, or lists of them.
    """
    identifier = (value_text(identifier, "its id") or "").strip()
    if not identifier:
        raise ValueError("its id is empty")
    question = expect(str, "question", question) or ""
    answers = _texts("answers", list(answers))
    said = Counter(one for one in answers if one.strip())
    if answer is None:
        answer = said.most_common(1)[0][0] if said else ""
    if not problem and not question.strip():
        problem = "the question is empty"
    if not problem and not (said and answer.strip()):
        problem = "all its answers are empty"
    return {
        "id": identifier,
        "image": image,
        "question": question,
        "answer": answer,
        "answers": answers,
        "problem": problem,
        **{name: _texts(name, value) for name, value in extras.items()},
    }


def expect(kind: type[Kind], name: str, value: object, is_needed: bool = False) -> Kind | None:
    """
    What a record says under a name, if it is of that kind or, where it is not needed, `None`.

    Raises:
        `ValueError`: it is something else.
    """
    if (value is None and not is_needed) or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{name} is {shown(value)}; expected {KINDS[kind]}")


def shown(value: object) -> str:
    """A value as messages show it: long texts and lists are cut."""
    short = reprlib.Repr()
    short.maxdict, short.maxlist, short.maxstring, short.maxother = 30, 3, 60, 60
    return short.repr(value)


def first_text(answers: Sequence[str | None]) -> str:
    """The first of several answers that is not empty."""
    return next((one for one in answers if one and one.strip()), "")


def _texts(name: str, value: object) -> object:
    if isinstance(value, list):
        return [value_text(one, name) or "" for one in value]
    return value_text(value, name)


def image_file(folder: Path, *names: object) -> dict[str, Any]:
    """
    An image that is referred to: the file, or the folder and the file, of these names below `folder`.

    Raises:
        `ValueError`: a name that leads elsewhere.
    """
    return {"path": str(folder.joinpath(*map(file_name, names))), "bytes": None}


def file_name(name: object) -> str:
    """
    A name that an annotation file gives to a file.

    Raises:
        `ValueError`: it is a path.
    """
    if not isinstance(name, str) or PurePosixPath(name).parts != (name,) or name in ("/", ".."):
        raise ValueError(f"An annotation file names the image {name!r}; expected the name of a file, not a path.")
    return name
