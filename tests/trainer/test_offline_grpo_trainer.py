# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import copy
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from paths import ROOT
from safetensors.torch import load_file
from trainer.simulated_rollouts import rollouts_of
from trainer.simulated_world import SimulatedWorld
from transformers import AutoModel, TrainerCallback

from leverplus_trl.selectors import PRESETS, PointerSelectorConfig, PointerSelectorModel, SelectorProcessor
from leverplus_trl.selectors.base_selector import action_step_logprobs
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
from leverplus_trl.trainer.policy_measures import measure_groups, set_reference
from leverplus_trl.trainer.sft_trainer import sequence_logits


SIZES = {"train": 200, "validation": 64}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_model(world, stop=False, **values):
    torch.manual_seed(0)
    config = {"image_embed_dim": 16, "text_embed_dim": 8, "hidden_size": 32, "num_heads": 2, **PRESETS["v2"][1]}
    model = PointerSelectorModel(PointerSelectorConfig(**config, stop=stop, insertion=world.insertion, **values))
    features = SelectorProcessor().fuse(world.embeddings["pool"], ["image", "text"])
    model.fit_inputs(features, features)
    return model


class Simulation:
    """A world, a selector that SFT left half-trained, and its rollouts."""

    def __init__(self, folder, insertion="left", stop=False, known=0.0, epochs=3, sizes=SIZES):
        self.world = SimulatedWorld(pool=120, num_candidates=12, insertion=insertion, known=known)
        tables = {split: self.world.queries(split, size) for split, size in sizes.items()}
        self.beams = {split: beams for split, (beams, _) in tables.items()}
        self.stop, model = stop, new_model(self.world, stop)
        scored = scored_prefixes(*tables["train"], insertion, "prob", stop)
        ids = self.beams["train"]["query_id"], self.beams["train"]["candidate_ids"]
        queries, pool = self.world.embeddings["train"], self.world.embeddings["pool"]
        args = SelectorSFTConfig(
            output_dir=str(folder),
            num_train_epochs=epochs,
            per_device_train_batch_size=16,
            use_cpu=True,
            disable_tqdm=True,
            eval_strategy="no",
            load_best_model_at_end=False,
            save_strategy="no",
        )
        SelectorSFTTrainer(model, args, SelectorDataset(*ids, queries, pool, SelectorProcessor(), scored)).train()
        self.sft_weights = copy.deepcopy(model.state_dict())
        self.rollouts = {}
        for split, beams in self.beams.items():
            greedy = self.selected(model, split)
            self.rollouts[split] = rollouts_of(self.world, split, beams, greedy, stop=stop, size=12)

    def model(self, **values):
        model = new_model(self.world, self.stop, **values)
        model.load_state_dict(self.sft_weights)
        return model

    def dataset(self, split, rewards=None, rows=None):
        """Rewards are the accuracies, or what `rewards` makes of them."""
        table = self.rollouts[split] if rows is None else self.rollouts[split].select(rows)
        values = [np.array(own) for own in table["accuracies"]]
        values = values if rewards is None else [rewards(own) for own in values]
        groups = rollout_groups(table, values, self.world.insertion, self.stop, self.world.num_shots)
        embeddings = self.world.embeddings[split], self.world.embeddings["pool"]
        return RolloutDataset(table["query_id"], table["candidate_ids"], *embeddings, SelectorProcessor(), groups)

    def selected(self, model, split):
        """Ids in prompt order that a selector chooses greedily."""
        table, pool = self.beams[split], self.world.embeddings["pool"]
        ids, candidates = table["query_id"][:], table["candidate_ids"][:]
        inputs = SelectorProcessor()(self.world.embeddings[split], ids, pool, candidates)
        positions = model.eval().select(**inputs, num_shots=self.world.num_shots).demonstration_positions.tolist()
        order = -1 if self.world.insertion == "left" else 1
        return [[own[p] for p in row if p >= 0][::order] for row, own in zip(positions, candidates, strict=True)]

    def score(self, model, split="validation"):
        return self.world.mean_probability(split, self.selected(model, split))


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    return Simulation(tmp_path_factory.mktemp("sft"))


