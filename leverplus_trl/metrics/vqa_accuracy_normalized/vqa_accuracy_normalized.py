# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
VQA accuracy with answers that are always normalised.

The evaluation code of VQA normalises answers only where annotators differ (see `vqa_accuracy`). Many reimplementations
leave that condition out, and so report this number under the same name. It is never lower, and higher wherever "A dog"
meets ten times "dog". All other rules are those of the official code; evaluations that use another
normalisation (that of MMF for TextVQA, for one) may still differ from it.
"""

from leverplus_trl.metrics.base_metric import BaseMetric
from leverplus_trl.metrics.vqa_accuracy.vqa_accuracy import vqa_accuracy


def vqa_accuracy_normalized(prediction: str, answers: list[str]) -> float:
    """
    Accuracy of one answer, normalised whether annotators agree or not.

    Args:
        prediction (`str`):
            The answer to judge.
        answers (`list[str]`):
            Answers of all annotators, repetitions included.

    Returns:
        `float` in 0..1.
    """
    return vqa_accuracy(prediction, answers, always_normalize=True)


class VqaAccuracyNormalized(BaseMetric):
    """VQA accuracy of normalised answers as an `evaluate.Metric`."""

    result = "vqa_accuracy_normalized"
    url = "https://visualqa.org/evaluation.html"
    description = "VQA accuracy with all answers normalised, also those that all annotators agree on."
    arguments = """
Args:
    predictions (`list[str]`):
        One answer per question.
    references (`list[list[str]]`):
        All annotators' answers per question.

Returns:
    `vqa_accuracy_normalized` (mean, in 0..1) and `per_example` (list of accuracies, in 0..1).
"""

    def scores(self, predictions: list[str], references: list[list[str]]) -> list[float]:
        return [vqa_accuracy_normalized(*pair) for pair in zip(predictions, references, strict=True)]
