# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import json
import logging
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from trainer.simulated_world import KNOWN, SimulatedWorld
from transformers import AutoModel, AutoProcessor, TrainerCallback, TrainingArguments

from leverplus_trl.retrieval.embeddings import ExampleEmbeddings
from leverplus_trl.retrieval.similarity_index import rank_candidates
from leverplus_trl.schema import BEAMS, LEDGER
from leverplus_trl.selectors import PRESETS, PointerSelectorConfig, PointerSelectorModel, SelectorProcessor
from leverplus_trl.trainer import SelectorDataset, SelectorSFTConfig, SelectorSFTTrainer, scored_prefixes
from leverplus_trl.trainer.model_card import model_card
from leverplus_trl.trainer.sft_trainer import measure_batch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_dataset(world, split, count):
    beams, ledger = world.queries(split, count)
    scored = scored_prefixes(beams, ledger, world.insertion, "prob")
    ids = beams["query_id"], beams["candidate_ids"]
    embeddings = world.embeddings[split], world.embeddings["pool"]
    return SelectorDataset(*ids, *embeddings, SelectorProcessor(), scored), beams


@pytest.fixture(scope="module")
def world():
    return SimulatedWorld()


@pytest.fixture(scope="module")
def data(world):
    return {split: make_dataset(world, split, n) for split, n in {"train": 100, "validation": 40, "test": 200}.items()}


def make_model(dataset, **values):
    torch.manual_seed(0)
    config = {"image_embed_dim": 16, "text_embed_dim": 8, "hidden_size": 48, **PRESETS["v2"][1], **values}
    model = PointerSelectorModel(PointerSelectorConfig(**config))
    features = dataset.processor.fuse(dataset.pool, dataset.processor.query_features)
    model.fit_inputs(features, features)
    return model


def make_trainer(folder, model, train, evaluation=None, callbacks=None, **values):
    plain = {"num_train_epochs": 2, "use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 25}
    if evaluation is None:
        plain |= {"eval_strategy": "no", "load_best_model_at_end": False}
    args = SelectorSFTConfig(output_dir=str(folder), **{**plain, **values})
    return SelectorSFTTrainer(model, args, train, evaluation, callbacks=callbacks)


def selected(model, dataset, beams, insertion="left"):
    """Ids in prompt order of what the selector chooses greedily."""
    batch = dataset.__getitems__(list(range(len(dataset))))
    inputs = {name: batch[name] for name in ("query_embeds", "candidate_embeds", "candidate_mask")}
    positions = model.eval().select(**inputs, num_shots=2).demonstration_positions
    positions = positions.flip(1) if insertion == "left" else positions
    return [[ids[p] for p in row] for row, ids in zip(positions.tolist(), beams["candidate_ids"], strict=True)]


def test_training_learns_what_similarity_does_not_know(tmp_path, world, data):
    model = make_model(data["train"][0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    test, beams = data["test"]
    trainer = make_trainer(
        tmp_path, model, data["train"][0], data["validation"][0], num_train_epochs=40, learning_rate=3e-3
    )
    trainer.train()
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == ("feature_" in name), name  # statistics stay, weights move

    pool, queries = world.embeddings["pool"], world.embeddings["test"]
    accuracy = {
        "selector": world.mean_probability("test", selected(model, test, beams)),
        "random": world.mean_probability("test", [ids[:2] for ids in beams["candidate_ids"]]),
        "oracle": world.mean_probability("test", [ids[0] for ids in beams["demonstration_ids"]]),
    }
    for kind in ("text_sim", "image_sim", "image_text_sim"):
        ranked = rank_candidates(queries, queries.ids, pool, beams["candidate_ids"], kind)
        accuracy[kind] = world.mean_probability("test", [ids[:2][::-1] for ids in ranked])
    similarity = max(accuracy[kind] for kind in ("text_sim", "image_sim", "image_text_sim"))
    assert accuracy["random"] < 0.3
    assert accuracy["selector"] > similarity + 0.2
    assert accuracy["selector"] > 0.8 * accuracy["oracle"]

    evaluations = [entry for entry in history if "eval_regret" in entry]
    assert len(evaluations) == 10
    assert evaluations[-1]["eval_regret"] < 0.6 * evaluations[0]["eval_regret"]
    names = ("recall", "info_score", "info_score_coverage", "id_entropy", "position_entropy", "most_common_share")
    assert all(f"eval_{name}" in evaluations[-1] for name in (*names, "swap_change_share"))
    assert evaluations[-1]["eval_collapsed"] == 0.0
    best = min(entry["eval_regret"] for entry in evaluations)
    assert trainer.evaluate()["eval_regret"] == pytest.approx(best)  # the best checkpoint was loaded

    trainer.create_model_card()
    trainer.save_model()
    assert {path.name for path in tmp_path.glob("*.*")} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "processor_config.json",
    }
    loaded, processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, SelectorProcessor)
    assert selected(loaded, test, beams) == selected(model, test, beams)
    assert f"{best:.4f}" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "arguments",
    [{"loss_type": "beams", "num_train_epochs": 20}, {"label_smoothing": 0.05}],
)
def test_other_objectives_train_too(tmp_path, world, data, arguments):
    model = make_model(data["train"][0])
    test, beams = data["test"]
    before = world.mean_probability("test", selected(model, test, beams))
    arguments = {"num_train_epochs": 12, "learning_rate": 3e-3, **arguments}
    trainer = make_trainer(tmp_path, model, data["train"][0], **arguments)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert world.mean_probability("test", selected(model, test, beams)) > before + 0.1


