# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A frozen model that scores and answers, one file a family."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "base_vlm": ("BaseVLM",),
        "causal_lm": ("CausalLM",),
        "chat_vlm": ("ChatVLM",),
        "loading": ("FAMILIES", "load_processor", "load_vlm"),
        "preflight": ("preflight",),
        "prompt_hash": ("prompt_hash",),
        "qwen2_5_vl": ("Qwen2_5_VL",),
        "requests": ("AnswerLogprob", "Request"),
        "vlm_arguments": ("VLMArguments",),
    },
)
