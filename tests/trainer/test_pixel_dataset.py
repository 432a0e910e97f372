# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import json
import shutil

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from paths import WORLD
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from trainer.test_grpo_script import made
from trainer.test_grpo_script import run as run_grpo
from trainer.test_sft_script import SEARCH, beams, run
from transformers.models.clip.modeling_clip import CLIPMLP

from leverplus_trl.retrieval.embeddings import Encoder, ExampleEmbeddings
from leverplus_trl.selectors import (
    DemonstrationSelector,
    PointerSelectorConfig,
    PointerSelectorModel,
    SelectorProcessor,
)
from leverplus_trl.selectors.encoder_lora import ENCODER_INPUTS, AdaptedEncoder
from leverplus_trl.tasks import DataArguments, load_examples
from leverplus_trl.trainer import EncoderTable, PixelDataset, embed_inputs
from leverplus_trl.trainer.rollout_dataset import RolloutDataset, RolloutGroups
from leverplus_trl.trainer.sft_dataset import ScoredPrefixes, SelectorDataset
from leverplus_trl.trainer.sft_trainer import measure_batch


__all__ = ["beams", "made"]  # fixtures

CLIP = str(WORLD / "clip")
BOTH = ["image", "text"]


@pytest.fixture(scope="module")
def pool():
    return load_examples(DataArguments(dataset=str(WORLD)), "pool[:10]")


@pytest.fixture(scope="module")
def queries():
    return load_examples(DataArguments(dataset=str(WORLD)), "validation[:4]")


def embeddings(examples):
    """Stored embeddings, of no importance here."""
    table = np.zeros((len(examples), 64), dtype=np.float32)
    return ExampleEmbeddings(examples["id"], table, table, table)


def make_dataset(queries, pool, candidate_ids, features=BOTH, **kwargs):
    """A batch of every query, after no pick, with a score of 1 for the first candidate."""
    width = max(map(len, candidate_ids))
    scores = torch.zeros(len(queries), 1, width).index_fill(2, torch.tensor([0]), 1.0)
    nothing = torch.full((len(queries), 1, 1), -1)
    scored = ScoredPrefixes(nothing, scores, torch.zeros_like(nothing), torch.ones(len(queries), 1))
    inner = SelectorDataset(
        queries["id"],
        candidate_ids,
        embeddings(queries),
        embeddings(pool),
        SelectorProcessor(BOTH, features),
        scored,
    )
    table = EncoderTable(Encoder(CLIP, device="cpu"), **kwargs)
    dataset = PixelDataset(inner, table, queries, pool)
    table.prepare()
    return dataset


def test_each_image_and_text_of_a_batch_is_there_once(queries, pool):
    ids = pool["id"]
    # The first query is also a candidate, by its picture and by its words, under another name.
    again = queries.select([0]).remove_columns("id").add_column("id", ["again"]).select_columns(pool.column_names)
    pool = concatenate_datasets([pool, again])
    dataset = make_dataset(
        queries, pool, [ids[:3], ids[1:5], [*ids[1:3], "again"], ids[:2]], features=[*BOTH, "answer"]
    )
    batch = dataset.__getitems__([0, 2])
    assert not {"query_embeds", "candidate_embeds", "swapped_query_embeds"} & set(batch)
    assert next(iter(batch.values())).shape[0] == 2  # what the trainer takes for the size of the batch
    # Candidates 0, 1, 2 and `again`, which is query 0; query 2; and 1 and 3, which are swapped in.
    assert batch["pixel_values"].shape == (3 + 4, 3, 56, 56)
    rows = [0, 1, 2]
    texts = {*(pool[row][name] for row in [*rows, 10] for name in ("question", "answer")), *queries["question"]}
    assert len(batch["input_ids"]) == len(batch["attention_mask"]) == len(texts)
    assert batch["query_feature_rows"][0, 0] == batch["candidate_feature_rows"][1, 2, 0]  # `again`
    encoder = Encoder(CLIP, device="cpu")
    images = encoder.preprocess([pool[row]["image"] for row in (1, 2, 10)])
    assert torch.equal(batch["pixel_values"][batch["candidate_feature_rows"][1, :3, 0]], images)
    tokens = encoder.tokenize([pool[row]["answer"] for row in (1, 2, 10)])["input_ids"]
    found = batch["input_ids"][batch["candidate_feature_rows"][1, :3, 2]][:, : tokens.shape[1]]
    assert torch.equal(found, tokens)
    dataset.swapped = False
    assert len(dataset.__getitems__([0, 2])["pixel_values"]) == 5
    # Padding encodes nothing that is not there already.
    padded = dataset.__getitems__([1, 3])
    assert padded["candidate_mask"].tolist() == [[True] * 4, [True, True, False, False]]
    assert len(padded["pixel_values"]) == 2 + 5


