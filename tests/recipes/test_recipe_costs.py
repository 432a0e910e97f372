# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What recipes/README.md says that the recipes of published datasets cost."""

import pytest
import torch
import yaml
from paths import ROOT

from leverplus_trl.beams import num_scored_sequences
from leverplus_trl.data_sources import DATA_SOURCES
from leverplus_trl.scripts import beams, evaluate, rollouts
from leverplus_trl.selectors import GPT2SelectorConfig, GPT2SelectorModel


RECIPES = ROOT / "recipes"
#: Different answers of a query's annotators, as the README assumes; one elsewhere.
ANSWERS = {"okvqa": 5, "vqav2": 3}


def rows_of(folder):
    """Lines of the table, one for each stage that calls the VLM."""
    recipes = {file.name: yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))}
    prepared = recipes["00_prepare.yaml"]
    for name, recipe in recipes.items():
        queries = recipe.get("num_queries") or prepared["holdout"]
        queries = max(queries) if isinstance(queries, list) else queries
        if recipe["stage"] == "beams":
            *_, sampler_args, args, _ = beams.make_parser().parse_dict(recipe)
            each = num_scored_sequences(sampler_args.num_candidates, args.num_shots, args.beam_size), 0
        elif recipe["stage"] == "rollouts":
            *_, args, _ = rollouts.make_parser().parse_dict(recipe)
            each = 1 + args.num_rollouts * ANSWERS.get(prepared["dataset"], 1), args.num_rollouts
        elif recipe["stage"] == "evaluate":
            *_, args = evaluate.make_parser().parse_dict(recipe)
            each = 1, len(evaluate.prompts_of_a_query(args, recipes["11_test_beams.yaml"]["num_shots"]))
        else:
            continue
        cells = [folder.name, name, *(f"{number:,}" for number in (queries, *(queries * one for one in each)))]
        yield f"| {' | '.join(cells)} |"


def test_prompts_of_the_recipes():
    folders = sorted(file.parent for file in RECIPES.glob("*/11_test_beams.yaml"))
    rows = [row for folder in folders for row in rows_of(folder)]
    lines = (RECIPES / "README.md").read_text().splitlines()
    assert rows == [line for line in lines if ".yaml | " in line] and len(folders) == 8
    # Zero-shot, 64 candidates, and the 63 others before each of five beams.
    assert f"| sst2_qwen2.5_3b | 10_beams.yaml | 900 | {900 * (1 + 64 + 5 * 63):,} | 0 |" in rows
    # Zero-shot; three seeds of two methods, two other methods and two selectors at 1 to 4 shots; the oracle at 1 and 2
    count = 1 + 4 * (3 * 2 + 2 + 2) + 2
    assert f"| gsm8k_qwen2.5_3b | 50_evaluate.yaml | 300 | 300 | {300 * count:,} |" in rows


@pytest.mark.parametrize(
    "dataset, held, sentence",
    [
        ("okvqa", 900, "{count} M parameters for OK-VQA's"),
        ("vqav2", 5500, "but {count} M for VQAv2's, {size} GB, and a checkpoint with its optimizer {whole} GB"),
    ],
)
def test_the_size_of_v0(dataset, held, sentence):
    config = GPT2SelectorConfig(
        pool_size=DATA_SOURCES[dataset].counts["train"] - held, image_embed_dim=768, text_embed_dim=768
    )
    with torch.device("meta"):
        count = sum(weight.numel() for weight in GPT2SelectorModel(config).parameters())
    # AdamW keeps two more numbers for each.
    said = sentence.format(count=f"{count / 1e6:.1f}", size=f"{4 * count / 1e9:.2f}", whole=f"{12 * count / 1e9:.2f}")
    assert said in " ".join((RECIPES / "README.md").read_text().split())
