# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

import torch
from accelerate import PartialState
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from ..tasks import BaseTask
from .base_vlm import AnswerLogprob, BaseVLM, Request
from .causal_lm import CausalLM
from .chat_vlm import ChatVLM
from .preflight import preflight
from .processing_qwen2_5_vl import register_processor
from .qwen2_5_vl import Qwen2_5_VL
from .vlm_arguments import VLMArguments


register_processor()

#: Families that do better than the plain path; any other vision-language model is a `ChatVLM`.
FAMILIES = {"qwen2_5_vl": Qwen2_5_VL}


def load_vlm(args: VLMArguments, task: BaseTask) -> BaseVLM:
    """
    Loads a frozen model on this process's device.

    Args:
        args ([`VLMArguments`]):
            Names the model.
        task ([`BaseTask`]):
            Task to make prompts for.

    Raises:
        `ValueError`: a model that is neither vision-language nor causal, or has no safetensors weights.
    """
    source = {"revision": args.vlm_revision, "trust_remote_code": args.trust_remote_code}
    if args.gguf_file is not None:
        source["gguf_file"] = args.gguf_file
    config = AutoConfig.from_pretrained(args.vlm, **source)
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        loader, family = AutoModelForImageTextToText, FAMILIES.get(config.model_type, ChatVLM)
        processor = AutoProcessor.from_pretrained(args.vlm, **source)
    elif type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        loader, family = AutoModelForCausalLM, CausalLM
        processor = AutoTokenizer.from_pretrained(args.vlm, **source)
    else:
        raise ValueError(f"{args.vlm!r} is a {config.model_type!r} model: neither image-text-to-text nor a causal LM.")
    weights = {} if args.gguf_file is not None else {"use_safetensors": True}
    try:
        model = loader.from_pretrained(
            args.vlm,
            dtype=getattr(torch, args.dtype),
            attn_implementation=args.attn_implementation,
            **source,
            **weights,
        )
    except OSError as error:
        raise ValueError(
            f"{args.vlm!r} has no safetensors weights that can be read ({error}). Pickled weights are refused, since "
            "loading them can run code: convert them with `model.save_pretrained(FOLDER)` on a machine where you "
            "trust them."
        ) from error
    return family(model.eval().to(PartialState().device), processor, task, args)


__all__ = [
    "FAMILIES",
    "AnswerLogprob",
    "BaseVLM",
    "CausalLM",
    "ChatVLM",
    "Qwen2_5_VL",
    "Request",
    "VLMArguments",
    "load_vlm",
    "preflight",
]
