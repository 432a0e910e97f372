# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Cover exact match: 1 if the words of a right answer stand in the prediction, in a row, else 0.

Words are those of SQuAD's normalisation (see `token_f1`), so "cat" does not stand in "category", and "the red bus"
stands in "A red bus.". An answer without words stands in nothing. Both sides are in Unicode's form NFC, as in
`exact_match`. There is no official code for this measure; it is what open-domain question answering calls "has answer"
or cover EM.
"""

import unicodedata

from leverplus_trl.metrics.base_metric import BaseMetric, check_texts
from leverplus_trl.metrics.token_f1.token_f1 import normalized_words


def cover_exact_match(prediction: str, answers: list[str]) -> float:
    """
    Whether a right answer stands in the prediction.

    Args:
        prediction (`str`):
            The answer to judge.
        answers (`list[str]`):
            The right answers.

    Returns:
        `float`, 1.0 or 0.0.

    Raises:
        `ValueError`: there is no answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    check_texts(prediction, answers)
    texts = (unicodedata.normalize("NFC", text) for text in (prediction, *answers))
    said, *wanted = (f" {' '.join(normalized_words(text))} " for text in texts)
    return float(any(answer.strip() and answer in said for answer in wanted))


class CoverExactMatch(BaseMetric):
    """Cover exact match as an `evaluate.Metric`."""

    result = "cover_exact_match"
    description = "Share of predictions in which the words of a right answer stand in a row."
    arguments = """
Args:
    predictions (`list[str]`):
        One answer per question.
    references (`list[list[str]]`):
        The right answers per question.

Returns:
    `cover_exact_match` (mean, in 0..1) and `per_example` (list of 0.0 and 1.0).
"""

    def scores(self, predictions: list[str], references: list[list[str]]) -> list[float]:
        return [cover_exact_match(*pair) for pair in zip(predictions, references, strict=True)]
