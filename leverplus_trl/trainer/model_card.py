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

"""The card of a trained selector."""

import html
import json
from typing import Any

from ..selectors.configuration_pointer_selector import PointerSelectorConfig
from .sft_config import SelectorSFTConfig


#: Measures of the held-out queries, and what they mean.
MEASURES = {
    "eval_regret": "regret: InfoScore lost against the best next choice, averaged over expanded prefixes",
    "eval_recall": "recall of the best beam's members",
    "eval_info_score": "mean InfoScore of the greedy selections that the ledger holds",
    "eval_info_score_coverage": "share of the greedy selections that the ledger holds",
    "eval_swap_change_share": "share of selections that change with the query",
    "eval_most_common_share": "share of the most common selection",
    "eval_loss": "loss",
}


def model_card(
    config: PointerSelectorConfig, args: SelectorSFTConfig, metrics: dict[str, Any], num_queries: int
) -> str:
    """
    The README.md of a selector, filled from its run.

    Args:
        config ([`PointerSelectorConfig`]):
            Config of the selector.
        args ([`SelectorSFTConfig`]):
            How it was trained.
        metrics (`dict`):
            Measures of the held-out queries, named as in `trainer_state.json`.
        num_queries (`int`):
            Queries it was trained on.
    """
    made_by = config.trained_on or {}
    recipe = made_by.get("recipe", {})
    data = {
        "training queries": num_queries,
        "dataset of the beams": recipe.get("dataset"),
        "VLM that scored": recipe.get("vlm"),
        "beams": made_by.get("beams"),
        "encoder (frozen, not part of this folder)": config.encoder,
        "candidates": f"{config.num_candidates} by the sampler {config.sampler}, seed {config.sampler_seed}",
        "shots in training": config.num_shots,
        "insertion": config.insertion,
        "score": config.score,
        "loss": args.loss_type,
        "tau": args.tau,
    }
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in data.items() if value is not None)
    measured = "\n".join(f"| {text} | {metrics[name]:.4f} |" for name, text in MEASURES.items() if name in metrics)
    table = f"| measure | value |\n| --- | --- |\n{measured}" if measured else "There were none."
    collapsed = (
        "\n**It has collapsed: it gives nearly the same to every query.**\n" if metrics.get("eval_collapsed") else ""
    )
    return f"""\
---
library_name: transformers
tags:
- leverplus_trl
- in-context-learning
- demonstration-selection
---

# A selector of in-context demonstrations

A pointer selector ({config.num_cross_attention_layers} cross-attention layers, history {config.history}) that chooses
and orders demonstrations for a frozen vision-language model. {collapsed}
```python
from leverplus_trl.selectors import DemonstrationSelector

selector = DemonstrationSelector.from_pretrained("PATH_OR_HUB_ID", pool=pool)  # a Dataset: id, image, question, answer
selection = selector.select(image=image, question="what is it ?", num_shots={config.num_shots})
demonstrations, query = selection.request  # in the order of the prompt: the last one stands next to the query
```

## Trained on

| | |
| --- | --- |
{rows}

## On held-out queries

{table}
"""


def _cell(value: object) -> str:
    """A value as one cell of a Markdown table, whatever it holds."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(html.escape(text).replace("|", "&#124;").replace("`", "&#96;").split())
