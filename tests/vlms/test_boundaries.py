# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Pieces of prompts that tokenise one by one otherwise than as a whole are found, each of them, and run whole."""

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vlms.made_examples import requests_of
from vlms.odd_tokenizers import ATOMS, GPT4, MARKS, TOKENIZERS, byte_level, odd_text
from vlms.one_at_a_time import logprobs, plain_logprob, single_generations
from vlms.tiny_models import CHATML, tiny_text_model

from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import CausalLM, Request, VLMArguments
from leverplus_trl.vlms.runners import PlainRunner, SharedRunner
from leverplus_trl.vlms.tokenization import Boundaries


def adds_up(boundaries, pieces):
    return boundaries.add_up([boundaries.ends(piece) for piece in pieces])


def adds_up_in_truth(tokenizer, pieces):
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("".join(pieces), *pieces)]
    return ids[0] == [i for own in ids[1:] for i in own]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_ends_of_pieces_say_what_the_whole_text_says(name):
    tokenizer, rng, found, expected = TOKENIZERS[name](), np.random.default_rng(0), [], []
    boundaries = Boundaries(tokenizer)
    for number in range(800):
        atoms = [*ATOMS, *MARKS] if number % 2 else ATOMS
        most = int(rng.choice([1, 2, 3, 8]))
        pieces = [odd_text(rng, most, atoms) for _ in range(rng.integers(2, 7))]
        found.append(adds_up(boundaries, pieces))
        expected.append(adds_up_in_truth(tokenizer, pieces))
    assert found == expected
    assert 0 < sum(expected) < 800


@pytest.mark.parametrize("name", ["gpt4", "gpt4o", "llama3"])
def test_digits_and_spaces_that_run_over_several_pieces(name):
    tokenizer, rng = TOKENIZERS[name](), np.random.default_rng(1)
    boundaries = Boundaries(tokenizer)
    for _ in range(800):
        pieces = [odd_text(rng, 3, ["0", "12", "345", "6789", " ", "\n", "a"]) for _ in range(rng.integers(2, 7))]
        assert adds_up(boundaries, pieces) == adds_up_in_truth(tokenizer, pieces)


