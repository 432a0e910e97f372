# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""Configuration of the pointer selectors."""

from dataclasses import asdict

from huggingface_hub.dataclasses import strict

from ..fields import documented, option
from .base_selector_config import BaseSelectorConfig
from .selector_fields import EncoderLoraConfig, PointerSelectorFields


@documented
@strict
class PointerSelectorConfig(PointerSelectorFields, BaseSelectorConfig):
    r"""
    Configuration of a [`PointerSelectorModel`].

    Raises:
        `ValueError`: a value that no model can be built from.
    """

    model_type = "pointer_selector"

    lora: dict | None = option(
        "Adapters on the encoder, trained with the selector: fields of `EncoderLoraConfig`, others by default. The "
        "selector then reads pixels and tokens.",
        None,
    )
    encoder_config: dict | None = option(
        "Architecture of that encoder, a `CLIPConfig`; read from the encoder if not given, and only with `lora`.", None
    )

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.num_cross_attention_layers or self.candidate_encoder_layers:
            self.check_heads()
        if self.lora is not None:
            self.lora = asdict(EncoderLoraConfig.from_dict(self.lora))
