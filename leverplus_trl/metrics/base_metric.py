# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What all metrics of this package share as `evaluate.Metric`s: a mean, the score of each example, and checks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import datasets
import evaluate


STRING = datasets.Value("string")

#: A reference that is the list of an example's right answers.
ANSWERS = datasets.Sequence(STRING)

#: A reference of a multiple-choice question: the letters of the right options, and the text of every option.
OPTIONS = {"answers": ANSWERS, "choices": datasets.Sequence(STRING)}


class BaseMetric(evaluate.Metric, ABC):
    """
    A metric that is the mean of one score an example.

    A subclass names its result (`result`), describes itself (`description`, `arguments`, `citation`, `url`), may have
    other `references` than a list of answers, and defines `scores`.
    """

    result: str
    description: str
    arguments: str
    citation = ""
    url: str | None = None
    references = ANSWERS

    @abstractmethod
    def scores(self, predictions: list[str], references: list, **options) -> list[float]:
        """The score of each prediction."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=self.arguments,
            features=datasets.Features({"predictions": STRING, "references": self.references}),
            reference_urls=[self.url] if self.url else [],
        )

    def _compute(self, predictions: list[str], references: list, **options) -> dict:
        if not predictions:
            raise ValueError("There are no predictions, so they have no mean; expected at least one.")
        per_example = self.scores(predictions, references, **options)
        return {self.result: sum(per_example) / len(per_example), "per_example": per_example}


def check_texts(prediction: str, answers: Sequence[str]) -> None:
    """
    Raises what is wrong with a prediction and its answers.

    Raises:
        `ValueError`: there is no answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    if not isinstance(prediction, str) or isinstance(answers, str):
        raise TypeError(f"Expected a string and a list of strings, got {prediction!r} and {answers!r}.")
    if len(answers) == 0:
        raise ValueError(f"No answer to judge the prediction {prediction!r} by; drop such examples.")


def check_options(prediction: str, answers: Sequence[str], choices: Sequence[str]) -> None:
    """
    Raises what is wrong with a multiple-choice question and its prediction.

    Raises:
        `ValueError`: no answer, not 1 to 26 choices, or an answer that is no letter of theirs.
        `TypeError`: as [`check_texts`], or the choices are one string in place of a list.
    """
    check_texts(prediction, answers)
    if isinstance(choices, str):
        raise TypeError(f"Expected a list of choices, got the string {choices!r}.")
    if not 1 <= len(choices) <= len(LETTERS):
        raise ValueError(f"There are {len(choices)} choices; expected 1 to {len(LETTERS)}.")
    for answer in answers:
        if len(answer) != 1 or answer not in LETTERS[: len(choices)]:
            raise ValueError(
                f"The right answer is {answer!r}; expected the letter of one of the {len(choices)} choices, "
                f"{', '.join(LETTERS[: len(choices)])}."
            )


#: What options are called.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
