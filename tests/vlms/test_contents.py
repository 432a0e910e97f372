# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""One VLM is asked about several datasets: what it keeps belongs to content, whatever the ids."""

import numpy as np
import pytest
from PIL import Image
from vlms.made_examples import requests_of
from vlms.one_at_a_time import logprobs, single_generations
from vlms.tiny_models import examples_for, make_vlm

from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import Request
from leverplus_trl.vlms.prompts import ContentKeys


NAMES = ["llama", "mistral_sliding", "llava", "qwen2_5_vl"]  # shared or not, with images or without


def dataset(vlm, seed):
    examples = examples_for(vlm, seed=seed)
    return [{**e, "id": f"train-{i}", "question": "so " * seed + e["question"]} for i, e in enumerate(examples)]


@pytest.mark.parametrize("name", NAMES)
def test_the_second_dataset_with_the_same_ids_gets_its_own_answers(name):
    used, fresh = make_vlm(name), make_vlm(name)
    first, second = (requests_of(dataset(used, seed), count=10) for seed in (0, 1))
    before = logprobs(used.answer_logprobs(first))
    used.generate(first)
    found, expected = (logprobs(vlm.answer_logprobs(second)) for vlm in (used, fresh))
    assert np.abs(found - expected).max() <= 1e-4 < np.abs(found - before).max()
    assert used.generate(second) == fresh.generate(second) == single_generations(used, second)


@pytest.mark.parametrize("name", NAMES)
def test_equal_ids_of_other_content_may_be_asked_in_one_unit(name):
    used, fresh = make_vlm(name), make_vlm(name)
    first, second = (requests_of(dataset(used, seed), count=6) for seed in (0, 1))
    with used.unit():
        found = logprobs(used.answer_logprobs([*first, *second]))
        said = used.generate([*first, *second])
    assert (
        np.abs(found - [*logprobs(fresh.answer_logprobs(first)), *logprobs(fresh.answer_logprobs(second))]).max()
        <= 1e-4
    )
    assert said == [*single_generations(fresh, first), *single_generations(fresh, second)]


def test_an_example_that_was_changed_in_place_is_read_again():
    vlm = make_vlm("llama")
    examples = examples_for(vlm)
    request = Request((examples[0],), examples[1])
    before = vlm.answer_logprobs([request])[0].logprob
    examples[0]["question"], examples[1]["answer"] = "what else is it ?", "red star"
    after = vlm.answer_logprobs([request])[0].logprob
    assert after != before
    assert after == pytest.approx(make_vlm("llama").answer_logprobs([request])[0].logprob, abs=1e-4)


def test_equal_content_of_other_ids_runs_once():
    vlm = make_vlm("qwen2_5_vl")
    examples = examples_for(vlm)
    requests = [Request((examples[0],), examples[1])]
    copies = [{**example, "id": f"copy of {example['id']}", "image": example["image"].copy()} for example in examples]
    vlm.prepare(requests)
    engine = vlm.runner.engine
    with vlm.unit():
        vlm.answer_logprobs(requests)
        before = engine.num_tokens
        assert vlm.answer_logprobs([Request((copies[0],), copies[1])]) == vlm.answer_logprobs(requests)
    answer = len(vlm.answer_ids(examples[1]))
    assert engine.num_tokens - before == 2 * (answer - 1)  # each time the answer alone


def test_a_key_says_what_a_prompt_shows_and_nothing_else():
    template = "{context}: {question}"
    keys = ContentKeys(make_task(TaskArguments(metric="exact_match", question_template=template)))
    image = Image.new("RGB", (4, 4), "red")
    example = {
        "id": "a",
        "image": image,
        "question": "q",
        "context": "c",
        "answer": "1",
        "answers": ["1"],
        "note": "n",
    }
    same = {**example, "id": "b", "image": image.copy(), "note": "m", "answers": ["1", "2"]}
    assert keys.key(example, answered=False) == keys.key(same, answered=False) and keys.key(
        example, answered=True
    ) == keys.key(same, answered=True)
    assert keys.prompt(Request((example,), same)) == keys.prompt(Request((same,), example))
    assert keys.key(example, answered=False) == keys.key({**example, "answer": "2"}, answered=False)
    assert keys.key(example, answered=True) != keys.key({**example, "answer": "2"}, answered=True)
    others = [{"question": "p"}, {"context": "d"}, {"image": Image.new("RGB", (4, 4), "blue")}]
    assert len({keys.key({**example, **other}, answered=False) for other in (*others, {})}) == len(others) + 1


def test_an_image_that_can_not_be_read_is_named_by_its_example():
    keys = ContentKeys(make_task(TaskArguments(metric="exact_match")))
    long = {"id": "long", "image": Image.new("RGB", (1, 500)), "question": "q", "answer": "a", "answers": ["a"]}
    with pytest.raises(ValueError, match="The image of example 'long' has 1 x 500 pixels"):
        keys.key(long, answered=False)


def test_as_many_tokens_run_in_any_order_of_datasets_with_the_same_ids():
    vlm = make_vlm("llama")
    first, second = dataset(vlm, 0), [{**e, "question": e["question"] * 3} for e in dataset(vlm, 0)]
    engine, counts = vlm.prepare(requests_of(first, count=4)).engine, []
    for order in ((first, second), (second, first)):
        before = engine.num_tokens
        for examples in order:
            vlm.answer_logprobs(requests_of(examples, count=4))
        counts.append(engine.num_tokens - before)
    assert counts[0] == counts[1] > 0
