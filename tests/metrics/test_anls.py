# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest
from metrics.generated_answers import generated_answers

from leverplus_trl.metrics.anls import anls, edit_distance


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("London", ["london"], 1),
        ("Lond0n", ["London"], 5 / 6),
        ("  new \n york ", ["New York"], 1),
        ("ab", ["ax"], 0.5),  # exactly at the threshold
        ("ab", ["axy"], 0),
        ("abcd", ["xxxx", "abcx"], 3 / 4),  # the nearest answer
        ("", [""], 1),
        ("", ["x"], 0),
        ("ab", ["a    b"], 5 / 6),  # one edit, over the length before white space is folded
        ("aß", ["as"], 2 / 3),  # one edit, over the length of "ASS"
    ],
)
def test_by_hand(prediction, answers, expected):
    assert anls(prediction, answers) == pytest.approx(expected)


def test_threshold():
    assert anls("ab", ["axy"], threshold=0.3) == pytest.approx(1 / 3)


def official(prediction, answers):
    """The rule, with the distance defined by recursion."""
    table = {}

    def distance(first, second):
        if (first, second) not in table:
            table[first, second] = (
                len(first) + len(second)
                if not first or not second
                else min(
                    distance(first[1:], second[1:]) + (first[0] != second[0]),
                    distance(first[1:], second) + 1,
                    distance(first, second[1:]) + 1,
                )
            )
        return table[first, second]

    values = []
    for answer in answers:
        lengths = len(answer.upper()), len(prediction.upper())
        said, wanted = (" ".join(text.strip().lower().split()) for text in (prediction, answer))
        values.append(1 - distance(said, wanted) / max(lengths) if max(lengths) else 1.0)
    return max(values) if max(values) >= 0.5 else 0.0


def test_parity_on_1000_answers():
    answers = generated_answers(1000)
    others = [[answer[1:], answer.upper() + "x", answers[place - 1]] for place, answer in enumerate(answers)]
    scores = [anls(*pair) for pair in zip(answers, others, strict=True)]
    assert scores == pytest.approx([official(*pair) for pair in zip(answers, others, strict=True)])
    assert len(set(scores)) > 20


def test_edit_distance():
    assert edit_distance("kitten", "sitting") == 3 and edit_distance("", "abc") == 3 and edit_distance("ab", "ba") == 2
