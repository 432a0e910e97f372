# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Accuracy on ScienceQA, as its own evaluation of language models computes it (`models/run_gpt3.py`).

The reply must say "The answer is X." exactly once, in these words and this case, with a capital letter X. Quirks of
the pattern: *any* character may replace the full stop, but there must be one, so a reply that ends in "The answer is
B" fails, and "The answer is Apple" says A.

If that fails, or no option has the letter, the official code guesses at random. This metric gives such a reply the
guess's mean score, 1 / number of choices: set the task's `answer_template` to "The answer is {answer}.".

Source: Lu et al., "Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering",
NeurIPS 2022, https://github.com/lupantech/ScienceQA
"""

import re

from .texts import LETTERS, check_options


def scienceqa_accuracy(prediction: str, answers: list[str], choices: list[str]) -> float:
    """Whether a reply names the right option: 1.0, 0.0, or 1 / number of choices."""
    check_options(prediction, answers, choices)
    letters = re.findall(r"The answer is ([A-Z]).", prediction.strip())
    if len(letters) == 1 and letters[0] in LETTERS[: len(choices)]:
        return float(letters[0] in answers)
    return 1.0 / len(choices)
