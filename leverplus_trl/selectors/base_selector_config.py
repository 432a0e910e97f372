# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""What the configurations of all selectors share, and the model card that follows from a configuration."""

import html
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..fields import check_fields, documented, option
from ..hub import PLACEHOLDER
from ..provenance import encoder_commit
from ..weights import check_folder, first_line
from .selector_fields import ARCHITECTURES, FEATURES, SelectorFields, TrainingFields


logger = logging.getLogger(__name__)


@documented
@strict
class BaseSelectorConfig(SelectorFields, TrainingFields, PreTrainedConfig):
    r"""
    Base of all selectors' configurations.

    Raises:
        `ValueError`: a value that no model can be built from.
    """

    lora = None  # adapters on the encoder: a field of the selectors that support them
    candidates_may_have_no_features = False

    encoder: str | None = option("Frozen encoder of the embeddings: hub id or folder. It is named, not copied.", None)
    encoder_revision: str | None = option("Revision of the encoder.", None)
    encoder_commit: str | None = option("Commit or content hash of the encoder in training.", None)
    sampler: str = option("How candidates are drawn from the pool, unless `select` gets another sampler.", "random")
    sampler_seed: int = option("Seed of the candidates.", 0)
    score: str = option("Scale of the InfoScore in training: prob | logprob | metric.", "prob")
    trained_on: dict | None = option("Beams of the training and their provenance (VLM, task, data, search).", None)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        # A subclass of a user has fields that only it can check.
        own = [ARCHITECTURES[self.model_type]] if self.model_type in ARCHITECTURES else []
        for fields in (SelectorFields, TrainingFields, *own):
            check_fields(self, fields)
        if not self.candidate_features and not self.candidates_may_have_no_features:
            raise ValueError(
                f"candidate_features is an empty list; expected some of {', '.join(FEATURES)}. Examples without "
                'images have the features ["text"].'
            )

    def check_heads(self) -> None:
        """Raises `ValueError` if the attention heads can't have equal widths."""
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which {self.num_heads} heads can't share evenly; change "
                "hidden_size or num_heads."
            )

    def check_encoder(self, name_or_path: str, revision: str | None = None, strict: bool = True) -> str:
        """The commit of an encoder; raises `ValueError` if it is missing, and raises or warns (without `strict`) if it
        is not the encoder of the training."""
        commit = encoder_commit(name_or_path, revision)
        if self.encoder_commit in (None, commit):
            return commit
        trained = f"{self.encoder_commit}, {self.encoder!r}" if self.encoder else self.encoder_commit
        problem = (
            f"The encoder {name_or_path!r} ({commit}) is not the encoder that the selector "
            f"{self.name_or_path!r} was trained with ({trained}), so the selector can't read its embeddings."
        )
        if strict:
            raise ValueError(
                f"{problem} Name that encoder (`encoder: PATH` in a recipe, encoder=PATH in Python), or take a "
                "selector that was trained with this encoder."
            )
        logger.warning(problem)
        return commit

    def remember_pool(self, pool: Dataset) -> None:
        """Records the pool of the training, for a selector that supports no other pool."""

    def check_pool(self, pool: Dataset) -> None:
        """Raises `ValueError` for a pool that the selector can't choose from."""

    @property
    def pool_note(self) -> str:
        """A sentence on the pools that the selector can choose from; empty for any."""
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
        return sum(self.image_embed_dim if feature == "image" else self.text_embed_dim for feature in features)


def read_selector_config(name_or_path: str, revision: str | None = None) -> BaseSelectorConfig:
    """The config of a selector in a folder or on the hub; raises `ValueError` if there is none."""
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


def selector_card(
    config: BaseSelectorConfig, made_with: Mapping[str, Any] | None = None, sections: Mapping[str, str] | None = None
) -> str:
    """The README.md of a selector. `made_with` are further rows of the table on its training (null values are left
    out), `sections` further sections, `{heading: Markdown}`."""
    made_by = config.trained_on or {}
    recipe = made_by.get("recipe", {})
    rows = {
        "dataset of the beams": recipe.get("dataset"),
        "VLM that scored": recipe.get("vlm"),
        "beams": made_by.get("beams"),
        "encoder (not part of this folder unless there is `encoder/`)": config.encoder,
        "adapters on the encoder (LoRA, part of this folder)": config.lora,
        "candidates": f"{config.num_candidates} by the sampler {config.sampler}, seed {config.sampler_seed}",
        "shots in training": config.num_shots,
        "may choose fewer": "yes" if config.stop else None,
        "insertion": config.insertion,
        "score": config.score,
        **(made_with or {}),
    }
    metadata = {
        "library_name": "transformers",
        "tags": ["leverplus_trl", "in-context-learning", "demonstration-selection", config.model_type],
    }
    datasets = [name for name in (recipe.get("dataset"), made_by.get("beams")) if is_hub_id(name)]
    if datasets:
        metadata["datasets"] = list(dict.fromkeys(datasets))
    table = "\n".join(f"| {name} | {cell(value)} |" for name, value in rows.items() if value is not None)
    notes = ""
    if config.encoder and not is_hub_id(config.encoder):
        notes = (
            "The encoder lay in a local folder. If it is not in `encoder/`, say where yours is: `encoder=PATH`.\n\n"
        )
    if config.pool_note:
        notes += f"{config.pool_note}\n\n"
    notes += "\n".join(f"## {heading}\n\n{text}\n" for heading, text in (sections or {}).items())
    return f"""\
---
{yaml.safe_dump(metadata, sort_keys=False)}---

# A selector of in-context demonstrations

A small model (`{config.model_type}`) that chooses and orders demonstrations for a frozen vision-language model.

```python
from leverplus_trl.selectors import DemonstrationSelector

selector = DemonstrationSelector.from_pretrained("{PLACEHOLDER}", pool=pool)  # a Dataset: id, image, question, answer
selection = selector.select(image=image, question="what is it ?", num_shots={config.num_shots})
demonstrations, query = selection.request  # in the order of the prompt: the last is next to the query
```

## Trained on

| | |
| --- | --- |
{table}

{notes}"""


def is_hub_id(name: str | None) -> bool:
    """Whether this is the name of a repository rather than of a folder; other names are no valid metadata."""
    return bool(name and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) and not Path(name).exists())


def cell(value: object) -> str:
    """Any value as a cell of a Markdown table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(html.escape(text).replace("|", "&#124;").replace("`", "&#96;").split())
