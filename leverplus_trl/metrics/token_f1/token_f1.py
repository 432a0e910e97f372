# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
F1 of words, as the evaluation code of SQuAD 2.0 computes it.

Texts lose case, ASCII punctuation and the articles a, an and the, in this order ("e.g." becomes "eg"; "well-known"
"wellknown"), and are split at white space. Words count as often as they stand there, and the answer for which F1 is
highest counts. Two texts without words are equal, one without and one with are not (SQuAD 1.1 gives 0 for both).
"""

import re
import string
from collections import Counter

from leverplus_trl.metrics.base_metric import BaseMetric, check_texts


_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def token_f1(prediction: str, answers: list[str]) -> float:
    """
    Harmonic mean of precision and recall of the prediction's words, with the answer for which it is highest.

    Args:
        prediction (`str`):
            The answer to judge.
        answers (`list[str]`):
            The right answers.

    Returns:
        `float` in 0..1.

    Raises:
        `ValueError`: there is no answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    check_texts(prediction, answers)
    return max(_f1(Counter(normalized_words(prediction)), Counter(normalized_words(answer))) for answer in answers)


def normalized_words(text: str) -> list[str]:
    """The words of a text, as SQuAD sees them."""
    return _ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split()


def _f1(said: Counter, wanted: Counter) -> float:
    if not said or not wanted:
        return float(said == wanted)
    return 2 * (said & wanted).total() / (said.total() + wanted.total())


class TokenF1(BaseMetric):
    """F1 of words as an `evaluate.Metric`."""

    result = "token_f1"
    url = "https://rajpurkar.github.io/SQuAD-explorer/"
    description = "F1 of the prediction's words and those of the answer that fits best, normalised as SQuAD does."
    citation = """
@inproceedings{rajpurkar2018know,
    title={Know What You Don't Know: Unanswerable Questions for {SQuAD}},
    author={Rajpurkar, Pranav and Jia, Robin and Liang, Percy},
    booktitle={ACL},
    year={2018}
}
"""
    arguments = """
Args:
    predictions (`list[str]`):
        One answer per question.
    references (`list[list[str]]`):
        The right answers per question.

Returns:
    `token_f1` (mean, in 0..1) and `per_example` (list of F1, in 0..1).
"""

    def scores(self, predictions: list[str], references: list[list[str]]) -> list[float]:
        return [token_f1(*pair) for pair in zip(predictions, references, strict=True)]
