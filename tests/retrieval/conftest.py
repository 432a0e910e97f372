# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Tiny encoders with random weights, made here: a CLIP model and a BERT."""

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
)


WORDS = ["[pad]", "[unk]", "[start]", "[end]", "what", "colour", "shape", "is", "it", "this", "the", "name", "of"]


def make_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[start] $A [end]", special_tokens=[("[start]", 2), ("[end]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[pad]",
        unk_token="[unk]",
        bos_token="[start]",
        eos_token="[end]",
        model_max_length=max_length,
    )


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> str:
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = CLIPConfig(
        text_config={**tower, **tokens, "max_position_embeddings": 8},
        vision_config={**tower, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    folder = str(tmp_path_factory.mktemp("encoders") / "clip")
    CLIPModel(config).save_pretrained(folder)
    make_tokenizer(8).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, do_center_crop=True
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> str:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=10,
    )
    folder = str(tmp_path_factory.mktemp("encoders") / "bert")
    BertModel(config).save_pretrained(folder)
    make_tokenizer(10).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def examples() -> Dataset:
    generator = np.random.default_rng(0)
    questions = ["what colour is it", "what shape", "name the shape of this", "what is it"]
    rows = [
        {
            "id": f"example/{number}",
            "image": PILImage.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)),
            "question": questions[number % 4],
        }
        for number in range(10)
    ]
    features = Features({"id": Value("string"), "image": Image(), "question": Value("string")})
    return Dataset.from_list(rows, features=features)
