# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The stage `sft` on a slice of the embedded world, with scores from a rule instead of a VLM."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset

from leverplus_trl.schema import BEAMS, LEDGER
from leverplus_trl.scripts.sft import main, make_parser
from leverplus_trl.selectors import DemonstrationSelector
from leverplus_trl.tables import write_tables
from leverplus_trl.tasks import DataArguments, load_examples


WORLD = Path(__file__).parents[2] / "data" / "concept_binding"
SEARCH = {
    "dataset": str(WORLD),
    "pool_split": "pool[:40]",
    "vlm": "a rule",
    "encoder": str(WORLD / "clip"),
    "encoder_revision": None,
    "encoder_batch_size": 16,
    "sampler": "random",
    "num_candidates": 8,
    "sampler_seed": 5,
    "insertion": "right",
    "score": "prob",
    "num_shots": 2,
}


def score(query, demonstrations):
    helpful = sum(demonstration["kind"] == query["kind"] for demonstration in demonstrations)
    return 0.1 + 0.3 * helpful


def search(split, name):
    pool = load_examples(DataArguments(dataset=str(WORLD)), SEARCH["pool_split"]).remove_columns("image")
    beams, ledger = [], []
    for query in load_examples(DataArguments(dataset=str(WORLD)), split).remove_columns("image"):
        candidates = random.Random(query["id"]).sample(list(pool), SEARCH["num_candidates"])
        entry = {"query_id": query["id"], "split": name, "num_answer_tokens": 1, "accuracy": None}
        found, kept = {(): score(query, [])}, [()]
        for _ in range(2):
            longer = [(*prefix, k) for prefix in kept for k in range(8) if k not in prefix]
            found |= {picks: score(query, [candidates[k] for k in picks]) for picks in longer}
            kept = sorted(longer, key=found.get, reverse=True)[:3]
        ids = [row["id"] for row in candidates]
        for picks, probability in found.items():
            named = {"demonstration_ids": [ids[k] for k in picks], "answer_logprob": math.log(probability)}
            ledger.append({**entry, **named})
        beam = {"query_id": query["id"], "split": name, "candidate_ids": ids, "zero_shot_score": found[()]}
        beam["demonstration_ids"] = [[ids[k] for k in picks] for picks in kept]
        beams.append({**beam, "scores": [found[p] - found[()] for p in kept], "step_scores": [[] for _ in kept]})
    return Dataset.from_list(beams, features=BEAMS), Dataset.from_list(ledger, features=LEDGER)


