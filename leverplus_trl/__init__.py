# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Train a small model, the selector, to choose and order the demonstrations in the prompt of a frozen vision-language
model.

The way of the data, a stage an arrow, a table that anyone can load at every step:

    examples ──beams──► beams + ledger ──sft──► selector ──rollouts──► rollouts ──grpo──► selector
             ──evaluate──► predictions, results.json ──report──► index.html

- `tasks` bring any dataset to the columns of `schema.EXAMPLES` and say how an example is shown and scored.
- `retrieval` embeds examples and samples the candidates of each query.
- `vlms` wrap a frozen model in two methods: `answer_logprobs` and `generate`.
- `beams` search the sequences that help the VLM most, and keep everything that was scored.
- `selectors` are `PreTrainedModel`s that choose; `trainer` teaches them what the ledger says.
- `rollouts` answer with many sequences a query and measure each once; rewards are computed from the measures.
- `evaluation` answers test queries with every method's choice; `report` draws what came out.

Importing the package registers its Auto classes with transformers, so that `AutoModel.from_pretrained` knows a
selector.
"""

from .lazy import lazy
from .selectors.auto_classes import register_when_imported


__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "beams": ("beam_search",),
        "retrieval": ("CandidateSampler", "embed_examples"),
        "selectors": (
            "DemonstrationSelector",
            "GPT2SelectorConfig",
            "GPT2SelectorModel",
            "PointerSelectorConfig",
            "PointerSelectorModel",
            "SelectorProcessor",
        ),
        "tasks": ("BaseTask", "DataArguments", "TaskArguments", "load_examples", "make_task"),
        "trainer": ("OfflineGRPOConfig", "OfflineGRPOTrainer", "SelectorSFTConfig", "SelectorSFTTrainer"),
        "vlms": ("VLM", "Request", "VLMArguments", "load_vlm"),
    },
)

register_when_imported()
