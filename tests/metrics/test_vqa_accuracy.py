# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import os

import pytest

from leverplus_trl.metrics.vqa_accuracy import normalize_answer, vqa_accuracy


@pytest.mark.parametrize(
    ("num_matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)]
)
def test_ten_annotators(num_matches, accuracy):
    # n matches: n annotators see min(1, (n - 1) / 3), 10 - n see min(1, n / 3)
    assert vqa_accuracy("cat", ["cat"] * num_matches + ["dog"] * (10 - num_matches)) == pytest.approx(accuracy)


def test_other_numbers_of_annotators_follow_the_same_arithmetic():
    # two annotators see 1/3, three see 2/3
    assert vqa_accuracy("cat", ["cat", "cat", "dog", "dog", "cow"]) == pytest.approx(8 / 15)
    for answers, accuracy in ((["cat"], 0), (["cat"] * 2, 1 / 3), (["cat"] * 3, 2 / 3)):
        with pytest.warns(UserWarning, match="can't exceed"):
            assert vqa_accuracy("cat", answers) == pytest.approx(accuracy)
    assert vqa_accuracy("cat", ["cat"] * 4) == 1


def test_normalised_only_where_annotators_differ():
    assert vqa_accuracy("The Dog.", ["dog"] * 10) == 0
    assert vqa_accuracy("The Dog.", ["dog"] * 10, always_normalize=True) == 1
    assert vqa_accuracy("The Dog.", ["dog"] * 9 + ["cat"]) == 1
    # whitespace is unified before the annotators are compared
    assert vqa_accuracy(" dog\n", ["dog", "dog\t"] * 5) == 1
    # annotators' answers are normalised as the prediction is
    assert vqa_accuracy("2", ["two", "2", "Two.", "the 2"] + ["cat"] * 6) == 1


@pytest.mark.parametrize(
    ("answer", "normalized"),
    [
        ("The  red Dog", "red dog"),
        ("a an the", ""),
        ("none", "0"),
        ("zero ten eleven", "0 10 eleven"),
        ("dont", "don't"),
        ("couldnt've couldn'tve couldntve", "couldn't've couldn't've couldntve"),
        ("yall'd've y'alld've y'all'dve", "y'all'd've y'all'd've y'all'd've"),
        ("somebody'd", "somebodyd"),
        ("lets shes wed Im", "lets shes wed im"),
        ("t-shirt", "t shirt"),  # a mark that touches no space becomes one
        ("t-shirt - blue", "tshirt blue"),  # if it touches one anywhere, all of its kind are dropped
        ("blue- t-shirt", "blue tshirt"),
        ("1,000", "1000"),
        ("red,blue", "red blue"),
        ("1,000 red/blue", "1000 redblue"),  # a comma inside a number drops every mark
        ("yes.", "yes"),
        ("3.5", "3.5"),
        ("p.m.", "pm"),
        ("v.2", "v.2"),
        ("10:30", "10:30"),
        ("dog's", "dog's"),
        ("x" + "." * 40, "x" + "." * 8),  # 32 full stops at most
    ],
)
def test_normalisation(answer, normalized):
    assert normalize_answer(answer) == normalized


def test_bad_input():
    with pytest.raises(ValueError, match="No answer to judge"):
        vqa_accuracy("cat", [])
    with pytest.raises(TypeError, match="list of strings"):
        vqa_accuracy("cat", "cat")
    with pytest.raises(TypeError, match="list of strings"):
        vqa_accuracy(None, ["cat"])


def test_evaluate_loads_it_offline(tmp_path, monkeypatch):
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    folder = os.path.join(os.path.dirname(__file__), "..", "..")
    monkeypatch.chdir(folder)
    metric = evaluate.load("leverplus_trl/metrics", "vqa_accuracy", cache_dir=str(tmp_path))
    references = [["2"] * 2 + ["3"] * 8, ["dog"] * 10]
    result = metric.compute(predictions=["two", "a dog"], references=references)
    assert result["per_example"] == pytest.approx([0.6, 0])
    assert result["accuracy"] == pytest.approx(0.3)
    result = metric.compute(predictions=["two", "a dog"], references=references, always_normalize=True)
    assert result["per_example"] == pytest.approx([0.6, 1])
