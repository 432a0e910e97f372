# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What the recipes cost, counted without a GPU, a hub or a weight: prints the table of recipes/README.md.

    python benchmarks/recipe_costs.py [--recipes okvqa_qwen2.5_vl_3b ...]

Each stage that calls the VLM is planned as `--dry_run` plans it (`CountingVLM`), for two units of work, and counted up
to all. A planner needs to know how long segments are, and for how many tokens' keys and values `memory_mb` has room.
Both are those of the real model, though a small one of its kind plans: its processor is the real one's, and its memory
is as much smaller as its keys and values are. Operations are those of the real shape, on the meta device
(`Operations`); of an image they are counted on the real vision tower, one layer of each kind.

Assumed: images of 640 x 480; texts of as many words and queries with as many distinct answers as LENGTHS says, and a
token a word or mark; candidates drawn at random, none of them shared between queries; every image encoded anew in each
unit of work. As in `--dry_run`, random demonstrations stand for those that selectors and methods choose, right answers
for what is answered, nothing is taken from the ledger, and order probes are not counted.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
import yaml
from datasets import Dataset
from scoring_models import (
    CHAT_TEMPLATE,
    SMALL_TEXT_SHAPE,
    SMALL_VISION_SHAPE,
    SPECIAL_TOKENS,
    TEXT_SHAPE,
    VISION_SHAPE,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from leverplus_trl import VLMArguments, make_task
from leverplus_trl.beams.beam_generation import search_unit
from leverplus_trl.data_sources import DATA_SOURCES
from leverplus_trl.rollouts.rollout_generation import answer_unit
from leverplus_trl.rollouts.rollout_reuse import Known
from leverplus_trl.rollouts.rollout_sources import RANDOM, Proposal
from leverplus_trl.scripts import beams, evaluate, rollouts
from leverplus_trl.selectors import GPT2SelectorConfig, GPT2SelectorModel
from leverplus_trl.tasks import BaseTask, Example, TaskArguments
from leverplus_trl.vlms import BaseVLM, CausalLM, Qwen2_5_VL
from leverplus_trl.vlms.counting import CountingVLM, Work
from leverplus_trl.vlms.estimate import _operations, amount
from leverplus_trl.vlms.modeling_mosaic_mpt import MosaicMptConfig
from leverplus_trl.vlms.modeling_open_flamingo import OpenFlamingoConfig, OpenFlamingoModel
from leverplus_trl.vlms.open_flamingo import END_OF_CHUNK, MEDIA_TOKEN, OpenFlamingo
from leverplus_trl.vlms.operations import Operations, counted, image_operations
from leverplus_trl.vlms.processing_qwen2_5_vl import Qwen2_5_VLProcessor


RECIPES = Path(__file__).parent.parent / "recipes"
IMAGE_SIZE = (640, 480)
UNITS = 2
#: Words of a question (ScienceQA: with its hint) and of an answer; of OK-VQA and VQAv2 as their papers say, of the
#: others assumed. Then how many different answers a query's annotators give, of the number behind it: assumed, but for
#: datasets that have one.
LENGTHS = {"okvqa": (8, 1, 5, 10), "vqav2": (6, 1, 3, 10), "coco_karpathy": (7, 11, 5, 5)}
LENGTHS |= {"scienceqa": (40, 1, 1, 1), "gsm8k": (52, 120, 1, 1), "sst2": (10, 1, 1, 1)}
#: What time is reckoned with: bfloat16 products of an H100 or H200 without sparsity, as its maker says, and an assumed
#: share of them.
PEAK, UTILISATION = 989e12, 0.3
#: What different answers begin with; all other words are one token, the unknown one.
FIRST_WORDS = [f"word{number}" for number in range(10)]
MPT_1B = {"d_model": 2048, "n_heads": 16, "n_layers": 24, "vocab_size": 50_434, "max_seq_len": 2048}
SMALL_MPT = {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 64, "max_seq_len": 2048}
CLIP_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
SMALL_CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass
class Planner:
    """
    What stands for a model.

    Args:
        vlm ([`BaseVLM`]):
            A small one of its kind, that plans.
        operations ([`Operations`]):
            Of the real shape.
        image (`int`):
            Operations of one image.
        weight_bytes (`int`):
            All weights, as the recipe loads them.
    """

    vlm: BaseVLM
    operations: Operations
    image: int
    weight_bytes: int


def on_meta(make) -> PreTrainedModel:
    """A model in bfloat16 of which only the shape is there."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            return make().eval()
    finally:
        torch.set_default_dtype(before)


def word_tokenizer(special: list[str], chat_template: str | None) -> PreTrainedTokenizerFast:
    """A token a word or mark: how long a text is is all that counts, and which answers are different."""
    names = ["<unk>", *special, *FIRST_WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token=special[0],
        eos_token=special[-1],
        extra_special_tokens=special,
        chat_template=chat_template,
    )


def memory_of(args: VLMArguments, real: Operations, small: PreTrainedModel) -> VLMArguments:
    """As many tokens' keys and values for the small model as the recipe leaves room for those of the real one."""
    megabytes = max(1, round(args.memory_mb * Operations(small).kv_bytes / real.kv_bytes))
    return VLMArguments(vlm=args.vlm, memory_mb=megabytes, max_batch_tokens=args.max_batch_tokens)


def qwen_vl(args: VLMArguments, task: BaseTask) -> Planner:
    tokenizer = word_tokenizer([SPECIAL_TOKENS[0], *SPECIAL_TOKENS[3:], *SPECIAL_TOKENS[1:3]], CHAT_TEMPLATE)
    marks = ("image_pad", "video_pad", "vision_start", "vision_end")
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = dict(zip(names, marks, strict=True))
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{mark}|>") for name, mark in ids.items()}
    small_text = TEXT_SHAPE | SMALL_TEXT_SHAPE | {"eos_token_id": tokenizer.eos_token_id}
    small_vision = VISION_SHAPE | SMALL_VISION_SHAPE
    real = on_meta(
        lambda: Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=TEXT_SHAPE, vision_config=VISION_SHAPE, tie_word_embeddings=True, **ids)
        )
    )
    small = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=small_text, vision_config=small_vision, tie_word_embeddings=True, **ids)
    ).eval()
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}, patch_size=14, merge_size=2
    )
    processor = Qwen2_5_VLProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE)
    operations = Operations(real)
    vlm = Qwen2_5_VL(small, processor, task, memory_of(args, operations, small))
    pixels = dict(images(images=[PIL.Image.new("RGB", IMAGE_SIZE)], return_tensors="pt"))
    return Planner(vlm, operations, _qwen_image(pixels), _weight_bytes(real))


