# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From the recipe to a frozen model: its family, weights, adapter and devices; and the hash of its prompts."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
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
)
from transformers.utils import cached_file, is_bitsandbytes_available
from transformers.utils.import_utils import BITSANDBYTES_MIN_VERSION

from ..log import doing
from ..provenance import json_hash, refuse_missing_folder
from ..tasks import BaseTask
from ..weights import align, check_folder, first_line, refuse_pickles
from .causal_lm import CausalLMFamily
from .chat_vlm import ChatFamily
from .family import VLMFamily
from .open_flamingo.family import FlamingoProcessor, OpenFlamingoFamily, refuse_published_checkpoint
from .prompts import Processor, PromptTexts, probe_example
from .qwen2_5_vl import Qwen2_5_VLFamily, register_processor
from .vlm import TransformersVLM
from .vlm_arguments import VLMArguments


register_processor()

#: Families by `model_type`; any other vision-language model is of the [`ChatFamily`], any other model a causal LM.
FAMILIES: dict[str, type[VLMFamily]] = dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), Qwen2_5_VLFamily)
FAMILIES["open_flamingo"] = OpenFlamingoFamily
#: Recipe keys that a prompt hash depends on.
PROMPT_KEYS = ("vlm", "vlm_revision", "gguf_file", "prompt_format", "system_prompt", "prompt_date")
PROMPT_KEYS += ("score_end_token", "task", "question_template", "answer_template")

#: A model's config, and what its family makes inputs with.
Loaded = tuple[PreTrainedConfig, Processor | FlamingoProcessor]


@doing("loading the VLM {args.vlm!r}")
def load_vlm(args: VLMArguments, task: BaseTask, loaded: Loaded | None = None) -> TransformersVLM:
    """
    Loads a frozen model on this process's device, or with `device_map` over all devices that the process sees. An
    adapter that PEFT saved is put on the base model that it names. `loaded` is the result of [`load_processor`].

    Raises:
        `ValueError`: a model that is neither vision-language nor causal, has no safetensors weights, or does not fit
            into memory; quantisation or placement that can't be done here.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", PartialState().num_processes))
    if args.device_map is not None and processes > 1:
        raise ValueError(
            f"device_map is {args.device_map!r} and {processes} processes run on this machine: each would spread its "
            "model over the same devices. Launch one process a machine, or leave device_map out for one model a "
            "process."
        )
    config, processor = loaded or load_processor(args)
    family = _family_of(config, args)
    family.check_arguments(args)
    return TransformersVLM(family(_load_weights(family.model_loader, config, args), processor, task, args))


def CausalLM(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: BaseTask, args: VLMArguments
) -> TransformersVLM:
    """The VLM of a causal language model that is loaded already."""
    return TransformersVLM(CausalLMFamily(model, tokenizer, task, args))


def _family_of(config: PreTrainedConfig, args: VLMArguments) -> type[VLMFamily]:
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
    A model's config and processor, without its weights; for an adapter its base model's config, and the processor that
    was saved with the adapter, else the base model's. Raises `ValueError` for a model that [`load_vlm`] refuses.
    """
    refuse_published_checkpoint(args.vlm)
    refuse_missing_folder(args.vlm)
    try:
        base = _base_of(args)
        if base is not None:
            return _load_processor_of_adapter(args, base)
        if args.gguf_file is None:
            files = sorted(file.name for file in Path(args.vlm).glob("*.gguf"))
            if files and not Path(args.vlm, "config.json").exists():
                raise ValueError(
                    f"The VLM {args.vlm!r} holds {', '.join(files)} and no config.json; set gguf_file: {files[0]}."
                )
            check_folder(args.vlm, "VLM", "AutoModelForImageTextToText")
        config = AutoConfig.from_pretrained(args.vlm, **_source_of(args))
    except OSError as error:
        raise ValueError(
            f"The VLM {args.vlm!r} can't be read ({first_line(error)}). Name a folder that is there, or a hub id."
        ) from error
    return config, _family_of(config, args).processor_loader.from_pretrained(args.vlm, **_source_of(args))


def _source_of(args: VLMArguments) -> dict[str, Any]:
    """Keyword arguments of every `from_pretrained` of the model."""
    source = {"revision": args.vlm_revision, "trust_remote_code": args.trust_remote_code}
    return source if args.gguf_file is None else source | {"gguf_file": args.gguf_file}


