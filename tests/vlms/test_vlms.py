# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from vlms.made_examples import ANSWERS, picture_examples, requests_of, world_requests
from vlms.one_at_a_time import plain_logprob
from vlms.tiny_models import (
    byte_tokenizer,
    llama2_tokenizer,
    prefix_space_tokenizer,
    tiny_causal_lm,
    tiny_idefics3,
    tiny_llava,
)

from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import CausalLM, ChatFamily, Request, TransformersVLM, VLMArguments, load_vlm
from leverplus_trl.vlms.prefix_trie import Node
from leverplus_trl.vlms.runners import PlainRunner, SharedRunner
from leverplus_trl.vlms.segments import ByteCache, Segment, plan_padded_batches


@pytest.fixture(params=["llava", "idefics3"])
def other_vlm(request):
    model, processor = {"llava": tiny_llava, "idefics3": tiny_idefics3}[request.param]()
    task = make_task(TaskArguments(metric="exact_match", max_new_tokens=5))
    return TransformersVLM(ChatFamily(model, processor, task, VLMArguments(vlm=request.param, max_batch_tokens=1000)))


@pytest.fixture(params=["plain", "chat", "prefix_space", "llama2"])
def text_vlm(request):
    makers = {"prefix_space": prefix_space_tokenizer, "llama2": llama2_tokenizer}
    tokenizer = makers.get(request.param, byte_tokenizer)()
    task = make_task(TaskArguments(task="text_classification", labels=ANSWERS, max_new_tokens=5))
    prompt_format = "chat" if request.param == "chat" else "plain"
    arguments = VLMArguments(vlm=request.param, prompt_format=prompt_format, max_batch_tokens=200)
    return CausalLM(tiny_causal_lm(tokenizer), tokenizer, task, arguments)


def test_only_the_answers_own_tokens_count(concept_vlm, world):
    requests = world_requests(world)
    for request, found in zip(requests, concept_vlm.answer_logprobs(requests), strict=True):
        expected, count = plain_logprob(concept_vlm, request)
        assert found.logprob == pytest.approx(expected, abs=1e-4)
        assert found.num_tokens == count == len(request.query["answer"].split())


def test_any_family_gives_the_plain_numbers(other_vlm):
    requests = requests_of(picture_examples(8))
    for request, found in zip(requests, other_vlm.answer_logprobs(requests), strict=True):
        expected, count = plain_logprob(other_vlm, request)
        assert found.logprob == pytest.approx(expected, abs=1e-4)
        assert found.num_tokens == count


def test_text_models_give_the_plain_numbers(text_vlm):
    requests = requests_of([{**example, "image": None} for example in picture_examples(8)])
    for request, found in zip(requests, text_vlm.answer_logprobs(requests), strict=True):
        expected, count = plain_logprob(text_vlm, request)
        assert found.logprob == pytest.approx(expected, abs=1e-4)
        assert found.num_tokens == count


def test_batched_equals_single(concept_vlm, world):
    requests = world_requests(world)
    together = concept_vlm.answer_logprobs(requests)
    alone = [concept_vlm.answer_logprobs([request])[0] for request in requests]
    assert np.allclose([s.logprob for s in together], [s.logprob for s in alone], atol=1e-4)
    assert concept_vlm.generate(requests) == [concept_vlm.generate([request])[0] for request in requests]


def test_a_family_whose_pieces_tokenise_otherwise_is_processed_whole(caplog):
    tokenizer = prefix_space_tokenizer()
    task = make_task(TaskArguments(task="text_classification", labels=ANSWERS))
    vlm = CausalLM(tiny_causal_lm(tokenizer), tokenizer, task, VLMArguments(vlm="tiny"))
    requests = requests_of([{**example, "image": None} for example in picture_examples(8)])
    for _ in range(2):
        vlm.answer_logprobs(requests)
    assert isinstance(vlm.runner, PlainRunner) and not vlm.runner.by_segments
    assert caplog.text.count("piece by piece differs") == 1


def test_what_is_asked_first_does_not_decide_how_prompts_are_run(text_vlm):
    examples = [{**example, "image": None} for example in picture_examples(8)]
    text_vlm.prepare([Request((), examples[0])])
    zero_shot_first = type(text_vlm.runner)
    text_vlm.runner = None
    text_vlm.prepare(requests_of(examples))
    expected = SharedRunner if text_vlm.args.vlm in ("plain", "chat") else PlainRunner
    assert type(text_vlm.runner) is zero_shot_first is expected


@pytest.mark.parametrize("by_segments", [False, True])
def test_prompts_run_one_by_one_give_the_numbers_of_shared_ones(concept_vlm, world, by_segments):
    requests = world_requests(world)
    shared = concept_vlm.answer_logprobs(requests)
    plain = PlainRunner(concept_vlm.family, by_segments).answer_logprobs(requests)
    assert np.allclose([s.logprob for s in plain], [s.logprob for s in shared], atol=1e-4)


def test_generate_says_what_the_model_says(concept_vlm, world):
    requests = world_requests(world, count=6)
    for request, text in zip(requests, concept_vlm.generate(requests), strict=True):
        whole = concept_vlm.family.prompt.whole(*request)
        inputs = concept_vlm.family.processor(text=[whole.text], images=list(whole.images), return_tensors="pt")
        output = concept_vlm.model.generate(**inputs, max_new_tokens=4, do_sample=False)
        new = output[0, inputs["input_ids"].shape[1] :]
        assert text == concept_vlm.tokenizer.decode(new, skip_special_tokens=True)


