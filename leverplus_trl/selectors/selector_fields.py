# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The fields of selectors' configs that a recipe may set, apart from the configs, whose import takes seconds."""

import dataclasses
from dataclasses import dataclass, field, fields

from ..fields import documented, keys_of, members, option, types_of


FEATURES = ("image", "text", "answer")
QUERY_FEATURES = ("image", "text")  # the answer of a query is what is asked for
LORA_BIASES = ("none", "all", "lora_only")


@dataclass
class SelectorFields:
    """Fields of every selector."""

    candidates_may_have_no_features = False

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
    stop: bool = option("Whether it may pick fewer than asked for.", False)
    dropout: float | int = option("Dropout while training.", 0.1, min=0, below=1)


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
        "none | mmr: mark down what is like a pick. The factor of the similarity is learned.",
        "none",
        choices=("none", "mmr"),
    )
    step_embeddings: bool = option(
        "Whether it knows which step it is at. Steps after `num_shots` have the last embedding.", False
    )
    initial_temperature: float | int = option("First temperature of the scores.", 0.1, above=0)
    learn_temperature: bool = option("Whether the temperature is trained.", True)


@dataclass
class GPT2SelectorFields:
    """Fields of the selector that is a GPT-2 over the examples of one pool; the defaults are the sizes of Lever-LM."""

    candidates_may_have_no_features = True

    hidden_size: int = option("Width of the selector.", 512, min=1)
    num_layers: int = option("Blocks of v0.", 2, min=1)
    num_heads: int = option("Attention heads of a block.", 8, min=1)
    max_shots: int = option("Most shots that v0 can be asked for. It has so many position embeddings.", 32, min=1)


@documented
@dataclass
class EncoderLoraConfig:
    """
    Adapters on the towers of the encoder, by the names that `peft.LoraConfig` has for these. Towers that none of the
    selector's features come from get none.
    """

    r: int = option("Rank of the adapters of v2_lora.", 16, min=1)
    lora_alpha: float | int = option("Adapters are multiplied by lora_alpha / lora_r.", 32, above=0)
    lora_dropout: float | int = option("Dropout of the adapters while training.", 0.1, min=0, below=1)
    bias: str = option("Biases that are trained: none | all | lora_only.", "none", choices=LORA_BIASES)
    target_modules: list[str] = option(
        "Layers that are adapted. Linear layers, by the end of their name.",
        ["q_proj", "k_proj", "v_proj", "out_proj"],
        not_empty=True,
        unique=True,
    )

    def __post_init__(self):
        if not isinstance(self.r, int) or self.r < 1:
            raise ValueError(f"The rank of the adapters (r) is {self.r!r}; expected a whole number of at least 1.")
        if not self.lora_alpha > 0.0:
            raise ValueError(f"lora_alpha is {self.lora_alpha}; adapters are multiplied by lora_alpha / r: above 0.")
        if not 0.0 <= self.lora_dropout < 1.0:
            raise ValueError(f"lora_dropout is {self.lora_dropout}; expected a share from 0 to below 1.")
        if self.bias not in LORA_BIASES:
            raise ValueError(f"The adapters' bias is {self.bias!r}; expected one of {', '.join(LORA_BIASES)}.")
        names = self.target_modules
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"target_modules is {names!r}; expected a list of names of linear layers, e.g. q_proj.")

    @classmethod
    def from_dict(cls, values: dict) -> "EncoderLoraConfig":
        """Raises `ValueError` for a name that is none of its fields."""
        known = [one.name for one in fields(cls)]
        foreign = sorted(set(values) - set(known))
        if foreign:
            raise ValueError(f"lora has the unknown field {foreign[0]!r}; there are {', '.join(known)}.")
        return cls(**values)


#: Every architecture: `{model type: its own fields}`. `configuration_<model type>.py` and `modeling_<model type>.py`
#: define the classes of its config and its model, see [`class_names`].
ARCHITECTURES = {"pointer_selector": PointerSelectorFields, "gpt2_selector": GPT2SelectorFields}
#: Fields of a selector's config that a recipe may set, by model type.
CONFIG_FIELDS = {
    model_type: tuple(one.name for kind in (SelectorFields, own) for one in keys_of(kind))
    for model_type, own in ARCHITECTURES.items()
}
#: Fields of a recipe that describe adapters on the encoder, and what these are called there.
LORA_FIELDS = {f"lora_{one.name.removeprefix('lora_')}": one.name for one in keys_of(EncoderLoraConfig)}
#: `hidden_size` and `num_heads` of each model type, where a recipe sets none.
SIZES = {model_type: (own.hidden_size, own.num_heads) for model_type, own in ARCHITECTURES.items()}


def class_names(model_type: str) -> tuple[str, str]:
    """The names of the classes of an architecture's config and model: `PointerSelectorConfig`, ..."""
    name = ARCHITECTURES[model_type].__name__.removesuffix("Fields")
    return f"{name}Config", f"{name}Model"


def as_recipe_keys(name: str, doc: str) -> type:
    """A dataclass of all these fields as keys of a recipe: with the same help and limits, and not set by default."""
    keys: dict[str, tuple] = {}
    for kind in (SelectorFields, *ARCHITECTURES.values(), EncoderLoraConfig):
        to_key = {field: key for key, field in LORA_FIELDS.items()} if kind is EncoderLoraConfig else {}
        for one in keys_of(kind):
            found = members(types_of(kind)[one.name])
            plain = float if float in found else found[0]
            key = to_key.get(one.name, one.name)
            keys.setdefault(key, (key, plain | None, field(default=None, kw_only=True, metadata=one.metadata)))
    return dataclasses.make_dataclass(name, keys.values(), namespace={"__doc__": doc, "__module__": __name__})
