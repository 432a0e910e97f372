# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The tiny VLM of the embedded world: prompt format, episodes, and what the committed checkpoint reaches."""

import json
from pathlib import Path

import episodes
import numpy as np
import pytest
import torch
import vlm_evaluation
import world
from episodes import IGNORE, EpisodeSampler, PromptFormat, Turn, collate
from PIL import Image
from train_vlm import VLMTrainingArguments
from transformers import AutoModelForImageTextToText, AutoProcessor
from vlm_format import answer_turn, build_processor, question_turn

from leverplus_trl.recipe_parser import RecipeParser
from leverplus_trl.vlms.qwen2_5_vl import register_processor


ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "data" / "concept_binding" / "vlm"


@pytest.fixture(scope="module")
def processor():
    register_processor()
    return AutoProcessor.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def evaluation(processor):
    model = AutoModelForImageTextToText.from_pretrained(
        CHECKPOINT, dtype=torch.float32, attn_implementation={"vision_config": "eager"}
    )
    return vlm_evaluation.VLMEvaluation(model, processor, num_queries=150, pool_size=1000)


def conversation(examples):
    """Demonstrations and a query as messages; the last example's answer is left out."""
    messages = [turn for e in examples for turn in (question_turn(e.question), answer_turn(e.answer))]
    return messages[:-1], [Image.fromarray(e.image) for e in examples]


def test_rendering_of_two_shots(processor):
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    turns = [
        question_turn("what colour ?"),
        {"role": "assistant", "content": "wagu"},
        question_turn("name the shape"),
        answer_turn("ranu"),
        question_turn("what is it ?"),
    ]
    text = processor.apply_chat_template(turns, add_generation_prompt=True)
    expected = f"{picture}what colour ? wagu<|im_end|>{picture}name the shape ranu<|im_end|>{picture}what is it ? "
    assert text == expected
    tokens = processor.tokenizer.convert_ids_to_tokens(processor.tokenizer(text)["input_ids"])
    start = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]
    assert tokens == [
        *start, "what", "colour", "?", "wagu", "<|im_end|>", *start, "name", "the", "shape", "ranu", "<|im_end|>",
        *start, "what", "is", "it", "?",
    ]  # fmt: skip


def test_turns_concatenate_as_text_and_as_tokens(processor):
    questions = [
        text for table in (world.QUESTIONS, episodes.PLAIN_QUESTIONS) for texts in table.values() for text in texts
    ]
    turns = [turn for question in questions for turn in (question_turn(question), answer_turn("wagu ranu"))]
    parts = [processor.apply_chat_template([turn]) for turn in turns]
    whole = processor.apply_chat_template(turns)
    assert whole == "".join(parts)
    tokenize = lambda text: processor.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    assert tokenize(whole) == [token for part in parts for token in tokenize(part)]


def test_vocabulary(processor):
    tokenizer = processor.tokenizer
    words = [*world.WORDS, *(word for texts in world.QUESTIONS.values() for text in texts for word in text.split())]
    assert tokenizer.unk_token_id not in tokenizer.convert_tokens_to_ids(words)
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.tokenize("Which COLOUR is the big thing?") == [
        "which",
        "colour",
        "is",
        "the",
        "<unk>",
        "thing",
        "?",
    ]
    assert tokenizer.decode(tokenizer("wagu ranu")["input_ids"]) == "wagu ranu"


def test_chat_template_refuses_video(processor):
    with pytest.raises(Exception, match="Unknown part video"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "video"}]}])


def test_committed_processor_is_the_built_one(processor, tmp_path):
    built = build_processor()
    assert processor.chat_template == built.chat_template
    assert processor.tokenizer.get_vocab() == built.tokenizer.get_vocab()
    image = Image.fromarray(world.make_example(0, "pool", 0).image)
    text = processor.apply_chat_template([question_turn("what colour ?")])
    expected, got = (p(text=[text], images=[image], return_tensors="pt") for p in (built, processor))
    assert (
        set(got)
        == set(expected)
        == {"input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw"}
    )
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_training_sees_what_the_processor_makes(processor, model):
    """Tokens, pixels, positions and hence logits of the training's own batches are those of the public path."""
    examples = [world.make_example(0, "pool", i) for i in range(4)]
    messages, images = conversation(examples)
    text = processor.apply_chat_template(messages)
    inputs = processor(text=[text], images=images, return_tensors="pt")
    prompt_format = PromptFormat(processor)
    turns = [
        Turn(i, prompt_format.question_ids(e.question), prompt_format.answer_ids(e.answer), [1.0] * 3, [0, 1])
        if len(e.answer.split()) == 2
        else Turn(i, prompt_format.question_ids(e.question), prompt_format.answer_ids(e.answer), [1.0] * 2, [0])
        for i, e in enumerate(examples)
    ]
    batch = collate([turns])
    length = inputs["input_ids"].shape[1]
    assert torch.equal(batch.input_ids[:, :length], inputs["input_ids"])
    pixels = np.stack([e.image for e in examples])
    torch.testing.assert_close(vlm_evaluation.patchify(pixels).reshape(-1, 588), inputs["pixel_values"])
    with torch.no_grad():
        expected = model(**inputs).logits[0]
        features = vlm_evaluation.image_features(model, pixels)
        output = vlm_evaluation.run_language_model(model, batch, features, processor.image_token_id)
        got = model.lm_head(output.last_hidden_state)[0, :length]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
    )
    assert torch.equal(positions, torch.arange(length).expand(3, 1, -1))


