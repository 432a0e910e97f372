# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the task and its prompt."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option
from ..metrics import METRICS
from .prompt_template import template_fields


TASK_NAMES = ("vqa", "captioning", "multiple_choice", "math_word_problem", "text_classification")
PROTOCOL_NAMES = ("direct",)


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
        self._check_templates()
        self._check_labels()

    def _check_templates(self):
        question_fields = template_fields(self.question_template or "{question}")
        # All captions answer the same question, which OpenFlamingo's "Output:" leaves out.
        if "question" not in question_fields and self.task != "captioning":
            raise ValueError(f"question_template {self.question_template!r} does not contain {{question}}.")
        answers = [name for name in ("answer", "answers") if name in question_fields]
        if answers:
            raise ValueError(
                f"question_template {self.question_template!r} contains {{{answers[0]}}}: the VLM would be shown what "
                "it is asked for. Leave it out; the answer of a demonstration follows its question."
            )
        answer_fields = template_fields(self.answer_template or "{answer}")
        if "answer" not in answer_fields:
            raise ValueError(f"answer_template {self.answer_template!r} does not contain {{answer}}.")
        if answer_fields != ["answer"]:
            other = next(name for name in answer_fields if name != "answer")
            raise ValueError(
                f"answer_template {self.answer_template!r} contains {{{other}}}; expected no field but {{answer}}."
            )

    def _check_labels(self):
        if self.labels is None and self.task == "text_classification":
            raise ValueError("task is text_classification, which needs labels: the list of the classes' names.")
        if self.labels is None:
            return
        for label in self.labels:
            if label != label.strip() or not label:
                raise ValueError(f"labels holds {label!r}; expected a text without spaces around it.")
        names = [label.casefold() for label in self.labels]
        twice = [label for label, name in zip(self.labels, names, strict=True) if names.count(name) > 1]
        if twice:
            raise ValueError(f"labels holds {twice[0]!r} and {twice[1]!r}, which an answer can't tell apart.")
