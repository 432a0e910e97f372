# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Frozen models that score and answer: what a VLM promises, what a family knows, one file a family."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "chat_vlm": ("ChatFamily",),
        "family": ("VLMFamily",),
        "loading": ("FAMILIES", "CausalLM", "load_processor", "load_vlm", "prompt_hash"),
        "preflight": ("preflight",),
        "requests": ("AnswerLogprob", "Request"),
        "vlm": ("VLM", "TransformersVLM"),
        "vlm_arguments": ("VLMArguments",),
    },
)
