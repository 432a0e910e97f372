# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Accuracy on MMBench, as VLMEvalKit computes it without a language model as judge (policy `exact_matching`): the first
stage of the official evaluation, each question asked once (no rotation of the options, "circular", where all of a
question's rotations must be right; the official figure is lower for that).

What option a reply names, by the official rules, quirks included:

1. A reply that declines to answer, in one of four phrases, names none.
2. The marks .()[],:;!*#{} become spaces. If exactly one of the options' capital letters then stands in the reply as a
   word of its own, and as one of the last four words, it is that option. "A" is a word like any other here: "A dog"
   names A, "A or B" names nothing yet. If none does but the letter Z, the reply names none.
3. Else "answer is X" names the option A, B, C or D, whatever the case, stars before X or not, and even where X is the
   first letter of a word: "the answer is clear" names C.
4. Else, if the text of exactly one option stands in the reply, in lower case and be it inside a word, it is that
   option; but not if the reply is more than twice as long as all the options' texts together.

A reply that names no option is wrong. The official evaluation would ask a language model next, so its figures can be
higher for a model that answers in sentences.
"""

import re

from leverplus_trl.metrics.base_metric import LETTERS, OPTIONS, BaseMetric, check_options


_DECLINED = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NO_REPLY = "Failed to obtain answer via API"
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_STATED = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)
_LAST_WORDS = 4


def mmbench_accuracy(prediction: str, answers: list[str], choices: list[str]) -> float:
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
    options = dict(zip(LETTERS, choices, strict=False))
    if any(phrase in reply for phrase in _DECLINED) and _NO_REPLY not in reply:
        return None
    words = reply.translate(_MARKS).split()
    letters = [letter for letter in options if letter in words]
    if _NO_REPLY not in reply:
        if len(letters) == 1 and words.index(letters[0]) > len(words) - _LAST_WORDS - 1:
            return letters[0]
        if not letters and "Z" in words:
            return None
        stated = _STATED.search(reply)
        if stated and stated.group(1).upper() in options:
            return stated.group(1).upper()
    return _option_by_text(reply.lower(), options)


def _option_by_text(reply: str, options: dict[str, str]) -> str | None:
    if len(reply) > 2 * sum(map(len, options.values())):
        return None
    found = [letter for letter, text in options.items() if text.lower() in reply]
    return found[0] if len(found) == 1 else None


class MmbenchAccuracy(BaseMetric):
    """MMBench accuracy by rules as an `evaluate.Metric`."""

    result = "mmbench_accuracy"
    references = OPTIONS
    url = "https://github.com/open-compass/VLMEvalKit"
    description = "Share of replies that name the right option, by the rules of MMBench's first stage."
    citation = """
@inproceedings{liu2024mmbench,
    title={{MMBench}: Is Your Multi-modal Model an All-around Player?},
    author={Liu, Yuan and Duan, Haodong and Zhang, Yuanhan and Li, Bo and Zhang, Songyang and Zhao, Wangbo
            and Yuan, Yike and Wang, Jiaqi and He, Conghui and Liu, Ziwei and Chen, Kai and Lin, Dahua},
    booktitle={ECCV},
    year={2024}
}
"""
    arguments = """
Args:
    predictions (`list[str]`):
        One whole reply per question.
    references (`list[dict]`):
        `answers` (the letter of the right option, in a list) and `choices` (the text of every option) per question.

Returns:
    `mmbench_accuracy` (mean, in 0..1) and `per_example` (list of 0.0 and 1.0).
"""

    def scores(self, predictions: list[str], references: list[dict]) -> list[float]:
        pairs = zip(predictions, references, strict=True)
        return [mmbench_accuracy(said, right["answers"], right["choices"]) for said, right in pairs]