@pytest.mark.parametrize(("insertion", "num_shots"), [("right", 2), ("left", 1), ("left", 3)])
def test_either_insertion_and_any_number_of_shots(tmp_path, insertion, num_shots):
    world = SimulatedWorld(pool=100, num_candidates=10, num_shots=num_shots, beam_size=3, insertion=insertion)
    (train, _), (test, beams) = make_dataset(world, "train", 60), make_dataset(world, "test", 60)
    assert train.scored.prefix_positions.shape == (60, 1 + 3 * (num_shots - 1), num_shots)
    model = make_model(train)
    whole = {"per_device_train_batch_size": 12}  # 60 queries in whole batches
    trainer = make_trainer(tmp_path, model, train, test, num_train_epochs=20, learning_rate=3e-3, **whole)
    first = trainer.evaluate()
    trainer.train()
    assert trainer.evaluate()["eval_regret"] < 0.8 * first["eval_regret"]
    if num_shots == 2:  # insertion right: what is chosen first stands first
        chosen = world.mean_probability("test", selected(model, test, beams, "right"))
        assert chosen > world.mean_probability("test", [ids[:2] for ids in beams["candidate_ids"]]) + 0.2


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def test_a_resumed_run_is_bit_exact(tmp_path, data):
    train, evaluation = data["train"][0], data["validation"][0]
    arguments = {"num_train_epochs": 4, "save_steps": 6, "eval_steps": 6}
    whole = make_model(train)
    trainer = make_trainer(tmp_path / "whole", whole, train, evaluation, **arguments)
    trainer.train()
    stopped = make_trainer(tmp_path / "cut", make_model(train), train, evaluation, callbacks=[StopAt(6)], **arguments)
    stopped.train()
    resumed = make_model(train)
    with torch.no_grad():
        resumed.scorer.log_temperature.fill_(7.0)  # whatever it was
    again = make_trainer(tmp_path / "cut", resumed, train, evaluation, **arguments)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == trainer.state.global_step == 16
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_selector_that_ignores_the_query_is_called_collapsed(tmp_path, world, data, caplog):
    dataset, _ = data["validation"]
    same = np.ones((40, 16), np.float32) / 4.0, np.ones((40, 8), np.float32) / math.sqrt(8.0)
    blind = SelectorDataset(
        dataset.query_ids,
        [["pool-0", "pool-1", "pool-2"]] * 40,
        ExampleEmbeddings(dataset.query_ids, *same),
        dataset.pool,
        dataset.processor,
        scored_prefixes(*constant_tables(dataset.query_ids), "left", "prob"),
    )
    trainer = make_trainer(tmp_path, make_model(dataset), blind, blind)
    with caplog.at_level(logging.WARNING, logger="leverplus_trl"):
        metrics = trainer.evaluate()
    assert metrics["eval_collapsed"] == 1.0
    assert metrics["eval_most_common_share"] == 1.0 and metrics["eval_swap_change_share"] == 0.0
    assert "has collapsed: 100% of its selections are one and the same, and 0% change" in caplog.text
    assert "only 3 candidates for 2 shots" in caplog.text
    assert "It has collapsed" in model_card(trainer.model.config, trainer.args, metrics, 40)


