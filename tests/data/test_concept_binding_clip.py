# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The tiny CLIP of the embedded world: captions, losses, and what the committed checkpoint sees."""

import json
import math
from pathlib import Path

import captions
import numpy as np
import pytest
import torch
import train_clip
import world
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, CLIPModel

from leverplus_trl.recipe_parser import RecipeParser


ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "data" / "concept_binding" / "clip"


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return CLIPModel.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(CHECKPOINT)


def test_captions_say_what_they_claim():
    rng = np.random.default_rng(0)
    vocabulary = set(captions.caption_words())
    for _ in range(300):
        attributes = np.array([rng.integers(len(values)) for values in captions.ATTRIBUTES.values()])
        caption, said = captions.draw_caption(attributes, rng)
        assert set(caption.split()) <= vocabulary
        assert (said >= 0).any()
        for (name, values), here, shown in zip(captions.ATTRIBUTES.items(), said, attributes, strict=True):
            named = set(values) & set(caption.split())
            assert named == ({values[shown]} if here >= 0 else set()), (caption, name)


def test_attribute_values_are_distinct_words():
    values = [value for column in captions.ATTRIBUTES.values() for value in column]
    assert len(set(values)) == len(values)


def test_contrastive_loss_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0], [5.0, -5.0]])
    fits = torch.tensor([[False, True], [True, True], [False, False]])
    # Row 0: -log(3/4). Row 1: both fit, uniform over two: log 2. Row 2 fits nothing and does not count.
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert train_clip.contrastive_loss(logits, fits).item() == pytest.approx(expected, rel=1e-5)


def test_text_loss_prefers_equal_meanings_to_be_near():
    said = torch.tensor([[1, -1, -1, -1], [1, -1, -1, -1], [2, -1, -1, -1]])
    questions = torch.eye(6)[[3, 3, 4, 4, 5, 5]]  # three kinds, two wordings each
    scale = torch.tensor(10.0)
    near = train_clip.text_loss(torch.eye(6)[[0, 0, 1]], said, questions, scale)
    far = train_clip.text_loss(torch.eye(6)[[0, 1, 0]], said, questions, scale)
    assert near < 0.01 < 1 < far


def test_auto_processor_and_model_agree_with_the_training_path(model, processor):
    pictures = [world.make_example(0, "pool", i).image for i in range(5)]
    texts = ["what colour ?", "which shape is this ?", "a red circle on dots"]
    inputs = processor(text=texts, images=[Image.fromarray(p) for p in pictures], padding=True, return_tensors="pt")
    assert inputs["pixel_values"].shape == (5, 3, 56, 56) and inputs["input_ids"].shape[0] == 3
    assert (inputs["input_ids"] != processor.tokenizer.unk_token_id).all()
    torch.testing.assert_close(inputs["pixel_values"], train_clip.to_pixel_values(np.stack(pictures)))
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    with torch.no_grad():
        output = model(**inputs)
        torch.testing.assert_close(output.image_embeds, train_clip.embed_images(model, np.stack(pictures)))
        torch.testing.assert_close(output.text_embeds, train_clip.embed_texts(model, tokenizer, texts))
    assert output.image_embeds.shape == (5, 64) and output.text_embeds.shape == (3, 64)


def test_padding_does_not_change_text_embeddings(model, processor):
    with torch.no_grad():
        alone = train_clip.embed_texts(model, processor.tokenizer, ["what colour ?"])
        padded = train_clip.embed_texts(model, processor.tokenizer, ["what colour ?", "there is a red circle on dots"])
    torch.testing.assert_close(alone[0], padded[0], atol=1e-5, rtol=1e-5)


def test_probes_recover_what_is_seen_and_asked(model, processor):
    metrics = train_clip.evaluate(model, processor.tokenizer, num_pictures=1500, num_held_out=500)
    for name in ("colour", "texture", "frame"):
        assert metrics[f"image_probe_{name}"] >= 0.97, metrics
    assert metrics["image_probe_shape"] >= 0.94, metrics  # small squares pass for circles, small stars for plusses
    assert metrics["question_similarity_same_kind_min"] > metrics["question_similarity_other_kind_max"] + 0.2


def test_question_kinds_are_linearly_separable(model, processor):
    """Learned from all wordings of each kind but one, and tested on that one."""
    embeds, kinds = [], []
    for kind, wordings in enumerate(world.QUESTIONS.values()):
        with torch.no_grad():
            embeds.append(train_clip.embed_texts(model, processor.tokenizer, list(wordings)))
        kinds += [kind] * len(wordings)
    embeds, kinds = torch.cat(embeds), torch.tensor(kinds)
    for held_out in range(len(kinds)):
        keep = torch.arange(len(kinds)) != held_out
        target = torch.nn.functional.one_hot(kinds[keep], 3).float()
        learn = embeds[keep]
        probe = torch.linalg.solve(learn.T @ learn + 0.01 * torch.eye(learn.shape[1]), learn.T @ target)
        assert (embeds[held_out] @ probe).argmax() == kinds[held_out]


def test_card_and_recipe_agree_with_the_run():
    run = json.loads((CHECKPOINT / "metrics.json").read_text())
    recipe = ROOT / "recipes" / "concept_binding_models" / "20_clip.yaml"
    (args,) = RecipeParser([train_clip.CLIPTrainingArguments]).parse_args_and_config(["--config", str(recipe)])
    assert args == train_clip.CLIPTrainingArguments(script="data/concept_binding/train_clip.py")
    assert run["arguments"] == {name: getattr(args, name) for name in run["arguments"]}
    card = (CHECKPOINT / "README.md").read_text()
    assert "{{" not in card
    for name, value in run["metrics"].items():
        assert f"| {name} | {value:.3f} |" in card


def test_checkpoints_are_small_together():
    folder = ROOT / "data" / "concept_binding"
    sizes = [path.stat().st_size for name in ("vlm", "clip") for path in (folder / name).iterdir()]
    assert sum(sizes) < 12e6
    assert (CHECKPOINT / "model.safetensors").is_file()