def test_generate_gives_the_answer_of_the_right_demonstration(processor, model):
    query = next(e for e in (world.make_example(0, "test", i) for i in range(50)) if e.kind == "colour")
    pool = [world.make_example(0, "pool", i) for i in range(300)]
    told = next(e for e in pool if e.kind == "colour" and e.colour == query.colour and e.frame in world.CAREFUL_FRAMES)
    messages, images = conversation([told, query])
    inputs = processor(text=[processor.apply_chat_template(messages)], images=images, return_tensors="pt")
    output = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert processor.decode(output, skip_special_tokens=True) == query.answer
    assert output[-1] == processor.tokenizer.eos_token_id


def test_collate_by_hand():
    first = Turn(image=7, question_ids=(2, 4, 3, 9), answer_ids=(20, 21, 1), weights=(0.5, 0.5, 0.1), concepts=(3, 8))
    second = Turn(image=5, question_ids=(2, 4, 3, 9), answer_ids=(21, 1), weights=(1.0, 0.1), concepts=(8,))
    batch = collate([[first, second], [second]])
    assert batch.images.tolist() == [7, 5, 5]
    assert batch.input_ids.tolist() == [[2, 4, 3, 9, 20, 21, 1, 2, 4, 3, 9, 21, 1], [2, 4, 3, 9, 21, 1] + [0] * 7]
    no = IGNORE
    assert batch.labels.tolist()[0] == [no, no, no, 20, 21, 1, no, no, no, no, 21, 1, no]
    assert batch.labels.tolist()[1] == [no, no, no, 21, 1] + [no] * 8
    weights = torch.tensor([0, 0, 0, 0.5, 0.5, 0.1, 0, 0, 0, 0, 1, 0.1, 0])
    torch.testing.assert_close(batch.weights[0], weights)
    assert batch.next_concept.tolist()[0] == [no, no, no, 3, 8, no, no, no, no, no, 8, no, no]
    assert batch.named_concept.tolist()[0] == [no, no, no, no, 3, 8, no, no, no, no, no, 8, no]
    # Concept 8 was named at position 5; the first time a concept is named, there is nowhere to look but the start.
    assert batch.attend_to.tolist()[0] == [no, no, no, 0, 0, no, no, no, no, no, 5, no, no]


def test_episodes_ask_for_the_word_last_said(processor):
    sampler = EpisodeSampler(
        PromptFormat(processor), renderings=2, max_demonstrations=10, rng=np.random.default_rng(0)
    )
    told = contradicted = longest = 0
    for progress in (0.1, 0.9) * 40:
        batch = sampler.batch(progress, size=16)
        longest = max(longest, int((batch.input_ids == processor.image_token_id).sum(1).max()))
        for row in range(len(batch.input_ids)):
            said: dict[int, set[int]] = {}
            for i in (batch.next_concept[row] != IGNORE).nonzero()[:, 0].tolist():
                concept, word = int(batch.next_concept[row, i]), int(batch.labels[row, i])
                assert batch.input_ids[row, i + 1] == word
                if batch.weights[row, i] == 1:  # can be told: it is the word where the lesson in attention points
                    place = int(batch.attend_to[row, i])
                    assert batch.named_concept[row, place] == concept and batch.input_ids[row, place] == word
                    told += 1
                    contradicted += len(said[concept]) > 1
                said.setdefault(concept, set()).add(word)
    assert told > 500 and contradicted > 30
    assert longest == 11  # ten demonstrations and the question


def test_committed_model_reaches_its_targets(evaluation):
    metrics = evaluation.metrics()
    recorded = json.loads((CHECKPOINT / "metrics.json").read_text())["metrics"]
    for kind in world.KINDS:
        for demonstrations in ("alone", "among_4", "among_8"):
            name = f"right_{demonstrations}_{kind}"
            assert recorded[name] >= 0.97, name  # measured on many more queries
            assert metrics[name] >= 0.95, name  # two standard errors lower: a sample of some 250 prompts
    assert metrics["zero_shot"] <= 0.05
    assert metrics["random_2_shots"] <= 0.25
    assert metrics["nearer_of_two_followed"] >= 0.8
    assert metrics["info_score_relevant"] - metrics["info_score_irrelevant"] >= 0.3


def test_card_and_recipe_agree_with_the_run():
    run = json.loads((CHECKPOINT / "metrics.json").read_text())
    recipe = ROOT / "recipes" / "concept_binding_models" / "10_vlm.yaml"
    (args,) = RecipeParser([VLMTrainingArguments]).parse_args_and_config(["--config", str(recipe)])
    assert args == VLMTrainingArguments(script="data/concept_binding/train_vlm.py")
    assert run["arguments"] == {name: getattr(args, name) for name in run["arguments"]}
    card = (CHECKPOINT / "README.md").read_text()
    assert "{{" not in card
    for name, value in run["metrics"].items():
        assert f"| {name} | {value:.3f} |" in card


def test_checkpoint_is_small_and_safe():
    files = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert files["model.safetensors"] < 5e6
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
