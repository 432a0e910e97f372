# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.


"""How near a wrong answer is to a right one: measures of words and letters, as pure functions."""

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from ..metrics.vqa_accuracy.vqa_accuracy import normalize_answer


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """
    Harmonic mean of precision and recall of the prediction's words, against the answer for which it is highest.

    Words are those of the normalised texts (case, punctuation, articles and number words as VQA accuracy treats them),
    counted as often as they stand there. Two texts without words are equal.

    Raises:
        `ValueError`: there is no answer.
    """
    return max(_token_f1(prediction, answer) for answer in _some(prediction, answers))


def edit_similarity(prediction: str, answers: Sequence[str]) -> float:
    """
    `difflib.SequenceMatcher.ratio()` of the normalised texts, letter by letter: twice the letters in matching blocks
    over all letters of both; against the answer for which it is highest.
    """
    return max(_edit_similarity(prediction, answer) for answer in _some(prediction, answers))


def relevance(prediction: str, answers: Sequence[str]) -> float:
    """
    The mean of [`token_f1`] and [`edit_similarity`] with one and the same answer, the one for which it is highest; in
    0..1.
    """
    return max(
        (_token_f1(prediction, answer) + _edit_similarity(prediction, answer)) / 2
        for answer in _some(prediction, answers)
    )


def covers(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the words of one of the answers stand in the prediction, in a row; an answer without words never
    does."""
    words = f" {' '.join(_words(prediction))} "
    return any(f" {' '.join(answer)} " in words for answer in map(_words, _some(prediction, answers)) if answer)


def _token_f1(prediction: str, answer: str) -> float:
    said, wanted = Counter(_words(prediction)), Counter(_words(answer))
    if not said or not wanted:
        return float(said == wanted)
    shared = (said & wanted).total()
    return 2 * shared / (said.total() + wanted.total())


def _edit_similarity(prediction: str, answer: str) -> float:
    # Answers first: the ratio is not symmetric, and autojunk would drop letters that are frequent in long texts.
    texts = (" ".join(_words(answer)), " ".join(_words(prediction)))
    return SequenceMatcher(None, *texts, autojunk=False).ratio()


def _words(text: str) -> list[str]:
    return normalize_answer(text.replace("\n", " ").replace("\t", " ")).split()


def _some(prediction: str, answers: Sequence[str]) -> Sequence[str]:
    if isinstance(answers, str):
        raise TypeError(f"Expected a list of answers, got the string {answers!r}.")
    if len(answers) == 0:
        raise ValueError(f"No answer to judge the prediction {prediction!r} by; drop such examples.")
    return answers
