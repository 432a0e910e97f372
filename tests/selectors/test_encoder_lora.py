# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""On the embedded world's images and CLIP, with adapters of random weights."""

import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset
from paths import WORLD
from safetensors import safe_open
from transformers import AutoModel, BertConfig, CLIPModel

from leverplus_trl.provenance import model_revision
from leverplus_trl.retrieval.embeddings import Encoder, embed_examples
from leverplus_trl.selectors import (
    PRESETS,
    DemonstrationSelector,
    EncoderLoraConfig,
    PointerSelectorConfig,
    PointerSelectorModel,
    SelectorProcessor,
)
from leverplus_trl.selectors.encoder_lora import SelectorEncoder, copy_encoder
from leverplus_trl.tasks import DataArguments, load_examples
from leverplus_trl.trainer import EncoderTable


CLIP = str(WORLD / "clip")
FEATURES = {"query_features": ["image", "text"], "candidate_features": ["answer", "image", "text"]}


@pytest.fixture(scope="module")
def pool():
    return load_examples(DataArguments(dataset=str(WORLD)), "pool[:20]")


@pytest.fixture(scope="module")
def queries():
    return load_examples(DataArguments(dataset=str(WORLD)), "validation[:6]")


def make_selector(adapted=True, **values):
    torch.manual_seed(0)
    names = {"encoder": CLIP, "encoder_commit": model_revision(CLIP), "num_candidates": 12}
    widths = {"image_embed_dim": 64, "text_embed_dim": 64, "hidden_size": 16}
    config = PointerSelectorConfig(**(PRESETS["v2_lora"][1] | FEATURES | names | widths | values))
    model = PointerSelectorModel(config)
    model.load_encoder()
    if adapted:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
    return model.eval()


def save(model, folder):
    model.save_pretrained(folder)
    SelectorProcessor(model.config.query_features, model.config.candidate_features).save_pretrained(folder)
    return str(folder)


def encoder_inputs(model, queries, pool, candidates):
    """What the encoder reads of all queries, each with the same candidates."""
    table = EncoderTable(Encoder(CLIP, device="cpu"))
    features = model.config.query_features, model.config.candidate_features
    own = table.add(queries, features[0], np.arange(len(queries)))  # [B, F]
    other = table.add(pool, features[1], np.array(candidates))[candidates]  # [K, F]
    parts = (features[0], own), (features[1], np.stack([other] * len(queries)))
    names = ("query_feature_rows", "candidate_feature_rows")
    return table.prepare().collect(**dict(zip(names, parts, strict=True)))


def stored_inputs(model, queries, pool, candidates, encoder):
    """The same as embeddings."""
    both = [Encoder(CLIP, device="cpu") if encoder is None else encoder] * 2
    columns = ("image", "text", "answer")
    found = [embed_examples(rows, one, None, columns) for rows, one in zip((queries, pool), both, strict=True)]
    rows = np.arange(len(queries)), np.stack([np.array(candidates)] * len(queries))
    processor = SelectorProcessor(model.config.query_features, model.config.candidate_features)
    return processor.assemble(found[0], rows[0], found[1], rows[1])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("leverplus_trl.retrieval.embeddings.HF_HOME", str(tmp_path))


def test_adapters_that_are_zero_change_nothing(queries, pool):
    model = make_selector(adapted=False)
    candidates = [3, 1, 4, 15, 9]
    expected = stored_inputs(model, queries, pool, candidates, None)
    with torch.no_grad():
        found = model(**encoder_inputs(model, queries, pool, candidates))
    torch.testing.assert_close(found.query_embeds, expected["query_embeds"], rtol=0, atol=1e-6)
    torch.testing.assert_close(found.candidate_embeds, expected["candidate_embeds"], rtol=0, atol=1e-6)
    adapted = SelectorEncoder(model.encoder, "cpu")
    plain = Encoder(CLIP, device="cpu")
    assert np.array_equal(adapted.encode_images(pool["image"][:7]), plain.encode_images(pool["image"][:7]))
    assert np.array_equal(adapted.encode_texts(pool["question"][:7]), plain.encode_texts(pool["question"][:7]))