def _qwen_image(pixels: dict[str, torch.Tensor]) -> int:
    """Its tower has layers of two kinds, and what is around them; towers of one and of two layers tell them apart."""

    def tower(depth: int, whole: list[int]) -> int:
        shape = VISION_SHAPE | {"depth": depth, "fullatt_block_indexes": whole}
        model = Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLConfig(vision_config=shape).vision_config).eval()
        model.requires_grad_(False)
        return counted(lambda: model(pixels["pixel_values"], pixels["image_grid_thw"]))

    one, two, whole = tower(1, []), tower(2, []), tower(1, [0])
    windowed, around = two - one, 2 * one - two
    num_whole = len(VISION_SHAPE["fullatt_block_indexes"])
    return around + num_whole * (whole - around) + (VISION_SHAPE["depth"] - num_whole) * windowed


def flamingo(args: VLMArguments, task: BaseTask) -> Planner:
    tokenizer = word_tokenizer(["<pad>", MEDIA_TOKEN, END_OF_CHUNK], None)

    def make(text: dict, vision: dict) -> OpenFlamingoModel:
        config = OpenFlamingoConfig(
            text_config=MosaicMptConfig(attn_config={"qk_ln": True}, **text),
            vision_config=CLIPVisionConfig(image_size=224, patch_size=14, **vision),
            media_token_id=tokenizer.convert_tokens_to_ids(MEDIA_TOKEN),
            eoc_token_id=tokenizer.convert_tokens_to_ids(END_OF_CHUNK),
        )
        return OpenFlamingoModel(config)

    real, small = on_meta(lambda: make(MPT_1B, CLIP_L)), make(SMALL_MPT, SMALL_CLIP).eval()
    operations = Operations(real)
    vlm = OpenFlamingo(small, tokenizer, CLIPImageProcessorPil(), task, memory_of(args, operations, small))
    image = image_operations(real, {"pixel_values": torch.zeros(1, 3, 224, 224)})
    return Planner(vlm, operations, image, _weight_bytes(real))


