# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Exact match, cover exact match and the accuracy of labels: 1 for a right prediction, else 0.

The first two compare texts in Unicode's form NFC, in which both spellings of "café" (one or two code points for its
last letter) are equal. NFKC would fold more: "m²" would equal "m2".
"""

import unicodedata

from .texts import check_texts, fold
from .token_f1 import normalized_words


def exact_match(prediction: str, answers: list[str], strict: bool = False) -> float:
    """Whether a prediction equals an answer: 1.0 or 0.0. Case and white space count only if `strict`."""
    check_texts(prediction, answers)
    prediction, *answers = (unicodedata.normalize("NFC", text) for text in (prediction, *answers))
    return float(prediction in answers if strict else fold(prediction) in map(fold, answers))


def cover_exact_match(prediction: str, answers: list[str]) -> float:
    """
    Whether a prediction contains the words of an answer, in a row: 1.0 or 0.0. Open-domain question answering calls
    this measure cover EM, or "has answer"; it has no official code.

    The words are those of [`token_f1`], so "category" does not contain "cat", and "A red bus." contains "the red bus".
    No prediction contains an answer without words.
    """
    check_texts(prediction, answers)
    texts = (unicodedata.normalize("NFC", text) for text in (prediction, *answers))
    prediction, *answers = (f" {' '.join(normalized_words(text))} " for text in texts)
    return float(any(answer.strip() and answer in prediction for answer in answers))


def accuracy(prediction: str, answers: list[str]) -> float:
    """Whether a prediction is the label, letter by letter: 1.0 or 0.0."""
    check_texts(prediction, answers)
    return float(prediction in answers)
