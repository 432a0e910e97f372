# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Exact match, cover exact match and the accuracy of labels: 1 for a right prediction, else 0. The first two compare
texts in Unicode's form NFC.
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
    Whether a prediction contains the words of an answer (those of [`token_f1`]) in a row: 1.0 or 0.0. Open-domain
    question answering calls this cover EM, or "has answer"; it has no official code.
    """
    check_texts(prediction, answers)
    texts = (unicodedata.normalize("NFC", text) for text in (prediction, *answers))
    prediction, *answers = (f" {' '.join(normalized_words(text))} " for text in texts)
    return float(any(answer.strip() and answer in prediction for answer in answers))


def accuracy(prediction: str, answers: list[str]) -> float:
    """Whether a prediction is the label, letter by letter: 1.0 or 0.0."""
    check_texts(prediction, answers)
    return float(prediction in answers)
