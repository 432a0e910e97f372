# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from leverplus_trl.vlms.open_flamingo.mpt import (
    MosaicMptConfig,
    MosaicMptForCausalLM,
    config_from_mosaic_gpt,
    weights_from_mosaic_gpt,
)


HEADS, WIDTH, LAYERS, VOCABULARY = 4, 32, 2, 50
#: The settings of the published checkpoint, smaller.
ORIGINAL = {
    "model_type": "mosaic_gpt",
    "d_model": WIDTH,
    "n_heads": HEADS,
    "n_layers": LAYERS,
    "mlp_ratio": 4,
    "max_seq_len": 64,
    "vocab_size": VOCABULARY,
    "attn_impl": "torch",
    "attn_qk_ln": True,
    "attn_clip_qkv": None,
    "alibi": True,
    "alibi_bias_max": 8,
    "softmax_scale": None,
    "logit_scale": None,
    "no_bias": True,
    "low_precision_layernorm": True,
}


def original_weights():
    """A checkpoint with the names and shapes of the original."""
    shapes = {"transformer.wte.weight": (VOCABULARY, WIDTH), "transformer.ln_f.weight": (WIDTH,)}
    for layer in range(LAYERS):
        block = f"transformer.blocks.{layer}"
        shapes |= {f"{block}.{name}.weight": (WIDTH,) for name in ("ln_1", "ln_2", "attn.q_ln", "attn.k_ln")}
        shapes[f"{block}.attn.Wqkv.weight"] = (3 * WIDTH, WIDTH)
        shapes[f"{block}.attn.out_proj.weight"] = (WIDTH, WIDTH)
        shapes[f"{block}.mlp.mlp_up.weight"] = (4 * WIDTH, WIDTH)
        shapes[f"{block}.mlp.mlp_down.weight"] = (WIDTH, 4 * WIDTH)
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}


def load(weights, original=ORIGINAL):
    config = config_from_mosaic_gpt(original)
    model = MosaicMptForCausalLM(config).eval()
    missing, unexpected = model.load_state_dict(weights_from_mosaic_gpt(weights, config), strict=False)
    assert missing == ["lm_head.weight"] and not unexpected  # the head is the embedding
    return model


def layer_norm(x, weight):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def attention(x, weights, block, clip=None):
    """LayerNorm over the whole width of queries and keys, then heads of causal softmax with ALiBi, one by one."""
    q, k, v = (x @ weights[f"{block}.attn.Wqkv.weight"].T).split(WIDTH, dim=-1)
    if clip:
        q, k, v = (t.clamp(-clip, clip) for t in (q, k, v))
    q = layer_norm(q, weights[f"{block}.attn.q_ln.weight"])
    k = layer_norm(k, weights[f"{block}.attn.k_ln.weight"])
    size, length = WIDTH // HEADS, len(x)
    heads = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        slope = 2.0 ** (-8 * (head + 1) / HEADS)
        rows = []
        for i in range(length):
            scores = torch.stack([q[i, part] @ k[j, part] / math.sqrt(size) - slope * (i - j) for j in range(i + 1)])
            rows.append(scores.softmax(0) @ v[: i + 1, part])
        heads.append(torch.stack(rows))
    return torch.cat(heads, dim=-1) @ weights[f"{block}.attn.out_proj.weight"].T


def logits_by_formula(ids, weights, clip=None):
    x = weights["transformer.wte.weight"][ids]
    for layer in range(LAYERS):
        block = f"transformer.blocks.{layer}"
        x = x + attention(layer_norm(x, weights[f"{block}.ln_1.weight"]), weights, block, clip)
        up = layer_norm(x, weights[f"{block}.ln_2.weight"]) @ weights[f"{block}.mlp.mlp_up.weight"].T
        gelu = 0.5 * up * (1 + torch.erf(up / math.sqrt(2)))
        x = x + gelu @ weights[f"{block}.mlp.mlp_down.weight"].T
    return layer_norm(x, weights["transformer.ln_f.weight"]) @ weights["transformer.wte.weight"].T


