# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Multiple choice (ScienceQA, MMBench): the input is a question with lettered options, the output a letter."""

from typing import Any

from datasets import Dataset

from ..metrics.texts import LETTERS
from .base_task import BaseTask, Example, refuse
from .columns import value_text


class MultipleChoiceTask(BaseTask):
    """
    `choices` holds the texts of the options, `answer` the letter of the right option, and the optional `context` a
    text that belongs to the question. The prediction is the first paragraph of the reply.

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
