# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""Configuration of the selector that knows the pool by heart."""

from huggingface_hub.dataclasses import strict

from .base_selector_config import BaseSelectorConfig


@strict
class GPT2SelectorConfig(BaseSelectorConfig):
    r"""
    Configuration of a [`GPT2SelectorModel`]. The defaults are the sizes of Lever-LM.

    Args:
        pool_size (`int`, *optional*, defaults to 1):
            Examples of the pool; each is a word of the vocabulary.
        pool_fingerprint (`str`, *optional*):
            Content of the pool it was trained on, the only one it can serve.
        hidden_size (`int`, *optional*, defaults to 512):
            Width.
        num_layers (`int`, *optional*, defaults to 2):
            Blocks.
        num_heads (`int`, *optional*, defaults to 8):
            Attention heads of a block.
        max_shots (`int`, *optional*, defaults to 32):
            Most demonstrations that can be asked for: there are so many position embeddings.
        **kwargs:
            What every selector has: [`BaseSelectorConfig`]. `candidate_features` may be empty: then an example is
            known by its name alone (`query_img_icd_idx` of Lever-LM).

    Raises:
        `ValueError`: a value that no model can be built from.
    """

    model_type = "gpt2_selector"
    candidates_may_have_no_features = True

    pool_size: int = 1
    pool_fingerprint: str | None = None
    hidden_size: int = 512
    num_layers: int = 2
    num_heads: int = 8
    max_shots: int = 32

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_least(dict.fromkeys(("pool_size", "hidden_size", "num_layers", "num_heads"), 1))
        self.check_least({"max_shots": self.num_shots})
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which {self.num_heads} heads can't share evenly; change "
                "hidden_size or num_heads."
            )
