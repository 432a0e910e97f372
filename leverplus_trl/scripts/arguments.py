# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the stages `prepare`, `sft` and `grpo`, and the arguments of `merge`."""

from dataclasses import dataclass

from ..data_sources import DATASETS
from ..fields import check_fields, documented, option
from ..selectors.selector_fields import (
    ARCHITECTURES,
    CONFIG_FIELDS,
    ENCODINGS,
    LORA_FIELDS,
    PRESETS,
    SIZES,
    as_recipe_keys,
)
from ..stage_arguments import OutputArguments


@documented
@dataclass
class PrepareArguments:
    """Dataset: which, from where, and how much of it."""

    dataset: str = option(" | ".join(DATASETS), choices=DATASETS)
    output_dir: str = option("Where the dataset folder is written.", path="folder")
    root: str | None = option("Folder of the official files.", None, path="folder")
    image_root: str | None = option("Folder of the image folders; default: root.", None, path="folder")
    hub_id: str | None = option("Hub dataset to read instead of official files.", None)
    hub_config: str | None = option("Its configuration.", None)
    hub_revision: str | None = option("Its revision.", None)
    splits: list[str] | None = option("Splits; default: all with answers.", None, not_empty=True, unique=True)
    num: dict[str, int] | int | None = option("Examples of each split, or {SPLIT: number}; default: all.", None, min=1)
    seed: int = option("Seed of the order of the rows, of which num takes the first.", 0, min=0)
    holdout: int | None = option(
        "Move at least so many examples, sharing no image with the rest, from the first split to `holdout`.",
        None,
        min=1,
    )
    embed_images: bool = option("Take image files into the table. Otherwise the table refers to them.", False)
    on_bad_example: str = option(
        "skip | raise: unusable examples; skip counts them. Images are opened only for `embed_images` or `holdout`.",
        "skip",
        choices=("skip", "raise"),
    )
    allow_other_counts: bool = option("Take files with another number of records than the official ones.", False)

    def __post_init__(self):
        check_fields(self)
        if (self.root is None) == (self.hub_id is None):
            raise ValueError(
                f"root is {self.root!r} and hub_id {self.hub_id!r}: set one of them, the folder of the official files "
                "or the hub dataset."
            )
        for name, needs in (("image_root", "root"), ("hub_config", "hub_id"), ("hub_revision", "hub_id")):
            if getattr(self, name) is not None and getattr(self, needs) is None:
                raise ValueError(f"{name} is {getattr(self, name)!r}, which needs `{needs}`.")
        if self.num == {}:
            raise ValueError("num is an empty mapping; expected such as {train: 5000, validation: 1000}.")


@documented
@dataclass
class SFTArguments(as_recipe_keys("SelectorKeys", "Selector: what is set here differs from the preset.")):
    """
    Beams and selector: what to learn from, and which selector learns.

    Candidates, insertion, score and encoder are those of the beams: a selector must choose as the search did.
    """

    beams: str = option("Folder or hub id of the beams and ledger tables.", path="folder")
    beams_revision: str | None = option("Hub revision of the beams.", None)
    train_split: str = option("Split of the beams to learn from. Slices such as train[:100] work.", "train")
    eval_split: str | None = option(
        "Split of the beams that chooses the best checkpoint; null: none, the last is kept.", "validation"
    )
    selector: str = option(f"Preset of the selector: {' | '.join(PRESETS)}.", "v2", choices=tuple(PRESETS))
    encoder: str | None = option("Frozen encoder; that of the beams if not given.", None, path="folder")
    encoder_revision: str | None = option("Its hub revision.", None)
    embeddings_dir: str | None = option("Where embeddings are kept.", None, path="folder")
    encoding: str | None = option(
        "Query and candidate features, by their name in Lever-LM.", None, choices=tuple(ENCODINGS)
    )
    copy_encoder: bool = option("Copy the encoder to the selector, whose config otherwise only names it.", False)
    cache_mb: int = option("Memory for prepared images, for v2_lora. Others are prepared for each batch.", 4096, min=0)

    def __post_init__(self):
        check_fields(self)
        if self.encoding is not None and (self.query_features or self.candidate_features):
            raise ValueError("Set either `encoding` or `query_features` and `candidate_features`, not both.")
        takers: dict[str, list[str]] = {}  # of each field, the selectors that have it
        for preset, (kind, values) in PRESETS.items():
            for name in (*CONFIG_FIELDS[kind], *(LORA_FIELDS if "lora" in values else ())):
                takers.setdefault(name, []).append(preset)
        for name, presets in takers.items():
            if self.selector not in presets and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is set, but the selector {self.selector} has no such field; leave it out, or take "
                    f"{', '.join(presets)}."
                )
        model_type, preset = PRESETS[self.selector]
        width, heads = SIZES[model_type]
        width, heads = self.hidden_size or width, self.num_heads or heads
        blocks = self.num_cross_attention_layers
        if blocks is None:
            blocks = preset.get("num_cross_attention_layers", 0)
        always = "num_cross_attention_layers" not in CONFIG_FIELDS[model_type]
        if (blocks or self.candidate_encoder_layers or always) and width % heads:
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


@documented
@dataclass
class GRPOArguments:
    """
    Selector and rollouts: which selector learns from what.

    Candidates, insertion and encoder are those of the selector.
    """

    selector: str = option("Folder or hub id of the selector to go on from. The stage `sft` makes it.", path="folder")
    rollouts: str = option("Folder or hub id of the rollouts table.", path="folder")
    selector_revision: str | None = option("Hub revision of the selector.", None)
    rollouts_revision: str | None = option("Hub revision of the rollouts.", None)
    train_split: str = option("Split of the rollouts to learn from. Slices such as train[:100] work.", "train")
    eval_split: str | None = option(
        "Split of the rollouts that chooses the best weights; null: none, the last are kept.", "validation"
    )
    encoder: str | None = option("New place of the selector's encoder, if it was moved.", None, path="folder")
    encoder_revision: str | None = option("Its hub revision.", None)
    encoder_batch_size: int = option("Examples embedded at once.", 64, min=1)
    embeddings_dir: str | None = option("Where embeddings are kept.", None, path="folder")
    cache_mb: int = option("Memory for prepared images, for v2_lora.", 4096, min=0)

    def __post_init__(self):
        check_fields(self)


@documented
@dataclass
class MergeArguments(OutputArguments):
    """Shards: what is merged."""

    output_dir: str = option("Folder that the shards shared, or where the tables are to go.", path="folder")
    shards: list[str] = option(
        "Folders of shards that had one each. They are not changed.", [], path="folder", unique=True
    )

    def __post_init__(self):
        check_fields(self)
