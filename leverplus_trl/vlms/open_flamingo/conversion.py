# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Makes the folder that `vlm:` names of a published OpenFlamingo, once:

    python -m leverplus_trl.vlms.open_flamingo.conversion --checkpoint checkpoint.pt --output_dir OpenFlamingo-3B \
        --language_model anas-awadalla/mpt-1b-redpajama-200b --vision_encoder openai/clip-vit-large-patch14

OpenFlamingo publishes its trained weights (cross-attention, perceiver, embeddings) as a pickle, without the language
model and the vision encoder. Pickles are read here only, with `torch.load(weights_only=True)`, which runs no code.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionModel,
    HfArgumentParser,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file

from ...fields import option
from .family import END_OF_CHUNK, MEDIA_TOKEN
from .modeling import DECODER_LAYERS, OpenFlamingoConfig, OpenFlamingoModel
from .mpt import MosaicMptForCausalLM, config_from_mosaic_gpt, weights_from_mosaic_gpt


logger = logging.getLogger(__name__)

#: Tables that older transformers stored beside the weights of GPT-NeoX and computes today.
TABLES = (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")


@dataclass
class ConversionArguments:
    """The parts of an OpenFlamingo."""

    checkpoint: str = option("The published file, checkpoint.pt.")
    language_model: str = option("Hub id or folder of the language model it was trained with.")
    output_dir: str = option("Folder to write.")
    vision_encoder: str = option("Hub id or folder of the CLIP it was trained with.", "openai/clip-vit-large-patch14")
    cross_attn_every_n_layers: int = option("Interval of the cross-attention: 1 (3B), 2 (4B), 4 (9B).", 1)


def convert(args: ConversionArguments) -> None:
    """Writes the folder; raises `ValueError` for parts that do not belong together."""
    tokenizer = AutoTokenizer.from_pretrained(args.language_model)
    tokenizer.add_special_tokens({"additional_special_tokens": [END_OF_CHUNK, MEDIA_TOKEN]})  # in OpenFlamingo's order
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<PAD>"})
    language_model = _load_language_model(args.language_model)
    language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    vision_encoder = CLIPVisionModel.from_pretrained(args.vision_encoder)
    config = OpenFlamingoConfig(
        text_config=language_model.config.to_dict(),
        vision_config=vision_encoder.config.to_dict(),
        cross_attn_every_n_layers=args.cross_attn_every_n_layers,
        media_token_id=tokenizer.convert_tokens_to_ids(MEDIA_TOKEN),
        eoc_token_id=tokenizer.convert_tokens_to_ids(END_OF_CHUNK),
    )
    layers = DECODER_LAYERS.get(config.text_config.model_type, "")
    model = OpenFlamingoModel(config)
    weights = {f"vision_encoder.{name}": tensor for name, tensor in vision_encoder.state_dict().items()}
    for name, tensor in language_model.state_dict().items():
        weights["lang_encoder." + re.sub(rf"^({re.escape(layers)}\.\d+)\.", r"\1.decoder_layer.", name)] = tensor
    trained = _trained_weights(args.checkpoint, layers)
    for name in model.all_tied_weights_keys:  # a second name of the embedding, which would undo its training
        weights.pop(name, None), trained.pop(name, None)
    embedding = model.lang_encoder.get_input_embeddings().weight
    for name in [name for name, weight in model.named_parameters() if weight is embedding]:
        weights.pop(name, None)  # it was trained
    try:
        missing, unknown = model.load_state_dict(weights | trained, strict=False)
    except RuntimeError as error:
        raise _mismatch(str(error)) from error
    missing = [name for name in missing if name not in model.all_tied_weights_keys]
    if missing or unknown:
        raise _mismatch(f"{len(missing)} weights are missing {missing[:3]}, {len(unknown)} unknown {unknown[:3]}")
    model.tie_weights()
    model.save_pretrained(args.output_dir)
    tokenizer.save_pretrained(args.output_dir)
    CLIPImageProcessorPil.from_pretrained(args.vision_encoder).save_pretrained(args.output_dir)
    logger.info("Wrote %s: name it as `vlm`.", args.output_dir)


def _mismatch(problem: str) -> ValueError:
    return ValueError(
        f"Checkpoint, language model and vision encoder do not belong together: {problem}. Check language_model, "
        "vision_encoder and cross_attn_every_n_layers."
    )


def _load_language_model(name: str) -> PreTrainedModel:
    """A causal language model of transformers, or a `mosaic_gpt`; none of the code that may come with it runs."""
    config, _ = PreTrainedConfig.get_config_dict(name)
    if config.get("model_type") != "mosaic_gpt":
        return AutoModelForCausalLM.from_pretrained(name)
    model = MosaicMptForCausalLM(config_from_mosaic_gpt(config))
    file = cached_file(name, "model.safetensors", _raise_exceptions_for_missing_entries=False)
    weights = load_file(file) if file else _read_pickle(cached_file(name, "pytorch_model.bin"))
    model.load_state_dict(weights_from_mosaic_gpt(weights, model.config), strict=False)
    model.tie_weights()
    return model


def _read_pickle(file: str) -> dict[str, torch.Tensor]:
    return torch.load(file, map_location="cpu", weights_only=True)  # tensors and containers of them, or an error


def _trained_weights(file: str, layers: str) -> dict[str, torch.Tensor]:
    """OpenFlamingo's trained weights, each under one name: it stores some weights under two."""
    if not Path(file).is_file():
        raise ValueError(f"checkpoint is {file!r}, which is no file. Download checkpoint.pt of the model first.")
    weights, trained = _read_pickle(file), {}
    second_names = {"old_decoder_blocks": "decoder_layer", "gated_cross_attn_layers": "gated_cross_attn_layer"}
    for name, tensor in weights.get("model_state_dict", weights).items():
        name = name.removeprefix("module.")
        for second, first in second_names.items():
            name = re.sub(rf"^lang_encoder\.{second}\.(\d+)\.", rf"lang_encoder.{layers}.\1.{first}.", name)
        if not name.endswith(TABLES):
            trained[name] = tensor
    return trained


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    convert(*HfArgumentParser(ConversionArguments).parse_args_into_dataclasses())
