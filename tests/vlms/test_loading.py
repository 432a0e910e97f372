# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From the recipe to a model: quantisation, devices, and weights that are not read."""

import json

import pytest
import torch
from vlms.made_examples import ANSWERS, picture_examples, requests_of
from vlms.tiny_models import byte_tokenizer, tiny_causal_lm, tiny_llava

from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import Request, VLMArguments, load_vlm, loading


WORDS = make_task(TaskArguments(task="text_classification", labels=ANSWERS))
PICTURES = make_task(TaskArguments(metric="exact_match", max_new_tokens=5))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A folder with a tiny language model."""
    folder = tmp_path_factory.mktemp("causal_lm")
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    tiny_causal_lm(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vision_language_model(tmp_path_factory):
    """A folder with a tiny LLaVA."""
    folder = tmp_path_factory.mktemp("llava")
    model, processor = tiny_llava()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def logprobs(folder, task, examples, **arguments):
    vlm = load_vlm(VLMArguments(vlm=str(folder), max_batch_tokens=1000, **arguments), task)
    return vlm, torch.tensor([found.logprob for found in vlm.answer_logprobs(requests_of(examples))])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"quantization": "3bit"}, "quantization is '3bit'; expected one of 4bit, 8bit"),
        ({"quantization": "4bit", "gguf_file": "a.gguf"}, "gguf_file is 'a.gguf', whose weights are quantised"),
        ({"device_map": "cuda:0"}, "device_map is 'cuda:0'; expected one of auto, balanced"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VLMArguments(vlm="x", **arguments)


def test_one_model_over_all_devices_gives_the_same_numbers(vision_language_model):
    examples = picture_examples(6)
    _, plain = logprobs(vision_language_model, PICTURES, examples)
    _, spread = logprobs(vision_language_model, PICTURES, examples, device_map="auto")
    assert torch.equal(plain, spread)


def test_a_model_over_all_devices_is_refused_where_processes_share_them(language_model, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="device_map is 'auto' and 2 processes run on this machine"):
        load_vlm(VLMArguments(vlm=str(language_model), device_map="auto"), WORDS)
    load_vlm(VLMArguments(vlm=str(language_model)), WORDS)  # one model a process is fine
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    load_vlm(VLMArguments(vlm=str(language_model), device_map="auto"), WORDS)


def test_weights_are_aligned_so_that_launches_agree_to_the_last_bit(language_model):
    # Memory of torch begins at multiples of 64 bytes; a float32 file is mapped to wherever it lies.
    model = load_vlm(VLMArguments(vlm=str(language_model), dtype="float32"), WORDS).model
    assert not any(weight.data_ptr() % 64 for weight in model.parameters())


def test_a_model_that_does_not_fit_is_refused_instead_of_crawling(language_model, monkeypatch):
    model = tiny_causal_lm(byte_tokenizer()).to("meta")  # where accelerate leaves what it fetches in every batch
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *_, **__: model)
    with pytest.raises(ValueError, match="does not fit into the devices of this process: with device_map 'auto'"):
        load_vlm(VLMArguments(vlm=str(language_model), device_map="auto"), WORDS)


@pytest.mark.parametrize("quantization, layer", [("4bit", "Linear4bit"), ("8bit", "Linear8bitLt")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_quantised_layers_say_nearly_the_same(vision_language_model, quantization, layer, dtype, caplog, monkeypatch):
    pytest.importorskip("bitsandbytes", reason="pip install 'leverplus_trl[quantization]'")
    # On processors with AVX512-BF16 it packs 4-bit weights in blocks of 64, which is wider than these layers.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    examples = picture_examples(6)
    _, plain = logprobs(vision_language_model, PICTURES, examples)
    caplog.clear()
    vlm, quantised = logprobs(vision_language_model, PICTURES, examples, quantization=quantization, dtype=dtype)
    layers = [module for module in vlm.model.modules() if type(module).__name__ == layer]
    assert layers and type(vlm.model.lm_head) is torch.nn.Linear
    assert vlm.model.dtype == vlm.model.lm_head.weight.dtype == getattr(torch, dtype)
    if quantization == "4bit":
        assert {module.compute_dtype for module in layers} == {getattr(torch, dtype)}
    # The weights of a random model are all noise, so that much is lost; what is read must still be the same model.
    assert torch.corrcoef(torch.stack([plain, quantised]))[0, 1] > 0.9
    assert not torch.equal(plain, quantised)
    requests = [Request((), example) for example in examples]
    assert len(vlm.generate(requests)) == len(requests)
    assert "inputs will be cast" not in caplog.text


def test_quantisation_without_bitsandbytes_names_the_remedy(language_model, monkeypatch):
    monkeypatch.setattr(loading, "is_bitsandbytes_available", lambda: False)
    message = r"quantization is '4bit', which needs bitsandbytes >= .*pip install 'leverplus_trl\[quantization\]'"
    with pytest.raises(ValueError, match=message):
        load_vlm(VLMArguments(vlm=str(language_model), quantization="4bit"), WORDS)


def test_weights_that_are_stored_quantised_are_not_quantised_again(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    tiny_causal_lm(tokenizer).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"are quantised as they are stored \(gptq\). Leave quantization out"):
        load_vlm(VLMArguments(vlm=str(tmp_path), quantization="8bit"), WORDS)
