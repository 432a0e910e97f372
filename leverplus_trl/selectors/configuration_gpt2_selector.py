# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""Configuration of the selector that knows the pool by heart."""

from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict

from ..fields import check_fields, documented, option
from .base_selector_config import BaseSelectorConfig
from .selector_fields import GPT2SelectorFields


if TYPE_CHECKING:
    from datasets import Dataset


@documented
@strict
class GPT2SelectorConfig(GPT2SelectorFields, BaseSelectorConfig):
    r"""
    Configuration of a [`GPT2SelectorModel`], and what every selector has. The defaults are the sizes of Lever-LM.
    `candidate_features` may be empty: then an example is known by its name alone (`query_img_icd_idx` of Lever-LM).

    Raises:
        `ValueError`: a value that no model can be built from.
    """

    model_type = "gpt2_selector"

    pool_size: int = option("Examples of the pool; each is a word of the vocabulary.", 1, min=1)
    pool_hash: str | None = option("Content of the pool it was trained on, the only one it can serve.", None)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        check_fields(self, GPT2SelectorFields)
        self.check_least({"pool_size": 1})
        self.check_least({"max_shots": self.num_shots})
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which {self.num_heads} heads can't share evenly; change "
                "hidden_size or num_heads."
            )

    def remember_pool(self, pool: "Dataset") -> None:
        from ..provenance import dataset_hash

        self.pool_size, self.pool_hash = len(pool), dataset_hash(pool)

    def check_pool(self, pool: "Dataset") -> None:
        from ..provenance import dataset_hash

        if self.pool_hash in (None, found := dataset_hash(pool)):
            return
        raise ValueError(
            f"This selector (v0) knows the {self.pool_size} examples of one pool by heart (hash "
            f"{self.pool_hash}) and can't choose from another ({len(pool)} examples, {found}). "
            "Offer the pool it was trained on, or train a pointer selector (v1, v2), which reads any pool."
        )

    @property
    def pool_note(self) -> str:
        return (
            f"It can only name the {self.pool_size} examples of the pool it was trained on (hash "
            f"{self.pool_hash}); another pool is refused."
        )
