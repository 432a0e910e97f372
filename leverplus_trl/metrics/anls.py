# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
ANLS, average normalised Levenshtein similarity, as the Robust Reading Competition scores DocVQA and others.

The similarity to an answer is 1 - edit distance / length of the longer text. Texts are compared in lower case, with
runs of white space as one space and none at the ends, but the distance is divided by the length *before* this.

Source: Biten et al., "Scene Text Visual Question Answering", ICCV 2019, https://rrc.cvc.uab.es/?ch=17&com=tasks
"""

from .texts import check_texts, fold


def anls(prediction: str, answers: list[str], threshold: float = 0.5) -> float:
    """Similarity of a prediction to the nearest answer: 0..1; a similarity below `threshold` is 0."""
    check_texts(prediction, answers)
    distances = []
    for answer in answers:
        # Upper case, as in the official code: "ß" is as long as "SS".
        length = max(len(prediction.upper()), len(answer.upper()))
        distances.append(edit_distance(fold(prediction), fold(answer)) / length if length else 0.0)
    similarity = 1.0 - min(distances)
    return similarity if similarity >= threshold else 0.0


def edit_distance(first: str, second: str) -> int:
    """Levenshtein distance of two texts."""
    row = list(range(len(second) + 1))
    for count, letter in enumerate(first, 1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(second, 1):
            diagonal, row[place] = row[place], min(diagonal + (letter != other), row[place] + 1, row[place - 1] + 1)
    return row[-1]
