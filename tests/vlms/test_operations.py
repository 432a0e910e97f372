# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from vlms.tiny_models import byte_tokenizer, tiny_causal_lm

from leverplus_trl.vlms.operations import Operations, attended_pairs, counted, image_operations, linear_weights


def forward(model, tokens: int):
    return lambda: model(input_ids=torch.arange(tokens)[None] % 64, use_cache=False)


def test_pairs_by_hand():
    assert attended_pairs(0, 3) == 1 + 2 + 3
    assert attended_pairs(4, 3) == 5 + 6 + 7


@pytest.mark.parametrize("name", ["qwen2.5-vl", "llama", "gpt2"])
def test_the_shape_says_what_a_counter_counts(name, concept_vlm):
    if name == "qwen2.5-vl":
        model = concept_vlm.model
    elif name == "llama":  # fewer key-value heads than heads
        model = tiny_causal_lm(byte_tokenizer())
    else:  # no linear layers by that name
        model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4)).eval()
    operations = Operations(model)
    for tokens in (7, 90):
        # A plain forward computes the whole square of attention, of which half is needed.
        expected = operations.of_decoder(tokens, tokens * tokens) + operations.of_head(tokens)
        assert expected == pytest.approx(counted(forward(model, tokens)), rel=0.01)


def test_tokens_behind_others_cost_what_is_left_of_the_whole(concept_vlm):
    operations = Operations(concept_vlm.model)
    whole = operations.of_decoder(50, attended_pairs(0, 50))
    parts = [operations.of_decoder(count, attended_pairs(start, count)) for start, count in ((0, 30), (30, 20))]
    assert whole == sum(parts)


def test_images_are_counted_by_what_the_tower_does(concept_vlm, world):
    model, piece = concept_vlm.model, concept_vlm.prompt.query(world["test"][0])
    images = concept_vlm.processor(text=[piece.text], images=list(piece.images), return_tensors="pt")
    images = {name: images[name] for name in ("pixel_values", "image_grid_thw")}
    tower = model.model.visual
    patches, merged = len(images["pixel_values"]), len(images["pixel_values"]) // tower.spatial_merge_unit
    width, depth = tower.config.hidden_size, tower.config.depth
    by_hand = 2 * patches * (images["pixel_values"].shape[1] * width + linear_weights(tower.blocks))
    by_hand += 2 * merged * linear_weights(tower.merger) + 4 * depth * width * patches**2
    assert image_operations(model, images) == pytest.approx(by_hand, rel=0.01)


def test_bytes_of_weights_keys_and_values(concept_vlm):
    operations, model = Operations(concept_vlm.model), concept_vlm.model
    config = model.config.text_config
    assert operations.kv_bytes == 2 * 4 * config.num_hidden_layers * config.hidden_size
    layers = sum(p.nbytes for p in model.get_decoder().layers.parameters())
    head = model.get_output_embeddings().weight.nbytes
    assert layers + head < operations.weight_bytes < 1.01 * (layers + head)  # and the last norm
