# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""MPT as MosaicML first published it (`mosaic_gpt`): the language model of OpenFlamingo-3B.

Unlike transformers' MPT, which ignores `qk_ln`, it has LayerNorms over the whole queries and keys, and other names of
weights.
"""

import re
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, MptConfig, MptForCausalLM


#: The settings that transformers' MPT computes; it ignores other values in its config.
GRANTED = {"expansion_ratio": 4, "logit_scale": None, "no_bias": True}
GRANTED_ATTENTION = {"attn_type": "multihead_attention", "alibi": True, "alibi_bias_max": 8, "prefix_lm": False}
GRANTED_ATTENTION |= {"attn_uses_sequence_id": False}
#: Settings of a `mosaic_gpt` config with their defaults: those of the same name, and those of the attention.
DEFAULTS = {"d_model": 2048, "n_heads": 16, "n_layers": 24, "max_seq_len": 2048, "vocab_size": 50368}
DEFAULTS |= {"no_bias": False, "logit_scale": None, "initializer_range": 0.02}
DEFAULTS |= {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
ATTENTION_DEFAULTS = {"softmax_scale": None, "prefix_lm": False, "attn_uses_sequence_id": False, "alibi": False}
ATTENTION_DEFAULTS |= {"alibi_bias_max": 8}
#: Names of weights in a `mosaic_gpt` checkpoint, and here. The last three are of models with `qk_ln`.
NAMES = {"ln_1": "norm_1", "ln_2": "norm_2", "ln_f": "norm_f", "mlp.mlp_up": "ffn.up_proj"}
NAMES |= {"mlp.mlp_down": "ffn.down_proj", "attn.q_ln": "attn.Wqkv.q_ln", "attn.k_ln": "attn.Wqkv.k_ln"}
NAMES |= {"attn.Wqkv": "attn.Wqkv.proj"}


class MosaicMptConfig(MptConfig):
    """[`MptConfig`] whose `attn_config.qk_ln` is obeyed; raises `ValueError` for a setting that would be ignored."""

    model_type = "mosaic_mpt"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        wrong = [
            f"{name} is {getattr(source, name)!r}, only {value!r} can be computed"
            for source, granted in ((self, GRANTED), (self.attn_config, GRANTED_ATTENTION))
            for name, value in granted.items()
            if getattr(source, name) != value
        ]
        if wrong:
            raise ValueError(f"This {self.model_type} model can't be run here: {'; '.join(wrong)}.")


class NormalizedQKV(nn.Module):
    """The fused projection of [`MptAttention`] with LayerNorms over all heads' queries and all heads' keys."""

    def __init__(self, config: MosaicMptConfig):
        super().__init__()
        width = config.hidden_size
        self.clip = config.attn_config.clip_qkv
        self.proj = nn.Linear(width, 3 * width, bias=False)
        self.q_ln = nn.LayerNorm(width, eps=config.layer_norm_epsilon, bias=False)
        self.k_ln = nn.LayerNorm(width, eps=config.layer_norm_epsilon, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        qkv = self.proj(hidden_states)  # [B, L, 3 D]
        if self.clip:
            qkv = qkv.clamp(min=-self.clip, max=self.clip)
        query, key, value = qkv.chunk(3, dim=-1)
        return torch.cat([self.q_ln(query), self.k_ln(key), value], dim=-1)


class MosaicMptForCausalLM(MptForCausalLM):
    """[`MptForCausalLM`] with LayerNorms on queries and keys."""

    config: MosaicMptConfig

    def __init__(self, config: MosaicMptConfig):
        super().__init__(config)
        if config.attn_config.qk_ln:
            for block in self.transformer.blocks:
                block.attn.Wqkv = NormalizedQKV(config)
                block.attn.clip_qkv = None  # values are clipped before the LayerNorms
        self.post_init()


def config_from_mosaic_gpt(config: dict[str, Any]) -> MosaicMptConfig:
    """A `mosaic_gpt` config, the content of `config.json`, as a [`MosaicMptConfig`]."""
    if config.get("model_type") != "mosaic_gpt":
        raise ValueError(f"model_type is {config.get('model_type')!r}; expected 'mosaic_gpt'.")
    attention = {"qk_ln": config.get("attn_qk_ln", False), "clip_qkv": config.get("attn_clip_qkv")}
    attention |= {name: config.get(name, default) for name, default in ATTENTION_DEFAULTS.items()}
    own = {name: config.get(name, default) for name, default in DEFAULTS.items()}
    return MosaicMptConfig(attn_config=attention, expansion_ratio=config.get("mlp_ratio", 4), **own)


def weights_from_mosaic_gpt(weights: dict[str, torch.Tensor], config: MosaicMptConfig) -> dict[str, torch.Tensor]:
    """Weights of a `mosaic_gpt` checkpoint under the names of [`MosaicMptForCausalLM`]."""
    parts = ["ln_1", "ln_2", "attn.Wqkv", "attn.out_proj", "mlp.mlp_up", "mlp.mlp_down"]
    parts += ["attn.q_ln", "attn.k_ln"] if config.attn_config.qk_ln else []
    names = [f"transformer.blocks.{layer}.{part}.weight" for layer in range(config.n_layers) for part in parts]
    names = {"transformer.wte.weight", "transformer.ln_f.weight", *names}  # the head is the embedding
    missing, unknown = sorted(names - weights.keys()), sorted(weights.keys() - names)
    if missing or unknown:
        raise ValueError(
            f"Not the weights of a mosaic_gpt model of {config.n_layers} layers: {len(missing)} are missing "
            f"{missing[:3]}, {len(unknown)} are unknown {unknown[:3]}."
        )
    renamed = NAMES if config.attn_config.qk_ln else NAMES | {"attn.Wqkv": "attn.Wqkv"}
    pattern = re.compile("|".join(map(re.escape, renamed)))
    return {pattern.sub(lambda match: renamed[match[0]], name): weight for name, weight in weights.items()}


AutoConfig.register("mosaic_mpt", MosaicMptConfig)
AutoModelForCausalLM.register(MosaicMptConfig, MosaicMptForCausalLM)