def make_trainer(folder, model, train, evaluation=None, callbacks=None, **values):
    plain = {"num_train_epochs": 4, "rce_epochs": 1, "curriculum_epochs": 1, "per_device_train_batch_size": 16}
    plain |= {"use_cpu": True, "disable_tqdm": True, "logging_steps": 4, "report_to": "none"}
    if evaluation is None:
        plain |= {"eval_strategy": "no", "load_best_model_at_end": False, "save_strategy": "no"}
    args = OfflineGRPOConfig(output_dir=str(folder), **{**plain, **values})
    return OfflineGRPOTrainer(model, args, train, evaluation, callbacks=callbacks)


def evaluations(trainer):
    return [entry for entry in trainer.state.log_history if "eval_expected_reward" in entry]


def same_weights(left, right):
    return all(torch.equal(value, right[name]) for name, value in left.items())


def true_reward(simulation, model, split="validation"):
    """Expected accuracy of the stored sequences, whatever the model was trained on."""
    dataset = simulation.dataset(split)
    set_reference(model, dataset, 64)
    batch = dataset.__getitems__(list(range(len(dataset))))
    return measure_groups(model.eval(), batch)["expected_reward"].mean().item()


def test_reward_raises_the_expected_reward_and_reversed_reward_lowers_it(tmp_path, simulation):
    free = {"num_train_epochs": 6, "learning_rate": 1e-3, "kl_low": 0.2, "kl_high": 1.0, "logging_steps": 10}
    before = true_reward(simulation, simulation.model())
    model = simulation.model()
    evaluation = simulation.dataset("validation")
    trainer = make_trainer(tmp_path / "up", model, simulation.dataset("train"), evaluation, **free)
    trainer.train()
    found = evaluations(trainer)
    assert found[0]["step"] == 0 and found[0]["eval_expected_reward"] == pytest.approx(before, abs=1e-6)
    assert found[0]["eval_changed"] == 0.0 and found[0]["eval_kl"] == pytest.approx(0.0, abs=1e-6)
    assert found[0]["eval_greedy_reward_coverage"] == 1.0  # rollouts hold what SFT chooses
    best = max(entry["eval_expected_reward"] for entry in found)
    assert best > before + 0.03
    assert true_reward(simulation, model) == pytest.approx(best, abs=1e-6)  # the best weights were loaded
    assert found[-1]["eval_sft_expected_reward"] == pytest.approx(before, abs=1e-6)

    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    names = {"reward", "reward_std", "frac_reward_zero_std", "advantage_std", "kl", "entropy", "beta", "changed"}
    assert all(names <= set(entry) for entry in logged)
    assert "tau" in logged[0] and "clip_ratio" not in logged[0]
    assert "tau" not in logged[-1] and "clip_ratio" in logged[-1]
    assert logged[-1]["changed"] > 0.05 and logged[-1]["kl"] > 0.01
    train = simulation.dataset("train")
    mean = train.groups.rewards.mean().item()
    assert np.mean([entry["reward"] for entry in logged]) == pytest.approx(mean, abs=0.02)

    reversed_model = simulation.model()
    reverse = simulation.dataset("train", rewards=lambda own: -own)
    make_trainer(tmp_path / "down", reversed_model, reverse, **free).train()
    assert true_reward(simulation, reversed_model) < before - 0.03
    assert (
        true_reward(simulation, reversed_model, "train") < true_reward(simulation, simulation.model(), "train") - 0.03
    )


def test_equal_rewards_change_nothing_and_that_is_said(tmp_path, simulation, caplog):
    model = simulation.model()
    train = simulation.dataset("train", rewards=lambda own: np.full_like(own, 0.3), rows=range(32))
    trainer = make_trainer(tmp_path, model, train, simulation.dataset("validation"), num_train_epochs=3)
    with caplog.at_level(logging.WARNING, logger="leverplus_trl"):
        trainer.train()
    assert same_weights(simulation.sft_weights, model.state_dict())
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert all(entry["frac_reward_zero_std"] == 1.0 and entry["advantage_std"] == 0.0 for entry in logged)
    assert all(entry["grad_norm"] == 0.0 for entry in logged)
    assert "THE POLICY DOES NOT MOVE" in caplog.text
    assert "the rewards of 100% of the groups are all equal" in caplog.text
    assert "NOTHING BEAT THE SFT POLICY" in caplog.text


