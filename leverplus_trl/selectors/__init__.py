# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Selectors: models that choose demonstrations."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "base_selector": ("BaseSelectorModel", "Selection", "SelectorOutput", "action_mask", "action_step_logprobs"),
        "base_selector_config": ("BaseSelectorConfig", "read_selector_config"),
        "collapse": ("CollapseMeasures", "is_collapsed", "measure_collapse"),
        "configuration_gpt2_selector": ("GPT2SelectorConfig",),
        "configuration_pointer_selector": ("EncoderLoraConfig", "PointerSelectorConfig"),
        "demonstration_selector": ("DemonstrationSelection", "DemonstrationSelector"),
        "modeling_gpt2_selector": ("GPT2SelectorModel",),
        "modeling_pointer_selector": ("PointerSelectorModel",),
        "presets": ("ENCODINGS", "PRESETS"),
        "processing_selector": ("SelectorProcessor",),
    },
)
