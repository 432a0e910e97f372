# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
VQA accuracy of stemmed words, for OK-VQA.

OK-VQA's annotations hold each answer twice: `raw_answer` as it was typed, and `answer`, stemmed, which is what
published accuracies are computed on (five annotators, each counted twice). The files do not say by what stemmer, so
whoever scores a free answer works with a guess at it. Judging by pairs of both, many words of version 1.1 are Porter's
stems ("firefighters" is "firefight", "buildings" "build"), but not those whose stem would be no word ("tennis",
"christmas"). OpenFlamingo stems predictions only: words in -ing by WordNet, plurals to the singular, and some 170
words by a table of corrections.

Here words of the prediction *and* of the answers go through Porter's algorithm, again and again until they no longer
change, after the normalisation of VQA; accuracy is that of VQA. The stem of an answer that is stemmed already is thus
that of the raw word, with few exceptions ("leaves" is "leav", "leaf" stays), so it makes little difference which of
both columns the references come from, and no dictionary is needed.

Kept from VQA: nothing but the stemming is done where all annotators agree to the letter. Of the words themselves case
and a possessive "'s" are dropped.
"""

from leverplus_trl.metrics.base_metric import BaseMetric
from leverplus_trl.metrics.vqa_accuracy.vqa_accuracy import leave_one_out, normalized

from .porter_stemmer import stem


def okvqa_accuracy(prediction: str, answers: list[str]) -> float:
    """
    Accuracy of one answer, by the stems of its words.

    Args:
        prediction (`str`):
            The answer to judge.
        answers (`list[str]`):
            Answers of all annotators, repetitions included, stemmed or not.

    Returns:
        `float` in 0..1.

    Raises:
        `ValueError`: there is no annotator's answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    prediction, answers = normalized(prediction, answers)
    return leave_one_out(stem_words(prediction), [stem_words(answer) for answer in answers])


def stem_words(answer: str) -> str:
    """The stems of an answer's words."""
    words = (word.removesuffix("'s").removesuffix("'") or word for word in answer.lower().split())
    return " ".join(map(_innermost_stem, words))


def _innermost_stem(word: str) -> str:
    while (shorter := stem(word)) != word:
        word = shorter
    return word


class OkvqaAccuracy(BaseMetric):
    """VQA accuracy of stemmed words as an `evaluate.Metric`."""

    result = "okvqa_accuracy"
    url = "https://okvqa.allenai.org/"
    description = "VQA accuracy with the words of predictions and answers stemmed, for OK-VQA."
    citation = """
@inproceedings{marino2019okvqa,
    title={{OK-VQA}: A Visual Question Answering Benchmark Requiring External Knowledge},
    author={Marino, Kenneth and Rastegari, Mohammad and Farhadi, Ali and Mottaghi, Roozbeh},
    booktitle={CVPR},
    year={2019}
}
"""
    arguments = """
Args:
    predictions (`list[str]`):
        One answer per question.
    references (`list[list[str]]`):
        All annotators' answers per question, stemmed (`answer`) or not (`raw_answer`).

Returns:
    `okvqa_accuracy` (mean, in 0..1) and `per_example` (list of accuracies, in 0..1).

Example:
    >>> metric = evaluate.load("leverplus_trl/metrics/okvqa_accuracy")
    >>> metric.compute(predictions=["surfing"], references=[["surf"] * 4 + ["swim"] * 6])["okvqa_accuracy"]
    1.0
"""

    def scores(self, predictions: list[str], references: list[list[str]]) -> list[float]:
        return [okvqa_accuracy(*pair) for pair in zip(predictions, references, strict=True)]