def test_images_beyond_the_memory_are_prepared_anew(queries, pool):
    ids = pool["id"]
    candidates = [ids[:3], ids[1:4], ids[4:7], ids[7:10]]
    everything, nothing = (make_dataset(queries, pool, candidates, cache_mb=size) for size in (100, 0))
    assert len(everything.table._pixels) == 14 and nothing.table._pixels is None
    everything.table._pixels = everything.table._pixels[:6]  # some of them
    loaded = list(DataLoader(nothing, batch_size=3, collate_fn=lambda batch: batch, num_workers=1))
    for indices, other in zip(([0, 1, 2], [3]), loaded, strict=True):
        batch = everything.__getitems__(indices)
        assert batch.keys() == other.keys() and all(torch.equal(batch[name], other[name]) for name in batch)


def make_model(**values):
    torch.manual_seed(0)
    config = {"encoder": CLIP, "image_embed_dim": 64, "text_embed_dim": 64, "hidden_size": 16, "lora": {}}
    model = PointerSelectorModel(PointerSelectorConfig(**config, **values))
    model.load_encoder()
    return model.eval()


class Counting(torch.nn.Module):
    """A wrapper, as of distributed training: only `forward` can be called."""

    def __init__(self, module):
        super().__init__()
        self.module, self.images = module, []

    def forward(self, **inputs):
        if "pixel_values" in inputs:
            self.images.append(len(inputs["pixel_values"]))
        return self.module(**inputs)


def test_an_evaluation_encodes_once_and_swaps_queries(queries, pool):
    ids = pool["id"]
    dataset = make_dataset(queries, pool, [ids[:5], ids[1:6], ids[4:9], ids[5:10]])
    batch, model = dataset.__getitems__([0, 1, 2]), make_model()
    wrapped = Counting(model)
    with torch.no_grad():
        embedded = embed_inputs(wrapped, batch)
        measures = measure_batch(wrapped, embedded)
        assert wrapped.images == [len(batch["pixel_values"])] == [9 + 4]
        assert measures["positions"].shape == (3, 1)
        assert not set(ENCODER_INPUTS) & embedded.keys() and embed_inputs(wrapped, embedded) is embedded
        expected = model(**{name: batch[name] for name in ENCODER_INPUTS})
        torch.testing.assert_close(embedded["query_embeds"], expected.query_embeds, rtol=0, atol=1e-6)
        torch.testing.assert_close(embedded["candidate_embeds"], expected.candidate_embeds, rtol=0, atol=1e-6)
        own = Encoder(CLIP, device="cpu").encode_images([queries[row]["image"] for row in (1, 2, 3)])
        swapped = embedded["swapped_query_embeds"][:, :64]
        torch.testing.assert_close(swapped, torch.from_numpy(own), rtol=0, atol=1e-6)


