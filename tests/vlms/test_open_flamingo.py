# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import re
import sys

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_world import beam_arguments, write_examples
from transformers import GenerationConfig
from vlms.test_vlms import ANSWERS, picture_examples, requests_of

from leverplus_trl.beams import num_scored_sequences
from leverplus_trl.evaluation.inference import EvaluationArguments
from leverplus_trl.scripts import beams, evaluate
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import Request, TransformersVLM, VLMArguments, load_vlm
from leverplus_trl.vlms.open_flamingo.modeling import INSTALL, import_open_flamingo


if importlib.util.find_spec("open_flamingo") is None or importlib.util.find_spec("einops_exts") is None:
    pytest.skip(f"needs OpenFlamingo: {INSTALL}", allow_module_level=True)

from vlms.tiny_flamingo import flamingo_tokenizer, image_processor, save_flamingo, tiny_flamingo

from leverplus_trl.vlms.open_flamingo.family import FlamingoProcessor, OpenFlamingoFamily
from leverplus_trl.vlms.runners import PlainRunner


LANGUAGE_MODELS = ("mosaic_mpt", "mpt", "opt", "gpt_neox", "llama")
TEMPLATE = "Question:{question} Short answer:"
TASK = make_task(TaskArguments(metric="exact_match", question_template=TEMPLATE, max_new_tokens=5))
WORDS = make_task(TaskArguments(task="text_classification", labels=ANSWERS))


def make_vlm(kind="mosaic_mpt", dtype="float32", spread=0.5, task=TASK, **arguments):
    model = tiny_flamingo(kind, every=2 if kind == "opt" else 1, spread=spread).to(getattr(torch, dtype))
    args = VLMArguments(vlm=kind, dtype=dtype, **{"max_batch_tokens": 1000, **arguments})
    processor = FlamingoProcessor(flamingo_tokenizer(), image_processor())
    return TransformersVLM(OpenFlamingoFamily(model, processor, task, args))


def ragged_requests(count=12):
    """Requests of 0 to 3 demonstrations whose texts have many lengths."""
    examples = picture_examples(8)
    for i, example in enumerate(examples):
        example["question"] = " ".join([example["question"]] * (1 + i % 3))
    requests = requests_of(examples, count=count)
    assert {len(request.demonstrations) for request in requests} == {0, 1, 2, 3}
    return requests


def stock_inputs(vlm, request, with_answer):
    """One prompt as the package takes it: images (B, T, F, C, H, W), and the whole text through the tokenizer."""
    examples = [*request.demonstrations, request.query]
    pixels = vlm.family.image_processor([example["image"] for example in examples], return_tensors="pt")[
        "pixel_values"
    ]
    chunks = [f"<image>Question:{e['question']} Short answer:{e['answer']}<|endofchunk|>" for e in examples]
    text = "".join(chunks).removesuffix("<|endofchunk|>")
    text = text if with_answer else text[: -len(request.query["answer"])]
    tokens = vlm.tokenizer(text, return_tensors="pt")
    vision_x = pixels[None, :, None].to(vlm.model.dtype)
    return {"vision_x": vision_x, "lang_x": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}


def stock_logprob(vlm, request):
    """The definition: the package's own forward over one prompt and its answer."""
    inputs = stock_inputs(vlm, request, with_answer=True)
    start = stock_inputs(vlm, request, with_answer=False)["lang_x"].shape[1]
    ids = inputs["lang_x"][0]
    with torch.no_grad():
        logprobs = vlm.model.flamingo(**inputs).logits[0].float().log_softmax(-1)
    return sum(logprobs[i - 1, ids[i]].item() for i in range(start, len(ids))), len(ids) - start


@pytest.mark.parametrize(
    "kind, dtype, tolerance",
    [
        *((kind, "float32", 1e-4) for kind in LANGUAGE_MODELS),
        *((kind, "bfloat16", 2e-2) for kind in ("mosaic_mpt", "gpt_neox")),
    ],
)
def test_the_numbers_are_those_of_the_package(kind, dtype, tolerance):
    # Large weights make strong opinions, and large errors of rounding.
    vlm = make_vlm(kind, dtype, spread=0.5 if dtype == "float32" else 0.15)
    requests = ragged_requests(12 if dtype == "float32" else 5)
    for request, found in zip(requests, vlm.answer_logprobs(requests), strict=True):
        expected, count = stock_logprob(vlm, request)
        alone = vlm.answer_logprobs([request])[0]
        assert found.num_tokens == alone.num_tokens == count
        assert found.logprob == pytest.approx(expected, abs=tolerance)
        assert alone.logprob == pytest.approx(expected, abs=tolerance)


