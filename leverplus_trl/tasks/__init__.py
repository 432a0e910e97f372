# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from .base_task import BaseTask, Example, TaskArguments
from .captioning import CaptioningTask
from .examples import DataArguments, check_disjoint, first_queries, load_examples
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
    """The task a recipe names."""
    if args.task not in TASKS:
        raise ValueError(f"task is {args.task!r}; expected one of {', '.join(TASKS)}.")
    return TASKS[args.task](args)


__all__ = [
    "TASKS",
    "BaseTask",
    "CaptioningTask",
    "DataArguments",
    "Example",
    "MathWordProblemTask",
    "MultipleChoiceTask",
    "TaskArguments",
    "TextClassificationTask",
    "VQATask",
    "check_disjoint",
    "first_queries",
    "load_examples",
    "make_task",
]
