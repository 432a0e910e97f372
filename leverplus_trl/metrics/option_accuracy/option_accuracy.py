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

"""
Accuracy of multiple-choice answers, however the option is named: the first of these that applies.

1. The reply is a letter, in brackets or not, with a full stop, colon or bracket behind it or not: "B", "b", "(B)",
   "B.".
2. It begins with a capital letter in brackets, or with one and a full stop, colon or bracket: "(B) a dog", "B. a dog".
3. It says "answer is B", "answer: (B)" or "option B", "answer" and "option" in any case; the last time counts.
4. It is the text of an option, case and white space aside.
5. The text of exactly one option stands in it, as words; of two, one inside the other, the longer.

A reply that names no option, or a letter that is none, is wrong. No benchmark scores just so: the first three rules
are a more lenient form of LLaVA's evaluation of ScienceQA (a bare letter, "B. ", "The answer is B."). For the rules of
a benchmark's own code see `scienceqa_accuracy` and `mmbench_accuracy`.
"""

import re

from leverplus_trl.metrics.base_metric import LETTERS, OPTIONS, BaseMetric, check_options


_WHOLE = re.compile(r"\(?([A-Za-z])\)?[.:]?")
_BEGINNING = re.compile(r"\(([A-Z])\)|([A-Z])[.:)](?!\w)")
_STATED = re.compile(r"(?i:\banswer(?: is|:)|\boption)\s+(?i:option\s+)?[*(]*([A-Z])\b(?!')")


def option_accuracy(prediction: str, answers: list[str], choices: list[str]) -> float:
    """
    Whether the reply names the right option.

    Args:
        prediction (`str`):
            The whole reply.
        answers (`list[str]`):
            The letter of the right option, in a list.
        choices (`list[str]`):
            The text of every option.

    Returns:
        `float`, 1.0 or 0.0.

    Raises:
        `ValueError`: no answer, no choices, or an answer that is not the letter of a choice.
        `TypeError`: the prediction is not a string, or a list is a string.
    """
    check_options(prediction, answers, choices)
    return float(named_option(prediction, choices) in answers)


def named_option(reply: str, choices: list[str]) -> str | None:
    """The letter of the option that a reply names, or None."""
    reply = reply.strip()
    options = LETTERS[: len(choices)]
    whole, beginning, stated = _WHOLE.fullmatch(reply), _BEGINNING.match(reply), _STATED.findall(reply)
    if whole:
        letter = whole.group(1).upper()
    elif beginning:
        letter = beginning.group(1) or beginning.group(2)
    elif stated:
        letter = stated[-1]
    else:
        return _option_by_text(reply, choices)
    return letter if letter in options else None


def _option_by_text(reply: str, choices: list[str]) -> str | None:
    said, *texts = (" ".join(re.findall(r"\w+", text.lower())) for text in (reply, *choices))
    if texts.count(said) == 1:
        return LETTERS[texts.index(said)]
    found = [place for place, text in enumerate(texts) if text and f" {text} " in f" {said} "]
    longest = max(found, key=lambda place: len(texts[place]), default=None)
    if longest is None or not all(f" {texts[place]} " in f" {texts[longest]} " for place in found):
        return None
    return LETTERS[longest] if texts.count(texts[longest]) == 1 else None


class OptionAccuracy(BaseMetric):
    """Accuracy of multiple-choice answers as an `evaluate.Metric`."""

    result = "option_accuracy"
    references = OPTIONS
    description = "Share of replies that name the right option, by its letter or its text."
    arguments = """
Args:
    predictions (`list[str]`):
        One whole reply per question.
    references (`list[dict]`):
        `answers` (the letter of the right option, in a list) and `choices` (the text of every option) per question.

Returns:
    `option_accuracy` (mean, in 0..1) and `per_example` (list of 0.0 and 1.0).
"""

    def scores(self, predictions: list[str], references: list[dict]) -> list[float]:
        pairs = zip(predictions, references, strict=True)
        return [option_accuracy(said, right["answers"], right["choices"]) for said, right in pairs]
