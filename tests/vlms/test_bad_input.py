# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Input that a VLM can't use, or that is easily misread: named, or right."""

import io
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from tokenizers import normalizers
from transformers import AutoModelForImageTextToText, GenerationConfig
from vlms.made_examples import ANSWERS, picture_examples, requests_of
from vlms.tiny_models import byte_tokenizer, tiny_causal_lm, tiny_idefics3, tiny_llava

from leverplus_trl.schema import EXAMPLES
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import CausalLM, ChatFamily, Request, TransformersVLM, VLMArguments, load_vlm, preflight
from leverplus_trl.vlms.loading import load_processor
from leverplus_trl.vlms.prompts import PlainPrompt
from leverplus_trl.vlms.runners import PlainRunner, SharedRunner


INVISIBLE = "\u200b"  # a zero-width space: not empty, and no space to `str.strip`


def picture_vlm(make_model):
    model, processor = make_model()
    task = make_task(TaskArguments(metric="exact_match", max_new_tokens=5))
    return TransformersVLM(
        ChatFamily(model, processor, task, VLMArguments(vlm=make_model.__name__, max_batch_tokens=1000))
    )


@pytest.fixture(params=["concept", "llava", "idefics3"])
def vlm(request):
    """Families that share everything, something and nothing between prompts."""
    if request.param == "concept":
        return request.getfixturevalue("concept_vlm")
    return picture_vlm({"llava": tiny_llava, "idefics3": tiny_idefics3}[request.param])


def text_vlm(prompt_format):
    """A language model whose tokenizer drops zero-width spaces."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(INVISIBLE, "")
    task = make_task(TaskArguments(task="text_classification", labels=[*ANSWERS, INVISIBLE]))
    arguments = VLMArguments(vlm="words", prompt_format=prompt_format, max_batch_tokens=500)
    return CausalLM(tiny_causal_lm(tokenizer), tokenizer, task, arguments)


def words(count):
    return [{**example, "image": None} for example in picture_examples(count)]


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": None}


def logprobs(vlm, requests):
    return [found.logprob for found in vlm.answer_logprobs(requests)]


def test_undecoded_images_give_the_numbers_of_decoded_ones(vlm):
    examples = [{**example, "id": f"{example['id']} decoded"} for example in picture_examples(6)]
    stored = [{**e, "id": e["id"].replace("decoded", "stored"), "image": encoded(e["image"])} for e in examples]
    found, expected = (logprobs(vlm, requests_of(some, count=6)) for some in (stored, examples))
    assert np.allclose(found, expected, atol=1e-6)


def test_a_damaged_image_is_named_by_its_example(vlm):
    vlm.prepare(requests_of(picture_examples(4)))
    examples = [{**example, "image": encoded(example["image"])} for example in picture_examples(3)]
    examples[1] |= {"id": "victim", "image": {"bytes": examples[1]["image"]["bytes"][:100], "path": None}}
    request = Request((examples[0], examples[1]), examples[2])
    for call in (vlm.answer_logprobs, vlm.generate):
        with pytest.raises(ValueError, match="image of example 'victim' can't be decoded"):
            call([request])


@pytest.mark.parametrize("width, height", [(1, 1), (3, 3), (1, 9), (9, 1), (3, 1), (1, 3)])
def test_an_image_of_few_pixels_shows_what_a_larger_one_does(vlm, width, height):
    """One or three rows of pixels must not be taken for channels."""
    colour = (10, 100, 200)
    examples = picture_examples(2)
    small = {**examples[0], "id": f"small {width} {height}", "image": Image.new("RGB", (width, height), colour)}
    size = (width * 28, height * 28)
    large = {**examples[0], "id": f"large {width} {height}", "image": Image.new("RGB", size, colour)}
    found, expected = logprobs(vlm, [Request((), small), Request((), large)])
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_demonstration_without_an_image_is_named(vlm):
    examples = picture_examples(3)
    examples[0] |= {"id": "blind", "image": None}
    with pytest.raises(ValueError, match="Example 'blind' has no image, which vqa and captioning need"):
        vlm.answer_logprobs([Request((examples[0],), examples[1])])


@pytest.mark.parametrize("promise", ["answer_logprobs", "generate"])
def test_a_prompt_beyond_the_context_is_named_before_any_is_run(vlm, promise, monkeypatch):
    examples = picture_examples(4)
    vlm.prepare(requests_of(examples))
    monkeypatch.setattr(vlm.model, "forward", lambda *_, **__: pytest.fail("a prompt was run"))
    long = Request(tuple(examples[i % 3] for i in range(150)), {**examples[3], "id": "long"})
    with pytest.raises(ValueError, match=r"query 'long' with 150 demonstrations has \d+ tokens; the context of"):
        getattr(vlm, promise)([Request((), examples[0]), long])


@pytest.mark.parametrize("promise", ["answer_logprobs", "generate"])
@pytest.mark.parametrize("prompt_format", ["plain", "chat"])
def test_a_text_beyond_the_context_is_named_before_any_is_run(prompt_format, promise, monkeypatch):
    vlm, examples = text_vlm(prompt_format), words(4)
    vlm.prepare(requests_of(examples))
    monkeypatch.setattr(vlm.model, "forward", lambda *_, **__: pytest.fail("a prompt was run"))
    long = {**examples[3], "id": "long", "question": "what ? " * 1000}
    with pytest.raises(ValueError, match=r"query 'long' with 0 demonstrations has \d+ tokens; the context of"):
        getattr(vlm, promise)([Request((), examples[0]), Request((), long)])


@pytest.mark.parametrize(
    "make_runner",
    [
        SharedRunner,
        partial(PlainRunner, by_segments=True),
        partial(PlainRunner, by_segments=False),
    ],
    ids=["shared", "by segments", "whole"],
)
def test_an_answer_without_tokens_is_named(make_runner, monkeypatch):
    vlm, examples = text_vlm("chat"), words(3)
    vlm.runner = make_runner(vlm.family)
    monkeypatch.setattr(vlm.model, "forward", lambda *_, **__: pytest.fail("a prompt was run"))
    unseen = {**examples[2], "id": "unseen", "answer": INVISIBLE}
    with pytest.raises(ValueError, match="of example 'unseen' has no tokens"):
        vlm.answer_logprobs([Request((), examples[0]), Request((examples[1],), unseen)])


@pytest.mark.parametrize("prompt_format", ["plain", "chat"])
@pytest.mark.parametrize("split", ["pool", "queries"])
def test_the_preflight_finds_answers_without_tokens_among_all_examples(prompt_format, split, monkeypatch):
    vlm = text_vlm(prompt_format)
    monkeypatch.setattr(vlm.model, "forward", lambda *_, **__: pytest.fail("a prompt was run"))
    tables = {name: [{**e, "id": f"{name} {i}"} for i, e in enumerate(words(40))] for name in ("pool", "queries")}
    for row in (17, 30):
        tables[split][row] |= {"answer": INVISIBLE}
    pool, queries = (Dataset.from_list(rows, features=EXAMPLES) for rows in tables.values())
    with pytest.raises(
        ValueError, match=rf"makes '' of the answer '\\u200b' of example '{split} 17', and changes 2 of 40"
    ):
        preflight(vlm, pool, queries, num_shots=1)


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
def test_a_vlm_with_pickled_weights_only_is_refused_and_the_remedy_works(tmp_path, name):
    folder, converted = tmp_path / "pickled", tmp_path / "converted"
    model, processor = tiny_llava()
    for path in (folder, converted):
        processor.save_pretrained(path)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / name)
    task = make_task(TaskArguments(metric="exact_match"))
    message = rf"has pickled weights \({name}\) and no safetensors; .*save_pretrained\(FOLDER\)"
    with pytest.raises(ValueError, match=message):
        load_vlm(VLMArguments(vlm=str(folder)), task)
    (folder / name).rename(folder / "pytorch_model.bin")
    AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=False).save_pretrained(converted)
    loaded = load_vlm(VLMArguments(vlm=str(converted)), task)
    assert torch.equal(loaded.model.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "it holds nothing. Expected a folder with config.json and model.safetensors"),
        (["README.md", "data.csv"], "it holds README.md, data.csv. .* Name the folder of a VLM"),
        (["checkpoint-9/config.json"], "Did you mean '.*checkpoint-9'"),
        (["m-q4.gguf"], "holds m-q4.gguf and no config.json; set gguf_file: m-q4.gguf"),
        (["config.json", "pytorch_model.bin", "optimizer.pt"], r"has pickled weights \(pytorch_model.bin\) and no"),
        (["checkpoint.pt"], "OpenFlamingo as it is published, a pickle"),
    ],
)
def test_a_folder_that_is_no_model_says_what_it_holds(tmp_path, files, message):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=message):
        load_processor(VLMArguments(vlm=str(tmp_path)))


def test_pickles_on_the_hub_are_named_too(fake_hub, tmp_path):
    code = """\
