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

"""What a task is: how an example is shown to the VLM, what it should say, how its words become an answer, what that is
worth."""

import math
from abc import ABC, abstractmethod
from typing import Any

from datasets import Dataset

from ..metrics import METRICS, DocumentFrequencies, document_frequencies
from .task_arguments import TaskArguments


Example = dict[str, Any]


class BaseTask(ABC):
    """
    A task turns examples into prompts and generations into scores; it knows nothing of any model.

    Args:
        args ([`TaskArguments`]):
            Prompt, metric and the task's own settings.
    """

    default_template: str
    default_metric: str
    #: Those that say something about answers of this kind, see `metrics.all_metrics`.
    metrics: tuple[str, ...]

    def __init__(self, args: TaskArguments):
        self.max_new_tokens = args.max_new_tokens
        self.template = args.question_template or self.default_template
        self.answer_template = args.answer_template or "{answer}"
        self.metric = args.metric or self.default_metric
        self.document_frequencies: DocumentFrequencies | None = None

    @abstractmethod
    def content(self, example: Example) -> list[dict[str, Any]]:
        """
        The user's turn: a list of `{"type": "image", "image": image}` and `{"type": "text", "text": str}`. The image
        is what the example holds, decoded or not (see `tasks/images.py`).
        """

    @abstractmethod
    def check_examples(self, examples: Dataset, split: str) -> None:
        """Raises `ValueError`, naming them, if there are examples of a kind the task can't use; before any long
        work."""

    def target(self, example: Example) -> str:
        """The words the VLM should answer with; what `answer_logprob` scores, and what a demonstration shows."""
        return self.answer_template.replace("{answer}", example["answer"].strip())

    @abstractmethod
    def postprocess(self, generation: str) -> str:
        """The answer in a raw generation."""

    def bare_answer(self, prediction: str) -> str:
        """A prediction without the words of the answer template, as far as the VLM said them: the `answer` that
        [`target`] shows as that prediction."""
        before, _, after = (part.strip() for part in self.answer_template.partition("{answer}"))
        said = prediction.strip()
        if said.lower().startswith(before.lower()):
            said = said[len(before) :].strip()
        if after and said.lower().endswith(after.lower()):
            said = said[: -len(after)].strip()
        return said

    def accuracy(self, prediction: str, example: Example) -> float:
        """
        Worth of an answer in 0..1 (CIDEr: 0..10), by the task's metric, against all annotators.

        Raises:
            `ValueError`: a score that is NaN or infinite.
        """
        found = METRICS[self.metric].score(prediction, example, self.document_frequencies)
        if not math.isfinite(found):
            raise ValueError(
                f"{self.metric} of {prediction!r} for example {example['id']!r} is {found}; expected a finite number. "
                "Check the example's `answers`."
            )
        return found

    def use_references(self, *splits: Dataset) -> None:
        """
        Counts the document frequencies that CIDEr weighs words by; does nothing for another metric.

        Args:
            splits (`Dataset`):
                All examples whose answers will be scored, such as a test set.
        """
        if METRICS[self.metric].needs_corpus:
            self.document_frequencies = document_frequencies(
                answers for split in splits for answers in split["answers"]
            )

    def question_text(self, example: Example) -> str:
        """
        The template, filled with the example's columns.

        Raises:
            `ValueError`: the template names a column the example does not have.
        """
        try:
            return self.template.format(**{name: value for name, value in example.items() if name != "image"})
        except KeyError as error:
            raise ValueError(
                f"question_template {self.template!r} names {error}, which example {example['id']!r} does not have."
            ) from error
