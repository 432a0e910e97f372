# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the stage `sft`."""

from dataclasses import dataclass, field

from ..fields import check_fields
from ..selectors.presets import ENCODINGS, PRESETS, SIZES


_OF_ALL = ("query_features", "candidate_features", "hidden_size", "num_heads", "stop", "dropout")
#: Fields of a selector's config that a recipe may set, by model type.
CONFIG_FIELDS = {
    "pointer_selector": (
        *_OF_ALL,
        *("num_tower_layers", "num_cross_attention_layers", "candidate_encoder_layers", "history", "scoring"),
        *("diversity", "step_embeddings", "initial_temperature", "learn_temperature"),
    ),
    "gpt2_selector": (*_OF_ALL, "num_layers", "max_shots"),
}
#: Fields of a recipe that describe adapters on the encoder, and what these are called there.
LORA_FIELDS = {
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "lora_bias": "bias",
    "lora_target_modules": "target_modules",
}


@dataclass
class SFTArguments:
    """
    Beams and selector: what to learn from, and which selector learns.

    Candidates, insertion, score and encoder are those of the beams: a selector must choose as the search did.

    Args:
        beams (`str`):
            Folder or hub id of the beams and ledger tables.
        beams_revision (`str`, *optional*):
            Hub revision of these.
        train_split (`str`, *optional*, defaults to `"train"`):
            Split of the beams to learn from; slices such as `"train[:100]"` work.
        eval_split (`str`, *optional*, defaults to `"validation"`):
            Split of the beams that chooses the best checkpoint; null for none, which keeps the last.
        selector (`str`, *optional*, defaults to `"v2"`):
            Preset of the selector.
        encoder (`str`, *optional*, defaults to that of the beams):
            Frozen encoder of the embeddings.
        encoder_revision (`str`, *optional*):
            Its revision.
        embeddings_dir (`str`, *optional*):
            Where embeddings are kept.
        encoding (`str`, *optional*):
            What describes query and demonstration, by the name of the pair: one of `ENCODINGS`.
        query_features, candidate_features, hidden_size, num_tower_layers, num_cross_attention_layers,
        candidate_encoder_layers, num_heads, history, scoring, diversity, stop, step_embeddings, dropout,
        initial_temperature, learn_temperature, num_layers, max_shots (*optional*, default to those of the preset):
            Fields of the selector's config, [`PointerSelectorConfig`] or [`GPT2SelectorConfig`].
        lora_r, lora_alpha, lora_dropout, lora_bias, lora_target_modules (*optional*, default to those of
        [`EncoderLoraConfig`]):
            Adapters on the encoder, for `selector: v2_lora`.
        copy_encoder (`bool`, *optional*, defaults to `False`):
            Whether the files of the encoder are put into the selector's folder, and used from there. Else it is named
            in the config alone.
        cache_mb (`int`, *optional*, defaults to 4096):
            Memory for prepared images, where the selector encodes them itself. Others are prepared anew for each
            batch, by `dataloader_num_workers` processes.
    """

    beams: str = field(metadata={"help": "Folder or hub id of the beams and ledger tables.", "path": "folder"})
    beams_revision: str | None = field(default=None, metadata={"help": "Hub revision of the beams."})
    train_split: str = field(default="train", metadata={"help": "Split of the beams to learn from."})
    eval_split: str | None = field(
        default="validation", metadata={"help": "Split of the beams that chooses the best checkpoint; null for none."}
    )
    selector: str = field(
        default="v2", metadata={"help": f"Preset of the selector: {' | '.join(PRESETS)}.", "choices": tuple(PRESETS)}
    )
    encoder: str | None = field(
        default=None, metadata={"help": "Frozen encoder; that of the beams if not given.", "path": "folder"}
    )
    encoder_revision: str | None = field(default=None, metadata={"help": "Its hub revision."})
    embeddings_dir: str | None = field(default=None, metadata={"help": "Where embeddings are kept.", "path": "folder"})
    encoding: str | None = field(
        default=None,
        metadata={
            "help": "What describes query and demonstration, by a name of Lever-LM.",
            "choices": tuple(ENCODINGS),
        },
    )
    query_features: list[str] | None = field(
        default=None,
        metadata={
            "help": "What describes a query: image, text.",
            "choices": ("image", "text"),
            "not_empty": True,
            "unique": True,
        },
    )
    candidate_features: list[str] | None = field(
        default=None,
        metadata={
            "help": "What describes a candidate: image, text, answer.",
            "choices": ("image", "text", "answer"),
            "unique": True,
        },
    )
    hidden_size: int | None = field(default=None, metadata={"help": "Width of the selector.", "min": 1})
    num_tower_layers: int | None = field(default=None, metadata={"help": "Linear layers of a tower.", "min": 2})
    num_cross_attention_layers: int | None = field(
        default=None, metadata={"help": "Blocks of cross-attention.", "min": 0}
    )
    candidate_encoder_layers: int | None = field(
        default=None, metadata={"help": "Blocks in which candidates attend to each other.", "min": 0}
    )
    num_heads: int | None = field(default=None, metadata={"help": "Attention heads of a block.", "min": 1})
    history: str | None = field(
        default=None,
        metadata={
            "help": "none | scalar_gate | vector_gate | gru.",
            "choices": ("none", "scalar_gate", "vector_gate", "gru"),
        },
    )
    scoring: str | None = field(
        default=None, metadata={"help": "cosine | additive.", "choices": ("cosine", "additive")}
    )
    diversity: str | None = field(
        default=None, metadata={"help": "none | mmr: mark down what is like a pick.", "choices": ("none", "mmr")}
    )
    stop: bool | None = field(default=None, metadata={"help": "Whether it may pick fewer than asked for."})
    step_embeddings: bool | None = field(default=None, metadata={"help": "Whether it knows which step it is at."})
    dropout: float | None = field(default=None, metadata={"help": "Dropout while training.", "min": 0, "below": 1})
    initial_temperature: float | None = field(
        default=None, metadata={"help": "First temperature of the scores.", "above": 0}
    )
    learn_temperature: bool | None = field(default=None, metadata={"help": "Whether the temperature is trained."})
    num_layers: int | None = field(default=None, metadata={"help": "Blocks of v0.", "min": 1})
    max_shots: int | None = field(default=None, metadata={"help": "Most shots that v0 can be asked for.", "min": 1})
    lora_r: int | None = field(default=None, metadata={"help": "Rank of the adapters of v2_lora.", "min": 1})
    lora_alpha: float | None = field(
        default=None, metadata={"help": "Adapters are multiplied by lora_alpha / lora_r.", "above": 0}
    )
    lora_dropout: float | None = field(
        default=None, metadata={"help": "Dropout of the adapters while training.", "min": 0, "below": 1}
    )
    lora_bias: str | None = field(
        default=None,
        metadata={"help": "Biases that are trained: none | all | lora_only.", "choices": ("none", "all", "lora_only")},
    )
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Layers that are adapted.", "not_empty": True, "unique": True}
    )
    copy_encoder: bool = field(default=False, metadata={"help": "Whether the encoder is copied to the output folder."})
    cache_mb: int = field(default=4096, metadata={"help": "Memory for prepared images, for v2_lora.", "min": 0})

    def __post_init__(self):
        check_fields(self)
        if self.encoding is not None and (self.query_features or self.candidate_features):
            raise ValueError("Set either `encoding` or `query_features` and `candidate_features`, not both.")
        self._check_selector()

    def _check_selector(self) -> None:
        model_type, preset = PRESETS[self.selector]
        known = {*CONFIG_FIELDS[model_type], *(LORA_FIELDS if "lora" in preset else ())}
        for name in (*(name for names in CONFIG_FIELDS.values() for name in names), *LORA_FIELDS):
            if name not in known and getattr(self, name) is not None:
                others = [other for other in PRESETS if name in (*CONFIG_FIELDS[PRESETS[other][0]], *LORA_FIELDS)]
                others = ["v2_lora"] if name in LORA_FIELDS else others
                raise ValueError(
                    f"{name} is set, but the selector {self.selector} has no such field; leave it out, or take "
                    f"{', '.join(others)}."
                )
        width, heads = SIZES[model_type]
        width, heads = self.hidden_size or width, self.num_heads or heads
        layers = [self.num_cross_attention_layers, preset.get("num_cross_attention_layers")]
        blocks = next((one for one in layers if one is not None), 0) or self.candidate_encoder_layers
        if (model_type == "gpt2_selector" or blocks) and width % heads:
            raise ValueError(
                f"hidden_size is {width}, which {heads} heads (num_heads) can't share evenly; change hidden_size or "
                "num_heads."
            )
        without = self.candidate_features == [] or (self.encoding and not ENCODINGS[self.encoding][1])
        if without and model_type != "gpt2_selector":
            key = f"encoding is {self.encoding}" if self.encoding else "candidate_features is an empty list"
            raise ValueError(
                f"{key}, so that a candidate is known by its name alone, as v0 knows it; the selector {self.selector} "
                "reads features: name some of image, text, answer."
            )