def causal_lm(args: VLMArguments, task: BaseTask) -> Planner:
    tokenizer = word_tokenizer([SPECIAL_TOKENS[0], *SPECIAL_TOKENS[1:3]], CHAT_TEMPLATE)
    plain = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "max_position_embeddings": 32_768}
    eos = {"eos_token_id": tokenizer.eos_token_id}
    real = on_meta(lambda: Qwen2ForCausalLM(Qwen2Config(**TEXT_SHAPE | plain)))
    small = Qwen2ForCausalLM(Qwen2Config(**TEXT_SHAPE | SMALL_TEXT_SHAPE | plain | eos)).eval()
    operations = Operations(real)
    vlm = CausalLM(small, tokenizer, task, memory_of(args, operations, small))
    return Planner(vlm, operations, 0, _weight_bytes(real))


def _weight_bytes(model: PreTrainedModel) -> int:
    return sum({id(parameter): parameter.nbytes for parameter in model.parameters()}.values())


def v0_of(dataset: str, held: int, sft: dict) -> str:
    """How large the selector is that has a word for each example of the pool, which is what is not held out."""
    pool, encoded = DATA_SOURCES[dataset].counts["train"] - held, {"image_embed_dim": 768, "text_embed_dim": 768}
    features = {name: sft[name] for name in ("query_features", "candidate_features") if name in sft}
    if features:  # all-MiniLM-L6-v2 instead of CLIP-L
        encoded["text_embed_dim"] = 384
    config = GPT2SelectorConfig(pool_size=pool, **encoded, **features)
    count = sum(value.numel() for value in on_meta(lambda: GPT2SelectorModel(config)).parameters())
    single, whole = 4 * count / 1e9, 12 * count / 1e9  # AdamW keeps two more numbers for each
    return f"{count / 1e6:.1f} M parameters for a pool of {pool:,}: {single:.2f} GB, a checkpoint {whole:.2f} GB"


