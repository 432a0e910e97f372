# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The tasks by name."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .base_task import BaseTask
from .captioning import CaptioningTask
from .math_word_problem import MathWordProblemTask
from .multiple_choice import MultipleChoiceTask
from .task_arguments import TaskArguments
from .text_classification import TextClassificationTask
from .vqa import VQATask


TASKS = {
    "vqa": VQATask,
    "captioning": CaptioningTask,
    "multiple_choice": MultipleChoiceTask,
    "math_word_problem": MathWordProblemTask,
    "text_classification": TextClassificationTask,
}


def task_of_recipe(recipe: Mapping[str, Any]) -> BaseTask:
    """The task of a recipe that a table was made with."""
    names = {one.name for one in fields(TaskArguments)} & set(recipe)
    return make_task(TaskArguments(**{name: recipe[name] for name in names}))


def make_task(args: TaskArguments) -> BaseTask:
    """The task a recipe names."""
    return TASKS[args.task](args)
