# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""Configuration of the pointer selectors."""

from dataclasses import asdict, dataclass, field, fields

from huggingface_hub.dataclasses import strict

from .base_selector_config import BaseSelectorConfig


HISTORIES = ("none", "scalar_gate", "vector_gate", "gru")
SCORINGS = ("cosine", "additive")
DIVERSITIES = ("none", "mmr")
LORA_BIASES = ("none", "all", "lora_only")


@dataclass
class EncoderLoraConfig:
    """
    Adapters on the towers of the encoder, by the names that `peft.LoraConfig` has for these. Towers that none of the
    selector's features come from get none.

    Args:
        r (`int`, *optional*, defaults to 16):
            Rank.
        lora_alpha (`float`, *optional*, defaults to 32):
            What an adapter adds is multiplied by `lora_alpha / r`.
        lora_dropout (`float`, *optional*, defaults to 0.1):
            Dropout of an adapter's input while training.
        bias (`str`, *optional*, defaults to `"none"`):
            Biases that are trained, too: `"none"`, `"all"` of the towers, or `"lora_only"`, those of adapted layers.
        target_modules (`list[str]`, *optional*, defaults to the projections of the attention):
            Linear layers that are adapted, by the end of their name.

    Raises:
        `ValueError`: a value that makes no sense.
    """

    r: int = 16
    lora_alpha: float | int = 32
    lora_dropout: float | int = 0.1
    bias: str = "none"
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "out_proj"])

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


@strict
class PointerSelectorConfig(BaseSelectorConfig):
    r"""
    Configuration of a [`PointerSelectorModel`]: how it is built.

    Args:
        hidden_size (`int`, *optional*, defaults to 128):
            Width of the towers and of everything behind them.
        num_tower_layers (`int`, *optional*, defaults to 2):
            Linear layers of a tower, with GELU between them. A tower of one layer can't multiply what the question
            asks by what the image shows, so at least 2.
        num_cross_attention_layers (`int`, *optional*, defaults to 3):
            Blocks in which the query attends to its candidates.
        candidate_encoder_layers (`int`, *optional*, defaults to 0):
            Blocks before these in which the candidates attend to each other.
        num_heads (`int`, *optional*, defaults to 4):
            Attention heads of these blocks.
        history (`str`, *optional*, defaults to `"vector_gate"`):
            How a pick changes the query's state: `"none"` (not at all), `"scalar_gate"` (one learned weight),
            `"vector_gate"` (a gate per dimension that reads state and pick) or `"gru"`.
        scoring (`str`, *optional*, defaults to `"cosine"`):
            How state and candidate make a score: `"cosine"` or `"additive"` (v^T tanh(W s + U c), as pointer networks
            do).
        diversity (`str`, *optional*, defaults to `"none"`):
            `"mmr"` takes a learned multiple of a candidate's similarity to what is picked off its score.
        step_embeddings (`bool`, *optional*, defaults to `False`):
            Whether the state knows how many were picked; beyond `num_shots` the last embedding is used.
        initial_temperature (`float`, *optional*, defaults to 0.1):
            What scores are divided by at the start.
        learn_temperature (`bool`, *optional*, defaults to `True`):
            Whether the temperature is trained.
        lora (`dict`, *optional*):
            Adapters on the encoder, trained with the selector: the fields of [`EncoderLoraConfig`], those that are
            missing by default. The selector then reads pixels and tokens.
        encoder_config (`dict`, *optional*):
            Architecture of that encoder, a `CLIPConfig`. Read from the encoder if it is not given, and not at all
            without `lora`.
        **kwargs:
            What every selector has: [`BaseSelectorConfig`].

    Raises:
        `ValueError`: a value that no model can be built from.
    """

    model_type = "pointer_selector"

    hidden_size: int = 128
    num_tower_layers: int = 2
    num_cross_attention_layers: int = 3
    candidate_encoder_layers: int = 0
    num_heads: int = 4
    history: str = "vector_gate"
    scoring: str = "cosine"
    diversity: str = "none"
    step_embeddings: bool = False
    initial_temperature: float | int = 0.1
    learn_temperature: bool = True
    lora: dict | None = None
    encoder_config: dict | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_options({"history": HISTORIES, "scoring": SCORINGS, "diversity": DIVERSITIES})
        least = {"num_cross_attention_layers": 0, "candidate_encoder_layers": 0, "num_tower_layers": 2}
        self.check_least(least | dict.fromkeys(("hidden_size", "num_heads"), 1))
        if (self.num_cross_attention_layers or self.candidate_encoder_layers) and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which {self.num_heads} heads can't share evenly; change "
                "hidden_size or num_heads."
            )
        if not self.initial_temperature > 0.0:
            raise ValueError(f"initial_temperature is {self.initial_temperature}; scores are divided by it: above 0.")
        if self.lora is not None:
            self.lora = asdict(EncoderLoraConfig.from_dict(self.lora))