def test_each_image_and_text_is_processed_once(world):
    task = make_task(TaskArguments(metric="exact_match"))
    vlm = load_vlm(VLMArguments(vlm="data/concept_binding/vlm"), task)
    requests = world_requests(world, count=40)
    vlm.prepare(requests)
    seen = []
    process = vlm.family.process
    vlm.family.process = lambda piece: seen.append(piece.text) or process(piece)
    vlm.answer_logprobs(requests)
    first = len(seen)
    vlm.answer_logprobs(requests)
    shown = {example["id"] for request in requests for example in request.demonstrations}
    asked = {request.query["id"] for request in requests}
    assert 0 < first <= len(shown) + 2 * len(asked)  # each demonstration, query and answer that was not tried out
    assert len(seen) == first
    images = {e["image"].tobytes() for request in requests for e in (*request.demonstrations, request.query)}
    assert vlm.family.num_images_encoded == len(images) < len(shown) + len(asked)


def test_positions_of_segments_are_those_of_the_whole_prompt(concept_vlm, world):
    requests = [r for r in world_requests(world) if r.demonstrations]
    for request in requests:
        node = Node()
        for segment in concept_vlm.prepare(requests)._row(request):
            node = Node(node, segment, segment.num_positions)
        found = [above.segment.positions(3) + above.parent.end_position for above in node.path()]
        whole = concept_vlm.family.prompt.whole(*request)
        inputs = concept_vlm.family.processor(text=[whole.text], images=list(whole.images), return_tensors="pt")
        expected, _ = concept_vlm.model.model.get_rope_index(
            inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
        )
        assert np.array_equal(np.concatenate(found, axis=1), expected[:, 0].numpy())


def test_the_end_token_is_scored_only_on_request(world):
    task = make_task(TaskArguments(metric="exact_match"))
    request = Request((), world["train"][0])
    counts = []
    for score_end_token in (False, True):
        arguments = VLMArguments(vlm="data/concept_binding/vlm", score_end_token=score_end_token)
        counts.append(load_vlm(arguments, task).answer_logprobs([request])[0].num_tokens)
    assert counts[1] == counts[0] + 1


def test_a_prompt_beyond_the_context_is_named(concept_vlm, world):
    query = world["train"][0]
    many = tuple(world["pool"][i] for i in range(200))
    with pytest.raises(ValueError, match=rf"query '{query['id']}' with 200 demonstrations has \d+ tokens"):
        concept_vlm.answer_logprobs([Request(many, query)])


def test_out_of_memory_halves_the_batch_and_loses_nothing(concept_vlm, world, caplog, monkeypatch):
    requests = world_requests(world)
    expected = concept_vlm.answer_logprobs(requests)
    runner = PlainRunner(concept_vlm.family, by_segments=True)
    score_batch = runner._score_batch

    def scarce(rows, answers):
        if len(rows) > 2:
            raise torch.OutOfMemoryError("no more")
        return score_batch(rows, answers)

    monkeypatch.setattr(runner, "_score_batch", scarce)
    found = runner.answer_logprobs(requests)
    assert np.allclose([s.logprob for s in found], [s.logprob for s in expected], atol=1e-4)
    assert "Out of memory" in caplog.text


def test_batches_depend_on_lengths_alone_and_keep_the_budget():
    lengths = [5, 3, 9, 3, 30, 5]
    batches = plan_padded_batches(lengths, 20)
    assert batches == [[1, 3, 0, 5], [2], [4]]
    assert sorted(i for batch in batches for i in batch) == list(range(6))


def test_the_cache_keeps_its_bound():
    cache = ByteCache(max_bytes=3000)
    for i in range(10):
        segment = Segment({"input_ids": [0]}, {"pixels": torch.zeros(250)})  # 64 + 1000 bytes
        cache.put((i,), segment, segment.num_bytes)
    assert cache.num_bytes <= 3000
    assert cache.get((9,)) is not None and cache.get((0,)) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompt_format": "poem"}, "prompt_format is 'poem'"),
        ({"dtype": "float33"}, "dtype is 'float33'"),
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0; expected a whole number of at least 1"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VLMArguments(vlm="x", **arguments)


def test_pickled_weights_are_refused(tmp_path):
    tokenizer = byte_tokenizer()
    model = tiny_causal_lm(tokenizer)
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    task = make_task(TaskArguments(task="text_classification", labels=ANSWERS))
    with pytest.raises(ValueError, match=r"has pickled weights \(pytorch_model.bin\)"):
        load_vlm(VLMArguments(vlm=str(tmp_path)), task)


def test_an_answer_without_tokens_is_named(text_vlm):
    query = {"id": "q7", "image": None, "question": "what ?", "answer": " ", "answers": [" "]}
    if text_vlm.args.vlm == "plain":
        text_vlm.family.prompt.answer = lambda example: ("", "\n")  # as a tokenizer that drops spaces would have it
        with pytest.raises(ValueError, match="example 'q7' has no tokens"):
            text_vlm.answer_logprobs([Request((), query)])


def test_an_image_for_a_language_model_is_refused(text_vlm):
    task = make_task(TaskArguments(metric="exact_match"))
    vlm = CausalLM(text_vlm.model, text_vlm.tokenizer, task, text_vlm.args)
    with pytest.raises(ValueError, match="image"):
        vlm.answer_logprobs([Request((), picture_examples(1)[0])])
