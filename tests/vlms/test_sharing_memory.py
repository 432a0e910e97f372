# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Shared prefixes in little memory: nothing is lost, and the budget holds."""

import numpy as np
import pytest
import torch
from paths import WORLD
from torch.profiler import ProfilerActivity, profile
from vlms.made_examples import drawn_requests, picture_examples, requests_of, scores_of
from vlms.one_at_a_time import logprobs, plain_logprob, single_generations
from vlms.tiny_models import examples_for, make_vlm

from leverplus_trl.beams import beam_search
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import Request, VLMArguments, load_vlm
from leverplus_trl.vlms.runners import SharedRunner


def leave_room_for(vlm, num_tokens):
    """Less memory than `memory_mb` can say: half of it is for keys and values."""
    vlm.family.memory_bytes = 2 * vlm.runner.engine.costs.kv_bytes * num_tokens
    vlm.family.features.max_bytes = 2000
    vlm.runner = None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llama"])
def test_scarce_memory_changes_no_number(name, seed):
    rng = np.random.default_rng(seed)
    vlm = make_vlm(name, max_batch_tokens=int(rng.choice([20, 100, 4000])))
    requests = drawn_requests(rng, examples_for(vlm, seed=seed), count=24)
    expected = np.array([plain_logprob(vlm, request)[0] for request in requests])
    lengths = [vlm.num_prompt_tokens(request) for request in requests]
    leave_room_for(vlm, 2 * max(lengths) + int(rng.integers(4, 40)))
    asked = [requests[a : a + 6] for a in range(0, len(requests), 6)]
    said = {id(request): text for request, text in zip(requests, single_generations(vlm, requests), strict=True)}
    with vlm.unit():
        found = []
        for i, part in enumerate(asked):
            found += vlm.answer_logprobs(part)
            assert isinstance(vlm.runner, SharedRunner)
            if i % 2:
                earlier = asked[int(rng.integers(0, i + 1))]
                assert vlm.generate(earlier) == [said[id(request)] for request in earlier]
        before = vlm.runner.engine.num_tokens
        found += vlm.answer_logprobs(requests)
    run_again = vlm.runner.engine.num_tokens - before
    assert run_again > sum(score.num_tokens for score in found)  # what was kept had to make room
    assert np.abs(logprobs(found) - np.concatenate([expected, expected])).max() <= 1e-4
    pool = vlm.runner.engine.pool
    assert pool.num_free == pool.capacity - 1


def test_a_prompt_is_not_kept_without_what_stands_before_it():
    vlm = make_vlm("llama")
    examples = [{**example, "answer": "red"} for example in examples_for(vlm)]
    first, second, third = (Request((examples[i], examples[i + 1]), examples[i + 1]) for i in (0, 2, 4))
    expected = single_generations(vlm, [first])
    assert len(vlm.answer_ids(first.query)) == 1
    vlm.prepare([first, second, third])
    leave_room_for(vlm, 2 * max(vlm.num_prompt_tokens(request) for request in (first, second, third)) + 4)
    with vlm.unit():
        vlm.answer_logprobs([first, second])
        vlm.answer_logprobs([first, second, third])
        assert vlm.generate([first]) == expected


def test_out_of_memory_in_the_middle_loses_nothing(caplog, monkeypatch):
    vlm = make_vlm("qwen2_5_vl", max_batch_tokens=4000)
    requests = drawn_requests(np.random.default_rng(0), examples_for(vlm), count=24)
    expected = logprobs(vlm.answer_logprobs(requests))
    engine = vlm.runner.engine
    most = max(vlm.num_prompt_tokens(request) for request in requests)
    forward, sizes = engine.decoder.forward, []

    def scarce(*args, inputs_embeds, **kwargs):
        sizes.append(inputs_embeds.shape[1])
        if len(sizes) > 2 and sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(*args, inputs_embeds=inputs_embeds, **kwargs)

    monkeypatch.setattr(engine.decoder, "forward", scarce)
    with vlm.unit():
        found = np.concatenate([logprobs(vlm.answer_logprobs(part)) for part in (requests[:8], requests)])
    assert np.abs(found - np.concatenate([expected[:8], expected])).max() <= 1e-4
    assert max(sizes[2:]) > most and "Out of memory with a batch of" in caplog.text
    assert engine.pool.num_free == engine.pool.capacity - 1


