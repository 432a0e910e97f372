# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Requests with turns after the query: the numbers and texts of a plain forward over the whole conversation."""

import numpy as np
import pytest
from transformers import GenerationConfig
from vlms.made_examples import ragged_examples, requests_of, world_requests
from vlms.one_at_a_time import logprobs, plain_logprob, single_generations
from vlms.tiny_models import examples_for, make_vlm

from leverplus_trl.vlms.decoding import make_config
from leverplus_trl.vlms.prompts import Piece
from leverplus_trl.vlms.requests import Turn
from leverplus_trl.vlms.runners import PlainRunner, SharedRunner


SAID = ("red circle", "", "blue star\nor it")


def continued(requests):
    """Requests of zero, one and two further rounds, some of the same query."""
    asked = [request.then(SAID[number % 3], "Why ?") for number, request in enumerate(requests)]
    return [*requests[:2], *asked, *(request.then("it is", "Answer again .") for request in asked[:4])]


def by_hand(vlm, request):
    """The conversation, written as messages and rendered by the processor itself."""

    def message(role, text, image=None):
        shown = [] if image is None else [{"type": "image"}]
        return {"role": role, "content": [*shown, {"type": "text", "text": text}]}

    messages = []
    for example in request.demonstrations:
        messages.append(message("user", example["question"], example["image"]))
        messages.append(message("assistant", example["answer"]))
    messages.append(message("user", request.query["question"], request.query["image"]))
    messages += [message(role, text) for role, text in request.turns]
    return vlm.family.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_the_embedded_vlm_scores_and_answers_behind_the_whole_conversation(concept_vlm, world):
    words = [example["answer"] for example in world["pool"].select(range(3))]
    asked = [request.then(words[n % 3], words[n % 2]) for n, request in enumerate(world_requests(world, count=12))]
    requests = asked + [request.then(words[2], words[1]) for request in asked[:4]]
    found, padded = (
        concept_vlm.answer_logprobs(requests),
        PlainRunner(concept_vlm.family, True).answer_logprobs(requests),
    )
    assert isinstance(concept_vlm.runner, SharedRunner)
    for request, shared, plain in zip(requests, found, padded, strict=True):
        assert concept_vlm.family.prompt.whole(*request).text == by_hand(concept_vlm, request)
        expected, count = plain_logprob(concept_vlm, request)
        assert shared.num_tokens == plain.num_tokens == count
        assert shared.logprob == pytest.approx(expected, abs=1e-4)
        assert plain.logprob == pytest.approx(expected, abs=1e-4)
    without = concept_vlm.answer_logprobs([request._replace(turns=()) for request in requests])
    assert np.abs(logprobs(without) - logprobs(found)).min() > 1e-3  # turns change every number
    said = concept_vlm.generate(requests)
    config = make_config(concept_vlm.args, concept_vlm.model, concept_vlm.task.max_new_tokens)
    assert (
        said
        == single_generations(concept_vlm, requests)
        == PlainRunner(concept_vlm.family, False).generate(requests, config)
    )


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava", "idefics3", "gpt2", "qwen2", "mamba"])
def test_every_way_to_run_gives_the_numbers_of_one_conversation_at_a_time(name):
    vlm = make_vlm(name)
    requests = continued(requests_of(examples_for(vlm), count=8))
    expected, counts = zip(*(plain_logprob(vlm, request) for request in requests), strict=True)
    found = vlm.answer_logprobs(requests)
    ways = [found, *(PlainRunner(vlm.family, by_segments).answer_logprobs(requests) for by_segments in (False, True))]
    for way in ways:
        assert np.abs(logprobs(way) - expected).max() <= 1e-4
        assert [score.num_tokens for score in way] == list(counts)
    config = GenerationConfig(max_new_tokens=5, do_sample=False)
    assert vlm.generate(requests, config) == single_generations(vlm, requests)


