# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Scores and logits that are NaN or infinite stop the run, with the query's id."""

import math

import pytest
import torch
from transformers import GenerationConfig
from vlms.made_examples import requests_of
from vlms.tiny_models import examples_for, make_vlm

from leverplus_trl.vlms import AnswerLogprob, Request
from leverplus_trl.vlms.requests import NotFinite
from leverplus_trl.vlms.runners import PlainRunner, SharedRunner


FAMILIES = [("llama", SharedRunner), ("mamba", PlainRunner), ("llava", SharedRunner), ("qwen2_5_vl", SharedRunner)]


@pytest.mark.parametrize("name, runner", FAMILIES)
def test_nothing_is_said_of_a_model_whose_logits_are_finite(name, runner):
    vlm = make_vlm(name)
    examples = examples_for(vlm)
    assert len(vlm.generate(requests_of(examples))) == len(vlm.answer_logprobs(requests_of(examples)))
    assert isinstance(vlm.runner, runner)


@pytest.mark.parametrize("name, runner", FAMILIES)
@pytest.mark.parametrize("ask", ["answer_logprobs", "generate"])
def test_weights_that_are_nan_are_named(name, runner, ask):
    vlm = make_vlm(name, dtype="bfloat16")
    vlm.model.get_output_embeddings().weight.data[7] = torch.nan
    request = Request((examples_for(vlm)[1],), examples_for(vlm)[0])
    found = r"(log-probability nan to the answer '.*'|logit nan to a new token)"
    message = rf"'{name}' gives the {found} for query 'e[01]' with .*: bfloat16 overflows, .*Set `dtype: float32`"
    with pytest.raises(NotFinite, match=message):
        getattr(vlm, ask)([request])


def test_a_model_that_overflows_in_float16_is_named():
    vlm = make_vlm("llama", dtype="float16")
    vlm.model.model.layers[1].mlp.down_proj.weight.data.fill_(6e4)
    with pytest.raises(NotFinite, match=r"float16 overflows.*Set `dtype: bfloat16` or `dtype: float32`"):
        vlm.answer_logprobs(requests_of(examples_for(vlm)))


@pytest.mark.parametrize("name, runner", FAMILIES)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_logits_that_become_nan_behind_a_new_token_are_named(name, runner, num_beams):
    vlm = make_vlm(name)
    examples = examples_for(vlm)
    config = GenerationConfig(max_new_tokens=4, do_sample=False, num_beams=num_beams)
    requests = [Request((examples[1],), examples[0]), Request((), examples[2])]
    vlm.answer_logprobs(requests)
    head, broken = vlm.model.get_output_embeddings(), 3
    calls = []

    def from_the_third_step_on(module, inputs, logits):
        calls.append(1)
        if len(calls) > 2:
            logits[len(logits) // 2, -1, broken] = torch.nan
        return logits

    head.register_forward_hook(from_the_third_step_on)
    with pytest.raises(NotFinite, match=r"gives the logit nan to a new token for query 'e[02]'") as refused:
        vlm.generate(requests, config)
    assert len(calls) == 3 and "its weights are damaged" in str(refused.value)


def test_prefixes_are_not_shared_if_one_score_of_many_is_nan(monkeypatch, caplog):
    """Python's `max` passes over a NaN that is not the first."""
    vlm = make_vlm("llama")
    score = SharedRunner.answer_logprobs

    def last_is_nan(self, requests):
        found = score(self, requests)
        return [*found[:-1], AnswerLogprob(math.nan, found[-1].num_tokens)]

    monkeypatch.setattr(SharedRunner, "answer_logprobs", last_is_nan)
    requests = requests_of(examples_for(vlm))
    assert all(math.isfinite(found.logprob) for found in vlm.answer_logprobs(requests))
    assert isinstance(vlm.runner, PlainRunner) and "would differ by nan" in caplog.text
