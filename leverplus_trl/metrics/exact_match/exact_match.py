# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Exact match: 1 if the prediction is one of the reference answers, after folding case and whitespace, else 0.

Both sides are brought into Unicode's form NFC first: the two spellings of "café", with one code point for its last
letter or with two, are the same text by definition. Nothing else is folded. NFKC would be: it makes "m²" and "m2", or
"½" and "1⁄2", the same answer.
"""

import unicodedata

from leverplus_trl.metrics.base_metric import BaseMetric, check_texts


def exact_match(prediction: str, answers: list[str], strict: bool = False) -> float:
    """
    Whether a prediction is one of the answers.

    Args:
        prediction (`str`):
            The answer to judge.
        answers (`list[str]`):
            The right answers.
        strict (`bool`, *optional*, defaults to `False`):
            Compare character by character (in NFC), folding neither case nor whitespace.

    Returns:
        `float`, 1.0 or 0.0.

    Raises:
        `ValueError`: there is no answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    check_texts(prediction, answers)
    said, *wanted = (unicodedata.normalize("NFC", text) for text in (prediction, *answers))
    if strict:
        return float(said in wanted)
    return float(_fold(said) in map(_fold, wanted))


def _fold(answer: str) -> str:
    return " ".join(answer.lower().split())


class ExactMatch(BaseMetric):
    """Exact match as an `evaluate.Metric`."""

    result = "exact_match"
    description = "Share of predictions that equal one of their reference answers, case and whitespace aside."
    arguments = """
Args:
    predictions (`list[str]`):
        One answer per question.
    references (`list[list[str]]`):
        The right answers per question.
    strict (`bool`, *optional*, defaults to `False`):
        Compare character by character, folding neither case nor whitespace.

Returns:
    `exact_match` (mean, in 0..1) and `per_example` (list of 0.0 and 1.0).

Example:
    >>> metric = evaluate.load("leverplus_trl/metrics/exact_match")
    >>> metric.compute(predictions=[" Hot  dog"], references=[["hot dog", "sausage"]])["exact_match"]
    1.0
"""

    def scores(self, predictions: list[str], references: list[list[str]], strict: bool = False) -> list[float]:
        return [exact_match(*pair, strict) for pair in zip(predictions, references, strict=True)]
