# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import re

import pytest
from metrics.generated_answers import generated_answers

from leverplus_trl.metrics.gsm8k_accuracy import gsm8k_flexible, gsm8k_strict


SOLUTION = ["She has 3*4=<<3*4=12>>12.\nSo 1,000 + 12 = 1,012.\n#### 1,012"]


@pytest.mark.parametrize(
    ("reply", "strict", "flexible"),
    [
        ("It is 1000 + 12.\n#### 1012", 1, 1),
        ("#### 1,012.", 1, 1),
        ("#### $1012", 0, 1),  # a dollar sign is no part of the strict pattern
        ("The answer is 1012.", 0, 1),
        ("The answer is $1,012", 0, 1),
        ("#### 1012 and so 5 more", 1, 0),
        ("#### 7\n#### 1012", 0, 1),  # the first mark, the last number
        ("#### 1012.0", 0, 0),  # as text
        ("1012...", 0, 0),  # one full stop at the end is dropped
        ("1012 ...", 0, 0),  # "..." is the last number
        ("####1012", 0, 1),
        ("-1012", 0, 0),
        ("no idea", 0, 0),
        ("", 0, 0),
    ],
)
def test_by_hand(reply, strict, flexible):
    assert gsm8k_strict(reply, SOLUTION) == strict
    assert gsm8k_flexible(reply, SOLUTION) == flexible
    assert gsm8k_strict(reply, ["1012"]) == strict  # the number alone does as well


def harness(reply, solution, flexible):
    """lm-evaluation-harness: a regex filter, then exact match with its four patterns to ignore."""
    pattern, place = (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1) if flexible else (r"#### (\-?[0-9\.\,]+)", 0)
    found = re.findall(pattern, reply)
    said = "[invalid]"
    if found:
        said = found[place]
        said = next(part for part in said if part) if isinstance(said, tuple) else said
    for ignored in (",", "\\$", "(?s).*#### ", "\\.$"):
        said, solution = re.sub(ignored, "", said), re.sub(ignored, "", solution)
    return float(said.lower() == solution.lower())


def test_parity_on_1000_answers():
    numbers, frames = (
        ["10", "2", "3.5", "1,000", "-5"],
        ["{1}", "{1}\n#### {0}", "#### {0}.\n{1}", "{1} ${0}.", "#### {1}{0}"],
    )
    pairs = []
    for place, text in enumerate(generated_answers(1000)):
        number, solution = numbers[place % 5], f"so\n#### {numbers[place // 5 % 5]}"
        pairs += [(frames[place // 7 % 5].format(number, text), solution)]
    for accuracy, flexible in ((gsm8k_strict, False), (gsm8k_flexible, True)):
        scores = [accuracy(reply, [solution]) for reply, solution in pairs]
        assert scores == [harness(reply, solution, flexible) for reply, solution in pairs]
        assert 10 < sum(scores) < 900
