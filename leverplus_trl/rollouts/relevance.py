# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""How near a wrong answer is to a right one: measures of words and letters, as pure functions."""

from difflib import SequenceMatcher

from ..metrics.texts import check_texts
from ..metrics.token_f1 import normalized_words, token_f1


def edit_similarity(prediction: str, answers: list[str]) -> float:
    """
    `difflib.SequenceMatcher.ratio()` of the texts, letter by letter: twice the letters in matching blocks over all
    letters of both; against the answer for which it is highest. Texts are normalised as for `token_f1`, by SQuAD's
    rules.

    Raises:
        `ValueError`: there is no answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    check_texts(prediction, answers)
    said, *wanted = (" ".join(normalized_words(text)) for text in (prediction, *answers))
    # Answers first: the ratio is not symmetric, and autojunk would drop letters that are frequent in long texts.
    return max(SequenceMatcher(None, answer, said, autojunk=False).ratio() for answer in wanted)


def relevance(prediction: str, answers: list[str]) -> float:
    """
    The mean of the metric `token_f1` and [`edit_similarity`] with one and the same answer, the one for which it is
    highest; in 0..1.

    Raises:
        `ValueError`, `TypeError`: as [`edit_similarity`].
    """
    check_texts(prediction, answers)
    return max((token_f1(prediction, [answer]) + edit_similarity(prediction, [answer])) / 2 for answer in answers)