def test_images_and_their_order_count():
    vlm = make_vlm()
    first, second, query = picture_examples(3)
    swapped = {**first, "id": "s1", "image": second["image"]}, {**second, "id": "s2", "image": first["image"]}
    found = vlm.answer_logprobs([Request((first, second), query), Request(swapped, query)])
    blank = {**query, "id": "blank", "image": first["image"]}
    found += vlm.answer_logprobs([Request((first, second), blank)])
    assert abs(found[0].logprob - found[1].logprob) > 0.01
    assert abs(found[0].logprob - found[2].logprob) > 0.01


def test_prompts_are_chunks_of_image_and_text():
    vlm = make_vlm()
    red, blue = picture_examples(2)
    whole = vlm.family.prompt.whole([red], blue)
    assert whole.text == (
        "<image>Question:what shape is it ? Short answer:red circle<|endofchunk|>"
        "<image>Question:what colour is it ? Short answer:"
    )
    assert [image.tobytes() for image in whole.images] == [red["image"].tobytes(), blue["image"].tobytes()]
    assert vlm.family.prompt.answer(blue) == ("blue star", "<|endofchunk|>")
    pieces = [vlm.family.prompt.header(blue), vlm.family.prompt.demonstration(red), vlm.family.prompt.query(blue)]
    assert "".join(piece.text for piece in pieces) == whole.text


@pytest.mark.parametrize("field, text", [("question", "what <image> ?"), ("answer", "red<|endofchunk|>")])
def test_special_tokens_in_an_example_are_refused(field, text):
    vlm = make_vlm()
    query = {**picture_examples(1)[0], "id": "q7", field: text}
    with pytest.raises(ValueError, match=r"'q7' has '<image>' or '<\|endofchunk\|>' in its text"):
        vlm.answer_logprobs([Request((), query)])


def test_each_image_is_encoded_once_whatever_it_stands_in(monkeypatch):
    vlm = make_vlm()
    encoded = []
    encode_images = vlm.model.encode_images
    monkeypatch.setattr(
        vlm.model, "encode_images", lambda pixels: encoded.append(len(pixels)) or encode_images(pixels)
    )
    examples = picture_examples(6)
    other_question = {**examples[0], "id": "again", "question": "what is it ?"}
    requests = requests_of([*examples, other_question], count=40)
    vlm.prepare(requests)
    vlm.answer_logprobs(requests)
    vlm.generate(requests[:10])
    vlm.answer_logprobs(requests)
    assert encoded == [1] * 6  # in calls of their own, so that features have the same bytes everywhere


@pytest.mark.parametrize(
    "kind, num_beams", [*((kind, 1) for kind in LANGUAGE_MODELS), ("mosaic_mpt", 3), ("opt", 3), ("llama", 3)]
)
def test_generation_is_that_of_the_package(kind, num_beams):
    vlm = make_vlm(kind)
    requests = ragged_requests(8)
    config = GenerationConfig(max_new_tokens=6, num_beams=num_beams, do_sample=False)
    found = vlm.generate(requests, config)
    for request, text in zip(requests, found, strict=True):
        inputs = stock_inputs(vlm, request, with_answer=False)
        output = vlm.model.flamingo.generate(
            **inputs,
            max_new_tokens=6,
            num_beams=num_beams,
            do_sample=False,
            pad_token_id=vlm.pad_token_id,
            suppress_tokens=[vlm.model.config.media_token_id],
        )
        new = output[0, inputs["lang_x"].shape[1] :]
        assert text == vlm.tokenizer.decode(new, skip_special_tokens=True)
    assert len(set(found)) > 1  # prompts have different answers


