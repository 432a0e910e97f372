# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Answers are decoded as the recipe says, and each as if nothing else were asked."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import GenerationConfig
from vlms.made_examples import requests_of
from vlms.one_at_a_time import single_generations
from vlms.tiny_models import TEXT_MODELS, VLMS, byte_tokenizer, examples_for, make_vlm, tiny_text_model

from leverplus_trl.scripts.parsers import make_parser
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import CausalLM, Request, VLMArguments, load_vlm
from leverplus_trl.vlms.decoding import GumbelNoise
from leverplus_trl.vlms.runners import PlainRunner


NAMES = [name for name in (*TEXT_MODELS, *VLMS) if name != "phi3_long"]  # its numbers depend on the batch
#: What a model's file may say, each of which changes answers.
FILE = {
    "num_beams": 3,
    "length_penalty": -2.0,
    "early_stopping": True,
    "repetition_penalty": 1.5,
    "no_repeat_ngram_size": 2,
    "suppress_tokens": list(range(100, 200)),
    "begin_suppress_tokens": list(range(100)),
    "bad_words_ids": [[number] for number in range(200, 250)],
    "min_length": 500,
    "min_new_tokens": 4,
    "forced_eos_token_id": 3,
    "sequence_bias": [[[5], 10.0]],
    "exponential_decay_length_penalty": (1, 2.0),
    "do_sample": True,
    "temperature": 5.0,
    "top_k": 3,
    "num_return_sequences": 2,
    "penalty_alpha": 0.6,
    "prompt_lookup_num_tokens": 3,
    "stop_strings": ["e"],
    "max_time": 1e-9,
    "max_length": 3,
    "use_cache": False,
    "return_dict_in_generate": True,
}


def longer(vlm, count=12):
    """Requests of many lengths, of which padded batches are made."""
    return requests_of(examples_for(vlm), count=count)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_taken_from_the_models_file(name, caplog):
    vlm = make_vlm(name)
    requests = longer(vlm, 6)
    expected = single_generations(vlm, requests)
    vlm.model.generation_config = GenerationConfig(**FILE)
    before = copy.deepcopy(vlm.model.generation_config.to_dict())
    caplog.clear()
    assert vlm.generate(requests) == expected
    assert vlm.generate(requests[:1]) == expected[:1]
    assert vlm.model.generation_config.to_dict() == before
    (said,) = (record.getMessage() for record in caplog.records if "generation_config of" in record.getMessage())
    for key in FILE.keys() - {"max_length", "use_cache", "return_dict_in_generate"}:
        assert f"{key} to {vlm.model.generation_config.to_dict()[key]!r}" in said
    assert "max_length" not in said and "set `generation_config: model`" in said


def test_a_file_that_says_nothing_else_is_not_reported(caplog):
    vlm = make_vlm("llama")
    vlm.model.generation_config = GenerationConfig(
        do_sample=False, num_beams=1, temperature=1.0, repetition_penalty=1.0, max_new_tokens=3, eos_token_id=2
    )
    vlm.generate(longer(vlm, 2))
    assert "generation_config" not in caplog.text


def pad_with_the_end(vlm):
    """Answers end with a token that they often say, and rows are padded with it."""
    said = Counter(token for text in vlm.generate(longer(vlm, 20)) for token in vlm.tokenizer(text)["input_ids"])
    (end, _), *_ = said.most_common(1)
    vlm.family.end_token_ids = lambda example: [end]
    vlm.family.pad_token_id = end
    return end


SETTINGS = [
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
    {"encoder_repetition_penalty": 1.3},
    {"min_length": 60},
    {"min_new_tokens": 3},
    {"exponential_decay_length_penalty": (1, 1.5)},
    {},
]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral_sliding", "bloom", "llava", "qwen2_5_vl", "idefics3"])
def test_an_answer_does_not_depend_on_what_else_is_asked(name, num_beams):
    vlm = make_vlm(name, max_batch_tokens=4000)
    end, requests, changed = pad_with_the_end(vlm), longer(vlm, 10), 0
    plain = vlm.generate(requests)
    for settings in SETTINGS if name in ("llama", "qwen2_5_vl") else SETTINGS[:3]:
        expected = single_generations(vlm, requests, num_beams=num_beams, **settings)
        config = GenerationConfig(max_new_tokens=5, do_sample=False, num_beams=num_beams, **settings)
        assert vlm.generate(requests, config) == expected
        assert [vlm.generate([request], config)[0] for request in requests[:4]] == expected[:4]
        vlm.prepare(requests)
        with torch.no_grad():
            whole = PlainRunner(vlm.family, by_segments=False)
        config.pad_token_id, config.eos_token_id = end, [end]
        assert whole.generate(requests, config) == expected
        changed += expected != plain
    assert changed > 1


