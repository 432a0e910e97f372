# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From the recipe to a frozen model: which class drives it, how its weights are read, and where they stand."""

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
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.utils import is_bitsandbytes_available
from transformers.utils.import_utils import BITSANDBYTES_MIN_VERSION

from ..activity import doing
from ..provenance import refuse_missing_folder
from ..tasks import BaseTask
from ..weights import check_folder, first_line, refuse_pickles
from .adapters import base_of, find_file, put_on
from .base_vlm import BaseVLM
from .causal_lm import CausalLM
from .chat_vlm import ChatVLM
from .modeling_open_flamingo import OpenFlamingoConfig, OpenFlamingoModel
from .open_flamingo import OpenFlamingo, refuse_published_checkpoint
from .processing_qwen2_5_vl import register_processor
from .qwen2_5_vl import Qwen2_5_VL
from .vlm_arguments import VLMArguments


register_processor()

#: Families that do better than the plain path; any other vision-language model is a `ChatVLM`.
FAMILIES = {"qwen2_vl": Qwen2_5_VL, "qwen2_5_vl": Qwen2_5_VL, "qwen3_vl": Qwen2_5_VL}

#: A model's config, and its processor, or the tokenizer of a language model or OpenFlamingo.
Loaded = tuple[PreTrainedConfig, ProcessorMixin | PreTrainedTokenizerBase]


@doing("loading the VLM {args.vlm!r}")
def load_vlm(args: VLMArguments, task: BaseTask, loaded: Loaded | None = None) -> BaseVLM:
    """
    Loads a frozen model on this process's device, or with `device_map` over all devices that the process sees.

    An adapter that PEFT saved is put on the base model that it names.

    Args:
        args ([`VLMArguments`]):
            Names the model.
        task ([`BaseTask`]):
            Task to make prompts for.
        loaded (`Loaded`, *optional*):
            What [`load_processor`] returned, if it was called before.

    Raises:
        `ValueError`: a model that is neither vision-language nor causal, has no safetensors weights, or does not fit
            into memory; quantisation or placement that can't be done here.
    """
    check_placement(args)
    config, processor = loaded or load_processor(args)
    family = family_of(config, args)
    if family is OpenFlamingo:
        return load_open_flamingo(config, processor, task, args)
    loader = AutoModelForCausalLM if family is CausalLM else AutoModelForImageTextToText
    return family(load_weights(loader, config, args), processor, task, args)


def family_of(config: PreTrainedConfig, args: VLMArguments) -> type[BaseVLM]:
    """The class that drives a model; raises `ValueError` for one that is neither vision-language nor causal."""
    if isinstance(config, OpenFlamingoConfig):
        return OpenFlamingo
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return FAMILIES.get(config.model_type, ChatVLM)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return CausalLM
    raise ValueError(f"{args.vlm!r} is a {config.model_type!r} model: neither image-text-to-text nor a causal LM.")


@doing("reading the config and processor of the VLM {args.vlm!r}")
def load_processor(args: VLMArguments) -> Loaded:
    """
    What is known of a model without its weights.

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
    loader = AutoProcessor if issubclass(family_of(config, args), ChatVLM) else AutoTokenizer
    return config, loader.from_pretrained(args.vlm, **source_of(args))


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
    if isinstance(processor, ProcessorMixin):
        if find_file(args, "processor_config.json") is not None:
            processor = AutoProcessor.from_pretrained(args.vlm, **source_of(args))
    elif find_file(args, "tokenizer_config.json") is not None:
        processor = AutoTokenizer.from_pretrained(args.vlm, **source_of(args))
    return config, processor


def source_of(args: VLMArguments) -> dict[str, Any]:
    """Keywords that every `from_pretrained` of the model takes."""
    source = {"revision": args.vlm_revision, "trust_remote_code": args.trust_remote_code}
    return source if args.gguf_file is None else source | {"gguf_file": args.gguf_file}


def load_open_flamingo(
    config: OpenFlamingoConfig, tokenizer: PreTrainedTokenizerBase, task: BaseTask, args: VLMArguments
) -> OpenFlamingo:
    """OpenFlamingo from a folder that `convert_open_flamingo` wrote."""
    if args.device_map is not None:
        raise ValueError(
            f"device_map is {args.device_map!r}, and OpenFlamingo hands images to all its layers at once, so these "
            "must stand on one device. Leave device_map out."
        )
    if args.quantization == "8bit":
        raise ValueError(
            "quantization is '8bit', and OpenFlamingo's perceiver gives its layers inputs of four dimensions, which "
            "the 8-bit layers of bitsandbytes do not take. Use '4bit'."
        )
    model = load_weights(OpenFlamingoModel, config, args)
    # With Pillow, as the transforms that it was trained with.
    image_processor = AutoImageProcessor.from_pretrained(args.vlm, backend="pil", **source_of(args))
    return OpenFlamingo(model, tokenizer, image_processor, task, args)


def load_weights(loader: type, config: PreTrainedConfig, args: VLMArguments) -> PreTrainedModel:
    """
    Reads weights, never from pickles, to where they stay.

    Args:
        loader (`type`):
            `AutoModelForImageTextToText` or `AutoModelForCausalLM`.
        config (`PreTrainedConfig`):
            The model's config.
        args ([`VLMArguments`]):
            Type, attention, quantisation and devices.
    """
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
