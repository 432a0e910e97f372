# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The stage `grpo` on a slice of the embedded world, with answers from a rule instead of a VLM."""

import json
import math
import random

import pytest
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file
from trainer.test_sft_script import SEARCH, WORLD, search
from trainer.test_sft_script import run as run_sft

from leverplus_trl.provenance import model_revision
from leverplus_trl.schema import ROLLOUTS
from leverplus_trl.scripts.grpo import main, make_parser
from leverplus_trl.selectors import DemonstrationSelector
from leverplus_trl.tables import write_tables
from leverplus_trl.tasks import DataArguments, load_examples
from leverplus_trl.trainer import OfflineGRPOTrainer


SPLITS = {"train": "train[:48]", "validation": "validation[:20]"}
MADE_WITH = {"dataset": str(WORLD), "pool_split": SEARCH["pool_split"], "vlm": "a rule", "num_shots": 2}


def answered(split, name, beams):
    """The rule likes one demonstration of the query's kind next to it, and one of another kind before: SFT learned
    both alike."""
    data_args = DataArguments(dataset=str(WORLD))
    pool = {row["id"]: row for row in load_examples(data_args, SEARCH["pool_split"]).remove_columns("image")}
    rows = []
    for query, beam in zip(load_examples(data_args, split).remove_columns("image"), beams, strict=True):
        draws = random.Random(query["id"])
        ids = [draws.sample(beam["candidate_ids"], 2) for _ in range(10)]
        ids = [list(one) for one in dict.fromkeys(map(tuple, ids))]
        fits = [[pool[one]["kind"] == query["kind"] for one in pair] for pair in ids]
        accuracies = [0.1 + 0.3 * (not first) + 0.6 * last for first, last in fits]
        size, logprob = len(ids), -math.log(math.perm(8, 2))
        rows.append(
            {
                "query_id": query["id"],
                "split": name,
                "candidate_ids": beam["candidate_ids"],
                "zero_shot_score": 0.1,
                "demonstration_ids": ids,
                "sources": ["random"] * size,
                "generations": [query["answer"]] * size,
                "predictions": [query["answer"]] * size,
                "accuracies": accuracies,
                "gt_probs": accuracies,
                "relevances": [0.0] * size,
                "answer_logprobs": [math.log(value) for value in accuracies],
                "num_answer_tokens": [1] * size,
                "behaviour_logprobs": [logprob] * size,
            }
        )
    return Dataset.from_list(rows, features=ROLLOUTS)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with beams, a selector that learned little, and rollouts."""
    folder = tmp_path_factory.mktemp("made")
    searched = {name: search(split, name) for name, split in SPLITS.items()}
    tables = {
        kind: {name: found[place] for name, found in searched.items()}
        for place, kind in enumerate(("beams", "ledger"))
    }
    write_tables(folder / "beams", tables, "B", "t", {"stage": "beams", "recipe": SEARCH, "facts": {}, "versions": {}})
    run_sft(folder, folder / "beams", num_train_epochs=2, encoder=None)
    facts = {"score": "prob", "selector_commit": model_revision(str(folder / "sft"))}
    rollouts = {name: answered(split, name, searched[name][0]) for name, split in SPLITS.items()}
    provenance = {"stage": "rollouts", "recipe": MADE_WITH, "facts": facts, "versions": {}}
    write_tables(folder / "rollouts", {"rollouts": rollouts}, "R", "t", provenance)
    return folder


def run(folder, made, **values):
    recipe = {
        "stage": "grpo",
        "dataset": str(WORLD),
        "pool_split": SEARCH["pool_split"],
        "selector": str(made / "sft"),
        "rollouts": str(made / "rollouts"),
        "embeddings_dir": str(made / "embeddings"),
        "num_train_epochs": 8,
        "per_device_train_batch_size": 16,
        "learning_rate": 3e-3,
        "adaptive_beta": False,
        "beta": 0.001,
        "use_cpu": True,
        "disable_tqdm": True,
        "output_dir": str(folder / "grpo"),
        **values,
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    main(*make_parser().parse_args_and_config(["--config", str(file)]))
    return folder / "grpo"


def test_the_stage_leaves_a_better_selector_that_can_be_used(tmp_path, made):
    torch.manual_seed(0)
    output = run(tmp_path, made)
    expected = ["README.md", "config.json", "model.safetensors", "processor_config.json", "provenance.json"]
    expected += ["recipe.yaml", "run.log", "trainer_state.json"]
    assert sorted(path.name for path in output.glob("*.*") if not path.name.startswith(".")) == expected
    config = json.loads((output / "config.json").read_text())
    trained_on = config["trained_on"]
    assert trained_on["recipe"]["vlm"] == "a rule" and trained_on["beams"] == str(made / "beams")
    assert trained_on["rollouts"] == str(made / "rollouts") and trained_on["selector"] == str(made / "sft")
    assert trained_on["rollouts_made_by"]["recipe"] == MADE_WITH
    for name in ("sampler", "num_candidates", "insertion", "encoder", "hidden_size", "dropout"):
        assert config[name] == json.loads((made / "sft" / "config.json").read_text())[name]
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    evaluations = [entry for entry in history if "eval_expected_reward" in entry]
    assert evaluations[0]["step"] == 0 and evaluations[0]["eval_changed"] == 0.0
    assert evaluations[-1]["eval_expected_reward"] > evaluations[0]["eval_expected_reward"] + 0.02
    log = (output / "run.log").read_text()
    assert "eval_expected_reward" in log
    card = (output / "README.md").read_text()
    assert f"{evaluations[-1]['eval_expected_reward_gain']:.4f} ± " in card and "| random |" in card
    assert "| SFT selector |" in card and "1 x accuracy" in card

    pool = load_examples(DataArguments(dataset=str(WORLD)), SEARCH["pool_split"])
    queries = load_examples(DataArguments(dataset=str(WORLD)), SPLITS["validation"])
    where = {"pool": pool, "embeddings_dir": str(made / "embeddings")}

    def fitting(folder):
        found = DemonstrationSelector.from_pretrained(str(folder), **where).select_batch(queries)
        fits = [[row["kind"] == one.query["kind"] for row in one.demonstrations] for one in found]
        return sum(pair == [False, True] for pair in fits) / len(fits)

    assert fitting(output) > fitting(made / "sft") + 0.2

    before = (output / "model.safetensors").stat().st_mtime_ns
    run(tmp_path, made)  # complete: nothing to do
    assert (output / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"another recipe.*epsilon"):
        run(tmp_path, made, epsilon=0.1)


def test_a_run_that_was_cut_goes_on_from_its_last_checkpoint(tmp_path, made, monkeypatch):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    short = {"num_train_epochs": 3, "rce_epochs": 1, "save_steps": 5, "eval_steps": 5}
    whole = run(tmp_path / "whole", made, **short)
    save = OfflineGRPOTrainer._save_checkpoint

    def cut(trainer, *args):
        save(trainer, *args)
        if trainer.state.global_step == 15:
            raise KeyboardInterrupt

    monkeypatch.setattr(OfflineGRPOTrainer, "_save_checkpoint", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", made, **short)
    assert not (tmp_path / "cut" / "grpo" / "model.safetensors").exists()
    monkeypatch.undo()
    train, begun = OfflineGRPOTrainer.train, []

    def watched(trainer, resume_from_checkpoint=None, **kwargs):
        begun.append(resume_from_checkpoint)
        return train(trainer, resume_from_checkpoint, **kwargs)

    monkeypatch.setattr(OfflineGRPOTrainer, "train", watched)
    resumed = run(tmp_path / "cut", made, **short)
    assert begun == [str(resumed / "checkpoint-15")]  # in the middle of a block
    left, right = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_without_a_held_out_split_the_last_weights_are_kept(tmp_path, made):
    output = run(
        tmp_path, made, eval_split=None, train_split="train[:16]", num_train_epochs=4, reward_funcs=["gt_prob"]
    )
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    assert not any("eval_expected_reward" in entry for entry in history)
    left, right = load_file(output / "model.safetensors"), load_file(made / "sft" / "model.safetensors")
    assert any(not torch.equal(value, right[name]) for name, value in left.items())
    card = (output / "README.md").read_text()
    assert "There were none" in card and "1 x gt_prob" in card and "| queries | 16 |" in card


def test_a_dry_run_writes_nothing_and_warns_of_rewards_without_spread(tmp_path, made, caplog):
    output = run(
        tmp_path, made, dry_run=True, reward_funcs=["accuracy", "num_demonstrations"], reward_weights=[1.0, 0.05]
    )
    assert not output.exists()
    assert "NOTHING CAN BE LEARNED" not in caplog.text
    run(tmp_path, made, dry_run=True, reward_funcs=["num_demonstrations"])  # two each
    assert "NOTHING CAN BE LEARNED from 'train'" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pool_split": "pool[:20]"}, r"candidate 'pool-00\d\d' of the rollouts .* is not in the pool"),
        ({"eval_split": "test"}, "eval_split names 'test', but the rollouts .* have the splits train, validation"),
        ({"selector": "nowhere"}, "There is no selector 'nowhere'"),
        ({"selector": str(WORLD / "clip")}, "is a 'clip' model, not a selector"),
        ({"encoder": str(WORLD / "vlm")}, "vlm' .* is not the encoder that the selector .* was trained with"),
        ({"encoder": "nowhere"}, "encoder 'nowhere' is not to be found"),
        ({"reward_funcs": ["accurracy"]}, "reward_funcs names 'accurracy'; expected one of accuracy, correct"),
        ({"loss_type": "dapo"}, "loss_type is 'dapo'"),
        ({"stage": "sft"}, "stage: sft"),
        ({"betta": 0.1}, "betta"),
    ],
)
def test_bad_recipes_are_refused_before_anything_is_written(tmp_path, made, values, message):
    with pytest.raises(Exception, match=message):
        run(tmp_path, made, **values)
    assert not (tmp_path / "grpo").exists()


def test_tables_that_are_no_rollouts_of_this_kind_of_selector_are_refused(tmp_path, made):
    with pytest.raises(ValueError, match="was written by the stage 'beams'"):
        run(tmp_path, made, rollouts=str(made / "beams"))
    facts = {"score": "prob", "insertion": "left"}
    table = {"train": answered(SPLITS["train"], "train", search(SPLITS["train"], "train")[0])}
    provenance = {"stage": "rollouts", "recipe": MADE_WITH, "facts": facts, "versions": {}}
    write_tables(tmp_path / "rollouts", {"rollouts": table}, "R", "t", provenance)
    with pytest.raises(ValueError, match=r"made with insertion 'left', but the selector .* with 'right'"):
        run(tmp_path, made, rollouts=str(tmp_path / "rollouts"), eval_split=None)


def test_a_selector_with_an_encoder_of_its_own_goes_on_too(tmp_path, made):
    lora = {"selector": "v2_lora", "lora_r": 2, "copy_encoder": True, "hidden_size": 16}
    small = {"train_split": "train[:16]", "eval_split": "validation[:8]", "num_train_epochs": 1}
    few = {"per_device_train_batch_size": 8, "embeddings_dir": str(made / "embeddings")}
    sft = run_sft(tmp_path, made / "beams", **lora, **small, **few)
    output = run(
        tmp_path,
        made,
        selector=str(sft),
        **{**small, **few, "num_train_epochs": 2, "rce_epochs": 1, "curriculum_epochs": 0.5},
    )
    assert (output / "encoder" / "config.json").exists()
    left, right = load_file(output / "model.safetensors"), load_file(sft / "model.safetensors")
    assert left.keys() == right.keys()
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    logged = [entry for entry in history if "reward" in entry]
    assert logged[0]["kl"] == pytest.approx(0.0, abs=1e-6) and logged[-1]["kl"] > 0.0
