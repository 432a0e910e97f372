# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""MPT as MosaicML first published it (`mosaic_gpt`): the language model of OpenFlamingo-3B.

Unlike transformers' MPT, which ignores `qk_ln`, it has LayerNorms over the whole queries and keys, and other names of
weights.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, MptConfig, MptForCausalLM


#: What transformers' MPT takes for granted, whatever its config says.
GRANTED = {"expansion_ratio": 4, "logit_scale": None, "no_bias": True}
GRANTED_ATTENTION = {
    "attn_type": "multihead_attention",
    "alibi": True,
    "alibi_bias_max": 8,
    "prefix_lm": False,
    "attn_uses_sequence_id": False,
}


class MosaicMptConfig(MptConfig):
    """
    [`MptConfig`] whose `attn_config.qk_ln` is obeyed.

    Raises:
        `ValueError`: a setting that the model would silently ignore.
    """

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
                block.attn.clip_qkv = None  # clipping stands before the LayerNorms
        self.post_init()


def config_from_mosaic_gpt(config: dict[str, Any]) -> MosaicMptConfig:
    """
    A `mosaic_gpt` config, the content of `config.json`, as a [`MosaicMptConfig`].

    Raises:
        `ValueError`: another kind of model, or a setting that can't be computed here.
    """
    if config.get("model_type") != "mosaic_gpt":
        raise ValueError(f"model_type is {config.get('model_type')!r}; expected 'mosaic_gpt'.")
    defaults = {"d_model": 2048, "n_heads": 16, "n_layers": 24, "max_seq_len": 2048, "vocab_size": 50368}
    defaults |= {"no_bias": False, "logit_scale": None, "initializer_range": 0.02}
    defaults |= {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    attention = {
        "qk_ln": config.get("attn_qk_ln", False),
        "clip_qkv": config.get("attn_clip_qkv"),
        "softmax_scale": config.get("softmax_scale"),
        "prefix_lm": config.get("prefix_lm", False),
        "attn_uses_sequence_id": config.get("attn_uses_sequence_id", False),
        "alibi": config.get("alibi", False),
        "alibi_bias_max": config.get("alibi_bias_max", 8),
    }
    return MosaicMptConfig(
        attn_config=attention,
        expansion_ratio=config.get("mlp_ratio", 4),
        **{name: config.get(name, default) for name, default in defaults.items()},
    )


def weights_from_mosaic_gpt(weights: dict[str, torch.Tensor], config: MosaicMptConfig) -> dict[str, torch.Tensor]:
    """
    Weights of a `mosaic_gpt` checkpoint under the names of [`MosaicMptForCausalLM`].

    Raises:
        `ValueError`: weights that are missing or unknown.
    """
    names = mosaic_gpt_names(config)
    missing, unknown = sorted(names.keys() - weights.keys()), sorted(weights.keys() - names.keys())
    if missing or unknown:
        raise ValueError(
            f"Not the weights of a mosaic_gpt model of {config.n_layers} layers: {len(missing)} are missing "
            f"{missing[:3]}, {len(unknown)} are unknown {unknown[:3]}."
        )
    return {ours: weights[theirs] for theirs, ours in names.items()}


def mosaic_gpt_names(config: MosaicMptConfig) -> dict[str, str]:
    """`{name in a mosaic_gpt checkpoint: name here}`; the head is the embedding."""
    qkv = "attn.Wqkv.proj" if config.attn_config.qk_ln else "attn.Wqkv"
    parts = {
        "ln_1": "norm_1",
        "attn.Wqkv": qkv,
        "attn.out_proj": "attn.out_proj",
        "ln_2": "norm_2",
        "mlp.mlp_up": "ffn.up_proj",
        "mlp.mlp_down": "ffn.down_proj",
    }
    if config.attn_config.qk_ln:
        parts |= {"attn.q_ln": "attn.Wqkv.q_ln", "attn.k_ln": "attn.Wqkv.k_ln"}
    names = {
        "transformer.wte.weight": "transformer.wte.weight",
        "transformer.ln_f.weight": "transformer.norm_f.weight",
    }
    for layer in range(config.n_layers):
        block = f"transformer.blocks.{layer}"
        names |= {f"{block}.{theirs}.weight": f"{block}.{ours}.weight" for theirs, ours in parts.items()}
    return names


AutoConfig.register("mosaic_mpt", MosaicMptConfig)
AutoModelForCausalLM.register(MosaicMptConfig, MosaicMptForCausalLM)
