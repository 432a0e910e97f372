# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Answers with punctuation, articles, contractions, digits, white space and letters from elsewhere."""

import random


WORDS = """
a an the A The dog Dog dogs cat red Red none zero one two Two ten eleven 1 2 10 3.5 1,000 1,5 10:30 2nd dont don't
couldnt've couldn'tve somebody'd lets shes Im isnt yall'd've twas oclock o'clock t-shirt T-Shirt blue/green (left)
"yes" yes. no! what? p.m. v.2 e.g., café naïve über 猫 ½ ٣,٤ ２,３ x_y a@b.c C++ #1 50% $5 ; , . ... - -- ' ` man's
women's running ran buses leaves flying surfed
""".split()  # noqa: SIM905
GAPS = [" "] * 12 + ["  ", "\t", "\n", ", ", ",", "-", " - ", "/", ". ", ".", "\u00a0"]


def generated_answers(count: int, seed: int = 0) -> list[str]:
    """Distinct from call to call only by the seed; some are empty."""
    draw = random.Random(seed)
    answers = []
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.choice([0, 1, 1, 1, 2, 2, 3, 4]))
        answers.append("".join(word + draw.choice(GAPS) for word in words[:-1]) + "".join(words[-1:]))
    return answers


def generated_annotations(answers: list[str], seed: int = 1) -> list[list[str]]:
    """For each answer ten annotators': unanimous, or a mixture of it, its other spellings and other answers."""
    draw = random.Random(seed)
    annotations = []
    for answer in answers:
        spellings = [answer, answer.lower(), f"the {answer}", f"{answer}.", answer.replace("'", ""), f" {answer}\n"]
        pool = draw.choice([[draw.choice(spellings)], spellings, [*spellings, *draw.choices(answers, k=6)]])
        annotations.append(draw.choices(pool, k=10))
    return annotations