def test_rollouts_take_the_same_pixels(queries, pool):
    groups = RolloutGroups(
        demonstration_positions=torch.tensor([[[0], [1]]] * 4),
        rewards=torch.rand(4, 2),
        group_mask=torch.ones(4, 2, dtype=torch.bool),
        behaviour_logprobs=torch.zeros(4, 2),
        sources=torch.zeros(4, 2, dtype=torch.long),
        source_names=["random"],
    )
    inner = (queries["id"], [pool["id"][:4]] * 4, embeddings(queries), embeddings(pool), SelectorProcessor(), groups)
    table = EncoderTable(Encoder(CLIP, device="cpu"))
    dataset = PixelDataset(RolloutDataset(*inner), table, queries, pool)
    table.prepare()
    assert dataset.num_shots == 1 and len(dataset) == 4 and dataset.groups is groups
    dataset.set_reference(torch.zeros(4, 2, 1, 4), torch.zeros(4, 1, dtype=torch.long))
    batch = dataset.__getitems__([1, 2])
    assert torch.equal(batch["rewards"], groups.rewards[1:3]) and "reference_logits" in batch
    with torch.no_grad():
        found = embed_inputs(make_model(), batch)
    assert found["candidate_embeds"].shape == (2, 4, 128) and found["rewards"] is batch["rewards"]


SMALL = {
    "selector": "v2_lora",
    "train_split": "train[:24]",
    "eval_split": "validation[:8]",
    "num_train_epochs": 2,
    "per_device_train_batch_size": 12,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "lora_r": 4,
    "lora_target_modules": ["q_proj", "v_proj"],
}


def test_the_stage_trains_adapters_and_selector_and_nothing_else(tmp_path, beams, monkeypatch):
    counted, states = [], []
    forward, load = AdaptedEncoder.forward, AdaptedEncoder.load_base

    def counting(self, *args, pixel_values, **kwargs):
        counted.append((self.training, len(pixel_values), len({one.numpy().tobytes() for one in pixel_values})))
        return forward(self, *args, pixel_values=pixel_values, **kwargs)

    def remembering(self, *args, **kwargs):
        load(self, *args, **kwargs)
        states.append({name: value.clone() for name, value in self.state_dict().items()})

    with monkeypatch.context() as patch:
        patch.setattr(AdaptedEncoder, "forward", counting)
        patch.setattr(AdaptedEncoder, "load_base", remembering)
        output = run(tmp_path, beams, **SMALL, eval_strategy="epoch", save_strategy="epoch")
    training = [(rows, distinct) for is_training, rows, distinct in counted if is_training]
    assert len(training) == 4 and all(rows == distinct <= 12 + 40 for rows, distinct in training)
    assert len(counted) - len(training) == 3  # evaluations of one batch: two epochs, and the end
    assert all(rows == distinct for _, rows, distinct in counted)

    weights = load_file(output / "model.safetensors")
    before = states[0]
    adapters = {name.removeprefix("encoder."): value for name, value in weights.items() if "encoder.clip" in name}
    assert len(adapters) == 2 * 2 * (2 + 4) and all("lora_" in name for name in adapters)
    assert all(not torch.equal(value, before[name]) for name, value in adapters.items())
    full = (WORLD / "clip" / "model.safetensors").stat().st_size
    assert (output / "model.safetensors").stat().st_size < 0.4 * full
    assert not (output / "encoder").exists()
    config = json.loads((output / "config.json").read_text())
    assert config["lora"]["r"] == 4 and config["encoder"] == SEARCH["encoder"]
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    assert all("eval_swap_change_share" in entry for entry in history if "eval_loss" in entry)

    options = {"pool": load_examples(DataArguments(dataset=str(WORLD)), SEARCH["pool_split"]), "device": "cpu"}
    selector = DemonstrationSelector.from_pretrained(
        str(output), **options, embeddings_dir=str(tmp_path / "embeddings")
    )
    for name, value in selector.model.encoder.state_dict().items():
        assert torch.equal(value, before[name]) or "lora_" in name, name  # what is frozen is as it was
    chosen = selector.select_batch(load_examples(DataArguments(dataset=str(WORLD)), "validation[:8]"))
    assert len({tuple(one.demonstration_ids) for one in chosen}) > 1


