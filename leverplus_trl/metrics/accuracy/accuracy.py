# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Accuracy of a classification: 1 if the prediction is the label, letter by letter, else 0."""

from leverplus_trl.metrics.base_metric import BaseMetric, check_texts


def accuracy(prediction: str, answers: list[str]) -> float:
    """
    Whether a prediction is the label.

    Args:
        prediction (`str`):
            The label that was predicted.
        answers (`list[str]`):
            The right label; one of them, if there are several.

    Returns:
        `float`, 1.0 or 0.0.

    Raises:
        `ValueError`: there is no answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    check_texts(prediction, answers)
    return float(prediction in answers)


class Accuracy(BaseMetric):
    """Accuracy as an `evaluate.Metric`."""

    result = "accuracy"
    description = "Share of predictions that are the label, letter by letter."
    arguments = """
Args:
    predictions (`list[str]`):
        One label per example.
    references (`list[list[str]]`):
        The right label per example, in a list.

Returns:
    `accuracy` (mean, in 0..1) and `per_example` (list of 0.0 and 1.0).
"""

    def scores(self, predictions: list[str], references: list[list[str]]) -> list[float]:
        return [accuracy(*pair) for pair in zip(predictions, references, strict=True)]