from huggingface_hub import create_repo, upload_file
from leverplus_trl.weights import refuse_pickles
files = {"pickled": ["config.json", "pytorch_model.bin"], "both": ["model.safetensors", "pytorch_model.bin"]}
for name, paths in files.items():
    create_repo(f"user/{name}")
    for path in paths:
        upload_file(path_or_fileobj=b"{}", path_in_repo=path, repo_id=f"user/{name}")
refuse_pickles("user/both", "VLM", hub={"revision": None})
refuse_pickles("user/none", "VLM", hub={"revision": None})
refuse_pickles("user/pickled", "VLM")
print("These pass.")
refuse_pickles("user/pickled", "VLM", hub={"revision": None})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=fake_hub.environment(tmp_path), capture_output=True, text=True, timeout=300
    )
    assert done.stdout.endswith("These pass.\n"), done.stderr
    assert "The VLM 'user/pickled' has pickled weights (pytorch_model.bin) and no safetensors" in done.stderr


def test_a_pickle_is_never_opened(tmp_path):
    model, processor = tiny_llava()
    processor.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save({"weight": Canary(tmp_path / "opened")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickles are refused, since loading them can run code"):
        load_vlm(VLMArguments(vlm=str(tmp_path)), make_task(TaskArguments(metric="exact_match")))
    assert not (tmp_path / "opened").exists()


def test_an_empty_question_in_a_plain_prompt_is_named():
    prompt = PlainPrompt(make_task(TaskArguments(task="text_classification", labels=["a", "b"])))
    with pytest.raises(ValueError, match="Example 'q3' has an empty question"):
        prompt.query({"id": "q3", "image": None, "question": " ", "answer": "a", "answers": ["a"]})


@pytest.mark.parametrize(
    "settings", [{"max_length": 30}, {"max_new_tokens": 3, "num_beams": 2, "num_return_sequences": 2}]
)
def test_settings_of_generate_that_give_no_single_text_are_refused(concept_vlm, world, settings):
    with pytest.raises(ValueError, match="expected a number of new tokens, and one text for each prompt"):
        concept_vlm.generate([Request((), world["train"][0])], GenerationConfig(**settings))
