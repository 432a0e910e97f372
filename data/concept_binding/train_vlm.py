# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Trains the tiny Qwen2.5-VL that answers from its prompt alone:

    python data/concept_binding/train_vlm.py --config recipes/concept_binding_models/10_vlm.yaml

First its eyes: two throw-away linear heads name colour and shape from a picture's single token. Then, with the eyes
frozen, its language: episodes in random lexicons (episodes.py). Two throw-away scaffolds make copying appear early,
and fade out: heads that name the concept about to be named and the one just named, and one attention head that is
shown where to look.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from cards import write_card
from episodes import IGNORE, Batch, EpisodeSampler, PromptFormat
from learning_rate import set_learning_rate
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, GenerationConfig, Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb
from vlm_evaluation import VLMEvaluation, image_features, run_language_model
from vlm_format import MAX_POSITIONS, MERGE_SIZE, PATCH_SIZE, build_processor
from world import COLOURS, CONCEPTS, FRAMES, SHAPES, TEXTURES, render

from leverplus_trl.recipe_parser import RecipeParser


HEADS_LAYER = 2  # its output feeds the heads that name concepts
COPY_LAYER = 2  # its first attention head is shown where to look
SCAFFOLD_WEIGHT = 0.5
SCAFFOLD_UNTIL = 0.6  # share of the training after which the scaffolds are gone
FEATURE_RMS = 0.5  # of image tokens, near that of word embeddings


@dataclass
class VLMTrainingArguments:
    """Arguments of the tiny VLM's training; the defaults are the committed model's."""

    stage: str = field(default="prepare", metadata={"help": "Kind of recipe; always `prepare`."})
    script: str | None = field(default=None, metadata={"help": "This script's path, for whoever runs the recipe."})
    output_dir: str = field(
        default="data/concept_binding/vlm", metadata={"help": "Directory that the checkpoint is written to."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of everything drawn."})
    renderings: int = field(default=300, metadata={"help": "Training pictures of each colour and shape."})
    vision_steps: int = field(default=1800, metadata={"help": "Steps of the first stage."})
    vision_batch_size: int = field(default=128, metadata={"help": "Pictures a step in the first stage."})
    vision_learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate of the first stage."})
    language_steps: int = field(default=2000, metadata={"help": "Steps of the second stage."})
    language_batch_size: int = field(default=64, metadata={"help": "Episodes a step in the second stage."})
    language_learning_rate: float = field(default=1.5e-3, metadata={"help": "Peak learning rate of the second stage."})
    max_demonstrations: int = field(default=10, metadata={"help": "Most demonstrations in an episode."})
    num_queries: int = field(default=1000, metadata={"help": "Test questions of the final evaluation."})
    num_threads: int = field(default=1, metadata={"help": "CPU threads; other numbers give other roundings."})


def build_model(processor) -> nn.Module:
    """The untrained model: one token a picture, plain attention in the vision tower (see `image_features`)."""
    tokenizer = processor.tokenizer
    special = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text_config = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": MAX_POSITIONS,
        "initializer_range": 0.05, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}, **special,
    }  # fmt: skip
    vision_config = {
        "depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE_SIZE, "temporal_patch_size": 1, "window_size": PATCH_SIZE * MERGE_SIZE,
        "out_hidden_size": 128, "fullatt_block_indexes": [0, 1, 2], "initializer_range": 0.05,
    }  # fmt: skip
    token_id = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config=text_config,
        vision_config=vision_config,
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
        **special,
    )
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.set_attn_implementation({"vision_config": "eager"})
    model.generation_config = GenerationConfig(max_new_tokens=8, do_sample=False, **special)
    return model


def render_bank(number: int, rng: np.random.Generator) -> np.ndarray:
    """`number` pictures of each colour and shape, textures and frames drawn at random: `[64 * number, 56, 56, 3]`."""
    return np.stack(
        [
            render(colour, shape, TEXTURES[rng.integers(len(TEXTURES))], FRAMES[rng.integers(len(FRAMES))], rng)
            for colour in COLOURS
            for shape in SHAPES
            for _ in range(number)
        ]
    )


