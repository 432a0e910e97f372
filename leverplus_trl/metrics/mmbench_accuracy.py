# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Accuracy on MMBench, as VLMEvalKit computes it without a language model as judge (policy `exact_matching`): the first
stage of the official evaluation, without rotated options ("circular"). The option that a reply names:

1. A reply that declines to answer, in one of four phrases, names none.
2. If exactly one of the options' capital letters is a word of the reply without marks, and one of its last four
   words, it names that option ("A dog" names A). If there is none but the letter Z, the reply names none.
3. Else "answer is X" names the option A, B, C or D, even if a word begins with X: "the answer is clear" names C.
4. Else, if the reply contains the text of exactly one option, in lower case and even inside a word, it names that
   option, unless the reply is more than twice as long as all the options' texts together.

A reply that names no option is wrong. The official evaluation would then use a language model.

Source: Liu et al., "MMBench: Is Your Multi-modal Model an All-around Player?", ECCV 2024,
https://github.com/open-compass/VLMEvalKit
"""

import re

from .texts import LETTERS, check_options


_DECLINED = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NO_REPLY = "Failed to obtain answer via API"
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_STATED = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)


def mmbench_accuracy(prediction: str, answers: list[str], choices: list[str]) -> float:
    """Whether a reply names the right option: 1.0 or 0.0."""
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
        if len(letters) == 1 and words.index(letters[0]) > len(words) - 5:
            return letters[0]
        if not letters and "Z" in words:
            return None
        stated = _STATED.search(reply)
        if stated and stated.group(1).upper() in options:
            return stated.group(1).upper()
    reply = reply.lower()
    if len(reply) > 2 * sum(map(len, options.values())):
        return None
    matches = [letter for letter, text in options.items() if text.lower() in reply]
    return matches[0] if len(matches) == 1 else None
