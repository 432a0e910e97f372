# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Accuracy on GSM8K, as lm-evaluation-harness computes it (task `gsm8k`, version 3): `strict-match` and
`flexible-extract`.

The reply's number is compared, as text, with the number behind the last "#### " of the solution, or with the whole
answer if it has none. Commas, dollar signs and one full stop at the end are dropped on both sides, and nothing else:
"72.0" is not "72". Two full stops or commas are a number to the flexible pattern, so a reply that ends in "..." or in
"72..." is wrong by it.

Source: Cobbe et al., "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168,
https://github.com/EleutherAI/lm-evaluation-harness/tree/main/lm_eval/tasks/gsm8k
"""

import re

from .texts import check_texts


_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_DROPPED = (",", r"\$", r"(?s).*#### ", r"\.$")  # in this order


def gsm8k_strict(prediction: str, answers: list[str]) -> float:
    """Whether the number behind a reply's first "#### " is right: 1.0 or 0.0; a reply without "#### " is wrong."""
    check_texts(prediction, answers)
    found = _STRICT.search(prediction)
    return _is_right(found.group(1) if found else None, answers)


def gsm8k_flexible(prediction: str, answers: list[str]) -> float:
    """Whether a reply's last number is right: 1.0 or 0.0."""
    check_texts(prediction, answers)
    found = _FLEXIBLE.findall(prediction)
    return _is_right(found[-1] if found else None, answers)


def _is_right(number: str | None, answers: list[str]) -> float:
    return float(number is not None and _bare(number) in map(_bare, answers))


def _bare(text: str) -> str:
    for pattern in _DROPPED:
        text = re.sub(pattern, "", text)
    return text.lower()
