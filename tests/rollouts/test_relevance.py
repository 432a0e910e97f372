# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import pytest

from leverplus_trl.metrics.token_f1 import token_f1
from leverplus_trl.rollouts.rollout_generation import edit_similarity, relevance


def test_letters_in_matching_blocks():
    # "rawa" and "rava" share r, a and a: 2 * 3 / 8
    assert edit_similarity("rava", ["rawa"]) == pytest.approx(0.75)
    assert edit_similarity("rava", ["xyz", "rava"]) == 1.0
    assert edit_similarity("The Rava!", ["rava"]) == 1.0  # words are those of the metric token_f1


def test_texts_without_words():
    assert edit_similarity("", ["dog"]) == 0.0 and edit_similarity("", [""]) == 1.0
    assert relevance("", ["the"]) == 1.0 and relevance("", ["dog"]) == 0.0


def test_relevance_takes_one_answer_for_both_measures():
    # "tolo rava" to "tolo rawa": F1 1/2, letters 2 * 8 / 18
    assert relevance("tolo\nrava", ["tolo rawa"]) == pytest.approx((0.5 + 16 / 18) / 2)
    assert relevance("dog", ["dog", "cat"]) == 1.0
    # F1 would take the first answer and letters the second; no single answer gives both
    both = ["big dog", "dogs"]
    each = [relevance("dog", [answer]) for answer in both]
    assert relevance("dog", both) == max(each) < (token_f1("dog", both) + edit_similarity("dog", both)) / 2


@pytest.mark.parametrize("measure", [edit_similarity, relevance])
def test_nothing_to_compare_with_is_refused(measure):
    with pytest.raises(ValueError, match="No answer to judge the prediction 'dog' by"):
        measure("dog", [])
    with pytest.raises(TypeError, match="a list of strings"):
        measure("dog", "dog")
