# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Selectors: models that choose demonstrations."""

from ..lazy import lazy
from .selector_fields import ARCHITECTURES, class_names


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "actions": ("action_mask", "action_step_logprobs"),
        "base_selector": ("BaseSelectorModel", "Selection", "SelectorOutput"),
        "base_selector_config": ("BaseSelectorConfig", "read_selector_config"),
        "collapse": ("CollapseMeasures", "is_collapsed", "measure_collapse"),
        "configuration_lora": ("EncoderLoraConfig",),
        "demonstration_selector": ("DemonstrationSelection", "DemonstrationSelector"),
        "presets": ("ENCODINGS", "PRESETS"),
        "processing_selector": ("SelectorProcessor",),
        "selector_fields": ("EncoderLoraConfig",),
        **{f"configuration_{kind}": class_names(kind)[:1] for kind in ARCHITECTURES},
        **{f"modeling_{kind}": class_names(kind)[1:] for kind in ARCHITECTURES},
    },
)
