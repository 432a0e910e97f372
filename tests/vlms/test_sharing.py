# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Shared prefixes change nothing but the time: every family gives the numbers and texts of one prompt at a time.

The definition is a forward of the whole prompt and its answer through the stock processor (`plain_logprob`).
"""

import numpy as np
import pytest
import torch
from paths import WORLD
from transformers import GenerationConfig
from vlms.made_examples import drawn_requests, requests_of, scores_of, world_requests
from vlms.one_at_a_time import logprobs, plain_logprob, single_generations
from vlms.tiny_models import TEXT_MODELS, VLMS, examples_for, make_vlm

from leverplus_trl.beams import beam_search
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import Request, VLMArguments, load_vlm
from leverplus_trl.vlms.runners import PlainRunner, SharedRunner


SHARES = {name: shares for name, (*_, shares) in {**TEXT_MODELS, **VLMS}.items()}
del SHARES["phi3_long"]  # prompts of several lengths in a batch change its numbers, see below
SHARING = [name for name, shares in SHARES.items() if shares]


@pytest.mark.parametrize("name", SHARES)
def test_every_family_gives_the_numbers_of_one_prompt_at_a_time(name, caplog):
    vlm = make_vlm(name)
    requests = requests_of(examples_for(vlm), count=16)
    expected, counts = zip(*(plain_logprob(vlm, request) for request in requests), strict=True)
    found = vlm.answer_logprobs(requests)
    padded = PlainRunner(vlm.family, by_segments=False).answer_logprobs(requests)
    assert isinstance(vlm.runner, SharedRunner if SHARES[name] else PlainRunner)
    assert [score.num_tokens for score in found] == list(counts)
    assert np.abs(logprobs(found) - expected).max() <= 1e-4
    assert np.abs(logprobs(padded) - expected).max() <= 1e-4
    assert np.ptp(expected) > 1  # numbers that could differ
    vlm.answer_logprobs(requests[:2])
    warnings = [record for record in caplog.records if record.name.startswith("leverplus_trl")]
    assert len(warnings) == (0 if SHARES[name] else 1)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", SHARES)
def test_every_family_says_what_it_says_to_one_prompt_at_a_time(name, num_beams):
    vlm = make_vlm(name)
    requests = requests_of(examples_for(vlm), count=6)
    config = GenerationConfig(max_new_tokens=5, do_sample=False, num_beams=num_beams)
    assert len(set(single_generations(vlm, requests, num_beams=num_beams))) > 1
    assert vlm.generate(requests, config) == single_generations(vlm, requests, num_beams=num_beams)


@pytest.mark.parametrize("name", SHARING)
def test_in_bf16_shared_numbers_are_as_good_as_those_of_one_prompt_at_a_time(name):
    vlm = make_vlm(name, "bfloat16")
    requests = requests_of(examples_for(vlm), count=16)
    found = logprobs(vlm.answer_logprobs(requests))
    plain = PlainRunner(vlm.family, by_segments=False)
    single = logprobs(plain.answer_logprobs([request])[0] for request in requests)
    assert isinstance(vlm.runner, SharedRunner)
    exact = make_vlm(name)
    exact.model.load_state_dict(vlm.model.state_dict())  # the rounded weights
    expected = np.array([plain_logprob(exact, request)[0] for request in requests])
    # These models say things of 10 to 100 nats, of which bf16 keeps three digits: what a single prompt loses by it is
    # up to 1 nat, so two ways to compute the same can't be nearer than a part of that.
    lost = np.abs(single - expected)
    assert np.abs(found - single).max() <= max(2e-2, lost.max() / 2)
    assert np.abs(found - expected).mean() <= 1.25 * lost.mean() + 1e-3  # processors round bf16 in ways of their own


def test_in_bf16_a_trained_model_gives_the_numbers_of_one_prompt_at_a_time(world):
    vlm = load_vlm(VLMArguments(vlm=str(WORLD / "vlm"), dtype="bfloat16"), make_task(TaskArguments()))
    requests = world_requests(world, count=48)
    plain = PlainRunner(vlm.family, by_segments=False)
    single = logprobs(plain.answer_logprobs([request])[0] for request in requests)
    assert np.abs(logprobs(vlm.answer_logprobs(requests)) - single).max() <= 2e-2
    assert isinstance(vlm.runner, SharedRunner)


@pytest.mark.parametrize("settings", [{"system_prompt": "be brief"}, {"score_end_token": True}])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava", "gpt2"])
def test_headers_are_shared_and_ends_are_scored(name, settings):
    vlm = make_vlm(name, **settings)
    requests = requests_of(examples_for(vlm), count=12)
    found, plain = (
        vlm.answer_logprobs(requests),
        PlainRunner(vlm.family, by_segments=False).answer_logprobs(requests),
    )
    assert isinstance(vlm.runner, SharedRunner)
    assert np.abs(logprobs(found) - logprobs(plain)).max() <= 1e-4
    assert [score.num_tokens for score in found] == [score.num_tokens for score in plain]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "llava", "smolvlm"])
def test_each_image_is_encoded_once(name, monkeypatch):
    vlm = make_vlm(name)
    examples = examples_for(vlm)
    examples.append({**examples[0], "id": "the same picture", "question": "what is it ?"})
    requests = [*requests_of(examples, count=20), Request((examples[-1],), examples[0])]
    encode, calls = vlm.model.get_image_features, []
    monkeypatch.setattr(vlm.model, "get_image_features", lambda **inputs: calls.append(1) or encode(**inputs))
    vlm.answer_logprobs(requests)
    vlm.generate(requests)
    shown = {e["image"].tobytes() for request in requests for e in (*request.demonstrations, request.query)}
    assert vlm.family.num_images_encoded == len(shown) == 8
    assert len(calls) <= len(shown)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "llava", "smolvlm"])
def test_features_of_an_image_have_the_same_bytes_whatever_is_encoded_with_it(name):
    together = make_vlm(name)
    examples = examples_for(together)
    together.answer_logprobs(requests_of(examples, count=20))
    for example in examples:
        alone = make_vlm(name)
        alone.answer_logprobs([Request((), example)])
        ((key, (features, _)),) = alone.family.features._held.items()
        assert len(features) == (3 if name == "qwen3_vl" else 1)
        assert all(
            torch.equal(one, other) for one, other in zip(features, together.family.features.get(key), strict=True)
        )


def test_several_answers_share_everything_but_themselves():
    vlm = make_vlm("qwen2_5_vl")
    examples = examples_for(vlm)
    first = Request(tuple(examples[1:4]), examples[0])
    vlm.prepare([first])
    engine = vlm.runner.engine
    answers = ["red circle", "blue", "what a long answer this is", "red star"]
    requests = [Request(first.demonstrations, {**first.query, "answer": answer}) for answer in answers]
    before = engine.num_tokens
    found = vlm.answer_logprobs(requests)
    lengths = [len(vlm.answer_ids(request.query)) for request in requests]
    prompt = vlm.num_prompt_tokens(requests[0]) - lengths[0]
    assert engine.num_tokens - before == prompt + sum(lengths) - len(lengths)
    assert np.abs(logprobs(found) - [plain_logprob(vlm, request)[0] for request in requests]).max() <= 1e-4


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "idefics3", "llama"])
def test_any_set_of_requests_gives_the_plain_numbers(name, seed):
    rng = np.random.default_rng(seed)
    vlm = make_vlm(name, max_batch_tokens=int(rng.choice([30, 200, 4000])))
    requests = drawn_requests(rng, examples_for(vlm, seed=seed), count=20)
    expected = np.array([plain_logprob(vlm, request)[0] for request in requests])
    together = vlm.answer_logprobs(requests)
    engine = vlm.runner.engine
    tokens = engine.num_tokens
    with vlm.unit():
        starts = sorted({0, *(int(i) for i in rng.integers(0, len(requests), 4))})
        parts = [requests[a:b] for a, b in zip(starts, [*starts[1:], len(requests)], strict=True)]
        in_steps = [score for part in parts for score in vlm.answer_logprobs(part)]
    assert engine.num_tokens - tokens <= tokens  # nothing runs twice in a unit
    alone = [vlm.answer_logprobs([request])[0] for request in requests]
    for found in (together, in_steps, alone):
        assert np.abs(logprobs(found) - expected).max() <= 1e-4


@pytest.mark.parametrize("name", [name for name, shares in SHARES.items() if not shares])
def test_one_prompt_is_enough_to_see_that_prefixes_cant_be_shared(name):
    vlm = make_vlm(name)
    requests = requests_of(examples_for(vlm))
    vlm.answer_logprobs([Request((), requests[0].query)])
    assert isinstance(vlm.runner, PlainRunner)
    expected = [plain_logprob(vlm, request)[0] for request in requests]
    assert np.abs(logprobs(vlm.answer_logprobs(requests)) - expected).max() <= 1e-4


def test_shots_that_nobody_asked_for_do_not_decide_whether_prefixes_are_shared():
    vlm = make_vlm("llama")
    examples = examples_for(vlm)
    requests = [Request((examples[i],), examples[i + 1]) for i in range(6)]
    vlm.family.max_length = max(vlm.num_prompt_tokens(request) for request in requests)
    vlm.runner = None
    expected = [plain_logprob(vlm, request)[0] for request in requests]
    assert np.abs(logprobs(vlm.answer_logprobs(requests)) - expected).max() <= 1e-4
    assert isinstance(vlm.runner, SharedRunner)


@pytest.mark.parametrize("insertion", ["left", "right"])
def test_beams_are_those_of_one_prompt_at_a_time(concept_vlm, world, insertion):
    pool = {world["pool"][i]["id"]: world["pool"][i] for i in range(12)}
    queries = [world["train"][i] for i in range(3)]
    candidates = [sorted(pool) for _ in queries]
    concept_vlm.prepare([Request((), queries[0])])
    engine, plain = concept_vlm.runner.engine, PlainRunner(concept_vlm.family, by_segments=True)
    shared_scores, plain_scores, before = {}, {}, engine.num_tokens
    with concept_vlm.unit():
        shared = beam_search(scores_of(concept_vlm, pool, queries, shared_scores), candidates, 3, 3, insertion)
    expected = beam_search(scores_of(plain, pool, queries, plain_scores), candidates, 3, 3, insertion)
    both = shared_scores.keys() & plain_scores.keys()
    assert max(abs(shared_scores[key] - plain_scores[key]) for key in both) <= 1e-4
    for one, other in zip(shared, expected, strict=True):
        assert np.allclose(one.scores, other.scores, atol=2e-4)
        for mine, yours, value in zip(one.demonstration_ids, other.demonstration_ids, other.scores, strict=True):
            tied = sum(abs(value - score) <= 2e-4 for score in other.scores) > 1
            assert mine == yours or tied
    requests = [Request(tuple(pool[i] for i in sequence), queries[query]) for query, sequence in shared_scores]
    tokens = sum(concept_vlm.num_prompt_tokens(request) for request in requests)
    assert engine.num_tokens - before < 0.55 * tokens


def test_a_rotation_that_depends_on_the_whole_prompt_is_not_shared():
    vlm = make_vlm("phi3_long", max_batch_tokens=1)
    requests = requests_of(examples_for(vlm))
    expected = np.array([plain_logprob(vlm, request)[0] for request in requests])
    vlm.answer_logprobs([Request((), requests[0].query)])  # short enough for one rotation
    assert isinstance(vlm.runner, PlainRunner)
    assert np.abs(logprobs(vlm.answer_logprobs(requests)) - expected).max() <= 1e-4
    lengths = [vlm.num_prompt_tokens(request) for request in requests]
    assert min(lengths) <= 64 < max(lengths)
