# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Adapters that PEFT saved: a config and weights of some layers, to be put on a base model."""

import json
from dataclasses import replace

from transformers import PreTrainedModel
from transformers.utils import cached_file

from .vlm_arguments import VLMArguments


def find_file(args: VLMArguments, name: str) -> str | None:
    """Path of a file of the model, in its folder or from the hub; `None` if it has none of that name."""
    return cached_file(args.vlm, name, revision=args.vlm_revision, _raise_exceptions_for_missing_entries=False)


def base_of(args: VLMArguments) -> VLMArguments | None:
    """
    Arguments that name the base model of an adapter; `None` for a model that is none.

    Raises:
        `ValueError`: an adapter that does not say what its base model is.
    """
    if find_file(args, "config.json") is not None:
        return None
    file = find_file(args, "adapter_config.json")
    if file is None:
        return None
    with open(file, encoding="utf-8") as handle:
        config = json.load(handle)
    base = config.get("base_model_name_or_path")
    if not base or base == args.vlm:
        raise ValueError(
            f"{args.vlm!r} is an adapter whose adapter_config.json has the base_model_name_or_path {base!r}. Write "
            "the folder or hub id of its base model there."
        )
    return replace(args, vlm=base, vlm_revision=config.get("revision"))


def put_on(model: PreTrainedModel, args: VLMArguments) -> PreTrainedModel:
    """
    The base model, which is changed, with the adapter's layers in their places, not merged.

    Raises:
        `ValueError`: weights in a pickle or for other layers than the model's, or an adapter that is no layers, such
            as a learned prompt.
    """
    from peft import PeftConfig, PeftModel  # with bitsandbytes, it takes seconds

    remedy = (
        "Merge it where it was trained, `model.merge_and_unload().save_pretrained(FOLDER)`, save the processor there, "
        "and name that folder."
    )
    config = PeftConfig.from_pretrained(args.vlm, revision=args.vlm_revision)
    if config.is_prompt_learning:
        raise ValueError(
            f"{args.vlm!r} is an adapter of the kind {config.peft_type.value}, which adds to the prompt; expected one "
            "of layers, such as LORA. Name a model without it."
        )
    if find_file(args, "adapter_model.safetensors") is None:
        raise ValueError(f"The adapter {args.vlm!r} has no adapter_model.safetensors; pickles are refused. {remedy}")
    adapted = PeftModel(model, config, autocast_adapter_dtype=False)
    try:
        found = adapted.load_adapter(args.vlm, "default", revision=args.vlm_revision, autocast_adapter_dtype=False)
    except (RuntimeError, ValueError) as error:  # weights of other shapes
        raise ValueError(
            f"The adapter {args.vlm!r} does not fit its base model {config.base_model_name_or_path!r} ({error}). "
            + remedy
        ) from error
    strangers = [*found.missing_keys, *found.unexpected_keys]
    if strangers:
        raise ValueError(
            f"The adapter {args.vlm!r} and its base model {config.base_model_name_or_path!r} have different layers, "
            f"e.g. {strangers[0]!r}. {remedy}"
        )
    return adapted.get_base_model()
