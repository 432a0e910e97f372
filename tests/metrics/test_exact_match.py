# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import os

import pytest

from leverplus_trl.metrics.anls import anls
from leverplus_trl.metrics.exact_match import cover_exact_match, exact_match
from leverplus_trl.metrics.okvqa_accuracy import okvqa_accuracy
from leverplus_trl.metrics.token_f1 import token_f1
from leverplus_trl.metrics.vqa_accuracy import vqa_accuracy


@pytest.mark.parametrize(
    ("prediction", "answers", "folded", "strict"),
    [
        ("dog", ["cat", "dog"], 1, 1),
        (" Hot \n dog", ["hot dog"], 1, 0),
        ("hotdog", ["hot dog"], 0, 0),
        ("dog.", ["dog"], 0, 0),
        ("", ["dog"], 0, 0),
    ],
)
def test_exact_match(prediction, answers, folded, strict):
    assert exact_match(prediction, answers) == folded
    assert exact_match(prediction, answers, strict=True) == strict


# Canonically equivalent texts: accents, Hangul, signs that are letters, marks in another order.
EQUAL = [
    ("caf\u00e9", "cafe\u0301"),
    ("\uac10", "\u1100\u1161\u11b7"),
    ("5 k\u2126", "5 k\u03a9"),
    ("\u212bngstr\u00f6m", "A\u030angstro\u0308m"),
    ("q\u0307\u0323", "q\u0323\u0307"),
    ("\u2260", "=\u0338"),
    ("\u0130stanbul", "I\u0307stanbul"),
]
# Texts that NFKC, or the removal of accents, would make equal.
DIFFERENT = [
    ("m\u00b2", "m2"),
    ("\u00bd", "1\u20442"),
    ("\u2460", "1"),
    ("caf\u00e9", "cafe"),
    ("stra\u00dfe", "strasse"),
]


@pytest.mark.parametrize("pair", EQUAL)
def test_unicode_spellings_of_one_text_are_equal(pair):
    for said, answer in (pair, pair[::-1]):
        assert exact_match(said, [answer]) == exact_match(said, ["no", answer], strict=True) == 1
        assert cover_exact_match(f"It is {said}, surely.", [answer]) == 1


@pytest.mark.parametrize("pair", DIFFERENT)
def test_texts_that_mean_something_else_stay_different(pair):
    for said, answer in (pair, pair[::-1]):
        assert exact_match(said, [answer]) == exact_match(said, [answer], strict=True) == 0
        assert cover_exact_match(f"It is {said}, surely.", [answer]) == 0


def test_metrics_with_official_code_fold_no_unicode():
    said, answer = EQUAL[0]
    assert token_f1(said, [answer]) == vqa_accuracy(said, [answer] * 10) == okvqa_accuracy(said, [answer] * 10) == 0
    assert 0 < anls(said, [answer]) < 1


def test_bad_input():
    with pytest.raises(ValueError, match="No answer"):
        exact_match("dog", [])
    with pytest.raises(TypeError, match="list of strings"):
        exact_match("dog", "dog")


def test_evaluate_loads_it_offline(tmp_path, monkeypatch):
    import evaluate

    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.chdir(os.path.join(os.path.dirname(__file__), "..", ".."))
    metric = evaluate.load("leverplus_trl/metrics", "exact_match", cache_dir=str(tmp_path))
    predictions, references = ["Dog", "cat", "cow"], [["dog"], ["cow", "cat"], ["horse"]]
    result = metric.compute(predictions=predictions, references=references)
    assert result == {"exact_match": pytest.approx(2 / 3), "per_example": [1, 1, 0]}
    result = metric.compute(predictions=predictions, references=references, strict=True)
    assert result["per_example"] == [0, 1, 0]
