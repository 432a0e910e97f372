# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Selectors: models that choose demonstrations."""

from ..lazy import lazy
from .selector_fields import ARCHITECTURES, class_names


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "base_selector": (
            *("BaseSelectorModel", "Selection", "SelectorOutput"),
            *("action_mask", "action_step_logprobs"),
        ),
        "base_selector_config": ("BaseSelectorConfig", "read_selector_config"),
        "collapse": ("CollapseMeasures", "is_collapsed", "measure_collapse"),
        "demonstration_selector": ("DemonstrationSelection", "DemonstrationSelector"),
        "processing_selector": ("SelectorProcessor",),
        "selector_fields": ("ENCODINGS", "PRESETS", "EncoderLoraConfig"),
        **{f"configuration_{kind}": class_names(kind)[:1] for kind in ARCHITECTURES},
        **{f"modeling_{kind}": class_names(kind)[1:] for kind in ARCHITECTURES},
    },
)
