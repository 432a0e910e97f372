# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.


import pytest

from leverplus_trl.rollouts.relevance import covers, edit_similarity, relevance, token_f1


def test_words_are_counted_as_often_as_they_stand_there():
    # shared: hot, dog; said 3 words, wanted 2: 2 * 2 / 5
    assert token_f1("hot hot dog", ["hot dog"]) == pytest.approx(0.8)
    assert token_f1("a Dog!", ["the dog"]) == 1.0  # articles, case and marks don't count
    assert token_f1("cat", ["dog", "black cat"]) == pytest.approx(2 / 3)
    assert token_f1("cat", ["dog"]) == 0.0
    assert token_f1("two", ["2"]) == 1.0


def test_texts_without_words():
    assert token_f1("", ["the"]) == 1.0 and token_f1("", ["dog"]) == 0.0
    assert edit_similarity("", ["dog"]) == 0.0 and edit_similarity("", [""]) == 1.0


def test_letters_in_matching_blocks():
    # "rawa" and "rava" share r, a and a: 2 * 3 / 8
    assert edit_similarity("rava", ["rawa"]) == pytest.approx(0.75)
    assert edit_similarity("rava", ["xyz", "rava"]) == 1.0


def test_relevance_takes_one_answer_for_both_measures():
    # "tolo rava" to "tolo rawa": F1 1/2, letters 2 * 8 / 18
    assert relevance("tolo rava", ["tolo rawa"]) == pytest.approx((0.5 + 16 / 18) / 2)
    assert relevance("dog", ["dog", "cat"]) == 1.0
    # F1 would take the first answer and letters the second; no single answer gives both
    both = ["big dog", "dogs"]
    each = [relevance("dog", [answer]) for answer in both]
    assert relevance("dog", both) == max(each) < (token_f1("dog", both) + edit_similarity("dog", both)) / 2


def test_an_answer_is_covered_by_its_words_in_a_row():
    assert covers("It is a hot dog.", ["sausage", "hot dog"])
    assert not covers("a hot and tired dog", ["hot dog"])
    assert not covers("hotdogs", ["hot"])  # words, not letters
    assert not covers("anything", ["the"])  # nothing left of it


@pytest.mark.parametrize("measure", [token_f1, edit_similarity, relevance, covers])
def test_nothing_to_compare_with_is_refused(measure):
    with pytest.raises(ValueError, match="No answer to judge the prediction 'dog' by"):
        measure("dog", [])
    with pytest.raises(TypeError, match="list of answers"):
        measure("dog", "dog")