@pytest.mark.parametrize("kind", ["mosaic_mpt", "opt"])
@pytest.mark.parametrize("settings", [{"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 1, "num_beams": 3}])
def test_answers_depend_on_their_own_prompts_alone(kind, settings):
    vlm = make_vlm(kind)
    requests = ragged_requests(8)
    vlm.model.generation_config.update(suppress_tokens=list(range(200)), num_beams=2)  # as a file may say
    vlm.family.pad_token_id = vlm.model.config.eoc_token_id
    config = GenerationConfig(max_new_tokens=6, do_sample=False, **settings)
    found = vlm.generate(requests, config)
    assert found == [vlm.generate([request], config)[0] for request in requests] != vlm.generate(requests)
    for request, text in zip(requests, found, strict=True):
        inputs = stock_inputs(vlm, request, with_answer=False)
        tokens = {"pad_token_id": vlm.pad_token_id, "suppress_tokens": [vlm.model.config.media_token_id]}
        output = vlm.model.flamingo.generate(**inputs, max_new_tokens=6, do_sample=False, **settings, **tokens)
        assert text == vlm.tokenizer.decode(output[0, inputs["lang_x"].shape[1] :], skip_special_tokens=True)
    drawn = GenerationConfig(max_new_tokens=6, do_sample=True, top_k=0)
    assert vlm.generate(requests, drawn) == [vlm.generate([request], drawn)[0] for request in requests]


def test_no_image_is_generated():
    vlm = make_vlm()
    media = vlm.model.config.media_token_id
    ids = torch.tensor([[media, 70, 71]])
    features = vlm.model.encode_images(torch.zeros(1, 3, 28, 28))[None]
    config = GenerationConfig(max_new_tokens=3, do_sample=False, sequence_bias={(media,): 1000.0}, pad_token_id=0)
    output = vlm.model.generate(ids, torch.ones_like(ids), features, config)
    assert output.shape[1] > 3 and media not in output[0, 3:]


def test_prompts_without_images_are_those_of_a_model_that_saw_none():
    vlm = make_vlm(task=WORDS)
    requests = requests_of([{**example, "image": None} for example in picture_examples(8)])
    for request, found in zip(requests, vlm.answer_logprobs(requests), strict=True):
        text = vlm.family.prompt.whole(*request).text
        assert "<image>" not in text
        inputs = vlm.tokenizer(text + request.query["answer"], return_tensors="pt")
        start = len(vlm.tokenizer(text)["input_ids"])
        ids = inputs["input_ids"][0]
        with torch.no_grad():  # an image that stands nowhere in the text
            logits = vlm.model.flamingo(torch.randn(1, 1, 1, 3, 28, 28), ids[None], inputs["attention_mask"]).logits
        logprobs = logits[0].log_softmax(-1)
        expected = sum(logprobs[i - 1, ids[i]].item() for i in range(start, len(ids)))
        assert found.logprob == pytest.approx(expected, abs=1e-4)
    assert vlm.generate(requests[:2]) == [vlm.generate([request])[0] for request in requests[:2]]


@pytest.mark.parametrize("kind", ["mosaic_mpt", "llama"])
def test_a_saved_model_is_loaded_by_its_folder_alone(kind, tmp_path):
    vlm = make_vlm(kind)
    folder = save_flamingo(tmp_path / "vlm", vlm.model)
    loaded = load_vlm(VLMArguments(vlm=folder, max_batch_tokens=1000), TASK)
    assert isinstance(loaded.family, OpenFlamingoFamily) and not loaded.model.training
    requests = ragged_requests()
    assert loaded.answer_logprobs(requests) == vlm.answer_logprobs(requests)
    assert loaded.generate(requests) == vlm.generate(requests)
    coarse = load_vlm(VLMArguments(vlm=folder, dtype="bfloat16"), TASK)
    assert {weight.dtype for weight in coarse.model.parameters()} == {torch.bfloat16}
    stored = load_file(tmp_path / "vlm" / "model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == sum(w.numel() for w in vlm.model.parameters())


def test_a_model_of_4_bits_keeps_its_layer_norms(tmp_path, monkeypatch):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    # On processors with AVX512-BF16 it packs 4-bit weights in blocks of 64, which is wider than these layers.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    vlm = make_vlm(spread=0.15)
    folder = save_flamingo(tmp_path, vlm.model)
    loaded = load_vlm(VLMArguments(vlm=folder, quantization="4bit"), TASK)
    fused = loaded.model.lang_encoder.transformer.blocks[0].decoder_layer.attn.Wqkv
    assert isinstance(fused.proj, bitsandbytes.nn.Linear4bit) and isinstance(fused.q_ln, torch.nn.LayerNorm)
    requests = ragged_requests()
    scores = [[found.logprob / found.num_tokens for found in v.answer_logprobs(requests)] for v in (vlm, loaded)]
    assert scores[0] != scores[1] and torch.corrcoef(torch.tensor(scores))[0, 1] > 0.9


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    folder = save_flamingo(tmp_path, tiny_flamingo())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["perceiver.latents"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"not those of its config: .*missing_keys.*perceiver.latents"):
        load_vlm(VLMArguments(vlm=folder), TASK)


def test_published_pickles_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"a pickle")
    for name in (tmp_path, tmp_path / "checkpoint.pt", "openflamingo/OpenFlamingo-3B-vitl-mpt1b"):
        with pytest.raises(ValueError, match=r"pickle.*python -m leverplus_trl.vlms.open_flamingo.conversion"):
            load_vlm(VLMArguments(vlm=str(name)), TASK)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("importlib.util.find_spec", None, "No module named 'open_flamingo'"),
        ("version", "0.0.2", "open-flamingo 0.0.2 is installed"),
    ],
)
def test_missing_packages_are_named_with_the_command_that_installs_them(name, value, message, monkeypatch):
    for loaded in [loaded for loaded in sys.modules if loaded.startswith("open_flamingo_src")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(f"leverplus_trl.vlms.open_flamingo.modeling.{name}", lambda asked: value)
    with pytest.raises(ImportError, match=f"{re.escape(message)}.*{re.escape(INSTALL)}"):
        tiny_flamingo()


def test_what_is_not_used_of_the_package_is_not_imported():
    import_open_flamingo("flamingo")
    assert not {"open_clip", "torchvision", "timm"} & sys.modules.keys()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"device_map": "auto"}, "device_map is 'auto', and OpenFlamingo"),
        ({"quantization": "8bit"}, "8-bit layers of bitsandbytes do not take.*Use '4bit'"),
        ({"prompt_format": "chat"}, "OpenFlamingo has no chat template"),
    ],
)
def test_settings_without_meaning_are_refused(arguments, message, tmp_path):
    folder = save_flamingo(tmp_path, tiny_flamingo())
    with pytest.raises(ValueError, match=message):
        load_vlm(VLMArguments(vlm=folder, **arguments), TASK)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = save_flamingo(tmp_path, tiny_flamingo())
    vlm = load_vlm(VLMArguments(vlm=folder), TASK)
    vlm.model.config.media_token_id += 1
    with pytest.raises(ValueError, match=r"gives '<image>' the id \d+.*do not belong together"):
        OpenFlamingoFamily(vlm.model, FlamingoProcessor(vlm.tokenizer, image_processor()), TASK, vlm.args)


