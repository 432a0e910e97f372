# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
VQA accuracy of stemmed words, for OK-VQA.

Published accuracies are computed on the stemmed answers of five annotators, each counted twice; the dataset has no
code for its stemmer. This metric normalises prediction and answers as [`vqa_accuracy`] does, stems the words of *both*
with Porter's algorithm until they no longer change, and computes VQA accuracy. If all annotators gave the same text,
words are only stemmed, and lose case and a possessive "'s".

Source: Marino et al., "OK-VQA: A Visual Question Answering Benchmark Requiring External Knowledge", CVPR 2019,
https://okvqa.allenai.org/; Porter, "An algorithm for suffix stripping", Program 14(3), 1980
"""

import re
from functools import lru_cache

from .vqa_accuracy import leave_one_out, normalized


# Porter's paper drops one of two equal consonants before -ed and -ing ("trekking" is "trek"); Snowball only some.
_DOUBLED = re.compile(r"([chjkqvwx])\1$")


def okvqa_accuracy(prediction: str, answers: list[str]) -> float:
    """Accuracy of one answer by its words' stems and those of all annotators' answers, stemmed or not: 0..1."""
    prediction, answers = normalized(prediction, answers)
    return leave_one_out(stem_words(prediction), [stem_words(answer) for answer in answers])


def stem_words(answer: str) -> str:
    stems = []
    for word in answer.lower().split():
        word = word.removesuffix("'s").removesuffix("'") or word
        while (shorter := stem(word)) != word:
            word = shorter
        stems.append(word)
    return " ".join(stems)


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Porter's stem of a lower-case word; as in his program, words of one or two letters stay as they are."""
    import snowballstemmer  # loads the stemmers of thirty languages

    if len(word) <= 2:
        return word
    stemmed = snowballstemmer.stemmer("porter").stemWord(word)
    return stemmed[:-1] if word.endswith(("ed", "eds", "ing", "ings")) and _DOUBLED.search(stemmed) else stemmed