def constant_tables(query_ids):
    entry = {"split": "train", "answer_logprob": -1.0, "num_answer_tokens": 1, "accuracy": None}
    names = ["pool-0", "pool-1", "pool-2"]
    sequences = [[], *([name] for name in names), ["pool-1", "pool-0"], ["pool-2", "pool-0"]]
    beam = {"split": "train", "candidate_ids": names, "demonstration_ids": [["pool-1", "pool-0"]], "scores": [0.0]}
    beam |= {"step_scores": [[0.0, 0.0]], "zero_shot_score": 0.3}
    beams = [{"query_id": name, **beam} for name in query_ids]
    ledger = [{"query_id": name, "demonstration_ids": ids, **entry} for name in query_ids for ids in sequences]
    return Dataset.from_list(beams, features=BEAMS), Dataset.from_list(ledger, features=LEDGER)


class FixedPolicy:
    """Prefers candidates in the order of the query's features, whatever was picked."""

    def __call__(self, query_embeds, demonstration_positions, **candidates):
        grouped = demonstration_positions.dim() == 3
        picks = demonstration_positions if grouped else demonstration_positions[:, None]
        groups, steps = picks.shape[1:]
        logits = query_embeds[:, None, None].repeat(1, groups, steps, 1)
        for step in range(1, steps):
            for earlier in range(step):
                made = picks[:, :, earlier]
                taken = torch.zeros_like(logits[:, :, 0], dtype=torch.bool).scatter(
                    2, made.clamp(min=0)[..., None], True
                )
                logits[:, :, step] = logits[:, :, step].masked_fill(taken & (made >= 0)[..., None], -1e9)

        class Output:
            pass

        output = Output()
        output.logits = logits if grouped else logits[:, 0]
        return output


@pytest.mark.parametrize("loss_type", ["listwise", "beams"])
def test_with_stop_it_learns_when_demonstrations_hurt(tmp_path, loss_type):
    world = SimulatedWorld(known=0.4)
    data = {}
    for split, count in (("train", 150), ("test", 100)):
        beams, ledger = world.queries(split, count)
        scored = scored_prefixes(beams, ledger, world.insertion, "prob", stop=True)
        embeddings = world.embeddings[split], world.embeddings["pool"]
        ids = beams["query_id"], beams["candidate_ids"]
        data[split] = SelectorDataset(*ids, *embeddings, SelectorProcessor(), scored)
    model = make_model(data["train"], stop=True)
    make_trainer(
        tmp_path, model, data["train"], data["test"], num_train_epochs=30, loss_type=loss_type, learning_rate=3e-3
    ).train()
    batch = data["test"].__getitems__(list(range(100)))
    found = measure_batch(model.eval(), batch)
    lengths = (found["positions"] >= 0).sum(-1)
    known = torch.from_numpy(world.attributes["test"][:, 4] == KNOWN)
    assert (lengths[known] == 0).float().mean() > 0.9
    assert (lengths[~known] == 0).float().mean() < 0.1
    assert (found["rows"][known] == -1).float().mean() > 0.9
    torch.testing.assert_close(
        found["info_score"][known & (lengths == 0)], torch.zeros(()).expand(int((known & (lengths == 0)).sum()))
    )


