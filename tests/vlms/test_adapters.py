# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Folders that PEFT saved, as VLMs."""

import json

import pytest
import torch
from paths import WORLD
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
from vlms.made_examples import ANSWERS, requests_of
from vlms.tiny_models import byte_tokenizer, examples_for, tiny_causal_lm

from leverplus_trl.provenance import model_revision
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import VLMArguments, load_vlm, prompt_hash
from leverplus_trl.vlms.runners import SharedRunner


WORDS = make_task(TaskArguments(task="text_classification", labels=ANSWERS))
LAYERS = ["q_proj", "v_proj"]


@pytest.fixture
def base(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path / "base")
    tiny_causal_lm(tokenizer).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapted(model, base, config):
    """An adapter that changes something."""
    model.name_or_path = str(base)
    torch.manual_seed(0)
    made = get_peft_model(model, config)
    for name, weight in made.named_parameters():
        if "lora_B" in name or "ia3" in name:
            torch.nn.init.normal_(weight, std=0.5)
    return made


def save_adapter(base, config=None):
    made = adapted(tiny_causal_lm(byte_tokenizer()), base, config or LoraConfig(r=2, target_modules=LAYERS))
    made.save_pretrained(base.parent / "adapter")
    return made, base.parent / "adapter"


def load(folder, **arguments):
    return load_vlm(VLMArguments(vlm=str(folder), memory_mb=64, **arguments), WORDS)


def logprobs(vlm):
    return torch.tensor([found.logprob for found in vlm.answer_logprobs(requests_of(examples_for(vlm)))])


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=2, target_modules=LAYERS),
        LoraConfig(r=2, target_modules=LAYERS, modules_to_save=["lm_head"], use_dora=True),
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ],
)
def test_an_adapter_says_what_it_says_merged(base, config):
    made, folder = save_adapter(base, config)
    vlm = load(folder)
    found, plain = logprobs(vlm), logprobs(load(base))
    merged = base.parent / "merged"
    made.merge_and_unload().save_pretrained(merged)
    byte_tokenizer().save_pretrained(merged)
    torch.testing.assert_close(found, logprobs(load(merged)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, plain, atol=0.1)
    assert isinstance(vlm.runner, SharedRunner) and not vlm.model.training
    assert len(vlm.generate(requests_of(examples_for(vlm)))) == 12


def test_an_adapter_of_a_vlm_is_loaded(tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(WORLD / "vlm")
    adapted(model, WORLD / "vlm", LoraConfig(r=2, target_modules=LAYERS)).save_pretrained(tmp_path)
    task = make_task(TaskArguments(metric="exact_match"))
    vlm = load_vlm(VLMArguments(vlm=str(tmp_path), dtype="bfloat16"), task)
    lora = [weight for name, weight in vlm.model.named_parameters() if "lora_" in name]
    assert lora and {weight.dtype for weight in lora} == {torch.bfloat16}
    assert type(vlm.model) is type(model) and prompt_hash(vlm.args, task) == prompt_hash(
        VLMArguments(vlm=str(WORLD / "vlm")), task
    )


def test_the_tokenizer_saved_with_an_adapter_is_taken(base):
    _, folder = save_adapter(base)
    byte_tokenizer(None).save_pretrained(folder)
    assert load(base).tokenizer.chat_template and load(folder).tokenizer.chat_template is None


def test_both_stand_in_the_provenance(base):
    _, folder = save_adapter(base)
    before = model_revision(str(folder))
    assert before.endswith("+" + model_revision(str(base))) and len(before) == 33
    weights = load_file(base / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, base / "model.safetensors")
    assert model_revision(str(folder)).split("+")[0] == before.split("+")[0]
    assert model_revision(str(folder)) != before


def edit(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"base_model_name_or_path": None}, "has the base_model_name_or_path None. Write the folder or hub id"),
        ({"base_model_name_or_path": "gone/away"}, "is an adapter of 'gone/away', which can't be loaded"),
        ({"target_modules": ["q_proj", "k_proj"]}, "have different layers, e.g. .*merge_and_unload"),
        ({"r": 4}, "The adapter .* does not fit its base model .*size mismatch.*merge_and_unload"),
    ],
)
def test_an_adapter_that_can_not_be_used_is_named(base, changes, message):
    _, folder = save_adapter(base)
    edit(folder, **changes)
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        load(folder)


def test_an_adapter_of_itself_is_named(base):
    _, folder = save_adapter(base)
    edit(folder, base_model_name_or_path=str(folder))
    with pytest.raises(ValueError, match=r"is an adapter whose adapter_config.json has the base_model_name_or_path"):
        load(folder)


def test_a_learned_prompt_is_refused(base):
    _, folder = save_adapter(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match="is an adapter of the kind PROMPT_TUNING, which adds to the prompt"):
        load(folder)


def test_pickled_adapters_are_refused(base):
    made, folder = save_adapter(base)
    made.save_pretrained(folder, safe_serialization=False)
    (folder / "adapter_model.safetensors").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"has no adapter_model.safetensors; pickles are refused. Merge it where"):
        load(folder)