def test_three_pieces_may_differ_of_which_each_two_add_up():
    digits = {digit: i for i, digit in enumerate("0123456789")}
    tokenizer = Tokenizer(models.BPE(digits | {"56": 10, "45": 11}, [("5", "6"), ("4", "5")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(GPT4), behavior="isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    boundaries = Boundaries(tokenizer)
    assert adds_up(boundaries, ["12", "345"]) and adds_up(boundaries, ["345", "6"])
    assert not adds_up_in_truth(tokenizer, ["12", "345", "6"])  # 123|456, not 12|3 45|6
    assert not adds_up(boundaries, ["12", "345", "6"])


def test_pairs_of_ends_are_compared_once():
    tokenizer = byte_level(GPT4)
    boundaries, rng, asked = Boundaries(tokenizer), np.random.default_rng(0), []
    pieces = [f"what is {number} in {number} ? word\n" for number in range(1000)]
    ends = [boundaries.ends(piece) for piece in pieces]
    boundaries._join.cache_clear()
    for _ in range(1000):
        asked.append([ends[i] for i in rng.integers(0, 1000, 5)])
    assert all(map(boundaries.add_up, asked))
    assert boundaries._join.cache_info().misses == 1


def words(questions, answers):
    rows = zip(questions, answers, strict=True)
    return [
        {"id": f"e{i}", "image": None, "question": question, "answer": answer, "answers": [answer]}
        for i, (question, answer) in enumerate(rows)
    ]


def text_vlm(tokenizer, model="llama", **arguments):
    names = ("question_template", "answer_template")
    task = {name: arguments.pop(name) for name in names if name in arguments}
    task = make_task(TaskArguments(task="text_classification", labels=["red", "blue"], max_new_tokens=5, **task))
    args = VLMArguments(vlm="odd", max_batch_tokens=400, memory_mb=64, **arguments)
    return CausalLM(tiny_text_model(model, tokenizer), tokenizer, task, args)


def odd_requests(rng, count):
    questions = [text for text in (odd_text(rng, 5) for _ in range(60)) if text.strip()][:24]
    answers = [text for text in (odd_text(rng, 2) for _ in range(90)) if text.strip()][: len(questions)]
    plain = words(["what is it ?", "is it red ?", "what ?", "it ?"], ["red", "blue", "it", "red"])
    examples = [*plain, *({**one, "id": f"odd {one['id']}"} for one in words(questions, answers))]
    return [Request((), example) for example in plain] + requests_of(examples, count=count)


def logprob_of(vlm, request):
    """Of the whole prompt; of an answer that begins within the prompt's last token, by its own tokens behind that."""
    whole, answer = vlm.family.prompt.whole(*request).text, vlm.family.prompt.answer(request.query)[0]
    before, after, alone = (vlm.tokenizer(text)["input_ids"] for text in (whole, whole + answer, answer))
    if after[: len(before)] == before:
        return plain_logprob(vlm, request)
    with torch.no_grad():
        logits = vlm.model(torch.tensor([before + alone])).logits[0].log_softmax(-1)
    return sum(logits[len(before) + i - 1, token].item() for i, token in enumerate(alone)), len(alone)


TEMPLATES = [
    {},
    {"question_template": "\n{question}"},
    {"question_template": "{question}\n"},
    {"question_template": "{question} =\n\n", "answer_template": "so {answer}\n"},
    {"question_template": "12{question}34", "answer_template": "5{answer}6"},
]


@pytest.mark.parametrize("templates", TEMPLATES, ids=range(len(TEMPLATES)))
@pytest.mark.parametrize("prompt_format", ["plain", "chat"])
@pytest.mark.parametrize("name", ["gpt2", "llama3", "qwen2", "gpt4o", "deepseek"])
def test_odd_texts_get_the_numbers_and_answers_of_whole_prompts(name, prompt_format, templates):
    vlm = text_vlm(TOKENIZERS[name](), prompt_format=prompt_format, **templates)
    requests = odd_requests(np.random.default_rng(0), count=30)
    expected, counts = zip(*(logprob_of(vlm, request) for request in requests), strict=True)
    assert [len(vlm.answer_ids(request.query)) for request in requests if not request.demonstrations] == [
        count for request, count in zip(requests, counts, strict=True) if not request.demonstrations
    ]
    found = vlm.answer_logprobs(requests)
    assert [score.num_tokens for score in found] == list(counts)
    assert np.abs(logprobs(found) - expected).max() <= 1e-4
    assert vlm.generate(requests[:16]) == single_generations(vlm, requests[:16])


@pytest.mark.parametrize("model", ["llama", "mistral_sliding"])  # prefixes are shared, or segments
def test_what_is_run_whole_is_counted_and_named(model, caplog):
    vlm = text_vlm(byte_level(GPT4), model, prompt_format="plain")
    good = words([f"what is it {i} ?" for i in range(4)], ["red", "blue"] * 2)
    odd = {**good[0], "id": "odd", "question": "\nwhat is it ?"}
    requests = [Request((good[0],), good[1]), Request((good[0],), odd), Request((good[1], good[2]), odd)]
    vlm.prepare(requests)
    caplog.clear()
    vlm.answer_logprobs([*requests, Request((), odd)])  # with nothing before it, its pieces add up
    vlm.answer_logprobs(requests)
    vlm.generate(requests[:2])
    vlm.report_whole_prompts()
    assert isinstance(vlm.runner, SharedRunner if model == "llama" else PlainRunner)
    first, last = (record.getMessage() for record in caplog.records if record.name.startswith("leverplus_trl"))
    assert first.startswith("The prompt of query 'odd' with demonstrations ['e0'] tokenises otherwise in pieces")
    assert last == (
        "5 of 9 prompts were processed whole, since they tokenise otherwise in pieces: query 'odd' with "
        "demonstrations ['e0']; query 'odd' with demonstrations ['e1', 'e2']."
    )


def test_odd_examples_among_the_first_do_not_stop_the_sharing_of_others(caplog):
    vlm = text_vlm(byte_level(GPT4), prompt_format="plain")
    examples = words(["\nwhat is it ?", "what is it ?", "\n\nwhat ?", "what ?"], ["red", "blue", "red", "blue"])
    requests = requests_of(examples)
    expected = [plain_logprob(vlm, request)[0] for request in requests]
    assert np.abs(logprobs(vlm.answer_logprobs(requests)) - expected).max() <= 1e-4
    assert isinstance(vlm.runner, SharedRunner)


#: Has something to say before the first turn if that is loud.
ALARMED = "{% if '!' in messages[0].content %}Be calm.\n{% endif %}" + CHATML.replace(
    "{% if loop.first and message.role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}", ""
)


def test_a_template_that_looks_at_what_the_texts_say_is_seen():
    vlm = text_vlm(byte_level(GPT4, chat_template=ALARMED))
    examples = words(["what is it ?", "is it ?", "what is it ! ?", "what ?"], ["red", "blue", "red", "blue"])
    loud = examples[2]
    requests = [*requests_of(examples), Request((), loud), Request((loud,), loud), Request((examples[0],), loud)]
    expected = [plain_logprob(vlm, request)[0] for request in requests]
    assert np.abs(logprobs(vlm.answer_logprobs(requests)) - expected).max() <= 1e-4
    assert isinstance(vlm.runner, SharedRunner)
    assert 0 < vlm.runner.whole_prompts.num_whole < len(requests)
