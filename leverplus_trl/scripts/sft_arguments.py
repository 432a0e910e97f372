# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the stage `sft`."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option
from ..selectors.presets import ENCODINGS, PRESETS
from ..selectors.selector_fields import ARCHITECTURES, CONFIG_FIELDS, LORA_FIELDS, SIZES, as_recipe_keys


_SelectorKeys = as_recipe_keys("SelectorKeys", "Selector: what is set here differs from the preset.")


@documented
@dataclass
class SFTArguments(_SelectorKeys):
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
        lora = tuple(LORA_FIELDS)
        takes = {name: CONFIG_FIELDS[kind] + lora * ("lora" in own) for name, (kind, own) in PRESETS.items()}
        for name in dict.fromkeys(name for names in takes.values() for name in names):
            if name not in takes[self.selector] and getattr(self, name) is not None:
                others = [other for other, names in takes.items() if name in names]
                raise ValueError(
                    f"{name} is set, but the selector {self.selector} has no such field; leave it out, or take "
                    f"{', '.join(others)}."
                )
        width, heads = SIZES[model_type]
        width, heads = self.hidden_size or width, self.num_heads or heads
        layers = [self.num_cross_attention_layers, preset.get("num_cross_attention_layers")]
        blocks = next((one for one in layers if one is not None), 0) or self.candidate_encoder_layers
        if (blocks or "num_cross_attention_layers" not in CONFIG_FIELDS[model_type]) and width % heads:
            raise ValueError(
                f"hidden_size is {width}, which {heads} heads (num_heads) can't share evenly; change hidden_size or "
                "num_heads."
            )
        without = self.candidate_features == [] or (self.encoding and not ENCODINGS[self.encoding][1])
        if without and not ARCHITECTURES[model_type].candidates_may_have_no_features:
            key = f"encoding is {self.encoding}" if self.encoding else "candidate_features is an empty list"
            raise ValueError(
                f"{key}, so that a candidate is known by its name alone, as v0 knows it; the selector {self.selector} "
                "reads features: name some of image, text, answer."
            )
