# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Trains the tiny CLIP that sees what the dataset's pictures show, nuisance included:

    python data/concept_binding/train_clip.py --config recipes/concept_binding_models/20_clip.yaml

First its eyes: throw-away linear heads name what a picture shows from its embedding. Then both towers: a contrastive
loss in which a caption may fit several pictures of the batch and a picture several captions, and a smaller one between
texts: captions that say the same, and questions that ask the same, are near.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from captions import ATTRIBUTES, caption_words, draw_caption, draw_pictures
from cards import write_card
from learning_rate import set_learning_rate
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from world import IMAGE_SIZE, QUESTIONS

from leverplus_trl.recipe_parser import RecipeParser


MAX_POSITIONS = 32
TEXT_LOSS_WEIGHT = 0.5
HEADS_LOSS_WEIGHT = 0.3  # in the second stage
HEADS_SCALE = 10.0  # of the unit embeddings that the heads read
MAX_LOGIT_SCALE = float(np.log(50.0))


@dataclass
class CLIPTrainingArguments:
    """Arguments of the tiny CLIP's training; the defaults are the committed model's."""

    stage: str = field(default="prepare", metadata={"help": "Kind of recipe; always `prepare`."})
    script: str | None = field(default=None, metadata={"help": "This script's path, for whoever runs the recipe."})
    output_dir: str = field(
        default="data/concept_binding/clip", metadata={"help": "Directory that the checkpoint is written to."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of everything drawn."})
    pictures: int = field(default=16000, metadata={"help": "Training pictures."})
    vision_steps: int = field(default=2000, metadata={"help": "Steps of the first stage."})
    vision_batch_size: int = field(default=128, metadata={"help": "Pictures a step in the first stage."})
    vision_learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate of the first stage."})
    steps: int = field(default=700, metadata={"help": "Steps of the second stage."})
    batch_size: int = field(default=256, metadata={"help": "Pictures a step in the second stage, one caption each."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of the second stage."})
    probe_pictures: int = field(default=3000, metadata={"help": "Pictures that the final linear probes learn from."})
    num_threads: int = field(default=1, metadata={"help": "CPU threads; other numbers give other roundings."})


def build_processor() -> CLIPProcessor:
    """A tokenizer of whole words and the stock image processor, for pictures of the dataset's size."""
    special = ("<|endoftext|>", "<|startoftext|>", "<|pad|>", "<unk>")
    vocabulary = {token: i for i, token in enumerate(special + caption_words())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[(token, vocabulary[token]) for token in special[:2]],
    )
    fast_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        unk_token="<unk>",
        model_max_length=MAX_POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
    )
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return CLIPProcessor(image_processor, fast_tokenizer)


def build_model(processor: CLIPProcessor) -> CLIPModel:
    """The untrained model: two small towers that meet in 64 dimensions."""
    tokenizer = processor.tokenizer
    text_config = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": MAX_POSITIONS, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision_config = {
        "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": IMAGE_SIZE, "patch_size": 14,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=64))


def to_pixel_values(images: np.ndarray) -> torch.Tensor:
    """What the image processor makes of pictures of the right size: `[N, 56, 56, 3]` to `[N, 3, 56, 56]`, -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def embed_images(model: CLIPModel, images: np.ndarray) -> torch.Tensor:
    """Unit image embeddings, `[N, 64]`."""
    pooled = model.vision_model(pixel_values=to_pixel_values(images)).pooler_output
    return F.normalize(model.visual_projection(pooled), dim=-1)


def embed_texts(model: CLIPModel, tokenizer, texts: list[str]) -> torch.Tensor:
    """Unit text embeddings, `[N, 64]`."""
    pooled = model.text_model(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
    return F.normalize(model.text_projection(pooled), dim=-1)


def contrastive_loss(logits: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """
    Cross-entropy of each row to the uniform distribution over what fits it; rows that nothing fits are left out.

    Args:
        logits (`torch.FloatTensor` of shape `[R, C]`): scaled similarities.
        fits (`torch.BoolTensor` of shape `[R, C]`): whether the column fits the row.
    """
    some = fits.any(1)
    target = fits[some].float() / fits[some].sum(1, keepdim=True)  # [R', C]
    return F.cross_entropy(logits[some], target)


def text_loss(texts: torch.Tensor, said: torch.Tensor, questions: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """
    Contrastive loss between texts: the same is said (captions) or asked (questions).

    Args:
        texts (`torch.FloatTensor` of shape `[N, D]`): unit embeddings of captions.
        said (`torch.LongTensor` of shape `[N, 4]`): what the captions name.
        questions (`torch.FloatTensor` of shape `[Q, D]`): unit embeddings of all questions, kind after kind.
        scale (`torch.FloatTensor`): factor of the similarities.
    """
    everything = torch.cat([texts, questions])  # [N+Q, D]
    same = torch.zeros(len(everything), len(everything), dtype=torch.bool)
    same[: len(texts), : len(texts)] = (said[:, None] == said[None]).all(-1)
    kinds = torch.arange(len(QUESTIONS)).repeat_interleave(len(questions) // len(QUESTIONS))
    same[len(texts) :, len(texts) :] = kinds[:, None] == kinds[None]
    oneself = torch.eye(len(everything), dtype=torch.bool)
    logits = (scale * everything @ everything.T).masked_fill(oneself, -1e9)
    return contrastive_loss(logits, same & ~oneself)


class AttributeHeads(nn.Module):
    """
    Throw-away linear heads that name what a picture shows, so that all of it can be read off its embedding.

    Args:
        width (`int`): width of the embeddings.
    """

    def __init__(self, width: int):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(width, len(values)) for values in ATTRIBUTES.values()])

    def forward(self, embeds: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """Sum of cross-entropies; `embeds` `[N, D]` of unit length, `attributes` `[N, 4]`."""
        scaled = HEADS_SCALE * embeds
        return sum(F.cross_entropy(head(scaled), attributes[:, i]) for i, head in enumerate(self.heads))


def take_step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One step of clipped gradients."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()


def draw_batch(pictures: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `size` pictures, and their pixels, half of them mirrored."""
    chosen = rng.integers(len(pictures), size=size)
    images, flip = pictures[chosen], rng.random(size) < 0.5
    images[flip] = images[flip][:, :, ::-1]
    return chosen, images


def train_vision(model: CLIPModel, heads: AttributeHeads, pictures, attributes, args, rng, bar: tqdm) -> None:
    """First stage: the vision tower and the heads."""
    parameters = [*model.vision_model.parameters(), *model.visual_projection.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.vision_learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    bar.set_description("vision")
    for step in range(args.vision_steps):
        set_learning_rate(optimizer, args.vision_learning_rate, step, args.vision_steps, flat=0.0)
        chosen, images = draw_batch(pictures, args.vision_batch_size, rng)
        loss = heads(embed_images(model, images), torch.from_numpy(attributes[chosen]))
        take_step(optimizer, loss)
        bar.update()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")


def train_both(model: CLIPModel, tokenizer, heads: AttributeHeads, pictures, attributes, args, rng, bar: tqdm) -> None:
    """Second stage: both towers, on freshly drawn captions."""
    questions = [text for wordings in QUESTIONS.values() for text in wordings]
    parameters = [*model.parameters(), *heads.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.98))
    bar.set_description("contrast")
    for step in range(args.steps):
        set_learning_rate(optimizer, args.learning_rate, step, args.steps, flat=0.2)
        chosen, images = draw_batch(pictures, args.batch_size, rng)
        captions, said = zip(*(draw_caption(attributes[i], rng) for i in chosen), strict=True)
        said, shown = torch.from_numpy(np.stack(said)), torch.from_numpy(attributes[chosen])
        image_embeds = embed_images(model, images)  # [N, D]
        text_embeds = embed_texts(model, tokenizer, [*captions, *questions])  # [N+Q, D]
        caption_embeds, question_embeds = text_embeds[: len(captions)], text_embeds[len(captions) :]
        scale = model.logit_scale.exp()
        fits = ((said[:, None] == shown[None]) | (said[:, None] < 0)).all(-1)  # [captions, pictures]
        logits = scale * caption_embeds @ image_embeds.T
        loss = (contrastive_loss(logits, fits) + contrastive_loss(logits.T, fits.T)) / 2
        texts = text_loss(caption_embeds, said, question_embeds, scale)
        take_step(optimizer, loss + TEXT_LOSS_WEIGHT * texts + HEADS_LOSS_WEIGHT * heads(image_embeds, shown))
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        bar.update()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", scale=f"{scale.item():.1f}")


@torch.no_grad()
def evaluate(model: CLIPModel, tokenizer, num_pictures: int, num_held_out: int = 1000) -> dict[str, float]:
    """
    Linear probes on image embeddings of unseen pictures, and how far apart the kinds of questions are.

    Args:
        model ([`CLIPModel`]): the trained model.
        tokenizer: its tokenizer.
        num_pictures (`int`): pictures that the probes learn from.
        num_held_out (`int`, *optional*, defaults to 1000): pictures that they are tested on.
    """
    model.eval()
    pictures, attributes = draw_pictures(num_pictures + num_held_out, np.random.default_rng(12345))
    embeds = torch.cat([embed_images(model, pictures[i : i + 500]) for i in range(0, len(pictures), 500)])
    inputs = torch.cat([embeds, torch.ones(len(embeds), 1)], dim=1).double()  # [N, D+1]
    metrics = {}
    for column, (name, values) in enumerate(ATTRIBUTES.items()):
        target = torch.from_numpy(attributes[:, column])
        one_hot = F.one_hot(target[:num_pictures], len(values)).double()
        learn, ridge = inputs[:num_pictures], 1e-3 * torch.eye(inputs.shape[1], dtype=torch.double)
        probe = torch.linalg.solve(learn.T @ learn + ridge, learn.T @ one_hot)  # [D+1, values]
        right = (inputs[num_pictures:] @ probe).argmax(1) == target[num_pictures:]
        metrics[f"image_probe_{name}"] = right.double().mean().item()
    questions = embed_texts(model, tokenizer, [text for wordings in QUESTIONS.values() for text in wordings])
    similarity = questions @ questions.T
    kinds = torch.arange(len(QUESTIONS)).repeat_interleave(len(questions) // len(QUESTIONS))
    same = kinds[:, None] == kinds[None]
    metrics["question_similarity_same_kind_min"] = similarity[same].min().item()
    metrics["question_similarity_other_kind_max"] = similarity[~same].max().item()
    return {name: round(value, 4) for name, value in metrics.items()}


def main() -> None:
    (args,) = RecipeParser([CLIPTrainingArguments]).parse_args_and_config()
    torch.set_num_threads(args.num_threads)
    transformers.set_seed(args.seed)
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    processor = build_processor()
    model = build_model(processor)
    heads = AttributeHeads(model.config.projection_dim)
    rng = np.random.default_rng(args.seed)
    with tqdm(total=args.vision_steps + args.steps, desc="rendering") as bar:
        pictures, attributes = draw_pictures(args.pictures, rng)
        train_vision(model, heads, pictures, attributes, args, rng, bar)
        train_both(model, processor.tokenizer, heads, pictures, attributes, args, rng, bar)
        minutes = bar.format_dict["elapsed"] / 60
    model.save_pretrained(output_dir, state_dict={name: tensor.half() for name, tensor in model.state_dict().items()})
    processor.save_pretrained(output_dir)
    saved = CLIPModel.from_pretrained(output_dir, dtype=torch.float32)
    metrics = evaluate(saved, processor.tokenizer, args.probe_pictures)
    write_card("clip", output_dir, args, saved, metrics, minutes)


if __name__ == "__main__":
    main()
