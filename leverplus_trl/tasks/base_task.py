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


def refuse(ids: list[str], total: int, problem: str, remedy: str) -> None:
    """Raises `ValueError` if any of the `total` examples has a problem; `ids` are those of the examples that do."""
    if ids:
        raise ValueError(f"{len(ids)} of {total} {problem}, e.g. {ids[:3]}. {remedy}")


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
        """The content of the user's turn: `{"type": "image", "image": image}` and `{"type": "text", "text": str}`."""
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
            message = f"{self.metric} of {prediction!r} for example {example['id']!r} is {score}"
            raise ValueError(f"{message}; expected a finite number. Check the example's `answers`.")
        return score

    def use_references(self, *splits: Dataset) -> None:
        """Counts the document frequencies that CIDEr needs, in all examples that will be scored."""
        if METRICS[self.metric].needs_corpus:
            references = (answers for split in splits for answers in split["answers"])
            self.document_frequencies = document_frequencies(references)

    def check_metric(self, examples: Dataset, split: str) -> None:
        """Raises `ValueError` if the metric gives 0 to every right answer; logs a warning if it does so to some."""
        if METRICS[self.metric].needs_corpus:  # the score of a caption depends on the other captions
            return
        lost = []
        for row in examples.remove_columns("image"):
            answer = self.postprocess(text_before(self.target(row), self.stop_strings))
            if not self.accuracy(answer, row) > 0.0:
                lost.append(row)
        if not lost:
            return
        message, first = f"metric {self.metric} gives 0 to the right answer of {len(lost)} of {len(examples)}", lost[0]
        message += f" examples of split {split!r}, e.g. to {self.target(first)!r} for {first['id']!r}, whose answers"
        message += f" are {first['answers']}"
        remedy = "Compare `answer`, `answers`, `answer_template` and `stop_strings`, or set another `metric`."
        if METRICS[self.metric].min_answers > 1 and all(len(row["answers"]) == 1 for row in lost):
            remedy = "It compares the answers of several annotators; for one answer set `metric: exact_match`."
        if len(lost) == len(examples):
            raise ValueError(f"{message}. {remedy}")
        logger.warning("%s. %s", message, remedy)

    def question_text(self, example: Example) -> str:
        """The filled question template; raises `ValueError` if a column is missing, empty or no text."""
        values = {}
        for name in template_fields(self.template):
            where = f"question_template {self.template!r} names {name!r}, which"
            if name not in example:
                raise ValueError(f"{where} example {example['id']!r} does not have.")
            where += f" in example {example['id']!r}"
            values[name] = value_text(example[name], where)
            if values[name] is None:
                raise ValueError(f"{where} is empty. Fill it, set `on_bad_example: skip`, or use another template.")
        return fill_template(self.template, values)

    def template_columns(self, examples: Dataset, split: str) -> list[str]:
        """The template's columns, except `question`; raises `ValueError` if a column is missing or no text."""
        names = [name for name in template_fields(self.template) if name not in ("question", *self.derived_fields)]
        for name in names:
            message = f"question_template {self.template!r} names {name!r}, which"
            if name not in examples.column_names or name in ("image", "answers"):
                message += f" is no column of split {split!r} that can be shown; its columns are"
                raise ValueError(f"{message} {examples.column_names}.")
            if not isinstance(examples.features[name], Value):
                raise ValueError(f"{message} holds {examples.features[name]} in split {split!r}; expected text.")
        return names

    def check_examples(self, examples: Dataset, split: str) -> None:
        """Raises `ValueError` with the ids of examples that the task can't use."""
        for name in self.template_columns(examples, split):
            column = zip(examples["id"], examples.select_columns(name)[:][name], strict=True)
            gaps = [identifier for identifier, value in column if value is None]
            problem = f"examples of split {split!r} have an empty column {name!r}, which question_template "
            remedy = "Fill it, set `on_bad_example: skip` to leave them out, or use another template."
            refuse(gaps, len(examples), f"{problem}{self.template!r} names", remedy)