def train_vision(model, bank: np.ndarray, args: VLMTrainingArguments, rng: np.random.Generator, bar: tqdm) -> None:
    """Teaches the vision tower to tell colour and shape, through two heads that are thrown away; freezes it."""
    visual = model.model.visual
    width = model.config.vision_config.out_hidden_size
    heads = nn.ModuleList([nn.Linear(width, len(COLOURS)), nn.Linear(width, len(SHAPES))])
    parameters = [*visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.vision_learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    size = args.vision_batch_size
    bar.set_description("vision")
    for step in range(args.vision_steps):
        set_learning_rate(optimizer, args.vision_learning_rate, step, args.vision_steps, flat=0.0)
        chosen = rng.integers(len(bank), size=size)
        images, flip = bank[chosen], rng.random(size) < 0.5
        images[flip] = images[flip][:, :, ::-1]
        features = image_features(model, images)  # [N, D]
        concept = torch.from_numpy(chosen // args.renderings)
        loss = F.cross_entropy(heads[0](features), concept // len(SHAPES))
        loss = loss + F.cross_entropy(heads[1](features), concept % len(SHAPES))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        bar.update()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    visual.requires_grad_(False)
    with torch.no_grad():
        scale = FEATURE_RMS / image_features(model, bank[:: max(1, len(bank) // 512)]).square().mean().sqrt()
        last = visual.merger.mlp[2]
        last.weight.mul_(scale)
        last.bias.mul_(scale)


class Scaffolds(nn.Module):
    """
    Losses that help early on and are thrown away: two heads that name concepts, and a lesson in where to look.

    Args:
        width (`int`): width of the language model.
    """

    def __init__(self, width: int):
        super().__init__()
        self.next_concept = nn.Linear(width, len(CONCEPTS))
        self.named_concept = nn.Linear(width, len(CONCEPTS))

    def forward(self, language_model, hidden_states: tuple[torch.Tensor, ...], batch: Batch) -> torch.Tensor:
        states = hidden_states[HEADS_LAYER]  # [B, L, D]
        states = states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-6)
        loss = 0.0
        for head, target in ((self.next_concept, batch.next_concept), (self.named_concept, batch.named_concept)):
            loss = loss + F.cross_entropy(head(states[target != IGNORE]), target[target != IGNORE])
        return loss + self._where_to_look(language_model, hidden_states[COPY_LAYER], batch)

    @staticmethod
    def _where_to_look(language_model, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross-entropy of one head's attention to the place where the concept was named last."""
        layer = language_model.layers[COPY_LAYER]
        attention = layer.self_attn
        normed, head_dim, length = layer.input_layernorm(states), attention.head_dim, states.shape[1]
        query, key = (
            F.linear(normed, projection.weight[:head_dim], projection.bias[:head_dim])[:, None]  # [B, 1, L, H]
            for projection in (attention.q_proj, attention.k_proj)
        )
        positions = torch.arange(length).expand(3, len(states), -1)  # [3, B, L]
        query, key = apply_rotary_pos_emb(query, key, *language_model.rotary_emb(states, positions))
        scores = (query @ key.transpose(-1, -2))[:, 0] * attention.scaling  # [B, L, L]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        taught = batch.attend_to != IGNORE  # [B, L]
        return F.cross_entropy(scores.masked_fill(future, -1e9)[taught], batch.attend_to[taught])


def train_language(model, processor, features, args: VLMTrainingArguments, rng, bar: tqdm) -> None:
    """Teaches the language model to answer from its prompt, on episodes over cached image features."""
    sampler = EpisodeSampler(PromptFormat(processor), args.renderings, args.max_demonstrations, rng)
    language_model = model.model.language_model
    scaffolds = Scaffolds(features.shape[1])
    matrices = [p for p in language_model.parameters() if p.ndim > 1]
    others = [p for p in language_model.parameters() if p.ndim <= 1] + list(scaffolds.parameters())
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.language_learning_rate, betas=(0.9, 0.98))
    bar.set_description("language")
    for step in range(args.language_steps):
        progress = step / args.language_steps
        set_learning_rate(optimizer, args.language_learning_rate, step, args.language_steps, flat=0.5)
        batch = sampler.batch(progress, args.language_batch_size)
        output = run_language_model(model, batch, features, processor.image_token_id)
        scored = batch.weights > 0  # [B, L]
        logits = model.lm_head(output.last_hidden_state[scored])  # [T, V]
        losses, weights = F.cross_entropy(logits, batch.labels[scored], reduction="none"), batch.weights[scored]
        loss = (losses * weights).sum() / weights.sum()
        if progress < SCAFFOLD_UNTIL:
            fading = SCAFFOLD_WEIGHT * (1 - progress / SCAFFOLD_UNTIL)
            loss = loss + fading * scaffolds(language_model, output.hidden_states, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(language_model.parameters(), 1.0)
        optimizer.step()
        bar.update()
        if step % 50 == 0:
            told = weights == 1  # words that can be told from what stands before
            accuracy = (logits.argmax(-1) == batch.labels[scored])[told].float().mean().item()
            bar.set_postfix(loss=f"{loss.item():.3f}", told=f"{accuracy:.3f}")


def save(model, processor, output_dir: Path) -> None:
    """
    Writes a complete checkpoint: half-precision weights that load as single precision, and the processor.

    `preprocessor_config.json` is the older of two places for the image processor's settings; the stock processor's
    video half still reads it.
    """
    weights = {name: tensor.half() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    model.save_pretrained(output_dir, state_dict=weights)
    processor.save_pretrained(output_dir)
    processor.image_processor.to_json_file(output_dir / "preprocessor_config.json")


def main() -> None:
    (args,) = RecipeParser([VLMTrainingArguments]).parse_args_and_config()
    torch.set_num_threads(args.num_threads)
    transformers.set_seed(args.seed)
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed + 1)
    processor = build_processor()
    model = build_model(processor)
    with tqdm(total=args.vision_steps + args.language_steps, desc="rendering") as bar:
        bank = render_bank(args.renderings, rng)
        bar.reset()
        train_vision(model, bank, args, rng, bar)
        with torch.no_grad():
            features = image_features(model, bank)  # [64 * renderings, D]
        train_language(model, processor, features, args, rng, bar)
        minutes = bar.format_dict["elapsed"] / 60
    save(model, processor, output_dir)
    saved = AutoModelForImageTextToText.from_pretrained(
        output_dir, dtype=torch.float32, attn_implementation={"vision_config": "eager"}
    )
    metrics = VLMEvaluation(saved, processor, num_queries=args.num_queries).metrics()
    write_card("vlm", output_dir, args, saved, metrics, minutes)


if __name__ == "__main__":
    main()
