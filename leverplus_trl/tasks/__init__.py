# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Examples, and tasks: how an example becomes a prompt, and which metric scores an answer."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "arguments": ("DataArguments", "TaskArguments"),
        "base_task": ("BaseTask", "Example"),
        "examples": ("first_queries", "load_examples"),
        "overlap": ("NO_OVERLAP", "Overlap", "check_disjoint", "check_distinct", "check_overlap", "overlap_facts"),
        "task_classes": (
            *("CaptioningTask", "MathWordProblemTask", "MultipleChoiceTask", "TextClassificationTask", "VQATask"),
            *("TASKS", "make_task", "task_of_recipe"),
        ),
    },
)
