# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The base class of tasks: how the VLM sees an example, what it should answer, and how a generation is scored."""

import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from datasets import Dataset, Value

from ..metrics import METRICS, DocumentFrequencies, document_frequencies
from .arguments import TaskArguments, fill_template, template_fields
from .columns import value_text


logger = logging.getLogger(__name__)

Example = dict[str, Any]


def text_before(text: str, stop_strings: Iterable[str]) -> str:
    """A text up to the first of some strings in it; the whole text if it holds none."""
    return text[: min((text.index(stop) for stop in stop_strings if stop in text), default=len(text))]


class BaseTask(ABC):
    """A task turns examples into prompts and generations into scores. It is independent of the model."""

    default_template = "{question}"
    default_metric: str
    #: Metrics that suit the answers of this task, see `metrics.all_metrics`.
    metrics: tuple[str, ...]
    #: Template fields that the task derives from other columns.
    derived_fields: tuple[str, ...] = ()
    #: Texts that end a generation if the recipe has no `stop_strings`.
    default_stop_strings: tuple[str, ...] = ()

    def __init__(self, args: TaskArguments):
        self.max_new_tokens, self.answering = args.max_new_tokens, args.answering or "direct"
        self.stop_strings = list(self.default_stop_strings if args.stop_strings is None else args.stop_strings)
        self.template = args.question_template or self.default_template
        self.answer_template = args.answer_template or "{answer}"
        self.metric = args.metric or self.default_metric
        self.document_frequencies: DocumentFrequencies | None = None

    def content(self, example: Example) -> list[dict[str, Any]]:
        """The content of the user's turn: a list of `{"type": "image", "image": image}`, decoded or not (see
        `tasks/images.py`), and `{"type": "text", "text": str}`."""
        return [{"type": "text", "text": self.question_text(example)}]

    def target(self, example: Example) -> str:
        """The answer that a demonstration shows and `answer_logprob` scores: the filled answer template."""
        return fill_template(self.answer_template, {"answer": example["answer"].strip()})

    @abstractmethod
    def postprocess(self, generation: str) -> str:
        """Extracts the answer from a raw generation."""

    def bare_answer(self, prediction: str) -> str:
        """A prediction without the words of the answer template that it contains: the inverse of [`target`]."""
        before, _, after = self.answer_template.partition("{answer}")
        # A word of the template must not match a part of a longer word.
        before = re.escape(before.strip()) + (r"\b" if re.search(r"\w\s+$", before) else "")
        after = (r"\b" if re.match(r"\s+\w", after) else "") + re.escape(after.strip())
        answer = re.sub(rf"^{before}", "", prediction.strip(), flags=re.IGNORECASE).strip()
        return re.sub(rf"{after}$", "", answer, flags=re.IGNORECASE).strip()

    def accuracy(self, prediction: str, example: Example) -> float:
        """The metric of a prediction in 0..1 (CIDEr: 0..10); raises `ValueError` if it is NaN or infinite."""
        score = METRICS[self.metric].score(prediction, example, self.document_frequencies)
        if not math.isfinite(score):
            raise ValueError(
                f"{self.metric} of {prediction!r} for example {example['id']!r} is {score}; expected a finite number. "
                "Check the example's `answers`."
            )
        return score

    def use_references(self, *splits: Dataset) -> None:
        """Counts the document frequencies that CIDEr needs, in all examples that will be scored."""
        if METRICS[self.metric].needs_corpus:
            references = (answers for split in splits for answers in split["answers"])
            self.document_frequencies = document_frequencies(references)

    def check_metric(self, examples: Dataset, split: str) -> None:
        """Raises `ValueError` if the metric gives 0 to the right answer of every example; logs a warning if it does
        so for some."""
        if METRICS[self.metric].needs_corpus:  # the score of a caption depends on the other captions
            return
        lost = []
        for row in examples.remove_columns("image"):
            answer = self.postprocess(text_before(self.target(row), self.stop_strings))
            if not self.accuracy(answer, row) > 0.0:
                lost.append(row)
        if not lost:
            return
        message = (
            f"metric {self.metric} gives 0 to the right answer of {len(lost)} of {len(examples)} examples of split "
            f"{split!r}, e.g. to {self.target(lost[0])!r} for {lost[0]['id']!r}, whose answers are "
            f"{lost[0]['answers']}"
        )
        remedy = "Compare `answer`, `answers`, `answer_template` and `stop_strings`, or set another `metric`."
        if METRICS[self.metric].min_answers > 1 and all(len(row["answers"]) == 1 for row in lost):
            remedy = "It compares the answers of several annotators; for one answer set `metric: exact_match`."
        if len(lost) == len(examples):
            raise ValueError(f"{message}. {remedy}")
        logger.warning("%s. %s", message, remedy)

    def question_text(self, example: Example) -> str:
        """The question template filled with the example's columns; raises `ValueError` if a column is missing, empty
        or no text."""
        values = {}
        for name in template_fields(self.template):
            where = f"question_template {self.template!r} names {name!r}, which"
            if name not in example:
                raise ValueError(f"{where} example {example['id']!r} does not have.")
            where += f" in example {example['id']!r}"
            values[name] = value_text(example[name], where)
            if values[name] is None:
                raise ValueError(
                    f"{where} is empty. Fill it, leave the example out (`on_bad_example: skip`), or use another "
                    "template."
                )
        return fill_template(self.template, values)

    def template_columns(self, examples: Dataset, split: str) -> list[str]:
        """The columns that the template names, except `question`; raises `ValueError` if a column is missing or no
        text."""
        names = [name for name in template_fields(self.template) if name not in ("question", *self.derived_fields)]
        for name in names:
            message = f"question_template {self.template!r} names {name!r}, which"
            if name not in examples.column_names or name in ("image", "answers"):
                raise ValueError(
                    f"{message} is no column of split {split!r} that can be shown; its columns are "
                    f"{examples.column_names}."
                )
            if not isinstance(examples.features[name], Value):
                raise ValueError(f"{message} holds {examples.features[name]} in split {split!r}; expected text.")
        return names

    def check_examples(self, examples: Dataset, split: str) -> None:
        """Raises `ValueError` with the ids of examples that the task can't use."""
        for name in self.template_columns(examples, split):
            column = zip(examples["id"], examples.select_columns(name)[:][name], strict=True)
            gaps = [identifier for identifier, value in column if value is None]
            if gaps:
                raise ValueError(
                    f"{len(gaps)} of {len(examples)} examples of split {split!r} have an empty column {name!r}, "
                    f"which question_template {self.template!r} names, e.g. {gaps[:3]}. Fill it, set "
                    "`on_bad_example: skip` to leave them out, or use another template."
                )