def test_a_prompt_beyond_the_context_is_named():
    vlm = make_vlm()
    examples = picture_examples(60)
    with pytest.raises(ValueError, match=r"has \d+ tokens; the context of OpenFlamingoModel holds 1024"):
        vlm.answer_logprobs([Request(tuple(examples[1:]), examples[0])])


def test_the_end_of_a_chunk_is_scored_only_on_request():
    query = picture_examples(1)[0]
    plain, ended = (make_vlm(score_end_token=value) for value in (False, True))
    assert ended.answer_ids(query) == [*plain.answer_ids(query), plain.model.config.eoc_token_id]


def test_prompts_that_are_tokenised_whole_have_the_same_numbers():
    vlm = make_vlm()
    requests = ragged_requests()
    by_segments = vlm.answer_logprobs(requests)
    vlm.runner = PlainRunner(vlm.family, by_segments=False)
    whole = vlm.answer_logprobs(requests)
    assert [found.logprob for found in whole] == pytest.approx([found.logprob for found in by_segments], abs=1e-4)


def teach_copying(vlm, examples, steps=10):
    """Makes a query's own solution raise the score of its answer, without which no stage takes a model."""
    optimizer = torch.optim.Adam(vlm.model.lang_encoder.parameters(), lr=1e-2)
    shown = []
    for example in examples:
        for request in (Request((example,), example), Request((), example)):
            inputs = stock_inputs(vlm, request, with_answer=True)
            with torch.no_grad():
                features = vlm.model.encode_images(inputs["vision_x"][0, :, 0])[None]
            start = stock_inputs(vlm, request, with_answer=False)["lang_x"].shape[1]
            shown.append((inputs["lang_x"], features, start, 1 if request.demonstrations else -0.1))
    for _ in range(steps):
        for ids, features, start, sign in shown:
            logits = vlm.model(ids, torch.ones_like(ids), features).logits[0, start - 1 : -1]
            (sign * torch.nn.functional.cross_entropy(logits, ids[0, start:])).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_beams_and_evaluation_run_on_the_embedded_data(world, tmp_path):
    taught = make_vlm()
    teach_copying(taught, [world["train"][i] for i in range(3)])
    folder = save_flamingo(tmp_path / "vlm", taught.model)
    sizes = {"pool": 16, "train": 6, "test": 6}
    tables = {name: world[name].select(range(count)) for name, count in sizes.items()}
    files = write_examples(tmp_path, tables)
    output = tmp_path / "beams"
    arguments = {"vlm": folder, "max_batch_tokens": 4096, "question_template": TEMPLATE, "num_candidates": 4}
    beams.main(*beam_arguments(files, output, unit_size=3, **arguments))
    ledger = datasets.load_dataset(str(output), "ledger", split="test")
    assert len(ledger) == 6 * num_scored_sequences(num_candidates=4, num_shots=2, beam_size=2)
    vlm = load_vlm(VLMArguments(vlm=folder), TASK)
    examples = {example["id"]: example for table in tables.values() for example in table}
    for row in (ledger[0], ledger[5], ledger[len(ledger) - 1]):
        request = Request(tuple(examples[i] for i in row["demonstration_ids"]), examples[row["query_id"]])
        assert (row["answer_logprob"], row["num_answer_tokens"]) == pytest.approx(
            stock_logprob(vlm, request), abs=1e-4
        )

    stage, data, _, vlm_args, sampler = (beam_arguments(files, output, **arguments)[i] for i in range(5))
    stage.stage = "evaluate"
    task_args = TaskArguments(metric="exact_match", question_template=TEMPLATE, max_new_tokens=4)
    evaluation = EvaluationArguments(
        output_dir=str(tmp_path / "evaluation"), methods=["random", "oracle"], beams=str(output), shots=[1, 2]
    )
    evaluate.main(stage, data, task_args, vlm_args, sampler, evaluation)
    predictions = datasets.load_dataset(str(tmp_path / "evaluation" / "predictions"), "predictions", split="test")
    answered = {(row["method"], row["shots"]) for row in predictions}
    assert answered == {("zero_shot", 0), ("random", 1), ("random", 2), ("oracle", 1), ("oracle", 2)}
    asked = [
        Request(tuple(examples[i] for i in row["demonstration_ids"]), examples[row["query_id"]]) for row in predictions
    ]
    vlm.task.max_new_tokens = 4
    assert vlm.generate(asked) == predictions["generation"][:]


def test_turns_after_a_query_are_chunks_of_text():
    vlm = make_vlm()
    requests = ragged_requests(8)
    asked = [request.then(" blue ", "Why? Short answer:").then("", "So?") for request in requests]
    text = "blue<|endofchunk|>Why? Short answer:<|endofchunk|>So?"
    found = vlm.answer_logprobs(asked)
    for request, one, scored in zip(requests, asked, found, strict=True):
        assert vlm.family.prompt.whole(*one).text == vlm.family.prompt.whole(*request).text + text
        said = {**request.query, "answer": text + request.query["answer"]}
        start = stock_logprob(vlm, request._replace(query={**request.query, "answer": text}))
        expected, count = (a - b for a, b in zip(stock_logprob(vlm, Request(request[0], said)), start, strict=True))
        assert scored.num_tokens == count and scored.logprob == pytest.approx(expected, abs=1e-3)
