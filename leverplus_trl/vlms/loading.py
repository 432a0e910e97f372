# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From the recipe to a frozen model: its family, its weights and its devices."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.utils import is_bitsandbytes_available
from transformers.utils.import_utils import BITSANDBYTES_MIN_VERSION

from ..log import doing
from ..provenance import refuse_missing_folder
from ..tasks import BaseTask
from ..weights import check_folder, first_line, refuse_pickles
from .adapters import base_of, find_file, put_on
from .causal_lm import CausalLMFamily
from .chat_vlm import ChatFamily
from .family import VLMFamily
from .open_flamingo.family import FlamingoProcessor, OpenFlamingoFamily, refuse_published_checkpoint
from .processing_qwen2_5_vl import register_processor
from .qwen2_5_vl import Qwen2_5_VLFamily
from .vlm import TransformersVLM
from .vlm_arguments import VLMArguments


register_processor()

#: Families by `model_type`; any other vision-language model is of the [`ChatFamily`], any other model a causal LM.
FAMILIES: dict[str, type[VLMFamily]] = {
    "open_flamingo": OpenFlamingoFamily,
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), Qwen2_5_VLFamily),
}

#: A model's config, and what its family makes inputs with.
Loaded = tuple[PreTrainedConfig, ProcessorMixin | PreTrainedTokenizerBase | FlamingoProcessor]


@doing("loading the VLM {args.vlm!r}")
def load_vlm(args: VLMArguments, task: BaseTask, loaded: Loaded | None = None) -> TransformersVLM:
    """
    Loads a frozen model on this process's device, or with `device_map` over all devices that the process sees.

    An adapter that PEFT saved is put on the base model that it names.

    Args:
        loaded (`Loaded`, *optional*):
            The result of [`load_processor`], if it was called before.

    Raises:
        `ValueError`: a model that is neither vision-language nor causal, has no safetensors weights, or does not fit
            into memory; quantisation or placement that can't be done here.
    """
    check_placement(args)
    config, processor = loaded or load_processor(args)
    family = family_of(config, args)
    family.check_arguments(args)
    return TransformersVLM(family(load_weights(family.model_loader, config, args), processor, task, args))


def CausalLM(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: BaseTask, args: VLMArguments
) -> TransformersVLM:
    """The VLM of a causal language model that is loaded already."""
    return TransformersVLM(CausalLMFamily(model, tokenizer, task, args))


def family_of(config: PreTrainedConfig, args: VLMArguments) -> type[VLMFamily]:
    """The family of a model; raises `ValueError` for one that is neither vision-language nor causal."""
    if config.model_type in FAMILIES:
        return FAMILIES[config.model_type]
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return ChatFamily
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return CausalLMFamily
    raise ValueError(f"{args.vlm!r} is a {config.model_type!r} model: neither image-text-to-text nor a causal LM.")


@doing("reading the config and processor of the VLM {args.vlm!r}")
def load_processor(args: VLMArguments) -> Loaded:
    """
    A model's config and processor, without its weights.

    Raises:
        `ValueError`: no model, one that is neither vision-language nor causal, or one whose weights are pickles.
    """
    refuse_published_checkpoint(args.vlm)
    refuse_missing_folder(args.vlm)
    try:
        base = base_of(args)
        if base is not None:
            return load_processor_of_adapter(args, base)
        if args.gguf_file is None:
            check_vlm_folder(args.vlm)
        config = AutoConfig.from_pretrained(args.vlm, **source_of(args))
    except OSError as error:
        raise ValueError(
            f"The VLM {args.vlm!r} can't be read ({first_line(error)}). Name a folder that is there, or a hub id."
        ) from error
    return config, family_of(config, args).processor_loader.from_pretrained(args.vlm, **source_of(args))


def check_vlm_folder(name: str) -> None:
    """Raises `ValueError` for a local folder without config or with pickled weights."""
    files = sorted(file.name for file in Path(name).glob("*.gguf"))
    if files and not Path(name, "config.json").exists():
        raise ValueError(f"The VLM {name!r} holds {', '.join(files)} and no config.json; set gguf_file: {files[0]}.")
    check_folder(name, "VLM", "AutoModelForImageTextToText")


def load_processor_of_adapter(args: VLMArguments, base: VLMArguments) -> Loaded:
    """The base model's config, and the processor or tokenizer that was saved with the adapter, else the base's."""
    try:
        config, processor = load_processor(base)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{args.vlm!r} is an adapter of {base.vlm!r}, which can't be loaded ({first_line(error)}). Write where "
            "it is into base_model_name_or_path of the adapter's adapter_config.json, or name a folder with "
            "both merged."
        ) from error
    family = family_of(config, args)
    if find_file(args, family.processor_file) is not None:
        processor = family.processor_loader.from_pretrained(args.vlm, **source_of(args))
    return config, processor


def source_of(args: VLMArguments) -> dict[str, Any]:
    """Keyword arguments of every `from_pretrained` of the model."""
    source = {"revision": args.vlm_revision, "trust_remote_code": args.trust_remote_code}
    return source if args.gguf_file is None else source | {"gguf_file": args.gguf_file}


def load_weights(loader: type, config: PreTrainedConfig, args: VLMArguments) -> PreTrainedModel:
    """Reads weights, never from pickles, with a family's `model_loader`."""
    base = base_of(args)
    if base is not None:
        return put_on(load_weights(loader, config, base), args).eval()
    weights = {} if args.gguf_file is not None else {"use_safetensors": True}
    if args.quantization is not None:
        weights["quantization_config"] = quantization_config(config, args)
    try:
        model = loader.from_pretrained(
            args.vlm,
            dtype=getattr(torch, args.dtype),
            attn_implementation=args.attn_implementation,
            device_map=args.device_map or {"": PartialState().device},
            **source_of(args),
            **weights,
        )
    except OSError as error:
        refuse_pickles(args.vlm, "VLM", loader.__name__, {"revision": args.vlm_revision})
        raise ValueError(
            f"The VLM {args.vlm!r} has no safetensors weights that can be read ({first_line(error)}). Expected "
            "model.safetensors, or its parts and model.safetensors.index.json."
        ) from error
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError(
            f"{args.vlm!r} does not fit into the devices of this process: with device_map {args.device_map!r} a part "
            "of it would be fetched from main memory or disk in every batch. Use more GPUs, `quantization`, or a "
            "smaller `dtype`."
        )
    return model.eval()


def quantization_config(config: PreTrainedConfig, args: VLMArguments) -> BitsAndBytesConfig:
    """How bitsandbytes quantises a model while it is read; what is not quantised has, and computes in, `dtype`."""
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        raise ValueError(
            f"quantization is {args.quantization!r}, but the weights of {args.vlm!r} are quantised as they are stored "
            f"({dict(stored).get('quant_method')}). Leave quantization out."
        )
    if not is_bitsandbytes_available():
        raise ValueError(
            f"quantization is {args.quantization!r}, which needs bitsandbytes >= {BITSANDBYTES_MIN_VERSION}: `pip "
            "install 'leverplus_trl[quantization]'`."
        )
    if args.quantization == "8bit":
        # It says in every layer of every batch that it computes as it was told to.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, args.dtype)
    )


def check_placement(args: VLMArguments) -> None:
    """Refuses `device_map` where the processes of one machine would all spread their model over the same devices."""
    state = PartialState()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes))
    if args.device_map is not None and processes > 1:
        raise ValueError(
            f"device_map is {args.device_map!r} and {processes} processes run on this machine: each would spread its "
            "model over the same devices. Launch one process a machine, or leave device_map out for one model a "
            "process."
        )
