# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Training that diverges stops with the step and a remedy, and leaves nothing that looks like a selector."""

import math
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from trainer.simulated_rollouts import rollouts_of
from trainer.simulated_world import SimulatedWorld
from transformers import TrainerCallback

from leverplus_trl.selectors import PRESETS, PointerSelectorConfig, PointerSelectorModel, SelectorProcessor
from leverplus_trl.selectors.collapse import is_collapsed
from leverplus_trl.trainer import (
    OfflineGRPOConfig,
    OfflineGRPOTrainer,
    RolloutDataset,
    SelectorDataset,
    SelectorSFTConfig,
    SelectorSFTTrainer,
    rollout_groups,
    scored_prefixes,
)
from leverplus_trl.trainer.offline_grpo_trainer import AdaptiveBeta


WORLD = SimulatedWorld(pool=40, num_candidates=6)


def sft_data(split):
    beams, ledger = WORLD.queries(split, 16)
    ids = beams["query_id"], beams["candidate_ids"]
    embeddings = WORLD.embeddings[split], WORLD.embeddings["pool"]
    return SelectorDataset(*ids, *embeddings, SelectorProcessor(), scored_prefixes(beams, ledger, "left", "prob"))


def grpo_data(split):
    beams, _ = WORLD.queries(split, 16)
    greedy = {row["query_id"]: tuple(row["demonstration_ids"][0]) for row in beams}
    table = rollouts_of(WORLD, split, beams, [greedy[query_id] for query_id in beams["query_id"]], size=6)
    groups = rollout_groups(table, [np.array(own) for own in table["accuracies"]], "left")
    embeddings = WORLD.embeddings[split], WORLD.embeddings["pool"]
    return RolloutDataset(table["query_id"], table["candidate_ids"], *embeddings, SelectorProcessor(), groups)


KINDS = {
    "sft": (SelectorSFTTrainer, SelectorSFTConfig, sft_data, {}),
    "grpo": (OfflineGRPOTrainer, OfflineGRPOConfig, grpo_data, {"rce_epochs": 1, "curriculum_epochs": 1}),
}


def make_trainer(kind, folder, evaluation=True, **values):
    trainer_class, config_class, data, own = KINDS[kind]
    torch.manual_seed(0)
    config = {"image_embed_dim": 16, "text_embed_dim": 8, "hidden_size": 16, "num_heads": 2, **PRESETS["v2"][1]}
    plain = {"num_train_epochs": 4, "use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8, **own}
    if not evaluation:
        plain |= {"eval_strategy": "no", "load_best_model_at_end": False}
    plain |= {"save_steps": 1, "eval_steps": 1, "logging_steps": 1, "report_to": "none"}
    args = config_class(output_dir=str(folder), **{**plain, **values})
    model = PointerSelectorModel(PointerSelectorConfig(**config))
    return trainer_class(model, args, data("train"), data("validation") if evaluation else None)


class Damage(TrainerCallback):
    """Puts a number into a weight, or into its gradient, at one step."""

    def __init__(self, step, value, gradient=False):
        self.step, self.value, self.gradient = step, value, gradient

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step and not self.gradient:
            with torch.no_grad():
                model.query_tower.layers[0].weight[0, 0] = self.value

    def hook(self, trainer):
        parameter = trainer.model.query_tower.layers[0].weight

        def damage(gradient):
            return torch.full_like(gradient, self.value) if trainer.state.global_step == self.step else gradient

        parameter.register_hook(damage)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(kind, value, tmp_path):
    trainer = make_trainer(kind, tmp_path, evaluation=False, save_strategy="no")
    trainer.add_callback(Damage(2, value))
    with pytest.raises(
        ValueError,
        match=r"The (loss|norm of the gradients) is (nan|inf) at step 3 of \d+: .*Lower learning_rate \(now",
    ):
        trainer.train()
    assert all(math.isfinite(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)


@pytest.mark.parametrize("kind", KINDS)
def test_the_filter_of_transformers_hides_nothing(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path, evaluation=False, save_strategy="no", logging_nan_inf_filter=True)
    trainer.add_callback(Damage(1, math.nan))
    with pytest.raises(ValueError, match="The loss is nan at step 2"):
        trainer.train()
    assert trainer.args.__class__(output_dir=str(tmp_path)).logging_nan_inf_filter is False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_a_gradient_that_is_no_number_stops_the_run_before_a_weight_is_changed(kind, max_grad_norm, tmp_path):
    trainer = make_trainer(kind, tmp_path, evaluation=False, save_strategy="no", max_grad_norm=max_grad_norm)
    Damage(2, math.nan, gradient=True).hook(trainer)
    with pytest.raises(ValueError, match="The norm of the gradients is nan at step 3"):
        trainer.train()
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_that_is_no_number_chooses_no_checkpoint(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path)
    trainer.add_callback(Damage(2, math.nan))
    with pytest.raises(ValueError, match=r"eval_\w+ is nan at step 2, so that no checkpoint can be chosen by it"):
        trainer.train()
    assert trainer.state.best_global_step in (None, 1) and math.isfinite(trainer.state.best_metric)
    assert not (tmp_path / "checkpoint-2").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_numbers_are_not_saved(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path, evaluation=False, save_steps=2)
    trainer.add_callback(Damage(2, math.inf))
    with pytest.raises(
        ValueError, match=r"weight 'query_tower.layers.0.weight' of the trained selector is not finite"
    ):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*/model.safetensors"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_learning_rate_that_is_far_too_high_is_named(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path, learning_rate=1e12, warmup_steps=0, weight_decay=0.0)
    with pytest.raises(ValueError, match=r"Lower learning_rate \(now 1e\+12\)"):
        trainer.train()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("learning_rate", bad) for bad in (math.nan, math.inf)),
        *(("weight_decay", math.nan), ("max_grad_norm", math.inf), ("num_train_epochs", math.nan)),
        *(("adam_epsilon", math.nan), ("warmup_steps", math.inf)),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_arguments_are_finite(kind, name, value, tmp_path):
    with pytest.raises(ValueError, match=f"{name} is {value}; expected a (finite )?number"):
        KINDS[kind][1](output_dir=str(tmp_path), **{name: value})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("grpo", "eval_loss"),
        ("grpo", "loss"),
        ("grpo", None),
        ("sft", None),
        ("sft", "eval_regrett"),
        ("grpo", "reward"),
    ],
)
def test_a_measure_that_no_evaluation_gives_is_refused_at_once(kind, name, tmp_path):
    with pytest.raises(
        ValueError, match=f"metric_for_best_model is ({name!r}, which no evaluation measures|null); expected"
    ):
        KINDS[kind][1](output_dir=str(tmp_path), metric_for_best_model=name)
    if name:  # without a best checkpoint nobody asks
        KINDS[kind][1](output_dir=str(tmp_path), metric_for_best_model=name, load_best_model_at_end=False)
    with pytest.raises(ValueError, match="eval_strategy is 'no', so that no checkpoint is known to be the best"):
        KINDS[kind][1](output_dir=str(tmp_path), eval_strategy="no")