def test_training_and_inference_see_the_same_numbers(queries, pool):
    model = make_selector()
    candidates = [3, 1, 4, 15, 9]
    stored = stored_inputs(model, queries, pool, candidates, SelectorEncoder(model.encoder, "cpu"))
    frozen = stored_inputs(model, queries, pool, candidates, None)
    assert (stored["query_embeds"] - frozen["query_embeds"]).abs().max() > 0.01
    positions = torch.tensor([[0, 4]] * len(queries))
    with torch.no_grad():
        trained = model(**encoder_inputs(model, queries, pool, candidates), demonstration_positions=positions)
        inferred = model(**stored, demonstration_positions=positions)
    torch.testing.assert_close(trained.candidate_embeds, stored["candidate_embeds"], rtol=0, atol=1e-5)
    torch.testing.assert_close(trained.logits, inferred.logits, rtol=0, atol=1e-5)


def test_only_adapters_and_selector_are_saved(tmp_path):
    model = make_selector()
    save(model, tmp_path)
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        kept = set(file.keys())
    assert {name for name in kept if "feature_" not in name} == trainable  # statistics are buffers
    assert sum("lora_" in name for name in kept) == 2 * 4 * (2 + 4)  # A and B of 4 layers in 2 + 4 blocks
    assert not any("base_layer" in name or "embedding" in name or "mlp" in name for name in kept)
    whole = sum(value.numel() for value in model.encoder.clip.parameters())
    adapters = sum(model.get_parameter(name).numel() for name in trainable if name.startswith("encoder."))
    assert adapters == 2 * 16 * 4 * (2 * 64 + 4 * 96) and whole > 3 * adapters
    assert (tmp_path / "model.safetensors").stat().st_size < 0.6 * (
        WORLD / "clip" / "model.safetensors"
    ).stat().st_size


READER = """
import json, sys, torch
import leverplus_trl
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1])
inputs = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    print(json.dumps(model(**inputs).logits.tolist()))
"""


def test_a_fresh_process_needs_the_name_alone(tmp_path, queries, pool):
    model = make_selector(lora={"bias": "all"})
    with torch.no_grad():
        model.encoder.clip.vision_model.encoder.layers[1].mlp.fc1.bias.add_(1.0)
    inputs = encoder_inputs(model, queries, pool, [0, 7, 5])
    torch.save(inputs, tmp_path / "inputs.pt")
    arguments = [sys.executable, "-c", READER, save(model, tmp_path / "selector"), str(tmp_path / "inputs.pt")]
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    with torch.no_grad():
        expected = model(**inputs).logits
    assert torch.equal(torch.tensor(json.loads(printed.splitlines()[-1])), expected)


def test_loading_gives_back_everything(tmp_path, caplog):
    model = make_selector()
    with caplog.at_level(logging.WARNING):
        found, info = AutoModel.from_pretrained(save(model, tmp_path), output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not caplog.records
    before, after = model.state_dict(), found.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(*pair) for pair in zip(model.buffers(), found.buffers(), strict=True))
    trainable = [[name for name, p in one.named_parameters() if p.requires_grad] for one in (model, found)]
    assert trainable[0] == trainable[1]


