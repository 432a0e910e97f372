# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the stage `sft`."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option
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


@documented
@dataclass
class SFTArguments:
    """
    Beams and selector: what to learn from, and which selector learns.

    Candidates, insertion, score and encoder are those of the beams: a selector must choose as the search did.
    """

    beams: str = option("Folder or hub id of the beams and ledger tables.", path="folder")
    beams_revision: str | None = option("Hub revision of the beams.", None)
    train_split: str = option("Split of the beams to learn from. Slices such as train[:100] work.", "train")
    eval_split: str | None = option(
        "Split of the beams that chooses the best checkpoint; null for none. Without one, the last checkpoint"
        " is kept.",
        "validation",
    )
    selector: str = option(f"Preset of the selector: {' | '.join(PRESETS)}.", "v2", choices=tuple(PRESETS))
    encoder: str | None = option("Frozen encoder; that of the beams if not given.", None, path="folder")
    encoder_revision: str | None = option("Its hub revision.", None)
    embeddings_dir: str | None = option("Where embeddings are kept.", None, path="folder")
    encoding: str | None = option(
        "What describes query and demonstration, by a name of Lever-LM.", None, choices=tuple(ENCODINGS)
    )
    query_features: list[str] | None = option(
        "What describes a query: image, text.", None, choices=("image", "text"), not_empty=True, unique=True
    )
    candidate_features: list[str] | None = option(
        "What describes a candidate: image, text, answer.",
        None,
        choices=("image", "text", "answer"),
        unique=True,
    )
    hidden_size: int | None = option("Width of the selector.", None, min=1)
    num_tower_layers: int | None = option("Linear layers of a tower.", None, min=2)
    num_cross_attention_layers: int | None = option("Blocks of cross-attention.", None, min=0)
    candidate_encoder_layers: int | None = option("Blocks in which candidates attend to each other.", None, min=0)
    num_heads: int | None = option("Attention heads of a block.", None, min=1)
    history: str | None = option(
        "none | scalar_gate | vector_gate | gru.", None, choices=("none", "scalar_gate", "vector_gate", "gru")
    )
    scoring: str | None = option("cosine | additive.", None, choices=("cosine", "additive"))
    diversity: str | None = option("none | mmr: mark down what is like a pick.", None, choices=("none", "mmr"))
    stop: bool | None = option("Whether it may pick fewer than asked for.", None)
    step_embeddings: bool | None = option("Whether it knows which step it is at.", None)
    dropout: float | None = option("Dropout while training.", None, min=0, below=1)
    initial_temperature: float | None = option("First temperature of the scores.", None, above=0)
    learn_temperature: bool | None = option("Whether the temperature is trained.", None)
    num_layers: int | None = option("Blocks of v0.", None, min=1)
    max_shots: int | None = option("Most shots that v0 can be asked for.", None, min=1)
    lora_r: int | None = option("Rank of the adapters of v2_lora.", None, min=1)
    lora_alpha: float | None = option("Adapters are multiplied by lora_alpha / lora_r.", None, above=0)
    lora_dropout: float | None = option("Dropout of the adapters while training.", None, min=0, below=1)
    lora_bias: str | None = option(
        "Biases that are trained: none | all | lora_only.", None, choices=("none", "all", "lora_only")
    )
    lora_target_modules: list[str] | None = option("Layers that are adapted.", None, not_empty=True, unique=True)
    copy_encoder: bool = option(
        "Whether the encoder is copied to the output folder. The selector then uses the copy; otherwise its "
        "config only names the encoder.",
        False,
    )
    cache_mb: int = option(
        "Memory for prepared images, for v2_lora. Images beyond it are prepared again for each batch, by "
        "`dataloader_num_workers` processes.",
        4096,
        min=0,
    )

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