@pytest.mark.parametrize("kind", KINDS)
def test_the_measures_that_are_offered_are_those_of_an_evaluation(kind, tmp_path):
    trainer = make_trainer(kind, tmp_path)
    found = {name.removeprefix("eval_") for name in trainer.evaluate()}
    offered = set(trainer.args.measures)
    assert offered - found <= {"info_score", "greedy_reward"}  # where the tables do not hold the selections
    rest = {name for name in found - offered if not name.endswith(("_margin", "_second"))}
    assert rest == {"collapsed", "runtime", "model_preparation_time", "epoch"}


def test_a_policy_that_is_damaged_from_the_start_is_no_reference(tmp_path):
    data = grpo_data("train")
    model = PointerSelectorModel(
        PointerSelectorConfig(image_embed_dim=16, text_embed_dim=8, hidden_size=16, num_heads=2)
    )
    with torch.no_grad():
        model.scorer.log_temperature.fill_(math.nan)
    args = OfflineGRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, rce_epochs=1, eval_strategy="no", load_best_model_at_end=False
    )
    with pytest.raises(
        ValueError, match=rf"scores of the candidates of the query {data.query_ids[0]!r} are not finite"
    ):
        OfflineGRPOTrainer(model, args, data)


def test_a_checkpoint_with_pickled_weights_is_never_read(tmp_path):
    trainer = make_trainer("sft", tmp_path, evaluation=False, num_train_epochs=2)
    trainer.train()
    (last,) = tmp_path.glob("checkpoint-*")
    checkpoint = last.rename(tmp_path / "kept")
    weights = load_file(checkpoint / "model.safetensors")
    again = make_trainer("sft", tmp_path, evaluation=False)
    again.train(resume_from_checkpoint=str(checkpoint))  # with transformers' own optimizer.pt
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(weights))
    with pytest.raises(ValueError, match=r"checkpoint '.*' has pickled weights \(pytorch_model.bin\)"):
        make_trainer("sft", tmp_path, evaluation=False).train(resume_from_checkpoint=str(checkpoint))


def test_a_selector_is_read_whole_and_from_safetensors_alone(tmp_path):
    model = make_trainer("sft", tmp_path, evaluation=False).model
    model.save_pretrained(tmp_path / "s")
    file = tmp_path / "s" / "model.safetensors"
    weights = load_file(file)

    def refused(message, content):
        save_file(content, file, {"format": "pt"})
        with pytest.raises(ValueError, match=message):
            PointerSelectorModel.from_pretrained(tmp_path / "s")

    name = "query_tower.norm.weight"
    refused(
        "has no weights for 'query_tower.norm.weight' .1 are missing", {k: v for k, v in weights.items() if k != name}
    )
    refused(
        "weight 'query_tower.norm.weight' of the selector '.*' is not finite",
        {**weights, name: weights[name] * math.nan},
    )
    refused("weights of the selector '.*' can't be read", {**weights, name: torch.ones(3)})
    file.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"weights of the selector '.*' can't be read \(SafetensorError"):
        PointerSelectorModel.from_pretrained(tmp_path / "s")
    file.unlink()
    with pytest.raises(ValueError, match=r"can't be read \(OSError"):
        PointerSelectorModel.from_pretrained(tmp_path / "s")
    torch.save(weights, tmp_path / "s" / "pytorch_model.bin")
    for options in ({}, {"use_safetensors": False}):
        with pytest.raises(
            ValueError, match=r"selector '.*' has pickled weights \(pytorch_model.bin\) and no safetensors"
        ):
            PointerSelectorModel.from_pretrained(tmp_path / "s", **options)


@pytest.mark.parametrize("kl", [math.nan, math.inf, -math.inf])
def test_beta_does_not_follow_a_kl_that_is_no_number(kl):
    beta = AdaptiveBeta(0.04, 0.01, 0.1)
    with pytest.raises(ValueError, match=f"The KL to the SFT policy is {kl}"):
        beta.update(kl)
    assert beta.beta == 0.04


def test_a_share_that_is_no_number_is_a_collapse():
    assert not is_collapsed(20, 0.2, 0.2, 0.9) and not is_collapsed(20, 0.2, 0.2)
    for shares in ((math.nan, 0.2, 0.9), (0.2, 0.2, math.nan), (math.nan, 0.2), (0.2, math.nan)):
        assert is_collapsed(20, *shares)
