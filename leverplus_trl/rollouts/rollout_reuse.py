# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""What need not be asked again, and whether it may be taken over: the ledger of the beams, and earlier rollouts."""

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
from ..vlms.prompt_hash import prompt_differences
from .rollout_arguments import RolloutArguments
from .rollout_sources import Ids


logger = logging.getLogger(__name__)


#: Recipe keys that decide how probable an answer is, whatever it is worth.
PROMPT_KEYS = (
    "task",
    "question_template",
    "answer_template",
    "gguf_file",
    "dtype",
    "attn_implementation",
    "quantization",
    "prompt_format",
    "system_prompt",
    "score_end_token",
)
#: Recipe keys that decide what is generated and what it is worth.
ANSWER_KEYS = (*PROMPT_KEYS, "metric", "labels", "answering", "max_new_tokens", "stop_strings", "num_beams")
ANSWER_KEYS += ("length_penalty", "repetition_penalty", "do_sample", "temperature", "top_p", "generation_seed")
ANSWER_KEYS += ("generation_config",)
#: The same of the facts that a provenance holds.
PROMPT_FACTS = ("vlm_commit", "prompt_hash", "pool_hash")
ANSWER_FACTS = (*PROMPT_FACTS, "reference_hashes", "model_generation_config")  # what CIDEr counts over

#: Columns of a rollouts table, one entry a sequence, by their names for a single sequence.
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
    """
    What earlier work says of one query.

    Args:
        answer_logprobs (`Mapping[tuple[str, ...], AnswerLogprob]`):
            Log-probabilities of its `answer`, by sequence.
        measures (`Mapping[tuple[str, ...], dict]`):
            All measures (see `MEASURES`), by sequence.
    """

    answer_logprobs: Mapping[Ids, AnswerLogprob] = field(default_factory=dict)
    measures: Mapping[Ids, dict[str, Any]] = field(default_factory=dict)


class PreviousRollouts:
    """
    Rollouts that were made before, by query.

    Args:
        rollouts (`Dataset`):
            Table with the columns of `schema.ROLLOUTS`, of one split.
    """

    def __init__(self, rollouts: Dataset):
        self.rollouts = rollouts
        self._row = {query_id: row for row, query_id in enumerate(rollouts["query_id"])}

    def measures(self, query_id: str) -> dict[Ids, dict[str, Any]]:
        """All measures of each sequence of a query; nothing for a query that is not there."""
        if query_id not in self._row:
            return {}
        row = self.rollouts[self._row[query_id]]
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
    What of an earlier job was not as it is now, so that its numbers are not the ones this job would get.

    Args:
        before (`Mapping[str, Any]`):
            Provenance of the earlier job.
        recipe, facts (`Mapping[str, Any]`):
            Recipe and facts of this one.
        keys (`Sequence[str]`):
            Recipe keys that count.
        names (`Sequence[str]`):
            Facts that count.
        split (`str`):
            Split of the queries.
        examples (`Dataset`):
            All its examples, of which either job may have asked the first so many.

    Returns:
        `list[str]`: each difference in words; none if the numbers may be taken over.
    """
    old_recipe, old_facts = before.get("recipe", {}), before.get("facts", {})
    pairs = {key: (old_recipe.get(key), recipe.get(key)) for key in keys}
    pairs |= {name: (old_facts.get(name), facts.get(name)) for name in names}
    asked = first_queries(examples, old_recipe.get("num_queries"))
    hashes = old_facts.get("query_hashes", {}).get(split), dataset_hash(asked)
    pairs[f"hash of {split!r}"] = hashes
    return [f"{name}: {old!r} there, {new!r} here" for name, (old, new) in pairs.items() if old != new]


def provenance_of(path_or_id: str, stage: str) -> dict:
    """What made some tables; raises `ValueError` if another stage did."""
    made_by = table_provenance(path_or_id)
    if made_by.get("stage") != stage:
        raise ValueError(
            f"{path_or_id!r} was written by the stage {made_by.get('stage')!r}; expected what the stage {stage!r} "
            "writes."
        )
    return made_by


def read_previous(
    rollout_args: RolloutArguments, recipe: dict, facts: dict, examples: dict[str, Dataset]
) -> dict[str, PreviousRollouts]:
    """
    Earlier rollouts of the splits that have any.

    Raises:
        `ValueError`: they are of another VLM, prompt, task or data, or hold none of the splits.
    """
    folder = rollout_args.previous_rollouts
    if folder is None:
        return {}
    before = provenance_of(folder, "rollouts")
    known = splits_of(folder, "rollouts")
    found = {}
    for split in (split for split in examples if split in known):
        different = differences(before, recipe, facts, ANSWER_KEYS, ANSWER_FACTS, split, examples[split])
        if different:
            raise ValueError(
                f"previous_rollouts is {folder!r}, which says nothing about this job ({'; '.join(different)}). Name "
                "rollouts of the same VLM, prompt, task and data, or leave it out."
            )
        found[split] = PreviousRollouts(read_table(folder, "rollouts", split, ROLLOUTS))
    if not found:
        raise ValueError(
            f"previous_rollouts is {folder!r}, which has the splits {', '.join(known)}, none of "
            f"{', '.join(rollout_args.query_splits)}. Name others, or leave it out."
        )
    return found


def ledger_is_ours(
    rollout_args: RolloutArguments, made_by: dict, recipe: dict, facts: dict, examples: dict[str, Dataset]
) -> dict[str, bool]:
    """
    Whether the log-probabilities in the ledger of each split are those that this VLM would give.

    Raises:
        `ValueError`: the prompts differ, although VLM, recipe and data are the same.
    """
    ours = {}
    for split, table in examples.items():
        different = differences(made_by, recipe, facts, PROMPT_KEYS, PROMPT_FACTS, split, table)
        ours[split] = not different
        named = [one for one in different if not one.startswith("prompt_hash: ")]
        if different and not named:
            prompts = prompt_differences(made_by, {"recipe": recipe, "facts": facts})
            raise ValueError(
                f"The ledger of {rollout_args.beams!r} was scored with other prompts ({prompts}), though the VLM is "
                "the same: its template wrote another date, or another version of transformers writes or tokenises "
                "prompts otherwise. Search the beams again, or set `prompt_date` to what it was."
            )
        if named:
            logger.warning(
                "The ledger of %r (split %r) is not what this VLM would say here (%s): nothing is taken from it, and "
                "its beams are one source among others.",
                rollout_args.beams,
                split,
                "; ".join(named),
            )
    return ours
