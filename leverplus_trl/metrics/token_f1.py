# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
F1 of words, as the evaluation code of SQuAD 2.0 computes it.

A text loses case, ASCII punctuation and the articles a, an and the, in this order, and is split at white space. A
repeated word counts as often as it occurs. Two texts without words are equal (SQuAD 1.1 gives 0).

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
    words, scores = Counter(normalized_words(prediction)), []
    for answer in answers:
        own = Counter(normalized_words(answer))
        total = words.total() + own.total()
        scores.append(2 * (words & own).total() / total if words and own else float(words == own))
    return max(scores)


def normalized_words(text: str) -> list[str]:
    """The words of a text after SQuAD's normalisation."""
    return _ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split()