def _load_weights(loader: type, config: PreTrainedConfig, args: VLMArguments) -> PreTrainedModel:
    """Reads weights, never from pickles, with a family's `model_loader`."""
    base = _base_of(args)
    if base is not None:
        return _put_on(_load_weights(loader, config, base), args).eval()
    weights = {} if args.gguf_file is not None else {"use_safetensors": True}
    if args.quantization is not None:
        weights["quantization_config"] = _quantization_config(config, args)
    try:
        model = loader.from_pretrained(
            args.vlm,
            dtype=getattr(torch, args.dtype),
            attn_implementation=args.attn_implementation,
            device_map=args.device_map or {"": PartialState().device},
            **_source_of(args),
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
    return align(model.eval())


def _quantization_config(config: PreTrainedConfig, args: VLMArguments) -> BitsAndBytesConfig:
    """How bitsandbytes quantises a model while it is read; other weights have, and compute in, `dtype`."""
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
        # It logs the type that each layer computes in, in every batch.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = {"bnb_4bit_compute_dtype": getattr(torch, args.dtype)}
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", **compute)


def _file_of(args: VLMArguments, name: str) -> str | None:
    """Path of a file of the model, in its folder or from the hub; `None` if there is none."""
    return cached_file(args.vlm, name, revision=args.vlm_revision, _raise_exceptions_for_missing_entries=False)


def _base_of(args: VLMArguments) -> VLMArguments | None:
    """Arguments that name the base model of an adapter; `None` for a model that is no adapter."""
    file = None if _file_of(args, "config.json") else _file_of(args, "adapter_config.json")
    if file is None:
        return None
    config = json.loads(Path(file).read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    if not base or base == args.vlm:
        raise ValueError(
            f"{args.vlm!r} is an adapter whose adapter_config.json has the base_model_name_or_path {base!r}. Write "
            "the folder or hub id of its base model there."
        )
    return replace(args, vlm=base, vlm_revision=config.get("revision"))


def _load_processor_of_adapter(args: VLMArguments, base: VLMArguments) -> Loaded:
    try:
        config, processor = load_processor(base)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{args.vlm!r} is an adapter of {base.vlm!r}, which can't be loaded ({first_line(error)}). Write its "
            "folder or hub id into base_model_name_or_path of the adapter's adapter_config.json, or name a folder "
            "with both merged."
        ) from error
    family = _family_of(config, args)
    if _file_of(args, family.processor_file) is not None:
        processor = family.processor_loader.from_pretrained(args.vlm, **_source_of(args))
    return config, processor


def _put_on(model: PreTrainedModel, args: VLMArguments) -> PreTrainedModel:
    """The base model, which is changed, with the adapter's layers in their places, not merged."""
    from peft import PeftConfig, PeftModel  # with bitsandbytes, it takes seconds

    remedy = "Merge it where it was trained, `model.merge_and_unload().save_pretrained(FOLDER)`, save the processor "
    remedy += "there, and name that folder."
    config = PeftConfig.from_pretrained(args.vlm, revision=args.vlm_revision)
    base = f"its base model {config.base_model_name_or_path!r}"
    if config.is_prompt_learning:
        raise ValueError(
            f"{args.vlm!r} is an adapter of the kind {config.peft_type.value}, which adds to the prompt; expected one "
            "of layers, such as LORA. Name a model without it."
        )
    if _file_of(args, "adapter_model.safetensors") is None:
        raise ValueError(f"The adapter {args.vlm!r} has no adapter_model.safetensors; pickles are refused. {remedy}")
    adapted = PeftModel(model, config, autocast_adapter_dtype=False)
    try:
        keys = adapted.load_adapter(args.vlm, "default", revision=args.vlm_revision, autocast_adapter_dtype=False)
    except (RuntimeError, ValueError) as error:  # weights of other shapes
        raise ValueError(f"The adapter {args.vlm!r} does not fit {base} ({error}). {remedy}") from error
    other_keys = [*keys.missing_keys, *keys.unexpected_keys]
    if other_keys:
        raise ValueError(
            f"The adapter {args.vlm!r} and {base} have different layers, e.g. {other_keys[0]!r}. {remedy}"
        )
    return adapted.get_base_model()


def prompt_hash(args: VLMArguments, task: BaseTask, loaded: Loaded | None = None) -> str:
    """
    Hash of the prompt of a fixed example, and of its tokens, so that scores of different prompts are never mixed.

    It changes with the chat template and the date in it, the system prompt, the task's templates and the tokenizer;
    not with the examples of a job, nor with the machine. No weights are read. `loaded` is the result of
    [`load_processor`].
    """
    config, processor = loaded or load_processor(args)
    family, probe = _family_of(config, args), probe_example(task)
    if not family.takes_images:
        probe["image"] = None
        try:
            task.content(probe)
        except ValueError as error:
            raise ValueError(
                f"{args.vlm!r} is a language model and the task shows it an image. Name another VLM."
            ) from error
    prompt, tokenizer = family.make_prompt(processor, task, args), getattr(processor, "tokenizer", processor)
    texts = PromptTexts(prompt, tokenizer, args.score_end_token)
    text = texts.whole((probe,), probe).text + texts.answer(probe)
    return json_hash([text, tokenizer(text, add_special_tokens=False)["input_ids"]])


def prompt_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The differences between the prompts of two outputs, given their provenance; empty if there are none."""
    if there["facts"].get("prompt_hash") == here["facts"]["prompt_hash"]:
        return ""
    pairs = {"prompt_hash": [made["facts"].get("prompt_hash") for made in (there, here)]}
    pairs |= {key: [made["recipe"].get(key) for made in (there, here)] for key in PROMPT_KEYS}
    return "; ".join(f"{key}: {old!r} there, {new!r} here" for key, (old, new) in pairs.items() if old != new)