def text_vlm(**arguments):
    tokenizer = byte_tokenizer()
    task = make_task(TaskArguments(task="text_classification", labels=["red", "blue"], max_new_tokens=5))
    args = VLMArguments(vlm="words", max_batch_tokens=2000, memory_mb=64, **arguments)
    return CausalLM(tiny_text_model("llama", tokenizer), tokenizer, task, args)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_beams": 3},
        {"num_beams": 3, "length_penalty": -2.0},
        {"repetition_penalty": 2},
        {"num_beams": 2, "repetition_penalty": 1.5},
    ],
)
def test_answers_are_decoded_as_the_recipe_says(arguments):
    vlm = text_vlm(**arguments)
    requests = longer(vlm, 10)
    settings = {name: value * 1.0 if name != "num_beams" else value for name, value in arguments.items()}
    found = vlm.generate(requests)
    assert found == single_generations(vlm, requests, **settings)
    assert found != text_vlm().generate(requests)


@pytest.mark.parametrize("name", ["llama", "mistral_sliding", "llava", "qwen2_5_vl", "mamba"])
@pytest.mark.parametrize(
    "file",
    [
        {"num_beams": 3, "repetition_penalty": 1.3, "length_penalty": 0.5, "early_stopping": True},
        {"no_repeat_ngram_size": 2, "repetition_penalty": 1.2, "suppress_tokens": [5, 6], "min_new_tokens": 2},
        {"temperature": 0.5, "top_p": 0.5, "bad_words_ids": [[7], [8, 9]], "max_new_tokens": 99},
    ],
)
def test_the_models_file_is_followed_on_request(name, file, caplog):
    vlm = make_vlm(name, generation_config="model")
    requests = longer(vlm, 8)
    expected = single_generations(vlm, requests, **{key: value for key, value in file.items() if key[:4] != "max_"})
    vlm.model.generation_config = GenerationConfig(**file, eos_token_id=vlm.model.generation_config.eos_token_id)
    assert vlm.generate(requests) == expected
    assert "decoded as the recipe says" not in caplog.text


@pytest.mark.parametrize(
    "file, message",
    [
        ({"guidance_scale": 1.5}, "the model's file sets guidance_scale to 1.5, which can't be followed"),
        ({"do_sample": True, "num_return_sequences": 2}, "sets num_return_sequences to 2"),
        ({"do_sample": True, "num_beams": 3}, "asks for beam sample; expected greedy search, sample, beam search"),
    ],
)
def test_a_file_that_can_not_be_followed_is_refused(file, message):
    vlm = make_vlm("llama", generation_config="model")
    vlm.model.generation_config = GenerationConfig(**file)
    with pytest.raises(ValueError, match=message):
        vlm.generate(longer(vlm, 2))


@pytest.mark.parametrize("arguments", [{"do_sample": True}, {"do_sample": True, "temperature": 3.0, "top_p": 0.9}])
@pytest.mark.parametrize("name", ["llama", "bloom", "qwen2_5_vl"])
def test_a_draw_depends_on_its_prompt_and_the_seed_alone(name, arguments):
    vlm = make_vlm(name, max_batch_tokens=4000, **arguments)
    requests = longer(vlm, 12)
    found = vlm.generate(requests)
    torch.manual_seed(1)
    assert [vlm.generate([request])[0] for request in requests] == found
    assert vlm.generate(requests[::-1]) == found[::-1]
    fresh = make_vlm(name, max_batch_tokens=100, **arguments)
    copies = [
        Request(tuple({**e, "id": f"other {e['id']}"} for e in request.demonstrations), request.query)
        for request in requests
    ]
    assert fresh.generate(copies[:5]) == found[:5]
    others = make_vlm(name, generation_seed=1, **arguments).generate(requests)
    greedy = make_vlm(name).generate(requests)
    assert len({tuple(found), tuple(others), tuple(greedy)}) == 3


