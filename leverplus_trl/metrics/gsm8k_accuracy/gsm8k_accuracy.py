# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Accuracy on GSM8K, as lm-evaluation-harness computes it (task `gsm8k`, version 3): `strict-match` and
`flexible-extract`.

- Strict: the number behind the first "#### " of the reply; a reply without one is wrong.
- Flexible: the last number of the reply, wherever it stands.

Both are then compared with the number behind the last "#### " of the solution (or with the whole answer, if there is
none), as text: commas, dollar signs and one full stop at the end are dropped on both sides, and nothing else. So
"72.0" is not "72". Two full stops or commas are a number to the flexible pattern, so a reply that ends in "..." is
wrong by it, and so is one that ends in "72...".
"""

import re

from leverplus_trl.metrics.base_metric import BaseMetric, check_texts


_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_DROPPED = (",", r"\$", r"(?s).*#### ", r"\.$")  # in this order


def gsm8k_strict(prediction: str, answers: list[str]) -> float:
    """
    Whether the number behind the first "#### " is right.

    Args:
        prediction (`str`):
            The whole reply, reasoning included.
        answers (`list[str]`):
            The solution with its "#### number", or the number alone.

    Returns:
        `float`, 1.0 or 0.0.

    Raises:
        `ValueError`: there is no answer.
        `TypeError`: the prediction is not a string, or the answers are one string in place of a list.
    """
    check_texts(prediction, answers)
    found = _STRICT.search(prediction)
    return _is_right(found.group(1) if found else None, answers)


def gsm8k_flexible(prediction: str, answers: list[str]) -> float:
    """Whether the last number is right; arguments and result are those of [`gsm8k_strict`]."""
    check_texts(prediction, answers)
    found = _FLEXIBLE.findall(prediction)
    return _is_right(found[-1] if found else None, answers)


def _is_right(number: str | None, answers: list[str]) -> float:
    return float(number is not None and _bare(number) in map(_bare, answers))


def _bare(text: str) -> str:
    for pattern in _DROPPED:
        text = re.sub(pattern, "", text)
    return text.lower()


class Gsm8kAccuracy(BaseMetric):
    """GSM8K accuracy as an `evaluate.Metric`."""

    result = "gsm8k_accuracy"
    url = "https://github.com/EleutherAI/lm-evaluation-harness/tree/main/lm_eval/tasks/gsm8k"
    description = "Share of math word problems whose number is right: that behind '#### ', or the last of the reply."
    citation = """
@article{cobbe2021gsm8k,
    title={Training Verifiers to Solve Math Word Problems},
    author={Cobbe, Karl and Kosaraju, Vineet and Bavarian, Mohammad and Chen, Mark and Jun, Heewoo and Kaiser, Lukasz
            and Plappert, Matthias and Tworek, Jerry and Hilton, Jacob and Nakano, Reiichiro and Hesse, Christopher
            and Schulman, John},
    journal={arXiv:2110.14168},
    year={2021}
}
"""
    arguments = """
Args:
    predictions (`list[str]`):
        One whole reply per problem.
    references (`list[list[str]]`):
        The solution with its "#### number", or the number, per problem, in a list.
    flexible (`bool`, *optional*, defaults to `False`):
        Take the last number of the reply, wherever it stands, in place of the one behind "#### ".

Returns:
    `gsm8k_accuracy` (mean, in 0..1) and `per_example` (list of 0.0 and 1.0).
"""

    def scores(self, predictions: list[str], references: list[list[str]], flexible: bool = False) -> list[float]:
        accuracy = gsm8k_flexible if flexible else gsm8k_strict
        return [accuracy(*pair) for pair in zip(predictions, references, strict=True)]