def made_example(name: str, dataset: str, number: int) -> Example:
    """An example of the dataset's usual length; no two have the same image or question."""
    question, answer, distinct, annotators = LENGTHS[dataset]
    image = None
    if dataset not in ("gsm8k", "sst2"):
        image = PIL.Image.new("RGB", IMAGE_SIZE)
        image.putpixel((0, 0), (number % 256, number // 256 % 256, number // 65_536))
    answers = [" ".join([first, *["word"] * (answer - 1)]) for first in FIRST_WORDS[:distinct]]
    answers = {"sst2": ["positive"], "scienceqa": ["A"]}.get(dataset, answers)
    given = [answers[number % distinct] for number in range(annotators)]
    extras = {"choices": ["some choice", "another one", "a third"], "context": ""} if dataset == "scienceqa" else {}
    own = f"word{len(FIRST_WORDS) + number}"  # one token, too
    text = " ".join([own, *["word"] * (question - 1), "?"])
    return {"id": name, "image": image, "question": text, "answer": given[0], "answers": given} | extras


def units(dataset: str, size: int, num_candidates: int):
    """Queries, their candidates and all examples by id, of some units."""
    for unit in range(UNITS):
        start = unit * size * (num_candidates + 1)
        rows = [made_example(str(start + i), dataset, start + i) for i in range(size * (num_candidates + 1))]
        names = [row["id"] for row in rows[size:]]
        candidates = [names[i * num_candidates : (i + 1) * num_candidates] for i in range(size)]
        yield rows[:size], candidates, {row["id"]: row for row in rows}


def ask(stage: str, recipe: dict, dataset: str, searched_shots: int, vlm: CountingVLM) -> tuple[int, set]:
    """Plans some units of a stage; gives how many queries these hold, and the images shown."""
    script = {"beams": beams, "rollouts": rollouts, "evaluate": evaluate}[stage]
    # Of beams and rollouts the last arguments are those of the hub.
    args = script.make_parser().parse_dict(recipe)[-1 if stage == "evaluate" else -2]
    rng, asked = np.random.default_rng(0), 0
    for queries, candidates, by_id in units(dataset, args.unit_size, 64):
        asked += len(queries)
        with vlm.unit():
            if stage == "beams":
                search_unit(queries, candidates, by_id, vlm, args)
            elif stage == "rollouts":
                drawn = [
                    [rng.choice(own, size=searched_shots, replace=False) for _ in range(args.num_rollouts)]
                    for own in candidates
                ]
                proposals = [[Proposal(RANDOM, tuple(map(str, ids))) for ids in own] for own in drawn]
                answer_unit(queries, proposals, [Known()] * len(queries), by_id, vlm)
            else:
                pool = Dataset.from_dict({"id": [name for own in candidates for name in own]})
                shots = evaluate.prompts_of_a_query(args, searched_shots)
                job = evaluate.job_to_estimate(pool, pool, shots, args, 1)
                job.work(args.eval_split, queries, by_id, vlm)
    return asked, vlm.demonstrated | vlm.asked


def rows_of(folder: Path) -> list[str]:
    """Lines of the table: one a stage that calls the VLM."""
    recipes = {file.name: yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))}
    dataset, held = recipes["00_prepare.yaml"]["dataset"], recipes["00_prepare.yaml"]["holdout"]
    lines = []
    planner = None
    for name, recipe in recipes.items():
        if recipe["stage"] not in ("beams", "rollouts", "evaluate"):
            continue
        if planner is None:
            parsed = evaluate.make_parser().parse_dict(recipes["50_evaluate.yaml"])
            task = make_task(next(one for one in parsed if isinstance(one, TaskArguments)))
            vlm_args = next(one for one in parsed if isinstance(one, VLMArguments))
            make = flamingo if "Flamingo" in recipe["vlm"] else qwen_vl if "VL" in recipe["vlm"] else causal_lm
            planner = make(vlm_args, task)
            gigabytes = planner.weight_bytes / 1e9
            print(f"{folder.name}: {gigabytes:.1f} GB of weights, {amount(planner.image)} operations an image")
            print(f"{folder.name}: v0 has {v0_of(dataset, held, recipes['20_sft.yaml'])}")
        vlm = CountingVLM(planner.vlm)
        shots = recipes["11_test_beams.yaml"]["num_shots"]
        asked, images = ask(recipe["stage"], recipe, dataset, shots, vlm)
        number = recipe.get("num_queries") or held
        queries = max(number) if isinstance(number, list) else number
        lines.append(_line(folder.name, name, queries, queries / asked, vlm.work, len(images), planner))
    return lines


def _line(folder: str, name: str, queries: int, times: float, work: Work, images: int, planner: Planner) -> str:
    operations = times * (_operations(work, planner.operations) + images * planner.image)
    cells = [
        *(folder, name, f"{queries:,}", amount(times * (work.scored + work.answered))),
        *(amount(times * work.whole_tokens), amount(times * work.tokens), amount(times * work.new_tokens)),
        *(amount(times * images), f"{operations / 1e15:,.0f} P", f"{operations / (PEAK * UTILISATION) / 3600:.2f}"),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="What the recipes cost.")
    folders = [file.parent.name for file in sorted(RECIPES.glob("*/11_test_beams.yaml"))]
    parser.add_argument("--recipes", nargs="+", default=folders, choices=folders)
    lines = [line for name in parser.parse_args().recipes for line in rows_of(RECIPES / name)]
    print(f"\nHours: operations / ({PEAK / 1e12:.0f} TFLOP/s x {UTILISATION}), reckoned and not measured.\n")
    head = ["recipe", "stage", "queries", "prompts", "tokens, each prompt whole", "tokens run", "tokens of answers"]
    head += ["images encoded, at most", "operations", "hours"]
    print("\n".join([f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *lines]))


if __name__ == "__main__":
    main()