def test_draws_follow_the_probabilities():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -float("inf")]])
    count = 20_000
    noisy = GumbelNoise(range(count))(None, logits.expand(count, -1))
    found = torch.bincount(noisy.argmax(-1), minlength=5) / count
    expected = logits[0].softmax(-1)
    # Four standard errors.
    assert (found - expected).abs().max() <= 4 * (expected * (1 - expected) / count).sqrt().max()
    assert found[4] == 0


def test_draws_are_from_what_top_p_leaves():
    vlm = make_vlm("llama", do_sample=True, top_p=1e-6, temperature=2.0)  # only the most probable token
    requests = longer(vlm, 10)
    assert vlm.generate(requests) == single_generations(vlm, requests)


def test_padding_behind_an_answer_is_no_part_of_it():
    vlm = make_vlm("llama", max_batch_tokens=4000)
    requests = longer(vlm, 12)
    end = pad_with_the_end(vlm)
    assert end not in vlm.tokenizer.all_special_ids
    assert vlm.generate(requests) == single_generations(vlm, requests)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_beams": 0}, "num_beams is 0; expected a whole number of at least 1"),
        ({"num_beams": 2.5}, "num_beams is 2.5; expected a whole number"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; expected a number above 0.0"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty is nan"),
        ({"do_sample": True, "temperature": 0}, "temperature is 0; expected a number above 0.0"),
        ({"do_sample": True, "top_p": 1.5}, "top_p is 1.5; expected a number above 0.0 and at most 1.0"),
        ({"do_sample": True, "num_beams": 2}, "do_sample is true and num_beams is 2; expected one of both"),
        ({"length_penalty": 2.0}, "length_penalty is 2.0, but num_beams is 1, and only beams are ranked by length"),
        (
            {"temperature": 0.5},
            "temperature is 0.5, but do_sample is false, so nothing is drawn. Leave",
        ),
        ({"top_p": 0.5}, "top_p is 0.5, but do_sample is false"),
        ({"generation_seed": 3}, "generation_seed is 3, but do_sample is false"),
        ({"generation_config": "file"}, "generation_config is 'file'; expected one of recipe, model"),
        (
            {"generation_config": "model", "num_beams": 2},
            "num_beams is 2, but generation_config is 'model', whose file says how answers are decoded. Leave",
        ),
    ],
)
def test_decoding_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VLMArguments(vlm="x", **arguments)


@pytest.mark.parametrize("stage", ["beams", "rollouts", "evaluate"])
def test_num_beams_is_how_answers_are_decoded_in_every_stage(stage):
    recipe = {"dataset": "d", "vlm": "v", "output_dir": "o", "num_beams": 4}
    parsed = make_parser(stage).parse_dict(recipe | ({"beams": "b"} if stage == "rollouts" else {}))
    assert next(args for args in parsed if type(args) is VLMArguments).num_beams == 4
    if stage == "rollouts":
        assert parsed[4].num_beam_sequences == 5  # those from the beams table


def test_the_file_of_a_folder_is_followed_and_recorded(tmp_path, world):
    from leverplus_trl.vlms.decoding import model_settings

    folder, settings = "data/concept_binding/vlm", {"repetition_penalty": 1.4, "num_beams": 2}
    arguments = VLMArguments(vlm=folder, generation_config="model", max_batch_tokens=1000)
    assert model_settings(arguments) == {}
    vlm = load_vlm(arguments, make_task(TaskArguments(metric="exact_match", max_new_tokens=5)))
    requests = [Request((world["pool"][0],), world["train"][0]), Request((), world["train"][1])]
    expected = single_generations(vlm, requests, **settings)
    for name, value in settings.items():
        setattr(vlm.model.generation_config, name, value)
    assert vlm.generate(requests) == expected
    vlm.model.generation_config.save_pretrained(tmp_path)
    assert model_settings(VLMArguments(vlm=str(tmp_path), generation_config="model")) == settings
    assert np.isscalar(vlm.model.generation_config.max_new_tokens)