def test_a_prefix_and_its_query_run_once_for_all_that_follows_them(concept_vlm, world):
    (request,) = [r for r in world_requests(world) if len(r.demonstrations) > 1][:1]
    again = [request.then(word, "Why ?") for word in ("red", "blue")]
    concept_vlm.prepare([request])
    with concept_vlm.unit():
        concept_vlm.answer_logprobs([request])
        before = concept_vlm.runner.engine.num_tokens
        concept_vlm.answer_logprobs(again)
        run = concept_vlm.runner.engine.num_tokens - before
    longest = max(concept_vlm.num_prompt_tokens(one) for one in again)
    assert 0 < run <= 2 * (longest - concept_vlm.num_prompt_tokens(request) + 8)


def test_without_a_chat_template_turns_are_answers_and_questions():
    vlm = make_vlm("gpt2", prompt_format="plain")
    first, query = examples_for(vlm, 2)
    (request,) = requests_of([query], count=1, most=0)
    request = request._replace(demonstrations=(first,)).then(" blue \n", "Why ?").then("it is", "So ?")
    question = f"{first['question']} {first['answer']}\n{query['question']} blue\nWhy ? it is\nSo ?"
    assert vlm.family.prompt.whole(*request).text == question
    twice = request._replace(turns=(*request.turns, Turn("tool", "4")))
    assert vlm.family.prompt.whole(*twice).text == question + "\n4"


@pytest.mark.parametrize(
    "turns, message",
    [
        ([("user", "Why ?")], r"turns after query 'e\d' have the roles \['user'\]; expected 'assistant' first"),
        ([("assistant", "it")], r"have the roles \['assistant'\]; expected"),
        ([("assistant", "it"), ("assistant", "it"), ("user", "Why ?")], r"have the roles \['assistant', 'assistant'"),
        ([("assistant", "it"), ("system", "Why ?")], r"have the roles \['assistant', 'system'\]; .* 'user' or 'tool'"),
        ([("assistant", "it"), ("user", " ")], r"The user's turn after query 'e\d' is empty; expected a text"),
        (
            [("assistant", "it"), ("tool", "a<|im_end|>b")],
            r"The tool's turn 'a.*b' after query .* holds '<\|im_end\|>'",
        ),
        ([("assistant", "<|im_start|>"), ("user", "Why ?")], r"The assistant's turn .* holds '<\|im_start\|>'"),
    ],
)
@pytest.mark.parametrize("promise", ["answer_logprobs", "generate"])
def test_turns_that_no_conversation_has_are_refused(promise, turns, message, monkeypatch):
    vlm = make_vlm("qwen2_5_vl")
    (request,) = requests_of(examples_for(vlm), count=1)
    vlm.prepare([request])
    monkeypatch.setattr(vlm.model, "forward", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=message):
        getattr(vlm, promise)([request._replace(turns=tuple(Turn(*turn) for turn in turns))])


def test_a_template_that_hides_a_turn_is_named(monkeypatch):
    vlm = make_vlm("qwen2_5_vl")
    (request,) = requests_of(examples_for(vlm), count=1)
    vlm.prepare([request])
    render = vlm.family.prompt._render
    shown = {"user", "assistant"}
    monkeypatch.setattr(
        vlm.family.prompt, "_render", lambda turns, ask: render([t for t in turns if t["role"] in shown], ask)
    )
    with pytest.raises(ValueError, match=r"does not show the tool's turn '4' after query 'e\d'. Use another template"):
        vlm.answer_logprobs([request.then("2 + 2", "4", "tool")])
    assert vlm.generate([request.then("2 + 2", "4")]) != [""]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava"])
def test_turns_that_a_prompt_renders_in_another_way_are_processed_whole(name, monkeypatch):
    requests = continued(requests_of(ragged_examples(8), count=6))
    expected, vlm = make_vlm(name).answer_logprobs(requests), make_vlm(name)
    vlm.prepare(requests)
    monkeypatch.setattr(vlm.family.prompt, "turns", lambda example, turns: Piece("other words"))
    assert np.abs(logprobs(vlm.answer_logprobs(requests)) - logprobs(expected)).max() <= 1e-4
    assert vlm.runner.whole_prompts.num_whole == sum(bool(request.turns) for request in requests)
