# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Checks of the arguments of metrics, and a text without case and white space."""

from collections.abc import Sequence


#: The letters of the options of a multiple-choice question.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def check_texts(prediction: str, answers: Sequence[str]) -> None:
    """Raises `ValueError` if there is no answer, and `TypeError` if an argument has another type."""
    if not isinstance(prediction, str) or isinstance(answers, str):
        raise TypeError(f"Expected a string and a list of strings, got {prediction!r} and {answers!r}.")
    if len(answers) == 0:
        raise ValueError(f"No answer to judge the prediction {prediction!r} by; drop such examples.")


def check_options(prediction: str, answers: Sequence[str], choices: Sequence[str]) -> None:
    """As [`check_texts`], and checks that there are 1 to 26 choices and that each answer is the letter of a choice."""
    check_texts(prediction, answers)
    if isinstance(choices, str):
        raise TypeError(f"Expected a list of choices, got the string {choices!r}.")
    if not 1 <= len(choices) <= len(LETTERS):
        raise ValueError(f"There are {len(choices)} choices; expected 1 to {len(LETTERS)}.")
    for answer in answers:
        if len(answer) != 1 or answer not in LETTERS[: len(choices)]:
            letters = ", ".join(LETTERS[: len(choices)])
            raise ValueError(f"The right answer is {answer!r}; expected the letter of one of the choices, {letters}.")


def fold(text: str) -> str:
    """A text in lower case, with one space for each run of white space and none at its ends."""
    return " ".join(text.lower().split())
