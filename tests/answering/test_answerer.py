# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Answers by the protocol `direct` and by one of two turns; how sure the VLM is of its own answers."""

import logging
import math

import pytest
from vlms.made_examples import picture_examples, world_requests
from vlms.one_at_a_time import plain_logprob
from vlms.tiny_models import make_vlm

from leverplus_trl.answering import Answer, Answerer, direct
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import AnswerLogprob, Request
from leverplus_trl.vlms.segments import Segment


def in_one_word(requests, task, generate):
    """A protocol: a prediction of more words than one, or of none, is asked for again, once."""
    replies = direct(requests, task, generate)
    failed = [number for number, reply in enumerate(replies) if len(reply.prediction.split()) != 1]
    again = [requests[number].then(replies[number].generation, "In one word ?") for number in failed]
    for number, reply in zip(failed, direct(again, task, generate), strict=True):
        replies[number] = reply
    return replies


class ScriptedVLM:
    """Keeps the promise of generating without a model: the number of turns decides what it says."""

    def __init__(self, *lines):
        self.task = make_task(TaskArguments(metric="exact_match"))
        self.lines, self.asked = lines, []

    def generate(self, requests, generation_config=None):
        self.asked.append([(request.query["id"], [text for _, text in request.turns]) for request in requests])
        return [self.lines[len(request.turns) // 2][request.query["id"]] for request in requests]


def test_an_answer_is_generated_parsed_and_scored(concept_vlm, world):
    requests, task = world_requests(world, count=8), concept_vlm.task
    expected = []
    for request, text in zip(requests, concept_vlm.generate(requests), strict=True):
        prediction = text.strip().split("\n")[0].strip()
        accuracy = task.accuracy(prediction, request.query)
        expected.append(Answer(generation=text, prediction=prediction, accuracy=accuracy))
    assert Answerer(concept_vlm).answer(requests) == expected
    assert {answer.accuracy for answer in expected} == {0.0, 1.0}
    assert Answerer(concept_vlm).answer([]) == []


def test_a_protocol_of_two_turns_asks_again_for_what_it_can_not_parse():
    requests = [Request((), example) for example in picture_examples(3)]
    first = {"e0": "red circle\nand more", "e1": "blue", "e2": ""}
    vlm = ScriptedVLM(first, {"e0": " circle", "e2": "it\nis"})
    answers = Answerer(vlm, in_one_word).answer(requests)
    assert vlm.asked == [
        [("e0", []), ("e1", []), ("e2", [])],
        [("e0", ["red circle\nand more", "In one word ?"]), ("e2", ["", "In one word ?"])],
    ]
    assert [answer.prediction for answer in answers] == ["circle", "blue", "it"]
    assert [answer.generation for answer in answers] == [" circle", "blue", "it\nis"]
    assert [answer.accuracy for answer in answers] == [0.0, 0.0, 1.0]
    assert [answer.prediction for answer in Answerer(vlm).answer(requests)] == ["red circle", "blue", ""]


def test_the_embedded_vlm_answers_a_protocol_of_two_turns(concept_vlm, world):
    requests = world_requests(world, count=8)
    once, twice = Answerer(concept_vlm).answer(requests), Answerer(concept_vlm, in_one_word).answer(requests)
    again = [len(answer.prediction.split()) != 1 for answer in once]
    assert 0 < sum(again) < len(requests)
    for request, asked, before, after in zip(requests, again, once, twice, strict=True):
        continued = request.then(before.generation, "In one word ?") if asked else request
        assert after.generation == concept_vlm.generate([continued])[0]


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
    process, nothing = vlm.family.process, Segment({"input_ids": []})
    monkeypatch.setattr(vlm.family, "process", lambda piece: nothing if piece.text == "unheard" else process(piece))
    with caplog.at_level(logging.WARNING):
        found = confidences(vlm, picture_examples(2), ["unheard", "blue"])
    assert found[0] is None and 0.0 < found[1] < 1.0
    assert "No confidence in the answer 'unheard' to query 'e0'" in caplog.text and "has no tokens" in caplog.text


def test_a_number_that_is_none_is_an_error(vlm, monkeypatch):
    monkeypatch.setattr(vlm.runner, "answer_logprobs", lambda requests: [AnswerLogprob(math.nan, 1)])
    with pytest.raises(ValueError, match=r"log-probability nan to the answer 'blue' for query 'e0'"):
        confidences(vlm, picture_examples(1), ["blue"])