def test_out_of_memory_while_answering_loses_nothing(caplog, monkeypatch):
    vlm = make_vlm("qwen2_5_vl")
    requests = requests_of(examples_for(vlm))
    expected = vlm.generate(requests)
    generate, sizes = vlm.model.generate, []

    def scarce(input_ids, **kwargs):
        sizes.append(len(input_ids))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return generate(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(vlm.model, "generate", scarce)
    assert vlm.generate(requests) == expected
    assert max(sizes) > 2 and "Out of memory" in caplog.text


def test_an_error_in_the_middle_is_not_hidden_and_takes_nothing_along(monkeypatch):
    vlm = make_vlm("llama")
    requests = requests_of(examples_for(vlm))
    expected = logprobs(vlm.answer_logprobs(requests))
    engine = vlm.runner.engine
    forward, calls = engine.decoder.forward, []

    def broken(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("a wire is loose")
        return forward(*args, **kwargs)

    with vlm.unit():
        with monkeypatch.context() as patch:
            patch.setattr(engine.decoder, "forward", broken)
            with pytest.raises(RuntimeError, match="a wire is loose"):
                vlm.answer_logprobs(requests)
        again = logprobs(vlm.answer_logprobs(requests))
    assert np.abs(again - expected).max() <= 1e-4
    assert vlm.model.config.get_text_config()._attn_implementation == "sdpa"


def peak_bytes(run):
    """What `run` gives, and the most memory that its tensors take up together while it runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        found = run()
    events = enumerate(profiler.profiler.kineto_results.events())
    changes = [(event.start_ns(), i, event.nbytes()) for i, event in events if event.name() == "[memory]"]
    return found, int(np.cumsum([num_bytes for *_, num_bytes in sorted(changes)]).max())


def search_with(world, memory_mb, num_queries, num_candidates, beam_size):
    vlm = load_vlm(VLMArguments(vlm=str(WORLD / "vlm"), memory_mb=memory_mb), make_task(TaskArguments()))
    queries = [world["train"][i] for i in range(num_queries)]
    pool = {world["pool"][i]["id"]: world["pool"][i] for i in range(num_candidates)}
    seen = {}
    score = scores_of(vlm, pool, queries, seen)

    def search():
        with vlm.unit():
            return beam_search(score, [sorted(pool)] * num_queries, 2, beam_size), vlm.generate(
                [Request((), query) for query in queries]
            )

    found, peak = peak_bytes(search)
    assert isinstance(vlm.runner, SharedRunner)
    return found, peak, seen


@pytest.mark.parametrize(
    "memory_mb, num_queries, num_candidates, beam_size",
    [(16, 2, 24, 3), pytest.param(200, 8, 64, 5, marks=pytest.mark.slow)],
)
def test_memory_beside_the_model_stays_within_its_budget(world, memory_mb, num_queries, num_candidates, beam_size):
    found, peak, scores = search_with(world, memory_mb, num_queries, num_candidates, beam_size)
    assert memory_mb * 2**20 / 4 < peak < memory_mb * 2**20
    expected, _, expected_scores = search_with(world, 1000, num_queries, num_candidates, beam_size)
    assert scores.keys() == expected_scores.keys()
    assert max(abs(scores[key] - expected_scores[key]) for key in scores) <= 3e-5
    assert found[1] == expected[1]
    assert [beams.demonstration_ids for beams in found[0]] == [beams.demonstration_ids for beams in expected[0]]


def test_a_vision_tower_out_of_memory_loses_nothing_and_leaves_the_decoder_its_batches(caplog, monkeypatch):
    vlm, expected = make_vlm("qwen2_5_vl"), make_vlm("qwen2_5_vl")
    requests = requests_of(picture_examples(12), count=12)
    vlm.prepare(requests[:1])
    encode, batches = vlm.model.get_image_features, []

    def scarce(**inputs):
        batches.append(len(inputs["image_grid_thw"]))
        if batches[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encode(**inputs)

    monkeypatch.setattr(vlm.model, "get_image_features", scarce)
    before = vlm.runner.engine.max_batch_tokens
    found = logprobs(vlm.answer_logprobs(requests))
    assert max(batches) > 4 and "Out of memory" in caplog.text
    assert vlm.runner.engine.max_batch_tokens == before
    assert np.abs(found - logprobs(expected.answer_logprobs(requests))).max() <= 1e-4


def test_a_head_out_of_memory_loses_nothing(caplog, monkeypatch):
    vlm = make_vlm("llama")
    examples = examples_for(vlm)
    prompts = [Request((examples[i],), examples[-1 - i]) for i in range(3)]
    others = [Request(r.demonstrations, {**r.query, "answer": "blue star"}) for r in prompts]
    expected = logprobs(vlm.answer_logprobs([*prompts, *others]))
    head = vlm.runner.engine.head

    def scarce(hidden):
        if len(hidden) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return head(hidden)

    with vlm.unit():
        first = logprobs(vlm.answer_logprobs(prompts))
        monkeypatch.setattr(vlm.runner.engine, "head", scarce)  # what is read off prompts that are there already
        found = np.concatenate([first, logprobs(vlm.answer_logprobs(others))])
    assert "Out of memory" in caplog.text
    assert np.abs(found - expected).max() <= 1e-4


def test_examples_are_let_go_with_their_unit():
    vlm = make_vlm("qwen2_5_vl")
    with vlm.unit():
        vlm.answer_logprobs(requests_of(picture_examples(8)))
        held = [made[-1] for made, _ in vlm.runner._cache._held.values() if isinstance(made, list)]
        assert sum(segment.make is not None for segment in held) > 4
    assert held and all(segment.make is None for segment in held)


def test_prompts_that_differ_in_a_demonstrations_answer_are_answered_each(concept_vlm, world):
    shown, query = world["pool"][0], world["pool"][0] | {"id": "asked"}
    requests = [Request(({**shown, "answer": answer},), query) for answer in ("gusi", "wagu", "xovu")]
    alone = [concept_vlm.generate([request])[0] for request in requests]
    assert concept_vlm.generate(requests) == alone and len(set(alone)) == 3
