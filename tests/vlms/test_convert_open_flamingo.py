# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import json

import pytest
import torch
from transformers import CLIPVisionModel, GPTNeoXForCausalLM
from vlms.test_modeling_mosaic_mpt import ORIGINAL, load, original_weights

from leverplus_trl.vlms.open_flamingo.modeling import INSTALL, OpenFlamingoModel


if importlib.util.find_spec("open_flamingo") is None or importlib.util.find_spec("einops_exts") is None:
    pytest.skip(f"needs OpenFlamingo: {INSTALL}", allow_module_level=True)

from vlms.tiny_flamingo import VISION, flamingo_tokenizer, image_processor, text_config, tiny_flamingo
from vlms.tiny_models import byte_tokenizer

from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import VLMArguments, load_vlm
from leverplus_trl.vlms.open_flamingo.conversion import ConversionArguments, convert


@pytest.fixture
def parts(tmp_path):
    """Folders and files as they are published, and the arguments that name them."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(chat_template=None)
    folder = tmp_path / "language_model"
    tokenizer.save_pretrained(folder)
    vocabulary = len(tokenizer) + 8  # rows without tokens, as the published model has
    (folder / "config.json").write_text(json.dumps({**ORIGINAL, "vocab_size": vocabulary}))
    weights = original_weights()
    weights["transformer.wte.weight"] = torch.randn(vocabulary, 32)
    torch.save(weights, folder / "pytorch_model.bin")
    CLIPVisionModel(VISION).save_pretrained(tmp_path / "clip")
    image_processor().save_pretrained(tmp_path / "clip")
    trained = trained_weights(tiny_flamingo())
    torch.save({"epoch": 3, "model_state_dict": {f"module.{k}": v for k, v in trained.items()}}, tmp_path / "c.pt")
    args = ConversionArguments(
        checkpoint=str(tmp_path / "c.pt"),
        language_model=str(folder),
        output_dir=str(tmp_path / "out"),
        vision_encoder=str(tmp_path / "clip"),
    )
    return args, weights, trained


def trained_weights(model):
    """What OpenFlamingo's training saves: what it trained, without the frozen parts."""
    return {
        name: weight
        for name, weight in model.state_dict().items()
        if name.startswith("perceiver.") or ".gated_cross_attn_layer." in name or name.endswith("wte.weight")
    }


def test_the_published_parts_become_one_folder_that_is_loaded(parts, tmp_path):
    args, weights, trained = parts
    convert(args)
    task = make_task(TaskArguments(metric="exact_match"))
    vlm = load_vlm(VLMArguments(vlm=args.output_dir), task)
    state = vlm.model.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in trained.items())
    assert vlm.tokenizer.convert_tokens_to_ids(["<|endofchunk|>", "<image>"]) == [
        vlm.model.config.eoc_token_id,
        vlm.model.config.media_token_id,
    ]
    # The language model computes what the original does, with the embedding that was trained.
    vocabulary = len(vlm.tokenizer)
    weights = {**weights, "transformer.wte.weight": trained["lang_encoder.transformer.wte.weight"]}
    language_model = load(weights, {**ORIGINAL, "vocab_size": vocabulary})
    ids = torch.arange(40, 50)[None]
    for name, weight in vlm.model.named_parameters():
        if name.endswith("_gate"):
            torch.nn.init.zeros_(weight)
    with torch.no_grad():
        assert torch.allclose(vlm.model(ids).logits, language_model(ids).logits, atol=1e-5)
    clip = CLIPVisionModel.from_pretrained(args.vision_encoder)
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        patches = vlm.model.vision_encoder(pixels)[1]
        assert torch.allclose(patches, clip(pixels).last_hidden_state[:, 1:], atol=1e-5)


def test_second_names_and_old_tables_are_understood(parts, tmp_path):
    args, _, _ = parts
    tokenizer = flamingo_tokenizer()
    torch.manual_seed(1)
    folder = tmp_path / "gpt_neox"
    GPTNeoXForCausalLM(text_config("gpt_neox", len(tokenizer) - 1, 0.5)).save_pretrained(folder)
    byte_tokenizer(chat_template=None).save_pretrained(folder)
    model = tiny_flamingo("gpt_neox")
    layers = "lang_encoder.gpt_neox.layers"
    trained = {}
    for name, weight in model.state_dict().items():
        if ".gated_cross_attn_layer." in name:
            layer, rest = name.removeprefix(f"{layers}.").split(".gated_cross_attn_layer.")
            trained[f"lang_encoder.gated_cross_attn_layers.{layer}.{rest}"] = weight
        elif name.startswith("perceiver.") or ("embed" in name and not name.startswith("vision_encoder.")):
            trained[name] = weight
    trained[f"{layers}.0.decoder_layer.attention.masked_bias"] = torch.tensor(-1e9)
    torch.save(trained, tmp_path / "neox.pt")
    args.checkpoint, args.language_model = str(tmp_path / "neox.pt"), str(folder)
    convert(args)
    state = OpenFlamingoModel.from_pretrained(args.output_dir).state_dict()
    expected = model.state_dict()
    names = [name for name in expected if "gated" in name or ("embed" in name and "vision" not in name)]
    assert len(names) > 10 and all(torch.equal(state[name], expected[name]) for name in names)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda weights: weights.pop("perceiver.latents"), r"1 weights are missing \['perceiver.latents'\]"),
        (lambda weights: weights.pop("lang_encoder.transformer.wte.weight"), r"1 weights are missing .*wte"),
        (lambda weights: weights.update(other=torch.zeros(1)), r"1 unknown \['other'\]"),
        (
            lambda weights: weights.update({"perceiver.latents": torch.zeros(2, 2)}),
            r"size mismatch .*latents.*\[2, 2\]",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(parts, tmp_path, change, message):
    args, _, trained = parts
    change(trained)
    torch.save(trained, args.checkpoint)
    with pytest.raises(ValueError, match=message):
        convert(args)
    assert not (tmp_path / "out").exists()


def test_another_interval_of_cross_attention_is_refused(parts):
    args, _, _ = parts
    args.cross_attn_every_n_layers = 2
    with pytest.raises(ValueError, match=r"unknown .*gated_cross_attn_layer.*Check .*cross_attn_every_n_layers"):
        convert(args)


def test_code_in_a_pickle_is_not_run(parts, tmp_path):
    args, _, _ = parts

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"perceiver.latents": Harm()}, args.checkpoint)
    with pytest.raises(Exception, match="Weights only load failed"):
        convert(args)
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_that_is_not_there_is_named(parts):
    args, _, _ = parts
    args.checkpoint = "nowhere.pt"
    with pytest.raises(ValueError, match=r"'nowhere\.pt', which is no file"):
        convert(args)
