# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
ANLS, average normalised Levenshtein similarity, as the Robust Reading Competition scores DocVQA, InfographicVQA and
ST-VQA (https://rrc.cvc.uab.es/?ch=17&com=tasks).

The similarity to an answer is 1 - edit distance / length of the longer text, and the answer that is nearest counts;
what is less similar than 0.5 counts nothing, and exactly 0.5 counts. The rules, quirks included:

- Texts are compared in lower case, with runs of white space as one space and none at the ends.
- The length that the distance is divided by is that of the texts *before* this, so an answer with needless white space
  is a little easier to meet.
- Two empty texts are equal.
"""

from leverplus_trl.metrics.base_metric import BaseMetric, check_texts


def anls(prediction: str, answers: list[str], threshold: float = 0.5) -> float:
    """
    Similarity of one answer to the right answer it is nearest to.

    Args:
        prediction (`str`):
            The answer to judge.
        answers (`list[str]`):
            The right answers.
        threshold (`float`, *optional*, defaults to 0.5):
            Similarities below it are 0.

    Returns:
        `float` in 0..1.

    Raises:
        `ValueError`: there is no answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    check_texts(prediction, answers)
    similarity = 1.0 - min(_normalized_distance(prediction, answer) for answer in answers)
    return similarity if similarity >= threshold else 0.0


def edit_distance(first: str, second: str) -> int:
    """How many letters must be inserted, dropped or exchanged to make one text the other (Levenshtein)."""
    row = list(range(len(second) + 1))
    for count, letter in enumerate(first, 1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(second, 1):
            diagonal, row[place] = row[place], min(diagonal + (letter != other), row[place] + 1, row[place - 1] + 1)
    return row[-1]


def _normalized_distance(prediction: str, answer: str) -> float:
    # Upper case, as in the official code: "ß" is as long as "SS".
    length = max(len(prediction.upper()), len(answer.upper()))
    return edit_distance(_fold(prediction), _fold(answer)) / length if length else 0.0


def _fold(text: str) -> str:
    return " ".join(text.lower().split())


class Anls(BaseMetric):
    """ANLS as an `evaluate.Metric`."""

    result = "anls"
    url = "https://rrc.cvc.uab.es/?ch=17&com=tasks"
    description = "Average normalised Levenshtein similarity: what is less similar than 0.5 to all answers is wrong."
    citation = """
@inproceedings{biten2019scene,
    title={Scene Text Visual Question Answering},
    author={Biten, Ali Furkan and Tito, Ruben and Mafla, Andres and Gomez, Lluis and Rusinol, Marcal
            and Valveny, Ernest and Jawahar, C.V. and Karatzas, Dimosthenis},
    booktitle={ICCV},
    year={2019}
}
"""
    arguments = """
Args:
    predictions (`list[str]`):
        One answer per question.
    references (`list[list[str]]`):
        The right answers per question.
    threshold (`float`, *optional*, defaults to 0.5):
        Similarities below it are 0.

Returns:
    `anls` (mean, in 0..1) and `per_example` (list of similarities, in 0..1).

Example:
    >>> metric = evaluate.load("leverplus_trl/metrics/anls")
    >>> metric.compute(predictions=["Lond0n"], references=[["London"]])["anls"]
    0.8333333333333334
"""

    def scores(self, predictions: list[str], references: list[list[str]], threshold: float = 0.5) -> list[float]:
        return [anls(*pair, threshold) for pair in zip(predictions, references, strict=True)]