def test_if_nothing_beats_sft_its_weights_are_saved(tmp_path, simulation, caplog):
    reverse = simulation.dataset("train", rewards=lambda own: -own, rows=range(48))
    evaluation = simulation.dataset("validation")
    values = {"num_train_epochs": 3, "rce_epochs": 1, "learning_rate": 3e-3, "curriculum_epochs": 0}
    model = simulation.model()
    trainer = make_trainer(tmp_path, model, reverse, evaluation, **values)
    with caplog.at_level(logging.WARNING, logger="leverplus_trl"):
        trainer.train()
    found = evaluations(trainer)
    assert all(entry["eval_expected_reward"] < found[0]["eval_expected_reward"] for entry in found[1:])
    assert "NOTHING BEAT THE SFT POLICY: its eval_expected_reward on held-out queries is" in caplog.text
    assert same_weights(simulation.sft_weights, model.state_dict())
    trainer.evaluate()
    trainer.create_model_card()
    trainer.save_model()
    saved = AutoModel.from_pretrained(tmp_path)
    assert same_weights(simulation.sft_weights, saved.state_dict())
    card = (tmp_path / "README.md").read_text()
    assert "Nothing beat the SFT selector on them: these are its weights." in card
    assert f"| expected reward of the stored sequences | {found[0]['eval_expected_reward']:.4f} ± " in card
    assert "| reward | 1 x accuracy |" in card and "| beam |" in card and "| queries | 48 |" in card


class Watch(TrainerCallback):
    """Looks at the trainer after each step, and may stop it."""

    def __init__(self, look=None, stop_at=None):
        self.look, self.stop_at, self.seen = look, stop_at, []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.look:
            self.seen.append(self.look(model))

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.stop_at


@pytest.mark.parametrize("scale_rewards", ["group", "batch"])
@pytest.mark.parametrize("rce_epochs", [0, 1])
def test_micro_batches_make_the_gradient_of_one_batch(tmp_path, simulation, scale_rewards, rce_epochs):
    seen = []
    for size, steps in ((8, 1), (4, 2)):
        watch = Watch(lambda model: [value.grad.clone() for value in model.parameters()])
        train = simulation.dataset("train", rows=range(8))
        # queries that teach nothing stand in one of the micro-batches only
        train.groups.rewards[:3] = 0.5
        values = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "rce_epochs": rce_epochs}
        values |= {
            "max_grad_norm": 0.0,
            "max_steps": 2 + 2 * rce_epochs,
            "scale_rewards": scale_rewards,
            "learning_rate": 1e-3,
        }
        trainer = make_trainer(tmp_path, simulation.model(), train, callbacks=[watch], warmup_steps=0, **values)
        trainer.train()
        seen.append(watch.seen)
    assert len(seen[0]) == len(seen[1]) == 2 + 2 * rce_epochs
    for one_batch, two_batches in zip(*seen, strict=True):
        assert max(grad.abs().max().item() for grad in one_batch) > 1e-3
        for left, right in zip(one_batch, two_batches, strict=True):
            torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-4)


def test_the_old_policy_is_that_before_the_updates_on_the_block(tmp_path, simulation):
    model = simulation.model()
    train = simulation.dataset("train", rows=range(32))
    values = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_iterations": 3, "rce_epochs": 0}
    trainer = make_trainer(tmp_path, model, train, learning_rate=1e-2, warmup_steps=0, max_steps=6, **values)
    seen = []
    original = trainer.compute_loss

    def watched(model, inputs, **kwargs):
        loss = original(model, inputs, **kwargs)
        positions = inputs["demonstration_positions"]
        now = action_step_logprobs(sequence_logits(model, inputs, positions), positions, False).detach()
        seen.append((inputs["query_embeds"], now, inputs.get("old_step_logprobs", now)))
        return loss

    trainer.compute_loss = watched
    trainer.train()
    assert len(seen) == 12  # six steps of two micro-batches
    for block in (seen[:6], seen[6:]):
        for number in (0, 1):
            uses = block[number::2]
            assert all(torch.equal(queries, uses[0][0]) for queries, _, _ in uses)  # three times in a row
            assert all(torch.equal(old, uses[0][1]) for _, _, old in uses)  # as the policy was at the first of them
            assert not torch.allclose(uses[2][1], uses[0][1], atol=1e-3)  # and not as it is
    assert not torch.equal(seen[0][0], seen[6][0])
    assert any(entry.get("clip_ratio", 0.0) > 0.0 for entry in trainer.state.log_history)