def test_a_run_that_is_resumed_ends_the_same(tmp_path, beams, monkeypatch):
    values = {**SMALL, "eval_split": None, "copy_encoder": True}
    values |= {"eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 5}
    output = run(tmp_path, beams, **values)
    assert (output / "encoder" / "model.safetensors").read_bytes() == (
        WORLD / "clip" / "model.safetensors"
    ).read_bytes()
    expected = load_file(output / "model.safetensors")
    halves = sorted(path.name for path in output.glob("checkpoint-*"))
    assert halves == ["checkpoint-2", "checkpoint-4"]
    assert not (output / "checkpoint-2" / "encoder").exists()
    shutil.rmtree(output / "checkpoint-4")
    for name in ("model.safetensors", "processor_config.json"):
        (output / name).unlink()
    batches, forward = [], AdaptedEncoder.forward
    counting = lambda self, **inputs: batches.append(self.training) or forward(self, **inputs)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(AdaptedEncoder, "forward", counting)
        run(tmp_path, beams, **values)
    assert batches == [True, True]  # of four
    found = load_file(output / "model.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    halfway = load_file(output / "checkpoint-2" / "model.safetensors")
    assert any(not torch.equal(found[name], halfway[name]) for name in found)


def test_what_runs_again_for_its_gradients_learns_the_same(tmp_path, beams, monkeypatch):
    """Gradient checkpointing of the encoder, with dropout of the adapters."""
    calls, found = [], []
    forward = CLIPMLP.forward
    counting = lambda self, *inputs: calls.append(torch.is_grad_enabled()) or forward(self, *inputs)  # noqa: E731
    values = {**SMALL, "num_train_epochs": 1, "eval_split": None, "embeddings_dir": str(tmp_path / "embeddings")}
    for again in (False, True):
        folder = tmp_path / str(again)
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(CLIPMLP, "forward", counting)
            output = run(folder, beams, **values, gradient_checkpointing=again)
        losses = [
            entry.get("loss") for entry in json.loads((output / "trainer_state.json").read_text())["log_history"]
        ]
        found.append((load_file(output / "model.safetensors"), losses, sum(calls)))
        calls.clear()
    (plain, losses, ran), (other, other_losses, ran_again) = found
    assert ran_again == 2 * ran > 0
    assert losses == other_losses and losses[0] > 0
    assert plain.keys() == other.keys() and all(torch.equal(plain[name], other[name]) for name in plain)


def test_grpo_goes_on_with_the_adapters(tmp_path, made):
    """And with the encoder that was copied; where it lay before does not matter."""
    lora = {**SMALL, "encoder": str(tmp_path / "clip"), "copy_encoder": True, "learning_rate": 1e-4}
    shutil.copytree(CLIP, lora["encoder"])
    sft = run(tmp_path, made / "beams", **lora)
    shutil.rmtree(lora["encoder"])
    values = {"train_split": "train[:24]", "eval_split": "validation[:8]", "num_train_epochs": 2, "rce_epochs": 1}
    values |= {"load_best_model_at_end": False, "curriculum_epochs": 0}
    output = run_grpo(tmp_path, made, selector=str(sft), **values)
    before, after = (load_file(folder / "model.safetensors") for folder in (sft, output))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in after if "lora_" in name)
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    assert history[0]["step"] == 0 and history[0]["eval_kl"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"selector": "v2", "lora_r": 8},
            "lora_r is set, but the selector v2 has no such field; leave it out, or take v2_lora",
        ),
        ({"lora_r": 0}, "lora_r is 0; expected a whole number of at least 1"),
        ({"lora_bias": "some"}, "bias is 'some'"),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": True}}, "use_reentrant is true"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, beams, values, message):
    with pytest.raises(Exception, match=message):
        run(tmp_path, beams, **(SMALL | values))
    assert not (tmp_path / "sft").exists()
