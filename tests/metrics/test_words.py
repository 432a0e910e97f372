# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import re
import string
from collections import Counter

import pytest
from metrics.generated_answers import generated_annotations, generated_answers

from leverplus_trl.metrics.exact_match import accuracy, cover_exact_match
from leverplus_trl.metrics.token_f1 import normalized_words, token_f1


@pytest.mark.parametrize(
    ("prediction", "answers", "f1", "cover"),
    [
        ("The red bus.", ["red bus"], 1, 1),
        ("a big red bus", ["red bus"], 2 * 2 / (3 + 2), 1),
        ("red", ["red bus"], 2 / 3, 0),
        ("red red", ["red"], 2 / 3, 1),  # precision 1/2, recall 1
        ("category", ["cat"], 0, 0),
        ("bus red", ["red bus"], 1, 0),  # in a row, in order
        ("well-known", ["well known"], 0, 0),  # becomes "wellknown"
        ("the", ["a"], 1, 0),  # two texts without words are equal, none is covered
        ("", ["red"], 0, 0),
        ("dog", ["cat", "hot dog"], 2 / 3, 0),
    ],
)
def test_by_hand(prediction, answers, f1, cover):
    assert token_f1(prediction, answers) == pytest.approx(f1)
    assert cover_exact_match(prediction, answers) == cover


def squad_f1(prediction, answer):
    """SQuAD 2.0's F1, by counting."""

    def words(text):
        letters = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", letters).split()

    said, wanted = words(prediction), words(answer)
    if not said or not wanted:
        return float(said == wanted)
    same = sum(min(count, wanted.count(word)) for word, count in Counter(said).items())
    if same == 0:
        return 0.0
    precision, recall = same / len(said), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def test_parity_on_1000_answers():
    answers = generated_answers(1000)
    others = generated_annotations(answers, seed=5)
    annotations = [[*others[place - 1][:2], f"{answer} red"] for place, answer in enumerate(answers)]
    scores = [token_f1(*pair) for pair in zip(answers, annotations, strict=True)]
    expected = [max(squad_f1(said, one) for one in own) for said, own in zip(answers, annotations, strict=True)]
    assert scores == pytest.approx(expected)
    assert 100 < sum(scores) < 900 and len(set(scores)) >= 6
    covered = [cover_exact_match(*pair) for pair in zip(answers, annotations, strict=True)]
    for said, own, cover in zip(answers, annotations, covered, strict=True):
        rows = [normalized_words(one) for one in own]
        words = normalized_words(said)
        runs = [words[start:end] for start in range(len(words)) for end in range(start + 1, len(words) + 1)]
        assert cover == any(row and row in runs for row in rows)


def test_accuracy_is_letter_by_letter():
    assert accuracy("positive", ["positive"]) == 1 and accuracy("Positive", ["positive"]) == 0


@pytest.mark.parametrize("metric", [accuracy, cover_exact_match, token_f1])
def test_bad_input(metric):
    with pytest.raises(ValueError, match="No answer to judge"):
        metric("dog", [])
    with pytest.raises(TypeError, match="list of strings"):
        metric("dog", "dog")