@pytest.mark.parametrize("clip", [None, 0.7])
def test_the_model_computes_what_the_formula_says(clip):
    weights = original_weights()
    model = load(weights, {**ORIGINAL, "attn_clip_qkv": clip})
    ids = torch.randint(VOCABULARY, (11,), generator=torch.Generator().manual_seed(1))
    expected = logits_by_formula(ids, weights, clip)
    with torch.no_grad():
        found = model(ids[None]).logits[0]
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_layer_norms_count():
    weights = original_weights()
    ids = torch.arange(9)
    with torch.no_grad():
        found = load(weights)(ids[None]).logits[0]
        weights["transformer.blocks.0.attn.k_ln.weight"] *= 0.5
        changed = load(weights)(ids[None]).logits[0]
    assert (found - changed).abs().max() > 0.01


def test_cached_and_padded_prompts_give_the_same_logits():
    model = load(original_weights())
    ids = torch.arange(8)[None]
    with torch.no_grad():
        whole = model(ids).logits
        past = model(ids[:, :5], use_cache=True).past_key_values
        rest = model(ids[:, 5:], past_key_values=past, use_cache=True).logits
        mask = torch.tensor([[0] * 3 + [1] * 8])
        padded = model(torch.cat([torch.zeros(1, 3, dtype=int), ids], dim=1), attention_mask=mask).logits[:, 3:]
    assert torch.allclose(rest, whole[:, 5:], atol=1e-4)
    assert torch.allclose(padded, whole, atol=1e-4)


def test_a_saved_model_comes_back_through_auto_classes(tmp_path):
    model = load(original_weights())
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(again, MosaicMptForCausalLM) and again.config.attn_config.qk_ln is True
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())


def test_every_original_weight_arrives_unchanged():
    weights = original_weights()
    arrived = weights_from_mosaic_gpt(weights, config_from_mosaic_gpt(ORIGINAL))
    assert len(arrived) == len(weights)
    assert {id(tensor) for tensor in arrived.values()} == {id(tensor) for tensor in weights.values()}
    assert arrived["transformer.blocks.1.ffn.up_proj.weight"] is weights["transformer.blocks.1.mlp.mlp_up.weight"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda weights: weights.pop("transformer.blocks.1.attn.q_ln.weight"), r"1 are missing .*blocks.1.attn.q_ln"),
        (lambda weights: weights.update({"transformer.wpe.weight": torch.zeros(1)}), r"1 are unknown .*wpe"),
        (lambda weights: weights.update({"transformer.ln_f.bias": torch.zeros(1)}), r"1 are unknown .*ln_f.bias"),
    ],
)
def test_other_weights_are_refused(change, message):
    weights = original_weights()
    change(weights)
    with pytest.raises(ValueError, match=message):
        weights_from_mosaic_gpt(weights, config_from_mosaic_gpt(ORIGINAL))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "mpt"}, "model_type is 'mpt'; expected 'mosaic_gpt'"),
        ({"alibi": False}, "alibi is False"),
        ({"alibi_bias_max": 16}, "alibi_bias_max is 16"),
        ({"no_bias": False}, "no_bias is False"),
        ({"logit_scale": 0.5}, "logit_scale is 0.5"),
        ({"mlp_ratio": 2}, "expansion_ratio is 2"),
        ({"prefix_lm": True}, "prefix_lm is True"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        config_from_mosaic_gpt({**ORIGINAL, **change})


def test_a_config_without_layer_norms_makes_a_plain_mpt():
    config = MosaicMptConfig(d_model=WIDTH, n_heads=HEADS, n_layers=1, vocab_size=VOCABULARY, max_seq_len=16)
    names = MosaicMptForCausalLM(config).state_dict()
    assert "transformer.blocks.0.attn.Wqkv.weight" in names and not any("q_ln" in name for name in names)
