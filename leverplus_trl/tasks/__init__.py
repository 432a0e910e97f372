# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Examples, and tasks: how an example becomes a prompt, and which metric scores an answer."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "arguments": ("DataArguments", "TaskArguments"),
        "base_task": ("BaseTask", "Example"),
        "captioning": ("CaptioningTask",),
        "examples": ("check_disjoint", "check_distinct", "first_queries", "load_examples"),
        "math_word_problem": ("MathWordProblemTask",),
        "multiple_choice": ("MultipleChoiceTask",),
        "overlap": ("NO_OVERLAP", "Overlap", "check_overlap", "overlap_facts"),
        "text_classification": ("TextClassificationTask",),
        "task_classes": ("TASKS", "make_task", "task_of_recipe"),
        "vqa": ("VQATask",),
    },
)
