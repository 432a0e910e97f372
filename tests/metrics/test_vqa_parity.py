# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest
from metrics.generated_answers import generated_annotations, generated_answers
from metrics.official_vqa import CONTRACTIONS, accuracy, process

from leverplus_trl.metrics.vqa_accuracy import normalize_answer, vqa_accuracy, vqa_accuracy_normalized


ANSWERS = generated_answers(1000)


def test_normalisation_is_that_of_the_official_rules_on_1000_answers():
    normalized = [normalize_answer(answer) for answer in ANSWERS]
    assert normalized == [process(answer) for answer in ANSWERS]
    assert sum(new != old for new, old in zip(normalized, ANSWERS, strict=True)) > 600  # the rules did something


@pytest.mark.parametrize("word", CONTRACTIONS)
def test_every_contraction_of_the_official_table(word):
    assert normalize_answer(word) == process(word)


def test_accuracy_is_that_of_the_official_rules_on_1000_answers():
    pairs = list(zip(ANSWERS, generated_annotations(ANSWERS), strict=True))
    official = [accuracy(*pair) for pair in pairs]
    assert [vqa_accuracy(*pair) for pair in pairs] == pytest.approx(official)
    always = [accuracy(*pair, always=True) for pair in pairs]
    assert [vqa_accuracy_normalized(*pair) for pair in pairs] == pytest.approx(always)
    assert sum(map(float.__gt__, always, official)) > 50 and not any(map(float.__lt__, always, official))
    assert len({round(value, 6) for value in official}) == 5  # 0, 0.3, 0.6, 0.9, 1


@pytest.mark.parametrize("matches, expected", [(0, 0), (1, 8 / 27), (2, 16 / 27), (3, 8 / 9), (4, 1), (9, 1)])
def test_nine_annotators(matches, expected):
    # each of the matching ones sees one fewer: 1 match is seen by eight of nine, each giving 1/3
    answers = ["cat"] * matches + ["dog"] * (9 - matches)
    assert vqa_accuracy("cat", answers) == pytest.approx(expected)
    assert accuracy("cat", answers) == pytest.approx(expected)


def test_empty_answers():
    assert vqa_accuracy("", ["dog"] * 10) == 0
    assert vqa_accuracy("", [""] * 4 + ["dog"] * 6) == 1
    assert vqa_accuracy("The", ["a"] * 4 + ["dog"] * 6) == 1  # both become empty
    assert vqa_accuracy("dog", [""] * 10) == 0


def test_agreement_is_judged_before_normalisation():
    assert vqa_accuracy("the dog", ["dog"] * 10) == 0 and vqa_accuracy_normalized("the dog", ["dog"] * 10) == 1
    assert vqa_accuracy("the dog", ["dog"] * 9 + ["Dog"]) == 1
