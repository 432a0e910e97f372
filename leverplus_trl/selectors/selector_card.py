# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The card of a selector: its metadata, how it is used, and what its config says of its making."""

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..hub import PLACEHOLDER
from .base_selector_config import BaseSelectorConfig


def selector_card(
    config: BaseSelectorConfig, made_with: Mapping[str, Any] | None = None, sections: Mapping[str, str] | None = None
) -> str:
    """
    The README.md of a selector.

    Args:
        config ([`BaseSelectorConfig`]):
            Config of the selector.
        made_with (`Mapping[str, Any]`, *optional*):
            What the config does not know of its training, as rows of the table; null values are left out.
        sections (`Mapping[str, str]`, *optional*):
            Further sections, `{heading: Markdown}`.
    """
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
    lies_here = config.encoder and not is_hub_id(config.encoder)
    where = ""
    if lies_here:
        where = (
            "The encoder lay in a local folder. If it is not in `encoder/`, say where yours is: `encoder=PATH`.\n\n"
        )
    if config.pool_note:
        where += f"{config.pool_note}\n\n"
    rest = "\n".join(f"## {heading}\n\n{text}\n" for heading, text in (sections or {}).items())
    return f"""\
---
{yaml.safe_dump(metadata, sort_keys=False)}---

# A selector of in-context demonstrations

A small model (`{config.model_type}`) that chooses and orders demonstrations for a frozen vision-language model.

```python
from leverplus_trl.selectors import DemonstrationSelector

selector = DemonstrationSelector.from_pretrained("{PLACEHOLDER}", pool=pool)  # a Dataset: id, image, question, answer
selection = selector.select(image=image, question="what is it ?", num_shots={config.num_shots})
demonstrations, query = selection.request  # in the order of the prompt: the last one stands next to the query
```

## Trained on

| | |
| --- | --- |
{table}

{where}{rest}"""


def is_hub_id(name: str | None) -> bool:
    """Whether this is the name of a repository rather than of a folder; other names are no valid metadata."""
    return bool(name and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) and not Path(name).exists())


def cell(value: object) -> str:
    """A value as one cell of a Markdown table, whatever it holds."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(html.escape(text).replace("|", "&#124;").replace("`", "&#96;").split())
