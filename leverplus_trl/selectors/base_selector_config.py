# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""What the configurations of all selectors share: what they read, and what they were trained for."""

from typing import TYPE_CHECKING

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..fields import documented, option
from ..weights import check_folder, first_line
from .selector_fields import FEATURES, QUERY_FEATURES, SelectorFields


if TYPE_CHECKING:
    from datasets import Dataset


INSERTIONS = ("left", "right")


@documented
@strict
class BaseSelectorConfig(SelectorFields, PreTrainedConfig):
    r"""
    Base of all selectors' configurations.

    Raises:
        `ValueError`: a value that no model can be built from.
    """

    lora = None  # adapters on the encoder: a field of the selectors that can have some

    image_embed_dim: int = option("Width of an image embedding, if one is a feature.", 512)
    text_embed_dim: int = option("Width of the embedding of a question or an answer, if one is a feature.", 512)
    encoder: str | None = option("Frozen encoder of the embeddings: hub id or folder. It is named, not copied.", None)
    encoder_revision: str | None = option("Revision of the encoder.", None)
    encoder_commit: str | None = option("Commit or content hash of the encoder that it was trained with.", None)
    sampler: str = option("How candidates are drawn from the pool, unless `select` is told otherwise.", "random")
    num_candidates: int = option("How many candidates are drawn.", 64)
    sampler_seed: int = option("Seed of the candidates.", 0)
    insertion: str = option("Where each new pick stands in the prompt: left | right of the earlier ones.", "left")
    score: str = option("Scale of the InfoScore it was trained on: prob | logprob | metric.", "prob")
    num_shots: int = option("Length of the sequences it was trained on. More can be asked for.", 2)
    trained_on: dict | None = option("The beams it was trained on and what made them (VLM, task, data, search).", None)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        known = {"query_features": QUERY_FEATURES, "candidate_features": FEATURES}
        for name, options in known.items():
            value = getattr(self, name)
            needed = name == "query_features" or not self.candidates_may_have_no_features
            if (needed and not value) or len(set(value)) != len(value) or not set(value) <= set(options):
                raise ValueError(
                    f"{name} is {value}; expected some of {list(options)}, each at most once. An example without "
                    'image has the features ["text"].'
                )
        self.check_options({"insertion": INSERTIONS})
        self.check_least(dict.fromkeys(("image_embed_dim", "text_embed_dim", "num_candidates", "num_shots"), 1))
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; expected a share from 0 to below 1.")

    def check_options(self, options: dict[str, tuple[str, ...]]) -> None:
        """Raises `ValueError` if a field has none of its values."""
        for name, known in options.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}.")

    def check_least(self, least: dict[str, int]) -> None:
        """Raises `ValueError` if a field is below its least value."""
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {minimum}.")

    def remember_pool(self, pool: "Dataset") -> None:
        """Records the pool of the training, for a selector that can serve no other."""

    def check_pool(self, pool: "Dataset") -> None:
        """Raises `ValueError` for a pool that the selector can't choose from."""

    @property
    def pool_note(self) -> str:
        """Which pools the selector can choose from, as a sentence; empty for any."""
        return ""

    @property
    def query_embed_dim(self) -> int:
        """Width of the concatenated features of a query."""
        return self._width(self.query_features)

    @property
    def candidate_embed_dim(self) -> int:
        """Width of the concatenated features of a candidate."""
        return self._width(self.candidate_features)

    @property
    def features(self) -> tuple[str, ...]:
        """Every kind of embedding that the selector reads."""
        return tuple(name for name in FEATURES if name in (*self.query_features, *self.candidate_features))

    def _width(self, features: list[str]) -> int:
        """An answer is embedded as a question is."""
        return sum(self.image_embed_dim if feature == "image" else self.text_embed_dim for feature in features)


def read_selector_config(name_or_path: str, revision: str | None = None) -> BaseSelectorConfig:
    """The config of a selector; raises `ValueError` for anything that is not one."""
    from transformers import AutoConfig  # which registers this class when it is imported

    check_folder(name_or_path, "selector")
    try:
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"There is no selector {name_or_path!r} ({first_line(error)}). Name the folder that the "
            "stage `sft` wrote, or a hub id."
        ) from error
    if not isinstance(config, BaseSelectorConfig):
        raise ValueError(
            f"{name_or_path!r} is a {config.model_type!r} model, not a selector. Name one that `sft` trained."
        )
    return config