def test_measures_of_an_evaluation_equal_the_hand_worked_case():
    nan = math.nan
    inputs = {
        "query_embeds": torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]),  # prefer 0, 1, 2 and 2, 1, 0
        "swapped_query_embeds": torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]),
        "candidate_embeds": torch.zeros(2, 3, 1),
        "candidate_mask": torch.ones(2, 3, dtype=torch.bool),
        "candidate_rows": torch.tensor([[7, 8, 9], [4, 5, 6]]),
        "prefix_positions": torch.tensor([[[-1, -1], [0, -1]], [[-1, -1], [1, -1]]]),
        "prefix_lengths": torch.tensor([[0, 1], [0, 1]]),
        "prefix_weights": torch.full((2, 2), 0.5),
        # First query: picks 0 (score 0.3; best 0.5), after (0) picks 1 (0.6, the best).
        # Second: picks 2 (0.1; best 0.4), after (1) picks 2 (0.2; best 0.8); its own selection (2, 1) is not in the
        # ledger.
        "prefix_scores": torch.tensor([[[0.3, 0.5, nan], [nan, 0.6, 0.2]], [[0.2, 0.4, 0.1], [0.8, nan, 0.2]]]),
        "beam_positions": torch.tensor([[[0, 1]], [[1, 0]]]),
        "beam_scores": torch.tensor([[0.6], [0.8]]),
    }
    found = measure_batch(FixedPolicy(), inputs)
    assert found["positions"].tolist() == [[0, 1], [2, 1]]
    assert found["rows"].tolist() == [[7, 8], [6, 5]]
    assert found["swapped_rows"].tolist() == [[9, 8], [4, 5]]
    torch.testing.assert_close(found["regret"], torch.tensor([(0.2 + 0.0) / 2, (0.3 + 0.6) / 2]))
    torch.testing.assert_close(found["info_score"], torch.tensor([0.6, nan]), equal_nan=True)
    assert found["recall"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss_type": "dpo"}, "loss_type is 'dpo'; expected one of listwise, beams"),
        ({"tau": 0.0}, "tau is 0.0"),
        ({"top_n": 0}, "top_n is 0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"score_weights": "softmax"}, "set loss_type: beams or leave score_weights out"),
        ({"label_smoothing_factor": 0.1}, "set label_smoothing"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        SelectorSFTConfig(output_dir=str(tmp_path), **values)


def test_one_process_trains_on_one_gpu_however_many_it_sees(tmp_path, monkeypatch):
    seen = TrainingArguments.__post_init__

    def with_eight(self):
        seen(self)
        self._n_gpu = 8

    monkeypatch.setattr(TrainingArguments, "__post_init__", with_eight)
    assert TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=4).train_batch_size == 32
    args = SelectorSFTConfig(output_dir=str(tmp_path), per_device_train_batch_size=4)
    assert (args.n_gpu, args.train_batch_size) == (1, 4)


def test_the_card_escapes_what_it_is_told():
    config = PointerSelectorConfig(
        encoder="<b>x</b>|y`z`", trained_on={"beams": "a\nb", "recipe": {"dataset": "<script>", "vlm": "v|w"}}
    )
    card = model_card(config, SelectorSFTConfig(output_dir="unused"), {"eval_regret": 0.123456}, 7)
    assert "<b>" not in card and "<script>" not in card and "v|w" not in card
    assert "| training queries | 7 |" in card and "| beams | a b |" in card and "0.1235" in card
    assert "collapsed" not in card
    json.dumps(card)
