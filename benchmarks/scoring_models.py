# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What `beam_scoring.py` searches with: the embedded VLM and its world, or Qwen2.5-VL's real shape with random
weights and random images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from leverplus_trl import Request, TaskArguments, VLMArguments, load_examples, load_vlm, make_task
from leverplus_trl.retrieval import CandidateSampler
from leverplus_trl.tasks import DataArguments, Example
from leverplus_trl.vlms import TransformersVLM
from leverplus_trl.vlms.qwen2_5_vl import Qwen2_5_VLFamily, Qwen2_5_VLProcessor


WORLD = Path(__file__).parent.parent / "data" / "concept_binding"
TASK = TaskArguments(task="vqa", metric="exact_match", max_new_tokens=4)
#: Of Qwen2.5-VL-3B-Instruct.
TEXT_SHAPE = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    "tie_word_embeddings": True,
}
VISION_SHAPE = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "out_hidden_size": 2048,
}
#: The same kind of model for a test, heads of one key-value head for several included.
SMALL_TEXT_SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL_TEXT_SHAPE |= {"vocab_size": 512, "initializer_range": 0.2, "bos_token_id": None}
SMALL_TEXT_SHAPE |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}}
SMALL_VISION_SHAPE = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 64}
SMALL_VISION_SHAPE |= {"fullatt_block_indexes": [1]}
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL_TOKENS += ["<|image_pad|>", "<|video_pad|>"]
#: Qwen2.5-VL's, as far as images and text go.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}<|im_start|>system\nYou are a "
    "helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class Setting:
    """
    A model and what it is asked.

    Args:
        vlm ([`TransformersVLM`]):
            The model, as yet unasked: only what it knows of prompts and tokens is used.
        queries (`list[Example]`):
            Examples to ask.
        candidate_ids (`list[list[str]]`):
            K candidates of each.
        pool (`dict[str, Example]`):
            All candidates, by id.
        others (`list[Example]`):
            Examples that are neither, to try a VLM out on.
    """

    vlm: TransformersVLM
    queries: list[Example]
    candidate_ids: list[list[str]]
    pool: dict[str, Example]
    others: list[Example]

    def fresh(self) -> TransformersVLM:
        """The same model behind a VLM that has seen nothing but what it was tried out on."""
        family = self.vlm.family
        made = TransformersVLM(type(family)(family.model, family.processor, family.task, family.args))
        made.prepare([Request((), example) for example in self.others])
        return made


def make_setting(args) -> Setting:
    """The model and the examples that the command line asks for."""
    if args.model == "embedded":
        return _embedded(args)
    return _random_qwen(args)


def _vlm_arguments(name: str, args) -> VLMArguments:
    batch = {"max_batch_tokens": args.max_batch_tokens, "memory_mb": args.memory_mb}
    return VLMArguments(vlm=name, dtype=args.dtype, **batch)


def _embedded(args) -> Setting:
    data_args = DataArguments(dataset=str(WORLD), pool_split="pool")
    pool, queries, others = (load_examples(data_args, split) for split in ("pool", "test", "validation"))
    vlm = load_vlm(_vlm_arguments(str(WORLD / "vlm"), args), make_task(TASK))
    vlm.model.to(args.device)
    asked = [queries[row] for row in range(args.num_queries)]
    candidates = CandidateSampler(pool["id"], "random", args.num_candidates).sample([query["id"] for query in asked])
    wanted = {identifier for own in candidates for identifier in own}
    by_id = {example["id"]: example for example in pool if example["id"] in wanted}
    return Setting(vlm, asked, candidates, by_id, [others[row] for row in range(4)])


def _random_qwen(args) -> Setting:
    tokenizer = byte_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    ids |= {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    text, vision = dict(TEXT_SHAPE), dict(VISION_SHAPE)
    if args.small:
        text, vision = text | SMALL_TEXT_SHAPE, vision | SMALL_VISION_SHAPE
    config = Qwen2_5_VLConfig(
        text_config=text | {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id},
        vision_config=vision,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, args.dtype))
    try:
        with torch.device(args.device):
            model = Qwen2_5_VLForConditionalGeneration(config).eval()
    finally:
        torch.set_default_dtype(before)
    size = args.image_size**2
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": size, "longest_edge": size}, patch_size=14, merge_size=2)
    processor = Qwen2_5_VLProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE)
    family = Qwen2_5_VLFamily(model, processor, make_task(TASK), _vlm_arguments("random weights", args))
    vlm = TransformersVLM(family)
    rng = np.random.default_rng(0)
    names = [f"{i}" for i in range(args.num_queries + args.pool_size + 4)]
    examples = [_random_example(name, rng, args.image_size) for name in names]
    asked, pool = examples[: args.num_queries], examples[args.num_queries : -4]
    candidates = CandidateSampler([e["id"] for e in pool], "random", args.num_candidates).sample(names[: len(asked)])
    return Setting(vlm, asked, candidates, {example["id"]: example for example in pool}, examples[-4:])


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte: texts cost what they cost a trained tokenizer four times over, and images are most of a
    prompt."""
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=SPECIAL_TOKENS[1:],
        chat_template=CHAT_TEMPLATE,
    )


def _random_example(name: str, rng: np.random.Generator, size: int) -> Example:
    tiles = rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(tiles).resize((size, size), PIL.Image.Resampling.NEAREST)
    answer = "".join(rng.choice(list("abcdefgh"), size=4))
    question = f"What is shown in picture {name}?"
    return {"id": name, "image": image, "question": question, "answer": answer, "answers": [answer]}
