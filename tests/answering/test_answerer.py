# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""How sure the VLM is of its own answers."""

import logging
import math

import pytest
from vlms.made_examples import picture_examples
from vlms.one_at_a_time import plain_logprob
from vlms.tiny_models import make_vlm

from leverplus_trl.answering import Answerer
from leverplus_trl.vlms import AnswerLogprob, Request
from leverplus_trl.vlms.segments import Segment


@pytest.fixture(scope="module")
def vlm():
    made = make_vlm("qwen2_5_vl")
    made.prepare([Request((), example) for example in picture_examples(4)])
    return made


def confidences(vlm, queries, predictions):
    return Answerer(vlm).confidences([Request((), query) for query in queries], predictions)


def test_confidence_is_the_probability_of_the_prediction_by_its_length(vlm):
    queries, predictions = picture_examples(3), ["blue", "red circle", "blue star or it"]
    found = confidences(vlm, queries, predictions)
    for query, prediction, sure in zip(queries, predictions, found, strict=True):
        logprob, num_tokens = plain_logprob(vlm, Request((), {**query, "answer": prediction}))
        assert sure == pytest.approx(math.exp(logprob / num_tokens), rel=1e-4) and 0.0 < sure < 1.0
    assert len(set(found)) == 3


def test_the_right_answer_has_no_part_in_it(vlm):
    queries, predictions = picture_examples(2), ["blue", "red"]
    changed = [{**query, "answer": "another", "answers": ["another"]} for query in queries]
    assert confidences(vlm, queries, predictions) == confidences(vlm, changed, predictions)


def test_empty_predictions_have_no_confidence(vlm):
    queries = picture_examples(3)
    found = confidences(vlm, queries, ["", "blue", " "])
    (alone,) = confidences(vlm, queries[1:2], ["blue"])
    assert found == [None, pytest.approx(alone, rel=1e-5), None]
    assert confidences(vlm, queries, [""] * 3) == [None] * 3 and confidences(vlm, [], []) == []


def test_a_prediction_that_leaves_no_tokens_has_none_and_is_named(vlm, monkeypatch, caplog):
    process, nothing = vlm._process, Segment({"input_ids": []})
    monkeypatch.setattr(vlm, "_process", lambda piece: nothing if piece.text == "unheard" else process(piece))
    with caplog.at_level(logging.WARNING):
        found = confidences(vlm, picture_examples(2), ["unheard", "blue"])
    assert found[0] is None and 0.0 < found[1] < 1.0
    assert "No confidence in the answer 'unheard' to query 'e0'" in caplog.text and "has no tokens" in caplog.text


def test_a_number_that_is_none_is_an_error(vlm, monkeypatch):
    monkeypatch.setattr(vlm.runner, "answer_logprobs", lambda requests: [AnswerLogprob(math.nan, 1)])
    with pytest.raises(ValueError, match=r"log-probability nan to the answer 'blue' for query 'e0'"):
        confidences(vlm, picture_examples(1), ["blue"])