def test_another_encoder_is_refused(tmp_path):
    clip = tmp_path / "clip"
    shutil.copytree(CLIP, clip)
    names = {"encoder": str(clip), "encoder_commit": model_revision(str(clip))}
    selector = save(make_selector(**names), tmp_path / "selector")
    with open(clip / "tokenizer_config.json", "a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match=r"is not the encoder that the selector .* was trained with \(\w+\b"):
        AutoModel.from_pretrained(selector)
    shutil.rmtree(clip)
    with pytest.raises(ValueError, match=r"The encoder .* is not to be found .*encoder=PATH"):
        AutoModel.from_pretrained(selector)
    assert AutoModel.from_pretrained(selector, encoder=CLIP).encoder.source == (CLIP, None)


def test_a_copied_encoder_goes_with_its_selector(tmp_path, queries, pool):
    clip = tmp_path / "clip"
    shutil.copytree(CLIP, clip)
    model = make_selector(encoder=str(clip))
    folder = save(model, tmp_path / "selector")
    assert copy_encoder(str(clip), None, tmp_path / "selector") == model.config.encoder_commit
    shutil.rmtree(clip)
    inputs = encoder_inputs(model, queries, pool, [0, 7, 5])
    with torch.no_grad():
        expected = model(**inputs).logits
        shutil.move(folder, tmp_path / "moved")
        assert torch.equal(AutoModel.from_pretrained(tmp_path / "moved")(**inputs).logits, expected)
    selector = DemonstrationSelector.from_pretrained(str(tmp_path / "moved"), pool=pool, device="cpu")
    assert selector.encoder == str(tmp_path / "moved" / "encoder")
    assert selector.select_batch(queries)[0].demonstration_ids


PUSHER = """
import sys, torch
from pathlib import Path
from huggingface_hub import HfApi
from leverplus_trl.hub import push_selector
from leverplus_trl.provenance import model_revision
from leverplus_trl.selectors import PointerSelectorModel
folder, clip = Path(sys.argv[1]), sys.argv[2]
push_selector(folder, "user/whole")
HfApi().create_repo("user/clip")
HfApi().upload_folder(repo_id="user/clip", folder_path=clip)
model = PointerSelectorModel.from_pretrained(folder)
model.config.encoder, model.config.encoder_commit = "user/clip", model_revision("user/clip")
model.save_pretrained(folder.parent / "named")
for name in ("README.md", "processor_config.json"):
    (folder.parent / "named" / name).write_bytes((folder / name).read_bytes())
push_selector(folder.parent / "named", "user/named")
"""
LOADER = """
import json, sys, torch
from transformers import AutoModel
from leverplus_trl.selectors import DemonstrationSelector
from leverplus_trl.tasks import DataArguments, load_examples
inputs = torch.load(sys.argv[1], weights_only=True)
pool = load_examples(DataArguments(dataset=sys.argv[2]), "pool[:20]")
DemonstrationSelector.from_pretrained("user/whole", pool=pool).push_to_hub("user/again")
found = {}
for name in ("named", "whole", "again"):
    with torch.no_grad():
        found[name] = AutoModel.from_pretrained(f"user/{name}")(**inputs).logits.tolist()
print(json.dumps(found))
"""


def test_the_hub_has_adapters_and_encoder(tmp_path, queries, pool, fake_hub):
    model, folder = make_selector(), tmp_path / "selector"
    save(model, folder)
    copy_encoder(CLIP, None, folder)
    (folder / "README.md").write_text("A selector.")
    inputs = encoder_inputs(model, queries, pool, [0, 7, 5])
    torch.save(inputs, tmp_path / "inputs.pt")

    def run(script, home, *arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(command, env=fake_hub.environment(home), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run(PUSHER, tmp_path / "home", folder, CLIP)
    found = json.loads(run(LOADER, tmp_path / "fresh", tmp_path / "inputs.pt", WORLD).splitlines()[-1])
    with torch.no_grad():
        expected = model(**inputs).logits
    for name, logits in found.items():
        assert torch.equal(torch.tensor(logits), expected), name
    copied = {name for name in fake_hub.files("models", "user/whole") if name.startswith("encoder/")}
    assert "encoder/model.safetensors" in copied and "encoder/tokenizer.json" in copied
    assert copied == {name for name in fake_hub.files("models", "user/again") if name.startswith("encoder/")}
    assert not any(name.startswith("encoder/") for name in fake_hub.files("models", "user/named"))


def test_the_one_liner_reads_adapted_embeddings(tmp_path, queries, pool):
    model = make_selector(sampler="image_text_sim", num_candidates=5)
    options = {"pool": pool, "device": "cpu", "embeddings_dir": str(tmp_path / "embeddings")}
    selector = DemonstrationSelector.from_pretrained(save(model, tmp_path / "selector"), **options)
    found = selector.select_batch(queries)
    frozen = DemonstrationSelector(
        make_plain(model), selector.processor, pool, embeddings_dir=str(tmp_path / "embeddings")
    )
    # Candidates are compared as in training, without adapters.
    assert [one.candidate_ids for one in found] == [one.candidate_ids for one in frozen.select_batch(queries)]
    rows = [[pool["id"].index(name) for name in one.candidate_ids] for one in found]
    for number, one in enumerate(found):
        with torch.no_grad():
            inputs = encoder_inputs(model, queries.select([number]), pool, rows[number])
            embeds = model(**inputs)
        chosen = model.select(embeds.query_embeds, embeds.candidate_embeds)
        assert one.demonstration_positions == chosen.demonstration_positions[0].tolist()
        assert one.logprob == pytest.approx(chosen.logprobs.item(), abs=1e-5)
        alone = selector.select(queries[number]["question"], queries[number]["image"], id=queries[number]["id"])
        assert (alone.demonstration_ids, alone.candidate_ids) == (one.demonstration_ids, one.candidate_ids)
    tables = len(list((tmp_path / "embeddings").glob("*/provenance.json")))
    with torch.no_grad():
        selector.model.get_parameter(next(n for n, _ in model.named_parameters() if "lora_B" in n)).add_(0.1)
    selector.select_batch(queries)  # never from the tables of other adapters
    assert len(list((tmp_path / "embeddings").glob("*/provenance.json"))) == tables + 2


def make_plain(model):
    plain = PointerSelectorConfig.from_dict(model.config.to_dict() | {"lora": None, "encoder_config": None})
    return PointerSelectorModel(plain)


def test_merging_leaves_a_plain_encoder_and_a_plain_selector(tmp_path, queries, pool):
    model = make_selector()
    expected = DemonstrationSelector(model, SelectorProcessor(**FEATURES), pool).select_batch(queries)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clip, selector = model.merge_and_unload(str(tmp_path / "merged"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert type(clip) is CLIPModel and clip.state_dict().keys() == CLIPModel.from_pretrained(CLIP).state_dict().keys()
    assert selector.config.lora is None and not any("encoder." in name for name, _ in selector.named_parameters())
    shutil.move(tmp_path / "merged", tmp_path / "elsewhere")
    merged = DemonstrationSelector.from_pretrained(str(tmp_path / "elsewhere"), pool=pool, device="cpu")
    assert merged.model.config.lora is None
    for one, other in zip(merged.select_batch(queries), expected, strict=True):
        assert one.demonstration_ids == other.demonstration_ids
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    with pytest.raises(ValueError, match="nothing to merge"):
        selector.merge_and_unload()


def test_towers_that_nobody_reads_get_no_adapters():
    texts = {"query_features": ["text"], "candidate_features": ["text", "answer"]}
    model = make_selector(lora={"bias": "all", "target_modules": ["q_proj", "fc1"]}, **texts)
    trainable = [name for name, value in model.encoder.named_parameters() if value.requires_grad]
    assert trainable and all("text_model" in name for name in trainable)
    inputs = {"input_ids": torch.randint(3, 40, (3, 5)), "attention_mask": torch.ones(3, 5, dtype=torch.long)}
    rows = {"query_feature_rows": torch.tensor([[0]]), "candidate_feature_rows": torch.tensor([[[0, 1], [2, 1]]])}
    model(**inputs, **rows, demonstration_positions=torch.tensor([[1, 0]])).logits[..., 0].sum().backward()
    unused = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert not unused
    with pytest.raises(ValueError, match="reads text features, but got no input_ids"):
        model(**rows)


def test_checkpointed_activations_give_the_same_gradients(queries, pool):
    found = []
    for checkpointing in (False, True):
        model = make_selector().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        torch.manual_seed(1)
        inputs = encoder_inputs(model, queries, pool, [0, 7, 5])
        model(**inputs).logits.square().sum().backward()
        found.append({name: value.grad for name, value in model.encoder.named_parameters() if "lora_" in name})
    assert all(torch.equal(found[1][name], value) for name, value in found[0].items())


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 8}, "lora has the unknown field 'rank'; expected some of r, lora_alpha"),
        ({"r": 0}, "r is 0; expected a whole number of at least 1"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_dropout": 1.0}, "lora_dropout is 1.0"),
        ({"bias": "some"}, "bias is 'some'; expected one of none, all, lora_only"),
        ({"target_modules": "q_proj"}, "target_modules is 'q_proj'; expected a list"),
        ({"target_modules": ["c_attn"]}, "no linear layer 'c_attn' to adapt; there are .*q_proj"),
    ],
)
def test_bad_adapters_are_refused(lora, message):
    with pytest.raises(ValueError, match=message):
        make_selector(lora=lora)


def test_an_empty_dict_means_the_defaults():
    config = PointerSelectorConfig(lora={})
    assert EncoderLoraConfig.from_dict(config.lora) == EncoderLoraConfig()
    assert config.lora == {
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "bias": "none",
        "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj"],
    }


def test_what_can_not_be_adapted_is_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lora adapts CLIP models, but .* is of the type 'bert'"):
        make_selector(encoder=str(tmp_path))
    with pytest.raises(ValueError, match="names none"):
        PointerSelectorModel(PointerSelectorConfig(lora={}))
    rows = {"query_feature_rows": torch.zeros(1, 2).long(), "candidate_feature_rows": torch.zeros(1, 2, 3).long()}
    with pytest.raises(RuntimeError, match="weights of the encoder are random"):
        PointerSelectorModel(make_selector().config)(**rows)
    with pytest.raises(ValueError, match="no encoder of its own"):
        PointerSelectorModel(PointerSelectorConfig(hidden_size=16))(**rows)


def test_images_that_are_the_same_are_one(pool):
    twice = Dataset.from_list([pool[0], pool[1], {**pool[2], "image": pool[0]["image"]}], features=pool.features)
    table = EncoderTable(Encoder(CLIP, device="cpu"))
    numbers = table.add(twice, ["image"], np.arange(3))
    assert numbers.tolist() == [[0], [1], [0]]
