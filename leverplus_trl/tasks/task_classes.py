# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The tasks, by name."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from datasets import Dataset

from ..metrics.texts import LETTERS
from .arguments import TaskArguments
from .base_task import BaseTask, Example, refuse, text_before
from .columns import value_text
from .images import undecoded


NO_IMAGE = (
    "Map the column of images with `columns: {image: THEIR_NAME}`, or set `task` to one without images: "
    "text_classification, multiple_choice or math_word_problem."
)


class VQATask(BaseTask):
    """Visual question answering. The image precedes the question; the prediction is the first line of the reply."""

    default_metric = "vqa_accuracy"
    metrics = (
        "vqa_accuracy",
        "vqa_accuracy_normalized",
        "okvqa_accuracy",
        "anls",
        "exact_match",
        "cover_exact_match",
        "token_f1",
    )

    def content(self, example: Example) -> list[dict[str, Any]]:
        if example["image"] is None:
            raise ValueError(f"Example {example['id']!r} has no image, which vqa and captioning need. {NO_IMAGE}")
        return [{"type": "image", "image": example["image"]}, *super().content(example)]

    def check_examples(self, examples: Dataset, split: str) -> None:
        super().check_examples(examples, split)
        images = undecoded(examples.select_columns(["id", "image"]))
        missing = [row["id"] for row in images if row["image"] is None]
        refuse(
            missing,
            len(examples),
            f"examples of split {split!r} have no image, which vqa and captioning need",
            NO_IMAGE,
        )

    def postprocess(self, generation: str) -> str:
        return generation.strip().split("\n")[0].strip()


class CaptioningTask(VQATask):
    """Captions: the question is an instruction. Call `use_references` before `accuracy`."""

    default_metric = "cider"
    metrics = ("cider",)


class MultipleChoiceTask(BaseTask):
    """
    Multiple choice: `choices` holds the texts of the options, `answer` the letter of the right option, the optional
    `context` a text of the question. The prediction is the first paragraph of the reply.

    The template may name columns and these fields: `{options}`, "(A) cat (B) dog", and `{context}`, "N/A" if it is
    empty, as in ScienceQA's prompts; `{option_lines}`, a line "A. cat" per option, and `{hint_line}`, a line
    "Hint: ..." if there is a context, as in MMBench's prompts.
    """

    default_template = (
        "Question: {question}\nContext: {context}\nOptions: {options}\nAnswer with the letter of the right option."
    )
    default_metric = "option_accuracy"
    metrics = ("option_accuracy", "scienceqa_accuracy", "mmbench_accuracy")
    derived_fields = ("options", "option_lines", "context", "hint_line")

    def content(self, example: Example) -> list[dict[str, Any]]:
        text = super().content(example)
        return text if example["image"] is None else [{"type": "image", "image": example["image"]}, *text]

    def question_text(self, example: Example) -> str:
        lettered = list(zip(LETTERS, example["choices"], strict=False))
        context = (value_text(example.get("context")) or "").strip()
        derived = {
            "options": " ".join(f"({letter}) {choice}" for letter, choice in lettered),
            "option_lines": "\n".join(f"{letter}. {choice}" for letter, choice in lettered),
            "context": context or "N/A",
            "hint_line": f"Hint: {context}\n" if context else "",
        }
        return super().question_text(example | derived)

    def check_examples(self, examples: Dataset, split: str) -> None:
        super().check_examples(examples, split)
        if "choices" not in examples.column_names:
            message = f"Split {split!r} has no column `choices`, which multiple_choice needs; its columns are "
            raise ValueError(f"{message}{examples.column_names}. Map another: `columns: {{choices: THEIR_NAME}}`.")
        odd, wrong = [], []
        columns = [examples.select_columns(name)[:][name] for name in ("id", "answer", "choices")]
        for identifier, answer, choices in zip(*columns, strict=True):
            choices = choices or []
            if len(choices) > len(LETTERS) or not all((choice or "").strip() for choice in choices):
                odd.append(identifier)
            if answer not in list(LETTERS[: len(choices)]):
                wrong.append(f"{identifier!r} ({answer!r} of {len(choices)})")
        problem = f"examples of split {split!r} have an empty choice, or more than {len(LETTERS)}"
        refuse(odd, len(examples), problem, "Fix them, or leave them out.")
        if wrong:
            message = f"{len(wrong)} of {len(examples)} answers of split {split!r} are not the letter of one of their"
            named = ", ".join(wrong[:5])
            raise ValueError(f"{message} choices: {named}. Use A for the first choice, B for the second, ...")

    def postprocess(self, generation: str) -> str:
        return generation.strip().split("\n\n")[0].strip()


class MathWordProblemTask(BaseTask):
    """Math word problems: `answer` is the solution, with "#### number" in its last line. The prediction is the reply
    up to the first stop string. Set `max_new_tokens` to 256 or more, so that the reasoning fits."""

    default_metric = "gsm8k_strict"
    metrics = ("gsm8k_strict", "gsm8k_flexible")
    default_stop_strings = ("Question:", "</s>", "<|im_end|>")  #: Those of lm-evaluation-harness.

    def check_examples(self, examples: Dataset, split: str) -> None:
        super().check_examples(examples, split)
        rows = zip(examples["id"], examples["answer"], strict=True)
        lacking = [identifier for identifier, answer in rows if not re.search(r"#### -?[0-9$]", answer)]
        problem = f"answers of split {split!r} have no '#### number'"
        refuse(lacking, len(examples), problem, "Map the column with the whole solution to `answer`.")

    def postprocess(self, generation: str) -> str:
        return text_before(generation, self.stop_strings).strip()


class TextClassificationTask(BaseTask):
    """Text classification: a generation that begins with the name of a class, in any case, predicts this class; if
    several names match, the longest."""

    default_metric = "exact_match"
    metrics = ("accuracy", "exact_match", "cover_exact_match", "token_f1")

    def __init__(self, args: TaskArguments):
        super().__init__(args)
        self.labels = sorted(args.labels, key=lambda label: (-len(label), label))

    def check_examples(self, examples: Dataset, split: str) -> None:
        super().check_examples(examples, split)
        unknown = sorted(set(examples["answer"]) - set(self.labels))
        if unknown:
            message = f"Split {split!r} has answers that are not among `labels`: {', '.join(map(repr, unknown[:5]))}"
            raise ValueError(f"{message}. Add them, or map another column to `answer`.")

    def postprocess(self, generation: str) -> str:
        line = generation.strip().split("\n")[0].strip()
        for label in self.labels:
            # "positively", "1.5" and "non-toxic" must not match the labels "positive", "1" and "non".
            if re.match(re.escape(label) + r"(?!\w|[.,]\d|[-'’]\w)", line, flags=re.IGNORECASE):
                return label
        return line


TASKS = {
    "vqa": VQATask,
    "captioning": CaptioningTask,
    "multiple_choice": MultipleChoiceTask,
    "math_word_problem": MathWordProblemTask,
    "text_classification": TextClassificationTask,
}


def make_task(args: TaskArguments) -> BaseTask:
    """The task that the arguments define."""
    return TASKS[args.task](args)


def task_of_recipe(recipe: Mapping[str, Any]) -> BaseTask:
    """The task that a recipe, as a table's provenance stores it, defines."""
    names = {field.name for field in fields(TaskArguments)} & set(recipe)
    return make_task(TaskArguments(**{name: recipe[name] for name in names}))
