# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The committed recipes on a small scale: a workplace in which every relative path and every hub id of a recipe names
something tiny of the same class, and the few keys that must be smaller.

    python small_recipes.py -m leverplus_trl.cli STAGE --config RECIPE [--field value ...]

does a stage so, as `recipes/experiment.sh` asks for it.
"""

import importlib
import os
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
import yaml
from data_sources.official_formats import write_dataset
from paths import ROOT, WORLD
from transformers import BertConfig, BertModel
from vlms.tiny_flamingo import save_flamingo, tiny_flamingo
from vlms.tiny_models import byte_tokenizer, tiny_qwen2_5_vl, tiny_text_model


#: Examples of the fixtures: a pool of 18, 6 queries to learn from, 4 to be asked.
SIZES = {"train": 24, "validation": 6, "test": 6}
HOLDOUT, TRAIN, TEST = 6, 4, 4
NUM_CANDIDATES = 6
#: What is smaller, where a recipe says it at all.
SMALLER = {
    "num_threads": 1,
    "dtype": "float32",
    "memory_mb": 64,
    "max_batch_tokens": 2048,
    "unit_size": 2,
    "num_candidates": NUM_CANDIDATES,
    "holdout": HOLDOUT,
    "num": {"holdout": HOLDOUT},
    "train_split": f"holdout[:{TRAIN}]",
    "eval_split": f"holdout[{TRAIN}:]",
}
#: What stages are told besides.
BESIDES = {
    "prepare": {"allow_other_counts": True},
    "sft": {"num_train_epochs": 1, "hidden_size": 32, "use_cpu": True, "disable_tqdm": True},
    "grpo": {"use_cpu": True, "disable_tqdm": True},
    "evaluate": {"order_probes": 2},
}
LONGEST_ANSWER = 8


def smaller(recipe: dict) -> dict:
    """A recipe with nothing changed but sizes, and where embeddings lie."""
    small = {key: value for key, value in recipe.items() if key != "accelerate_config"}
    stage = recipe["stage"]
    small |= {key: value for key, value in SMALLER.items() if key in recipe}
    if stage == "evaluate":
        small |= {"eval_split": recipe["eval_split"], "num_queries": [2, 3, TEST]}
    elif "num_queries" in recipe:
        small["num_queries"] = TEST
    if "max_new_tokens" in recipe:
        small["max_new_tokens"] = min(LONGEST_ANSWER, recipe["max_new_tokens"])
    if stage in ("beams", "sft", "rollouts", "grpo", "evaluate"):
        small["embeddings_dir"] = "embeddings"
    return small | BESIDES.get(stage, {})


def run(recipe: dict, *overrides: str) -> None:
    """
    Does a stage in this process, with keys overridden as on the command line.

    Random weights have not learnt to use demonstrations: of what the preflight finds that alone is overlooked.
    """
    script = importlib.import_module(f"leverplus_trl.scripts.{recipe['stage']}")
    preflight = importlib.import_module("leverplus_trl.vlms.preflight")
    find = preflight._problems

    def problems(*args) -> list[str]:
        return [problem for problem in find(*args) if "does not use demonstrations" not in problem]

    with (
        patch.object(preflight, "_problems", problems),
        tempfile.NamedTemporaryFile("w", suffix=".yaml") as file,
    ):
        yaml.safe_dump(smaller(recipe), file, sort_keys=False)
        file.flush()
        script.main(*script.make_parser().parse_args_and_config(["--config", file.name, *overrides]))


def furnish(folder: Path, prepare: dict) -> None:
    """
    Makes a workplace: official files under `downloads`, and models by the names that recipes give them.

    Args:
        folder (`Path`):
            Where.
        prepare (`dict`):
            The recipe of the stage that reads the official files.
    """
    name, root = prepare["dataset"], folder / prepare["root"]
    splits = importlib.import_module("leverplus_trl.data_sources").DATA_SOURCES[name].counts
    write_dataset(name, root, {split: SIZES[split] for split in splits})
    if "image_root" in prepare:
        images = folder / prepare["image_root"]
        images.mkdir(parents=True)
        for split in ("train2014", "val2014"):
            (root / split).rename(images / split)
    (folder / "openai").mkdir()
    (folder / "openai" / "clip-vit-large-patch14").symlink_to(WORLD / "clip")
    save_flamingo(folder / "outputs" / "models" / "OpenFlamingo-3B", tiny_flamingo("mosaic_mpt"))
    for part in tiny_qwen2_5_vl():
        part.save_pretrained(folder / "Qwen" / "Qwen2.5-VL-3B-Instruct")
    tokenizer = byte_tokenizer()
    for part in (tokenizer, tiny_text_model("qwen2", tokenizer)):
        part.save_pretrained(folder / "Qwen" / "Qwen2.5-3B-Instruct")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    for part in (tokenizer, BertModel(BertConfig(vocab_size=len(tokenizer), **sizes))):
        part.save_pretrained(folder / "sentence-transformers" / "all-MiniLM-L6-v2")


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    (_, _, _, stage, option, config, *rest) = sys.argv
    assert (sys.argv[1:3], option) == (["-m", "leverplus_trl.cli"], "--config")
    recipe = read(ROOT / config)
    assert recipe["stage"] == stage
    run(recipe, *rest)
