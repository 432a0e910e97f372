# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""OpenFlamingo models of a few thousand weights, and the folders that they are loaded from."""

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MptConfig,
    OPTConfig,
    PreTrainedConfig,
)
from vlms.tiny_models import byte_tokenizer

from leverplus_trl.vlms.open_flamingo.family import END_OF_CHUNK, MEDIA_TOKEN
from leverplus_trl.vlms.open_flamingo.modeling import OpenFlamingoConfig, OpenFlamingoModel
from leverplus_trl.vlms.open_flamingo.mpt import MosaicMptConfig


VISION = CLIPVisionConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14
)


def flamingo_tokenizer():
    tokenizer = byte_tokenizer(chat_template=None)
    tokenizer.add_special_tokens({"additional_special_tokens": [END_OF_CHUNK, MEDIA_TOKEN]})
    return tokenizer


def image_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})


def text_config(kind: str, vocab_size: int, spread: float) -> PreTrainedConfig:
    """A language model of two layers; `spread` of its random weights, so that it has opinions."""
    if "mpt" in kind:
        config_class, attention = (MosaicMptConfig, {"qk_ln": True}) if kind == "mosaic_mpt" else (MptConfig, {})
        sizes = {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": vocab_size, "max_seq_len": 1024}
        return config_class(attn_config=attention, initializer_range=spread, **sizes)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": vocab_size}
    sizes["max_position_embeddings"] = 1024
    if kind == "opt":
        return OPTConfig(ffn_dim=64, word_embed_proj_dim=32, init_std=spread, dropout=0.0, **sizes)
    config_class = {"gpt_neox": GPTNeoXConfig, "llama": LlamaConfig}[kind]
    return config_class(intermediate_size=64, initializer_range=spread, **sizes)


def tiny_flamingo(kind: str = "mosaic_mpt", every: int = 1, seed: int = 0, spread: float = 0.5) -> OpenFlamingoModel:
    tokenizer = flamingo_tokenizer()
    torch.manual_seed(seed)
    config = OpenFlamingoConfig(
        text_config=text_config(kind, len(tokenizer), spread),
        vision_config=VISION,
        cross_attn_every_n_layers=every,
        media_token_id=tokenizer.convert_tokens_to_ids(MEDIA_TOKEN),
        eoc_token_id=tokenizer.convert_tokens_to_ids(END_OF_CHUNK),
    )
    model = OpenFlamingoModel(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith("_gate"):  # 0 before training: no image would count
            torch.nn.init.constant_(weight, 0.8)
    return model


def save_flamingo(folder, model: OpenFlamingoModel) -> str:
    model.save_pretrained(folder)
    flamingo_tokenizer().save_pretrained(folder)
    image_processor().save_pretrained(folder)
    return str(folder)
