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

"""What an example is, how it becomes turns and prompt segments, and which metric scores an answer."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "base_task": ("BaseTask", "Example"),
        "captioning": ("CaptioningTask",),
        "data_arguments": ("DataArguments",),
        "examples": ("check_disjoint", "check_distinct", "first_queries", "load_examples"),
        "math_word_problem": ("MathWordProblemTask",),
        "multiple_choice": ("MultipleChoiceTask",),
        "overlap": ("NO_OVERLAP", "Overlap", "check_overlap", "overlap_facts"),
        "task_arguments": ("TaskArguments",),
        "text_classification": ("TextClassificationTask",),
        "task_classes": ("TASKS", "make_task", "task_of_recipe"),
        "vqa": ("VQATask",),
    },
)
