# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Accuracy on GSM8K, as lm-evaluation-harness computes it (task `gsm8k`, version 3): `strict-match` and
`flexible-extract`.

The reply's number is compared, as text, with the number after the last "#### " of the solution, or with the whole
answer if it has none. Commas, dollar signs and one full stop at the end are dropped on both sides, and nothing else:
"72.0" is not "72". The flexible pattern takes ".." for a number, so a reply that ends in "..." is wrong.

Source: Cobbe et al., "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168,
https://github.com/EleutherAI/lm-evaluation-harness/tree/main/lm_eval/tasks/gsm8k
"""

import re

from .texts import check_texts


def gsm8k_strict(prediction: str, answers: list[str]) -> float:
    """Whether the number after a reply's first "#### " is right: 1.0 or 0.0; a reply without "#### " is wrong."""
    return _is_right(prediction, answers, r"#### (-?[0-9.,]+)", 0)


def gsm8k_flexible(prediction: str, answers: list[str]) -> float:
    """Whether a reply's last number is right: 1.0 or 0.0."""
    return _is_right(prediction, answers, r"-?[$0-9.,]{2,}|-?[0-9]+", -1)


def _is_right(prediction: str, answers: list[str], pattern: str, place: int) -> float:
    check_texts(prediction, answers)
    numbers = re.findall(pattern, prediction)
    return float(bool(numbers) and _bare(numbers[place]) in map(_bare, answers))


def _bare(text: str) -> str:
    for dropped in (",", r"\$", r"(?s).*#### ", r"\.$"):  # in this order
        text = re.sub(dropped, "", text)
    return text.lower()
