# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Measures that are known already, from the ledger of the beams and from earlier rollouts, and whether they are valid
for this VLM, prompt and data."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from ..provenance import dataset_hash
from ..schema import ROLLOUTS
from ..tables import read_table, splits_of, table_provenance
from ..tasks import first_queries
from ..vlms import AnswerLogprob
from ..vlms.loading import prompt_differences
from .rollout_arguments import RolloutArguments
from .rollout_sources import Ids


logger = logging.getLogger(__name__)

#: Recipe keys that change the probability of an answer.
PROMPT_KEYS = ("task", "question_template", "answer_template", "gguf_file", "dtype", "attn_implementation")
PROMPT_KEYS += ("quantization", "prompt_format", "system_prompt", "score_end_token")
#: Recipe keys that change what is generated, or its accuracy.
ANSWER_KEYS = (*PROMPT_KEYS, "metric", "labels", "answering", "max_new_tokens", "stop_strings", "num_beams")
ANSWER_KEYS += ("length_penalty", "repetition_penalty", "do_sample", "temperature", "top_p", "generation_seed")
ANSWER_KEYS += ("generation_config",)
#: The same of the facts that a provenance holds.
PROMPT_FACTS = ("vlm_commit", "prompt_hash", "pool_hash")
ANSWER_FACTS = (*PROMPT_FACTS, "reference_hashes", "model_generation_config")  # CIDEr counts over the references
#: Columns of a rollouts table, with an entry for each sequence, by their names for a single sequence.
MEASURES = {
    "generation": "generations",
    "prediction": "predictions",
    "accuracy": "accuracies",
    "gt_prob": "gt_probs",
    "relevance": "relevances",
    "answer_logprob": "answer_logprobs",
    "num_answer_tokens": "num_answer_tokens",
}


@dataclass
class Known:
    """The known measures of the sequences of a query."""

    #: Log-probabilities of its `answer`, from the ledger.
    answer_logprobs: Mapping[Ids, AnswerLogprob] = field(default_factory=dict)
    #: All measures (see `MEASURES`), from earlier rollouts.
    measures: Mapping[Ids, dict[str, Any]] = field(default_factory=dict)

    def answer_logprob(self, ids: Ids) -> AnswerLogprob | None:
        if ids in self.measures:
            return AnswerLogprob(self.measures[ids]["answer_logprob"], self.measures[ids]["num_answer_tokens"])
        return self.answer_logprobs.get(ids)


def stored_measures(row: Mapping[str, Any]) -> dict[Ids, dict[str, Any]]:
    """All measures of each sequence in a row of a rollouts table."""
    return {
        tuple(ids): {name: row[column][place] for name, column in MEASURES.items()}
        for place, ids in enumerate(row["demonstration_ids"])
    }


def differences(
    before: Mapping[str, Any],
    recipe: Mapping[str, Any],
    facts: Mapping[str, Any],
    keys: Sequence[str],
    names: Sequence[str],
    split: str,
    examples: Dataset,
) -> list[str]:
    """
    The differences, in words, between an earlier job (`before`, its provenance) and this job (`recipe` and `facts`) in
    the recipe keys `keys`, the facts `names`, and the queries of a split. Without any, its measures are valid here.
    `examples` are all of the split, of which either job may have used the first `num_queries`.
    """
    old_recipe, old_facts = before.get("recipe", {}), before.get("facts", {})
    pairs = {key: (old_recipe.get(key), recipe.get(key)) for key in keys}
    pairs |= {name: (old_facts.get(name), facts.get(name)) for name in names}
    own_hash = dataset_hash(first_queries(examples, old_recipe.get("num_queries")))
    pairs[f"hash of {split!r}"] = old_facts.get("query_hashes", {}).get(split), own_hash
    return [f"{name}: {old!r} there, {new!r} here" for name, (old, new) in pairs.items() if old != new]


def provenance_of(path_or_id: str, stage: str, revision: str | None = None) -> dict:
    """The provenance of some tables; raises `ValueError` if another stage wrote them."""
    made_by = table_provenance(path_or_id, revision)
    if made_by.get("stage") != stage:
        raise ValueError(
            f"{path_or_id!r} was written by the stage {made_by.get('stage')!r}; expected what the stage {stage!r} "
            "writes."
        )
    return made_by


def read_previous(
    rollout_args: RolloutArguments, recipe: dict, facts: dict, examples: dict[str, Dataset]
) -> dict[str, Dataset]:
    """The earlier rollouts (`previous_rollouts`) of the splits that have any; raises `ValueError` if they are of
    another VLM, prompt, task or data, or hold none of the splits."""
    folder = rollout_args.previous_rollouts
    if folder is None:
        return {}
    before, known, previous = provenance_of(folder, "rollouts"), splits_of(folder, "rollouts"), {}
    for split in (split for split in examples if split in known):
        different = differences(before, recipe, facts, ANSWER_KEYS, ANSWER_FACTS, split, examples[split])
        if different:
            raise ValueError(
                f"previous_rollouts is {folder!r}, which says nothing about this job ({'; '.join(different)}). Name "
                "rollouts of the same VLM, prompt, task and data, or leave it out."
            )
        previous[split] = read_table(folder, "rollouts", split, ROLLOUTS)
    if not previous:
        raise ValueError(
            f"previous_rollouts is {folder!r}, which has the splits {', '.join(known)}, none of "
            f"{', '.join(rollout_args.query_splits)}. Name others, or leave it out."
        )
    return previous


def ledger_is_ours(
    rollout_args: RolloutArguments, made_by: dict, recipe: dict, facts: dict, examples: dict[str, Dataset]
) -> dict[str, bool]:
    """Whether the log-probabilities in the ledger of each split are those that this VLM would give; raises
    `ValueError` if the prompts differ, although VLM, recipe and data are the same."""
    ours = {}
    for split, table in examples.items():
        different = differences(made_by, recipe, facts, PROMPT_KEYS, PROMPT_FACTS, split, table)
        ours[split] = not different
        if different and all(text.startswith("prompt_hash: ") for text in different):
            prompts = prompt_differences(made_by, {"recipe": recipe, "facts": facts})
            raise ValueError(
                f"The ledger of {rollout_args.beams!r} was scored with other prompts ({prompts}), though the VLM is "
                "the same: its template wrote another date, or another version of transformers writes or tokenises "
                "prompts otherwise. Search the beams again, or set `prompt_date` to what it was."
            )
        if different:
            logger.warning(
                "The ledger of %r (split %r) does not fit this job (%s): nothing is taken from it, and its beams are "
                "one source among others.",
                rollout_args.beams,
                split,
                "; ".join(text for text in different if not text.startswith("prompt_hash: ")),
            )
    return ours
