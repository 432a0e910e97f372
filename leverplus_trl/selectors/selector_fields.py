# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Fields and presets of selectors' configs, in a module that is imported quickly: the configs take seconds."""

import dataclasses
from dataclasses import dataclass, field, fields

from ..fields import check_fields, documented, keys_of, members, option, types_of


INSERTIONS = ("left", "right")
FEATURES = ("image", "text", "answer")
QUERY_FEATURES = ("image", "text")  # the answer of a query is not known


@dataclass
class SelectorFields:
    """Fields of every selector that a recipe may set."""

    query_features: list[str] = option(
        "What describes a query: image, text. Their embeddings are concatenated in this order.",
        ["image", "text"],
        choices=QUERY_FEATURES,
        not_empty=True,
        unique=True,
    )
    candidate_features: list[str] = option(
        "What describes a candidate: image, text, answer.", ["image", "text"], choices=FEATURES, unique=True
    )
    stop: bool = option("Whether it may pick fewer than `num_shots`.", False)
    dropout: float | int = option("Dropout while training.", 0.1, min=0, below=1)


@dataclass
class TrainingFields:
    """Fields of every selector that follow from its training."""

    image_embed_dim: int = option("Width of an image embedding.", 512, min=1)
    text_embed_dim: int = option("Width of the embedding of a question or an answer.", 512, min=1)
    num_candidates: int = option("Number of candidates that are drawn for a query.", 64, min=1)
    num_shots: int = option("Length of the sequences in training. `select` may get more.", 2, min=1)
    insertion: str = option(
        "Position of each new pick in the prompt: left | right of the earlier picks.", "left", choices=INSERTIONS
    )


@dataclass
class PointerSelectorFields:
    """Fields of a pointer selector."""

    candidates_may_have_no_features = False

    hidden_size: int = option("Width of the selector.", 128, min=1)
    num_tower_layers: int = option(
        "Linear layers of a tower. GELU is between them; with one layer a tower can't multiply what the question asks "
        "by what the image shows.",
        2,
        min=2,
    )
    num_cross_attention_layers: int = option(
        "Blocks of cross-attention. In them the query attends to its candidates.", 3, min=0
    )
    candidate_encoder_layers: int = option("Blocks in which candidates attend to each other.", 0, min=0)
    num_heads: int = option("Attention heads of a block.", 4, min=1)
    history: str = option(
        "none | scalar_gate | vector_gate | gru. How a pick changes the query's state: not at all, by one learned "
        "weight, by a gate per dimension that reads state and pick, or by a GRU.",
        "vector_gate",
        choices=("none", "scalar_gate", "vector_gate", "gru"),
    )
    scoring: str = option(
        "cosine | additive. How state and candidate are scored; additive is v^T tanh(W s + U c) of pointer networks.",
        "cosine",
        choices=("cosine", "additive"),
    )
    diversity: str = option(
        "none | mmr: lower the scores of candidates that are similar to a pick. The factor is learned.",
        "none",
        choices=("none", "mmr"),
    )
    step_embeddings: bool = option(
        "Whether each step has an embedding. Steps after `num_shots` have the last embedding.", False
    )
    initial_temperature: float | int = option("First temperature of the scores.", 0.1, above=0)
    learn_temperature: bool = option("Whether the temperature is trained.", True)


@dataclass
class GPT2SelectorFields:
    """Fields of a GPT-2 over the examples of one pool; the defaults are the sizes of Lever-LM."""

    candidates_may_have_no_features = True

    hidden_size: int = option("Width of the selector.", 512, min=1)
    num_layers: int = option("Blocks of v0.", 2, min=1)
    num_heads: int = option("Attention heads of a block.", 8, min=1)
    max_shots: int = option("Maximum number of shots of v0, since it has a position embedding for each.", 32, min=1)