def test_a_resumed_run_is_bit_exact(tmp_path, simulation):
    # Step 7 is in the middle of a block: the old policy of the block and beta must survive.
    values = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "num_train_epochs": 3}
    values |= {"learning_rate": 3e-3, "save_steps": 7, "eval_steps": 7, "disable_dropout": False, "logging_steps": 3}
    train = simulation.dataset("train", rows=range(40))

    def trainer_of(folder, model, stop_at=None):
        evaluation = simulation.dataset("validation")
        return make_trainer(tmp_path / folder, model, train, evaluation, callbacks=[Watch(stop_at=stop_at)], **values)

    whole, resumed = simulation.model(), simulation.model()
    trainer = trainer_of("whole", whole)
    trainer.train()
    trainer_of("cut", simulation.model(), stop_at=7).train()
    checkpoint = tmp_path / "cut" / "checkpoint-7"
    assert len(load_file(checkpoint / "old_policy_0.safetensors")) == 2
    saved = json.loads((checkpoint / "trainer_state.json").read_text())["stateful_callbacks"]["AdaptiveBeta"]
    assert saved["args"]["beta"] != 0.04
    again = trainer_of("cut", resumed)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == trainer.state.global_step == 18
    assert again.adaptive_beta.beta == trainer.adaptive_beta.beta
    assert same_weights(whole.state_dict(), resumed.state_dict())
    plain = [
        [
            {k: v for k, v in entry.items() if "runtime" not in k and "per_second" not in k}
            for entry in evaluations(one)
        ]
        for one in (trainer, again)
    ]
    assert plain[0] == plain[1]


SHARP_RCE = {"rce_epochs": 4, "curriculum_epochs": 0, "rce_tau_start": 0.3, "rce_tau_end": 0.1}


@pytest.mark.parametrize("values", [SHARP_RCE, {"loss_type": "dr_grpo"}])
def test_a_selector_that_can_stop_learns_by_reward_when_to(tmp_path, values):
    simulation = Simulation(tmp_path / "sft", stop=True, known=0.4, epochs=3, sizes={"train": 100, "validation": 40})
    lengths = {len(ids) for group in simulation.rollouts["train"]["demonstration_ids"] for ids in group}
    assert lengths == {0, 1, 2}
    before = true_reward(simulation, simulation.model(), "train")
    model = simulation.model()
    values = {"learning_rate": 1e-3, "kl_low": 0.2, "kl_high": 1.0, "loss_type": "grpo", **values}
    trainer = make_trainer(tmp_path / "rl", model, simulation.dataset("train"), **values)
    trainer.train()
    assert true_reward(simulation, model, "train") > before + 0.02


@pytest.mark.parametrize("values", [{"importance_sampling_level": "sequence"}, {"behaviour_weights": True}])
def test_other_objectives_train_too(tmp_path, simulation, values):
    model = simulation.model()
    before = true_reward(simulation, model, "train")
    plain = {"num_train_epochs": 3, "rce_epochs": 0, "learning_rate": 1e-3, "kl_high": 1.0}
    trainer = make_trainer(tmp_path, model, simulation.dataset("train"), **plain, **values)
    trainer.train()
    assert true_reward(simulation, model, "train") > before + 0.02
    weights = [entry["behaviour_weight"] for entry in trainer.state.log_history if "behaviour_weight" in entry]
    assert bool(weights) == ("behaviour_weights" in values)
    assert all(0.0 < weight <= 2.0 for weight in weights)


