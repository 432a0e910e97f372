# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that name the examples, and those of the task and its prompt templates."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..fields import check_fields, documented, option
from ..metrics import METRICS


TASK_NAMES = ("vqa", "captioning", "multiple_choice", "math_word_problem", "text_classification")
PROTOCOL_NAMES = ("direct",)
#: In a prompt template `{name}` is a field, `{{name}}` is the text "{name}", and any other brace is text.
_FIELD = re.compile(r"\{\{([^\W\d]\w*)\}\}|\{([^\W\d]\w*)\}")


def template_fields(template: str) -> list[str]:
    """The distinct names of a template's fields, in order."""
    return list(dict.fromkeys(match[2] for match in _FIELD.finditer(template) if match[2]))


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Replaces the fields of a template by their values; braces in a value are kept."""
    return _FIELD.sub(lambda match: values[match[2]] if match[2] else f"{{{match[1]}}}", template)


@documented
@dataclass
class DataArguments:
    """Data: where examples come from and what their columns are called there."""

    dataset: str = option(
        "Hub id, dataset directory, or builder name together with data_files. A directory holds parquet and a"
        " card, or is made by `save_to_disk`."
    )
    dataset_config: str | None = option("Configuration (subset) of the dataset.", None)
    dataset_revision: str | None = option("Hub revision of the dataset.", None)
    data_files: dict[str, str | list[str]] | list[str] | str | None = option(
        "Files of a json, csv, ... dataset: all.csv, or '{train: a.csv, test: b.csv}'.", None, path="file"
    )
    columns: dict[str, str] | None = option(
        "Our name and theirs of columns, e.g. '{question: prompt, answer: reply}'.", None
    )
    image_dir: str | None = option("Folder that image paths are relative to.", None, path="folder")
    pool_split: str = option("Split that demonstrations are taken from.", "train")
    split: dict[str, float] | None = option(
        "Parts that one split is cut into, e.g. '{pool: 0.6, train: 0.2, test: 0.2}'. A hash of image, "
        "question and answer decides, so equal examples share a part and sizes are approximate.",
        None,
    )
    on_bad_example: str = option(
        "raise | skip: what to do with unusable examples. These are images that can't be decoded and empty "
        "answers; both name them in the log or error.",
        "raise",
        choices=("raise", "skip"),
    )
    on_overlap: str = option(
        "What to do with queries that are in the pool under another id. raise stops, exclude offers a query "
        "none of its copies, allow does; a query is never offered itself.",
        "raise",
        choices=("raise", "exclude", "allow"),
    )

    def __post_init__(self):
        if isinstance(self.dataset, str) and os.path.isfile(os.path.expanduser(self.dataset)):
            kind = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}.get(Path(self.dataset).suffix, "csv")
            message = (
                f"dataset is {self.dataset!r}, which is a file; name the kind of file, and the file as data_files"
            )
            raise ValueError(f"{message}: `dataset: {kind}` and `data_files: {self.dataset}`.")
        check_fields(self)
        columns = self.columns or {}
        for name in ("answer", "answers"):
            if name in columns and columns[name] == columns.get("question"):
                message = f"columns maps both question and {name} to {columns[name]!r}: the VLM would be shown what it"
                raise ValueError(f"{message} is asked for. Map question, or {name}, to another column.")
        for name, fraction in (self.split or {}).items():
            if not re.fullmatch(r"\w+", name):
                raise ValueError(f"split names the part {name!r}; a name has letters, digits and underscores alone.")
            if not 0 < fraction <= 1:
                raise ValueError(f"split gives the part {name!r} the fraction {fraction!r}; expected 0 to 1.")
        if self.split is not None and not math.isclose(sum(self.split.values()), 1.0):
            raise ValueError(f"The fractions of split add up to {sum(self.split.values()):g}; expected 1.")


@documented
@dataclass
class TaskArguments:
    """Task and prompt."""

    task: str = option(f"{' | '.join(TASK_NAMES)}.", "vqa", choices=TASK_NAMES)
    metric: str | None = option(f"{' | '.join(METRICS)} [the task's]", None, choices=tuple(METRICS))
    question_template: str | None = option(
        "Prompt text with {question} in it. Other text columns may stand in braces, too; `{{name}}` is the "
        "text `{name}`. Captions may do without {question}.",
        None,
    )
    answer_template: str | None = option(
        "Words to answer with, {answer} in them. They are used in demonstrations and where answers are "
        "scored; the bare answer if not given.",
        None,
    )
    labels: list[str] | None = option(
        "Classes of a classification task, e.g. --labels yes no.", None, not_empty=True, unique=True
    )
    max_new_tokens: int = option("Longest answer that is generated, in tokens.", 10, min=1)
    answering: str | None = option(
        f"{' | '.join(PROTOCOL_NAMES)}: how the VLM is asked for an answer [direct].", None, choices=PROTOCOL_NAMES
    )
    stop_strings: list[str] | None = option(
        "Texts that end an answer and are cut off [the task's].", None, blank=True, unique=True
    )

    def __post_init__(self):
        check_fields(self)
        fields = template_fields(self.question_template or "{question}")
        # All captions answer the same question, which OpenFlamingo's "Output:" leaves out.
        if "question" not in fields and self.task != "captioning":
            raise ValueError(f"question_template {self.question_template!r} does not contain {{question}}.")
        for name in ("answer", "answers"):
            if name in fields:
                message = f"question_template {self.question_template!r} contains {{{name}}}: the VLM would be shown"
                raise ValueError(f"{message} what it is asked for. Leave it out; an answer follows its question.")
        fields = template_fields(self.answer_template or "{answer}")
        message = f"answer_template {self.answer_template!r}"
        if "answer" not in fields:
            raise ValueError(f"{message} does not contain {{answer}}.")
        for name in fields:
            if name != "answer":
                raise ValueError(f"{message} contains {{{name}}}; expected no field but {{answer}}.")
        if self.labels is None and self.task == "text_classification":
            raise ValueError("task is text_classification, which needs labels: the list of the classes' names.")
        names: dict[str, str] = {}
        for label in self.labels or ():
            if label != label.strip():
                raise ValueError(f"labels holds {label!r}; expected a text without spaces around it.")
            if label.casefold() in names:
                first = names[label.casefold()]
                raise ValueError(f"labels holds {first!r} and {label!r}, which an answer can't tell apart.")
            names[label.casefold()] = label
