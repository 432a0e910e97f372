# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The tasks by name."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .arguments import TaskArguments
from .base_task import BaseTask
from .captioning import CaptioningTask
from .math_word_problem import MathWordProblemTask
from .multiple_choice import MultipleChoiceTask
from .text_classification import TextClassificationTask
from .vqa import VQATask


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
