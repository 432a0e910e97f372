# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What OpenFlamingo's work costs: images go through its cross-attention, not through the tokens' layers alone."""

import re

import pytest
import torch
from small_world import beam_arguments, write_examples
from vlms.test_estimate import small_job
from vlms.test_open_flamingo import LANGUAGE_MODELS, TEMPLATE, make_vlm, save_flamingo, tiny_flamingo

from leverplus_trl.scripts import beams
from leverplus_trl.vlms import estimate
from leverplus_trl.vlms.counting import Work
from leverplus_trl.vlms.estimate import estimate_job
from leverplus_trl.vlms.operations import Operations, counted, image_operations, linear_weights


def forward(model, tokens, images):
    """A plain forward behind `images` images, all in front."""
    ids = torch.arange(tokens)[None] % 64
    ids[:, :images] = model.config.media_token_id
    features = torch.randn(1, images, *model.perceiver.latents.shape)
    return lambda: model(input_ids=ids, image_features=features)


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_the_shape_says_what_a_counter_counts(kind):
    model = tiny_flamingo(kind, every=2 if kind == "opt" else 1)
    operations = Operations(model)
    for tokens in (7, 90):
        expected = operations.of_decoder(tokens, tokens * tokens) + operations.of_head(tokens)
        expected += operations.of_cross_attention(images=1)
        assert expected == pytest.approx(counted(forward(model, tokens, images=1)), rel=0.01)
    # Each token looks at one image, however many there are; the package multiplies with all and masks.
    more = counted(forward(model, 90, images=3)) - counted(forward(model, 90, images=1))
    looked_at = 4 * operations.cross_width * operations.latents * 90
    assert more == pytest.approx(operations.of_cross_attention(images=2) + 2 * looked_at, rel=0.01)


def test_layers_with_cross_attention_are_counted_by_hand():
    model = tiny_flamingo("opt", every=2)  # one of two layers
    assert len(model.cross_attentions) == 1
    operations, plain = Operations(model), Operations(model.lang_encoder)
    heads, width, vision, latents = 8 * 64, 32, 32, 64
    assert (operations.cross_width, operations.latents) == (heads, latents)
    assert operations.of_cross_attention(3) == 2 * 3 * latents * vision * 2 * heads
    # The language model alone takes keys and values of images for layers of its tokens.
    assert plain.decoder_weights - operations.decoder_weights == vision * 2 * heads
    assert operations.kv_bytes == 2 * 2 * width * 4
    table = model.get_input_embeddings().weight
    assert table is model.lang_encoder.model.decoder.embed_tokens.weight
    in_decoder = sum(p.nbytes for p in model.lang_encoder.model.decoder.parameters() if p is not table)
    assert operations.weight_bytes == in_decoder + model.get_output_embeddings().weight.nbytes


def test_images_are_projected_again_for_every_new_token():
    operations = Operations(tiny_flamingo())
    once = estimate._cross_attention(Work(answered=2, whole_images=6), operations)
    assert once == operations.of_cross_attention(6)
    assert estimate._cross_attention(Work(answered=2, whole_images=6, new_tokens=2 * 5), operations) == 6 * once


def test_images_are_counted_by_what_encoder_and_perceiver_do():
    model = tiny_flamingo()
    pixels = {"pixel_values": torch.zeros(3, 3, 28, 28)}
    patches, latents, width = 4, 64, 32  # tokens of the encoder are the patches and one of the class
    encoder = 2 * (patches * 3 * 14 * 14 * width + (patches + 1) * linear_weights(model.vision_encoder))
    encoder += 2 * 4 * width * (patches + 1) ** 2
    perceiver = 0
    for attention, feed_forward in model.perceiver.layers:
        inner, seen = attention.to_q.out_features, patches + latents
        perceiver += 2 * latents * (linear_weights(attention.to_q) + linear_weights(attention.to_out))
        perceiver += 2 * seen * linear_weights(attention.to_kv) + 4 * inner * latents * seen
        perceiver += 2 * latents * linear_weights(feed_forward)
    assert image_operations(model, pixels) == pytest.approx(3 * (encoder + perceiver), rel=0.01)
    assert all(weight.requires_grad for weight in model.parameters())  # left as it was


def test_a_job_is_estimated(world, monkeypatch):
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 0.0)
    vlm = make_vlm()
    found = estimate_job(small_job(world, num_queries=2, unit_size=2), vlm)
    work = found.samples[0].work
    assert work.scored == 2 * (1 + 16 + 3 * 15) and work.tokens == work.whole_tokens > 0
    # Zero-shot prompts show an image, those of one demonstration two, and those of two three.
    assert work.whole_images == 2 * (1 + 16 * 2 + 3 * 15 * 3)
    assert found.image_operations > 0 and found.seconds()[0] > 0


def test_a_dry_run_says_what_a_search_costs(world, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 0.0)
    folder = save_flamingo(tmp_path / "vlm", tiny_flamingo())
    files = write_examples(tmp_path, {"pool": world["pool"].select(range(8)), "test": world["test"].select(range(2))})
    arguments = {"vlm": folder, "question_template": TEMPLATE, "num_candidates": 4, "query_splits": ["test"]}
    with caplog.at_level("INFO", logger="leverplus_trl"):
        beams.main(*beam_arguments(files, tmp_path / "dry", dry_run=True, **arguments))
    assert re.search(r"prompts to score +22\n", caplog.text)  # 2 x (1 + 4 + 2 x 3)
    assert re.search(r"floating-point operations +\S+ [MGT] +\S+ [MGT]\n", caplog.text)
    assert not (tmp_path / "dry").exists()