def test_a_run_that_would_never_leave_the_warm_up_is_refused(tmp_path, simulation):
    train = simulation.dataset("train")
    with pytest.raises(ValueError, match=r"max_steps is 1, but the warm-up .* GRPO would never begin"):
        make_trainer(tmp_path, simulation.model(), train, max_steps=1, rce_epochs=2)
    with pytest.raises(ValueError, match=r"max_steps is 5, but the warm-up .* takes \d+ steps"):  # of these batches
        make_trainer(tmp_path, simulation.model(), train, max_steps=5, rce_epochs=2)
    with pytest.raises(ValueError, match=r"rce_epochs is 0.001, which is less than half a batch"):
        make_trainer(tmp_path, simulation.model(), train, rce_epochs=0.001)


def test_a_learning_rate_that_moves_nothing_is_called_so(tmp_path, simulation, caplog):
    train = simulation.dataset("train", rows=range(32))
    trainer = make_trainer(
        tmp_path, simulation.model(), train, simulation.dataset("validation"), learning_rate=1e-9, adaptive_beta=False
    )
    with caplog.at_level(logging.WARNING, logger="leverplus_trl"):
        trainer.train()
    assert "THE POLICY DOES NOT MOVE. 0.0% of the held-out selections have changed since SFT" in caplog.text
    assert "the learning rate 1e-09 is too low" in caplog.text


def test_the_warm_up_cools_and_ends_with_a_whole_block(tmp_path, simulation):
    train = simulation.dataset("train", rows=range(40))  # three blocks of 16, each twice
    trainer = make_trainer(tmp_path, simulation.model(), train, num_train_epochs=4, rce_epochs=1.5)
    temperatures = []
    for trainer.state.global_step in range(24):
        temperatures.append(trainer.tau())
    assert temperatures[:8] == pytest.approx([2.0 - 1.5 * step / 7 for step in range(8)])
    assert temperatures[8:] == [None] * 16


WORKER = """
import sys
import torch
from leverplus_trl.trainer import RolloutDataset, rollout_groups
from leverplus_trl.selectors import SelectorProcessor
from safetensors.torch import save_file
from trainer.test_offline_grpo_trainer import SimulatedWorld, make_trainer, new_model, rollouts_of
import numpy as np

torch.set_num_threads(1)
folder, size = sys.argv[1], int(sys.argv[2])
world = SimulatedWorld(pool=60, num_candidates=8)
datasets = []
for split, count in (("train", 20), ("validation", 9)):
    beams, _ = world.queries(split, count)
    table = rollouts_of(world, split, beams, size=6)
    groups = rollout_groups(table, [np.array(own) for own in table["accuracies"]], "left")
    embeddings = world.embeddings[split], world.embeddings["pool"]
    datasets.append(RolloutDataset(table["query_id"], table["candidate_ids"], *embeddings, SelectorProcessor(),
    groups))
values = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": size, "scale_rewards": "batch"}
values |= {"per_device_eval_batch_size": 4, "load_best_model_at_end": False, "save_strategy": "no", "logging_steps": 6}
model = new_model(world)
trainer = make_trainer(folder, model, *datasets, num_train_epochs=3, eval_steps=6, learning_rate=1e-3, **values)
trainer.train()
assert trainer.args.world_size * size == 2
if trainer.is_world_process_zero():
    trainer.save_state()
    save_file(model.state_dict(), f"{folder}/weights.safetensors")
"""


def test_two_processes_train_as_one(tmp_path):
    file = tmp_path / "worker.py"
    file.write_text(WORKER)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    found = []
    for command, accumulated in (([sys.executable], 2), (torchrun, 1)):
        folder = tmp_path / str(accumulated)
        folder.mkdir()
        subprocess.run([*command, str(file), str(folder), str(accumulated)], check=True, env=environment, timeout=300)
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        found.append((history, load_file(folder / "weights.safetensors")))
    (one_history, one), (two_history, two) = found
    assert all(torch.allclose(value, two[name], atol=1e-5) for name, value in one.items())
    assert len(one_history) == len(two_history)
    for left, right in zip(one_history, two_history, strict=True):
        measured = [name for name in left if "runtime" not in name and "second" not in name and name != "total_flos"]
        assert {name: right[name] for name in measured} == pytest.approx(
            {name: left[name] for name in measured}, abs=1e-4
        )