@documented
@dataclass
class EncoderLoraConfig:
    """Adapters on the encoder towers of the selector's features, with the field names of `peft.LoraConfig`."""

    r: int = option("Rank of the adapters of v2_lora.", 16, min=1)
    lora_alpha: float | int = option("Adapters are multiplied by lora_alpha / lora_r.", 32, above=0)
    lora_dropout: float | int = option("Dropout of the adapters while training.", 0.1, min=0, below=1)
    bias: str = option(
        "Biases that are trained: none | all | lora_only.", "none", choices=("none", "all", "lora_only")
    )
    target_modules: list[str] = option(
        "Linear layers that are adapted, by the end of their name.",
        ["q_proj", "k_proj", "v_proj", "out_proj"],
        not_empty=True,
        unique=True,
    )

    def __post_init__(self):
        check_fields(self)

    @classmethod
    def from_dict(cls, values: dict) -> "EncoderLoraConfig":
        """Raises `ValueError` for a name that is none of its fields."""
        known = [parameter.name for parameter in fields(cls)]
        foreign = sorted(set(values) - set(known))
        if foreign:
            raise ValueError(f"lora has the unknown field {foreign[0]!r}; expected some of {', '.join(known)}.")
        return cls(**values)


#: `{model type: its own fields}`. `configuration_<model type>.py` and `modeling_<model type>.py` define the classes.
ARCHITECTURES = {"pointer_selector": PointerSelectorFields, "gpt2_selector": GPT2SelectorFields}
#: Fields of a selector's config that a recipe may set, by model type.
CONFIG_FIELDS = {
    model_type: tuple(field.name for kind in (SelectorFields, own) for field in keys_of(kind))
    for model_type, own in ARCHITECTURES.items()
}
#: `{recipe key: field of EncoderLoraConfig}`.
LORA_FIELDS = {f"lora_{field.name.removeprefix('lora_')}": field.name for field in keys_of(EncoderLoraConfig)}
#: Default `hidden_size` and `num_heads` of each model type.
SIZES = {model_type: (own.hidden_size, own.num_heads) for model_type, own in ARCHITECTURES.items()}

_V2 = {"num_cross_attention_layers": 3, "history": "vector_gate"}
#: `{preset: (model type, values)}`. v3 (with Flamingo) and v4 (with Qwen) are v2 after offline RL.
PRESETS: dict[str, tuple[str, dict]] = {
    "v0": ("gpt2_selector", {}),
    "v1": ("pointer_selector", {"num_cross_attention_layers": 0, "history": "scalar_gate"}),
    "v2": ("pointer_selector", _V2),
    "v2_lora": ("pointer_selector", _V2 | {"lora": {}}),
    "v3": ("pointer_selector", _V2),
    "v4": ("pointer_selector", _V2),
}
#: `{encoding: (query features, candidate features)}`, named as by Lever-LM. With `icd_idx` a selector identifies an
#: example by its row in the pool alone (v0).
ENCODINGS: dict[str, tuple[list[str], list[str]]] = {
    "query_img_icd_idx": (["image"], []),
    "query_img_icd_img": (["image"], ["image"]),
    "query_img_icd_text": (["image"], ["text"]),
    "query_img_icd_img_text": (["image"], ["image", "text"]),
    "query_text_icd_text": (["text"], ["text"]),
    "query_img_text_icd_img_text": (["image", "text"], ["image", "text"]),
}


def class_names(model_type: str) -> tuple[str, str]:
    """The class names of an architecture's config and model: `PointerSelectorConfig`, `PointerSelectorModel`."""
    name = ARCHITECTURES[model_type].__name__.removesuffix("Fields")
    return f"{name}Config", f"{name}Model"


def as_recipe_keys(name: str, doc: str) -> type:
    """A dataclass of all these fields as keys of a recipe, with the same help and limits; the default is `None`."""
    keys: dict[str, tuple] = {}
    for kind in (SelectorFields, *ARCHITECTURES.values(), EncoderLoraConfig):
        to_key = {field: key for key, field in LORA_FIELDS.items()} if kind is EncoderLoraConfig else {}
        for parameter in keys_of(kind):
            types = members(types_of(kind)[parameter.name])
            plain = float if float in types else types[0]
            key = to_key.get(parameter.name, parameter.name)
            default = field(default=None, kw_only=True, metadata=parameter.metadata)
            keys.setdefault(key, (key, plain | None, default))
    return dataclasses.make_dataclass(name, keys.values(), namespace={"__doc__": doc, "__module__": __name__})
