# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Stop strings: an answer is what would be said without them, up to the first; alone and in any batch."""

import pytest
from transformers import GenerationConfig
from vlms.made_examples import requests_of, world_requests
from vlms.tiny_models import examples_for, make_vlm

from leverplus_trl.tasks.base_task import text_before
from leverplus_trl.vlms.decoding import StopStrings, make_config
from leverplus_trl.vlms.runners import PlainRunner


def config_of(stop_strings=None, **settings):
    return GenerationConfig(**{"max_new_tokens": 8, "do_sample": False, **settings}, stop_strings=stop_strings)


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "top_k": 0}])
@pytest.mark.parametrize("name", ["llama", "mamba", "llava", "qwen2_5_vl"])
def test_an_answer_ends_before_the_first_of_them(name, settings):
    vlm = make_vlm(name)
    requests = requests_of(examples_for(vlm), count=10)
    plain = vlm.generate(requests, config_of(**settings))
    # Random models also write parts of characters, which no stop string holds.
    pairs = [text[n : n + 2] for text in plain for n in range(len(text) - 1) if "\ufffd" not in text[n : n + 2]]
    stops = [pairs[0], pairs[len(pairs) // 2][1], pairs[-1]]
    found = vlm.generate(requests, config_of(stops, **settings))
    assert found == [text_before(text, stops) for text in plain]
    assert sum(a != b for a, b in zip(plain, found, strict=True)) >= 3
    assert found == [vlm.generate([request], config_of(stops, **settings))[0] for request in requests]
    assert vlm.generate(requests, config_of(stops[0], **settings)) == [text_before(text, stops[:1]) for text in plain]


@pytest.mark.parametrize("name", ["llama", "qwen2_5_vl"])
def test_beams_end_there_too_in_any_batch(name):
    vlm = make_vlm(name)
    requests = requests_of(examples_for(vlm), count=8)
    plain = vlm.generate(requests, config_of(num_beams=3))
    stops = [max(plain, key=len)[1:3], max(plain, key=len)[-1]]
    config = config_of(stops, num_beams=3)
    found = vlm.generate(requests, config)
    assert found == [vlm.generate([request], config)[0] for request in requests] != plain
    assert not any(stop in text for text in found for stop in stops)


def test_nothing_is_generated_after_them_and_prompts_are_not_read(concept_vlm, world, monkeypatch):
    vlm, requests = concept_vlm, world_requests(world, count=6)
    words = [text.split()[0] for text in vlm.generate(requests)]
    lengths, generate = [], vlm.model.generate
    monkeypatch.setattr(vlm.model, "generate", lambda **inputs: lengths.append(generate(**inputs)) or lengths[-1])
    asked = config_of(words, max_new_tokens=4, eos_token_id=-1)
    assert vlm.generate(requests, asked) == [""] * 6
    widths = [output.shape[1] for output in lengths]
    lengths.clear()
    vlm.generate(requests, config_of(max_new_tokens=4, eos_token_id=-1))
    assert [output.shape[1] for output in lengths] == [width + 3 for width in widths]
    whole = [vlm.family.prompt.whole(*request).text for request in requests]
    straddling = sorted({text[-3:] + word[0] for text, word in zip(whole, words, strict=True)})
    assert vlm.generate(requests, config_of([*straddling, whole[0][:5]], max_new_tokens=4)) == vlm.generate(requests)


def test_the_tasks_own_are_used_by_every_runner(concept_vlm, world, monkeypatch):
    requests = world_requests(world, count=6)
    plain = concept_vlm.generate(requests)
    assert any(" " in text for text in plain)
    monkeypatch.setattr(concept_vlm.task, "stop_strings", [" "])
    expected = [text.split(" ")[0] for text in plain]
    assert concept_vlm.generate(requests) == expected
    task = concept_vlm.task
    config = make_config(concept_vlm.args, concept_vlm.model, task.max_new_tokens, task.stop_strings)
    config.eos_token_id = concept_vlm.family.end_token_ids(requests[0].query)
    config.pad_token_id = concept_vlm.pad_token_id
    assert PlainRunner(concept_vlm.family, by_segments=True).generate(requests, config) == expected


def test_a_stop_string_is_found_across_tokens_of_single_bytes():
    vlm = make_vlm("llama")
    ids = vlm.tokenizer("ab é中 c", add_special_tokens=False)["input_ids"]
    assert len(ids) > 6
    stops = StopStrings(vlm.tokenizer, ["é中"])
    text = vlm.tokenizer.decode(ids[: stops.length(ids)])
    assert text == "ab é中" and stops.length(ids) < len(ids)
    assert StopStrings(vlm.tokenizer, ["x"]).length(ids) == len(ids)


def test_a_special_token_is_a_stop_string_by_its_whole_name_alone():
    vlm = make_vlm("llama")
    ids = vlm.tokenizer("a<|im_start|>b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3 and vlm.tokenizer.decode(ids, skip_special_tokens=True) == "ab"
    lengths = {
        text: StopStrings(vlm.tokenizer, [text]).length(ids) for text in ("<|im_start|>", "im_start", "|", "ab")
    }
    assert lengths == {"<|im_start|>": 2, "im_start": 3, "|": 3, "ab": 3}
