# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Text classification: the input is a text, the output the name of a class."""

import re

from datasets import Dataset

from .arguments import TaskArguments
from .base_task import BaseTask


class TextClassificationTask(BaseTask):
    """A generation that begins with the name of a class, in upper or lower case, predicts this class; if several names
    match, the longest."""

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