@pytest.fixture(scope="module")
def beams(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beams")
    tables = {"train": search("train[:48]", "train"), "validation": search("validation[:20]", "validation")}
    write_tables(
        folder,
        {"beams": {s: t[0] for s, t in tables.items()}, "ledger": {s: t[1] for s, t in tables.items()}},
        "Beams and ledger",
        "Scores of a rule.",
        {"stage": "beams", "recipe": SEARCH, "facts": {}, "versions": {}},
    )
    return folder


def run(folder, beams, **values):
    recipe = {
        "stage": "sft",
        "dataset": str(WORLD),
        "pool_split": SEARCH["pool_split"],
        "beams": str(beams),
        "embeddings_dir": str(folder / "embeddings"),
        "hidden_size": 32,
        "num_train_epochs": 12,
        "per_device_train_batch_size": 16,
        "learning_rate": 3e-3,
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": str(folder / "sft"),
        **values,
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    main(*make_parser().parse_args_and_config(["--config", str(file)]))
    return folder / "sft"


def test_the_stage_leaves_a_selector_that_can_be_used(tmp_path, beams):
    torch.manual_seed(0)
    output = run(tmp_path, beams)
    expected = ["README.md", "config.json", "model.safetensors", "processor_config.json", "provenance.json"]
    expected += ["recipe.yaml", "run.log", "trainer_state.json"]
    assert sorted(path.name for path in output.glob("[!.]*.*")) == expected
    config = json.loads((output / "config.json").read_text())
    for name in ("sampler", "num_candidates", "sampler_seed", "insertion", "score", "num_shots", "encoder"):
        assert config[name] == SEARCH[name]
    assert config["hidden_size"] == 32 and config["num_cross_attention_layers"] == 3
    assert config["trained_on"]["recipe"]["vlm"] == "a rule"
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    evaluations = [entry for entry in history if "eval_regret" in entry]
    assert len(evaluations) >= 10 and evaluations[-2]["eval_loss"] < 0.9 * evaluations[0]["eval_loss"]
    assert evaluations[-1]["eval_regret"] < 0.05
    assert "eval_regret" in (output / "run.log").read_text()
    assert "a rule" in (output / "README.md").read_text()
    pool = load_examples(DataArguments(dataset=str(WORLD)), SEARCH["pool_split"])
    queries = load_examples(DataArguments(dataset=str(WORLD)), "validation[:20]")
    folder = str(tmp_path / "embeddings")
    selector = DemonstrationSelector.from_pretrained(str(output), pool=pool, embeddings_dir=folder)
    found = selector.select_batch(queries)
    same = [row["kind"] == one.query["kind"] for one in found for row in one.demonstrations]
    assert sum(same) / len(same) > 0.7  # a third by chance

    before = (output / "model.safetensors").stat().st_mtime_ns
    run(tmp_path, beams)  # complete: nothing to do
    assert (output / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"another recipe.*tau"):
        run(tmp_path, beams, tau=0.1)


def test_without_a_held_out_split_the_last_weights_are_kept(tmp_path, beams):
    output = run(tmp_path, beams, eval_split=None, train_split="train[:16]", num_train_epochs=2, selector="v1")
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    assert not any("eval_loss" in entry for entry in history)
    assert json.loads((output / "config.json").read_text())["history"] == "scalar_gate"
    card = (output / "README.md").read_text()
    assert "There were none" in card and "| training queries | 16 |" in card


def test_v0_serves_the_pool_it_was_trained_on_and_refuses_another(tmp_path, beams):
    output = run(
        tmp_path, beams, selector="v0", encoding="query_img_icd_idx", num_train_epochs=2, num_heads=4, history=None
    )
    config = json.loads((output / "config.json").read_text())
    assert (config["pool_size"], config["query_features"], config["candidate_features"]) == (40, ["image"], [])
    pool = load_examples(DataArguments(dataset=str(WORLD)), SEARCH["pool_split"])
    queries = load_examples(DataArguments(dataset=str(WORLD)), "validation[:5]")
    where = {"embeddings_dir": str(tmp_path / "embeddings")}
    selector = DemonstrationSelector.from_pretrained(str(output), pool=pool, **where)
    assert all(len(set(found.demonstration_ids)) == 2 for found in selector.select_batch(queries))
    with pytest.raises(ValueError, match=r"only from the pool of its training \(40 examples.*\(39 examples"):
        DemonstrationSelector.from_pretrained(str(output), pool=pool.select(range(39)), **where)


def test_a_selector_with_stop_that_reads_answers(tmp_path, beams):
    """Here every demonstration helps or does nothing, so it must not end before it has what helps."""
    output = run(
        tmp_path, beams, stop=True, candidate_features=["image", "text", "answer"], scoring="additive", diversity="mmr"
    )
    pool = load_examples(DataArguments(dataset=str(WORLD)), SEARCH["pool_split"])
    queries = load_examples(DataArguments(dataset=str(WORLD)), "validation[:20]")
    selector = DemonstrationSelector.from_pretrained(
        str(output), pool=pool, embeddings_dir=str(tmp_path / "embeddings")
    )
    found = selector.select_batch(queries, num_shots=3)
    assert {len(one.demonstration_ids) for one in found} <= {0, 1, 2, 3}
    assert all(one.demonstration_ids == [row["id"] for row in one.demonstrations] for one in found)
    assert sum(len(one.demonstration_ids) > 0 for one in found) > 15


def test_a_dry_run_writes_nothing(tmp_path, beams):
    output = run(tmp_path, beams, dry_run=True)
    assert not output.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pool_split": "pool[:20]"}, r"candidate 'pool-00\d\d' of the beams .* is not in the pool"),
        ({"eval_split": "test"}, "eval_split names 'test', but the beams .* have the splits train, validation"),
        ({"selector": "v9"}, "selector is 'v9'; expected one of v0, v1, v2, v2_lora, v3, v4"),
        ({"history": "lstm"}, "history is 'lstm'"),
        (
            {"selector": "v0", "num_tower_layers": 2},
            "num_tower_layers is set, but the selector v0 has no such field; leave it out, or take v1, v2",
        ),
        ({"encoding": "query_icd"}, "encoding is 'query_icd'; expected one of query_img_icd_idx"),
        ({"encoding": "query_img_icd_img", "query_features": ["text"]}, "Set either `encoding` or"),
        ({"stage": "beams"}, "stage: beams"),
        ({"eval_split": "train[40:]"}, "is in 'train' and in 'train.40:.': what is measured on queries"),
        ({"beams": WORLD}, "does not say what made its tables"),
        ({"tua": 0.1}, "tua"),
    ],
)
def test_bad_recipes_are_refused_before_anything_is_written(tmp_path, beams, values, message):
    with pytest.raises(Exception, match=message):
        run(tmp_path, values.pop("beams", beams), **values)
    assert not (tmp_path / "sft").exists()


def test_tables_of_other_content_with_the_same_ids_are_refused(tmp_path, beams):
    """Row numbers fit any pool and any queries."""
    table = search("train[:4]", "train")
    for fact, message in (
        ({"pool_hash": "0123"}, r"made with other examples in the pool \(split 'pool\[:40\]'\).*0123 then"),
        (
            {"query_hashes": {"train": "4567"}},
            r"made with other examples in the queries \(split 'train'\).*4567 then",
        ),
    ):
        other = tmp_path / next(iter(fact))
        other.mkdir()
        provenance = {"stage": "beams", "recipe": SEARCH, "facts": fact, "versions": {}}
        write_tables(other, {"beams": {"train": table[0]}, "ledger": {"train": table[1]}}, "B", "t", provenance)
        with pytest.raises(ValueError, match=message):
            run(tmp_path, other, eval_split=None)


def test_the_recipe_of_a_run_can_be_run_again(tmp_path, beams):
    output = run(tmp_path, beams, encoding="query_text_icd_text", num_train_epochs=1, train_split="train[:16]")
    recipe = yaml.safe_load((output / "recipe.yaml").read_text())
    assert recipe["encoding"] == "query_text_icd_text" and recipe["query_features"] is None
    assert json.loads((output / "config.json").read_text())["candidate_features"] == ["text"]


def test_beams_without_an_encoder_need_one(tmp_path, beams):
    other = tmp_path / "beams"
    other.mkdir()
    table = search("train[:4]", "train")
    provenance = {"stage": "beams", "recipe": {**SEARCH, "encoder": None}, "facts": {}, "versions": {}}
    write_tables(other, {"beams": {"train": table[0]}, "ledger": {"train": table[1]}}, "B", "t", provenance)
    with pytest.raises(ValueError, match=r"made without an encoder .* set `encoder`"):
        run(tmp_path, other, eval_split=None)
