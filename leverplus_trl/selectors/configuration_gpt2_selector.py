# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""Configuration of the GPT-2 selector (v0), which selects from one fixed pool."""

from datasets import Dataset
from huggingface_hub.dataclasses import strict

from ..fields import documented, option
from ..provenance import dataset_hash
from .base_selector_config import BaseSelectorConfig
from .selector_fields import GPT2SelectorFields


@documented
@strict
class GPT2SelectorConfig(GPT2SelectorFields, BaseSelectorConfig):
    r"""
    Configuration of a [`GPT2SelectorModel`]. The defaults are the sizes of Lever-LM. If `candidate_features` is empty,
    an example is identified by its row in the pool alone (`query_img_icd_idx` of Lever-LM).

    Raises:
        `ValueError`: a value that no model can be built from.
    """

    model_type = "gpt2_selector"

    pool_size: int = option("Number of examples of the pool; each is a word of the vocabulary.", 1)
    pool_hash: str | None = option("Hash of the pool of the training, the only pool that is supported.", None)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for name, least in (("pool_size", 1), ("max_shots", self.num_shots)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        self.check_heads()

    def remember_pool(self, pool: Dataset) -> None:
        self.pool_size, self.pool_hash = len(pool), dataset_hash(pool)

    def check_pool(self, pool: Dataset) -> None:
        if self.pool_hash is not None and self.pool_hash != (other := dataset_hash(pool)):
            raise ValueError(
                f"This selector (v0) can select only from the pool of its training ({self.pool_size} examples, hash "
                f"{self.pool_hash}), but got another pool ({len(pool)} examples, hash {other}). Use the pool of the "
                "training, or train a pointer selector (v1, v2), which reads any pool."
            )

    @property
    def pool_note(self) -> str:
        return (
            f"It can only name the {self.pool_size} examples of the pool it was trained on (hash "
            f"{self.pool_hash}); another pool is refused."
        )
