# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Configuration of the pointer selectors, and the presets that have a name."""

from dataclasses import field

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


FEATURES = ("image", "text")
HISTORIES = ("none", "scalar_gate", "vector_gate", "gru")
INSERTIONS = ("left", "right")

#: A preset is a named set of config values, nothing more; every value can also be set by itself.
PRESETS = {
    "v1": {"num_cross_attention_layers": 0, "history": "scalar_gate"},
    "v2": {"num_cross_attention_layers": 3, "history": "vector_gate"},
}


@strict
class PointerSelectorConfig(PreTrainedConfig):
    r"""
    Configuration of a [`PointerSelectorModel`]: what it reads, how it is built, and what it was trained for.

    Args:
        query_features (`list[str]`, *optional*, defaults to `["image", "text"]`):
            Embeddings that describe the query, of `"image"` and `"text"`; concatenated in this order.
        candidate_features (`list[str]`, *optional*, defaults to `["image", "text"]`):
            Embeddings that describe a candidate.
        image_embed_dim (`int`, *optional*, defaults to 512):
            Width of an image embedding. Without meaning if no feature is `"image"`.
        text_embed_dim (`int`, *optional*, defaults to 512):
            Width of a text embedding. Without meaning if no feature is `"text"`.
        hidden_size (`int`, *optional*, defaults to 128):
            Width of the towers and of everything behind them.
        num_tower_layers (`int`, *optional*, defaults to 2):
            Linear layers of a tower, with GELU between them. A tower of one layer can't multiply what the question
            asks by what the image shows, so at least 2.
        num_cross_attention_layers (`int`, *optional*, defaults to 3):
            Blocks in which the query attends to its candidates.
        num_heads (`int`, *optional*, defaults to 4):
            Attention heads of these blocks.
        history (`str`, *optional*, defaults to `"vector_gate"`):
            How a pick changes the query's state: `"none"` (not at all), `"scalar_gate"` (one learned weight),
            `"vector_gate"` (a gate per dimension that reads state and pick) or `"gru"`.
        dropout (`float`, *optional*, defaults to 0.1):
            Dropout in towers and blocks while training.
        initial_temperature (`float`, *optional*, defaults to 0.1):
            What cosine scores are divided by at the start; learned from there.
        encoder (`str`, *optional*):
            Frozen encoder of the embeddings: hub id or folder. It is named here, not copied.
        encoder_revision (`str`, *optional*):
            Revision of the encoder.
        encoder_commit (`str`, *optional*):
            Commit or content hash of the encoder that the selector was trained with.
        sampler (`str`, *optional*, defaults to `"random"`):
            How candidates are drawn from the pool, unless `select` is told otherwise.
        num_candidates (`int`, *optional*, defaults to 64):
            How many candidates are drawn.
        sampler_seed (`int`, *optional*, defaults to 0):
            Seed of the candidates.
        insertion (`str`, *optional*, defaults to `"left"`):
            Where each new pick stands in the prompt: `"left"` of the earlier ones or `"right"` of them, next to the
            query.
        score (`str`, *optional*, defaults to `"prob"`):
            Scale of the InfoScore it was trained on.
        num_shots (`int`, *optional*, defaults to 2):
            Length of the sequences it was trained on. More can be asked for.
        trained_on (`dict`, *optional*):
            The beams it was trained on and what made them (VLM, task, data, search).

    Raises:
        `ValueError`: a value that no model can be built from.
    """

    model_type = "pointer_selector"

    query_features: list[str] = field(default_factory=lambda: list(FEATURES))
    candidate_features: list[str] = field(default_factory=lambda: list(FEATURES))
    image_embed_dim: int = 512
    text_embed_dim: int = 512
    hidden_size: int = 128
    num_tower_layers: int = 2
    num_cross_attention_layers: int = 3
    num_heads: int = 4
    history: str = "vector_gate"
    dropout: float | int = 0.1
    initial_temperature: float | int = 0.1
    encoder: str | None = None
    encoder_revision: str | None = None
    encoder_commit: str | None = None
    sampler: str = "random"
    num_candidates: int = 64
    sampler_seed: int = 0
    insertion: str = "left"
    score: str = "prob"
    num_shots: int = 2
    trained_on: dict | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for name in ("query_features", "candidate_features"):
            value = getattr(self, name)
            if not value or len(set(value)) != len(value) or not set(value) <= set(FEATURES):
                raise ValueError(
                    f"{name} is {value}; expected some of {list(FEATURES)}, each at most once. An example without "
                    "image "
                    'has the features ["text"].'
                )
        for name, options in {"history": HISTORIES, "insertion": INSERTIONS}.items():
            if getattr(self, name) not in options:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(options)}.")
        least = {"num_cross_attention_layers": 0, "num_tower_layers": 2}
        least |= dict.fromkeys(("image_embed_dim", "text_embed_dim", "hidden_size", "num_heads", "num_shots"), 1)
        for name, minimum in (least | {"num_candidates": 1}).items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {minimum}.")
        if self.num_cross_attention_layers and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which {self.num_heads} heads can't share evenly; change "
                "hidden_size or num_heads."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; expected a share from 0 to below 1.")
        if not self.initial_temperature > 0.0:
            raise ValueError(f"initial_temperature is {self.initial_temperature}; scores are divided by it: above 0.")

    @property
    def query_embed_dim(self) -> int:
        """Width of the concatenated features of a query."""
        return sum(getattr(self, f"{feature}_embed_dim") for feature in self.query_features)

    @property
    def candidate_embed_dim(self) -> int:
        """Width of the concatenated features of a candidate."""
        return sum(getattr(self, f"{feature}_embed_dim") for feature in self.candidate_features)

    @property
    def features(self) -> tuple[str, ...]:
        """Every kind of embedding that the selector reads."""
        return tuple(name for name in FEATURES if name in (*self.query_features, *self.candidate_features))
