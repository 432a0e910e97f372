# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
F1 of words, as the evaluation code of SQuAD 2.0 computes it.

A text loses case, ASCII punctuation and the articles a, an and the, in this order ("e.g." becomes "eg", and
"well-known" becomes "wellknown"), and is split at white space. A repeated word counts as often as it occurs. Two texts
without words are equal; a text without words and one with words are not (SQuAD 1.1 gives 0 for both cases).

Source: Rajpurkar, Jia and Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD", ACL 2018,
https://rajpurkar.github.io/SQuAD-explorer/
"""

import re
import string
from collections import Counter

from .texts import check_texts


_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def token_f1(prediction: str, answers: list[str]) -> float:
    """Harmonic mean of precision and recall of a prediction's words, for the answer with the highest mean: 0..1."""
    check_texts(prediction, answers)
    return max(_f1(Counter(normalized_words(prediction)), Counter(normalized_words(answer))) for answer in answers)


def normalized_words(text: str) -> list[str]:
    """The words of a text after SQuAD's normalisation."""
    return _ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split()


def _f1(words: Counter, answer: Counter) -> float:
    if not words or not answer:
        return float(words == answer)
    return 2 * (words & answer).total() / (words.total() + answer.total())
