# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Stage `grpo`: a selector goes on from SFT by reward, on stored rollouts; the VLM is not asked again.

```bash
leverplus grpo --config recipes/demo/40_grpo.yaml
```
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from transformers import AutoModel, AutoProcessor, set_seed

from ..hub import check_run_writable, push_run
from ..launch import start_stage
from ..provenance import dataset_fingerprint, digest, encoder_commit, model_revision
from ..retrieval import ExampleEmbeddings, embed_examples
from ..rollouts import compute_rewards
from ..run_folder import RunFolder
from ..schema import ROLLOUTS
from ..selectors import BaseSelectorConfig, BaseSelectorModel, GPT2SelectorConfig, read_selector_config
from ..selectors.encoder_lora import copied_encoder, copy_encoder
from ..stage_process import run_stage_here
from ..tables import read_table, table_provenance
from ..tasks import DataArguments, load_examples, task_of_recipe
from ..trainer import (
    OfflineGRPOConfig,
    OfflineGRPOTrainer,
    PixelDataset,
    RolloutDataset,
    RolloutGroups,
    rollout_groups,
    with_pixels,
)
from ..trainer.offline_grpo_losses import has_spread
from ..trainer.saving import COMPLETE
from ..trainer.verdicts import NOT_MEASURED, grpo_verdict
from . import parsers
from .grpo_arguments import GRPOArguments
from .stage_arguments import StageArguments
from .training import (
    check_pool,
    check_queries,
    find_splits,
    plain_arguments,
    step_size,
    train,
    train_without_evaluation,
)


logger = logging.getLogger("leverplus_trl.scripts.grpo")  # `__name__` is "__main__" where a launcher runs this


class FoundEncoder(NamedTuple):
    """An encoder, what pins its weights, and whether it is a copy in the selector's folder."""

    name: str
    revision: str | None
    commit: str
    copied: bool


make_parser = partial(parsers.make_parser, "grpo")


def main(
    stage_args: StageArguments, data_args: DataArguments, grpo_args: GRPOArguments, training_args: OfflineGRPOConfig
) -> None:
    state = start_stage(stage_args, "grpo")
    made_by = rollouts_provenance(grpo_args)
    named = {"train_split": grpo_args.train_split, "eval_split": grpo_args.eval_split}
    splits = find_splits("rollouts", grpo_args.rollouts, grpo_args.rollouts_revision, named)
    config = read_selector_config(grpo_args.selector, grpo_args.selector_revision)
    encoder = encoder_of(grpo_args, config)
    facts = {"selector_commit": model_revision(grpo_args.selector, grpo_args.selector_revision)}
    facts["encoder_commit"] = encoder.commit
    check_fit(grpo_args, config, made_by, facts)
    task = task_of_recipe(made_by["recipe"])
    pool = load_examples(data_args, data_args.pool_split, task)
    rollouts = {
        split: read_table(grpo_args.rollouts, "rollouts", where.rows, ROLLOUTS, grpo_args.rollouts_revision)
        for split, where in splits.items()
    }
    check_pool("rollouts", rollouts, pool, data_args.pool_split, made_by)
    facts["pool_fingerprint"] = dataset_fingerprint(pool)
    check_known_pool(config, facts["pool_fingerprint"])
    queries = {split: load_examples(data_args, where.examples, task) for split, where in splits.items()}
    check_queries("rollouts", rollouts, queries, splits, made_by)
    rewards = {split: rewards_of(rollouts[split], queries[split], training_args, made_by) for split in splits}
    num_shots = made_by["recipe"]["num_shots"]
    groups = {
        split: rollout_groups(rollouts[split], rewards[split], config.insertion, config.stop, num_shots)
        for split in splits
    }
    announce(groups, training_args)
    training_args.check_max_steps(-(-len(rollouts[grpo_args.train_split]) // step_size(training_args)))
    if stage_args.dry_run:
        return
    if training_args.push_to_hub and state.is_main_process:
        check_run_writable(training_args)
    if grpo_args.eval_split is None:
        train_without_evaluation(training_args)
    recipe = asdict(stage_args) | asdict(data_args) | asdict(grpo_args) | plain_arguments(training_args)
    facts["query_fingerprints"] = {split: dataset_fingerprint(examples) for split, examples in queries.items()}
    facts["rollouts_fingerprint"] = {split: dataset_fingerprint(table) for split, table in rollouts.items()}
    facts["rewards_digest"] = {split: digest([own.tolist() for own in found]) for split, found in rewards.items()}
    facts["queries_per_step"] = step_size(training_args)
    run = RunFolder(training_args.output_dir, "grpo", recipe, facts)
    if run.is_complete(COMPLETE):
        if training_args.push_to_hub and state.is_main_process:
            push_run(training_args)
        return
    config.trained_on = {
        **(config.trained_on or {}),
        "selector": grpo_args.selector,
        "selector_commit": facts["selector_commit"],
        "rollouts": grpo_args.rollouts,
        "rollouts_made_by": made_by,
    }
    if encoder.copied:
        if state.is_main_process:
            copy_encoder(encoder.name, None, run.path)
        state.wait_for_everyone()
    model, datasets = build(config, encoder, rollouts, groups, pool, queries, grpo_args, training_args.seed)
    metrics = train(OfflineGRPOTrainer, model, training_args, datasets, grpo_args.train_split, grpo_args.eval_split)
    logger.info("The selector is in %s.", run.path)
    if grpo_args.eval_split:
        logger.info("%s", grpo_verdict(metrics, grpo_args.eval_split, len(datasets[grpo_args.eval_split])))
    else:
        logger.info("%s", NOT_MEASURED)
    state.wait_for_everyone()


def rollouts_provenance(grpo_args: GRPOArguments) -> dict:
    """What made the rollouts; raises `ValueError` if they are no rollouts."""
    made_by = table_provenance(grpo_args.rollouts, grpo_args.rollouts_revision)
    if made_by.get("stage") != "rollouts":
        raise ValueError(
            f"{grpo_args.rollouts!r} was written by the stage {made_by.get('stage')!r}; `rollouts` must name what the "
            "stage `rollouts` writes."
        )
    return made_by


def encoder_of(grpo_args: GRPOArguments, config: BaseSelectorConfig) -> FoundEncoder:
    """
    The selector's encoder: where the recipe says, else its copy in the selector's folder, else where its config says.

    Raises:
        `ValueError`: it is not to be found, or is another.
    """
    copied = None
    if grpo_args.encoder:
        config.encoder, config.encoder_revision = grpo_args.encoder, grpo_args.encoder_revision
    else:
        copied = copied_encoder(grpo_args.selector, grpo_args.selector_revision)
    name, revision = (copied, None) if copied else (config.encoder, config.encoder_revision)
    commit = encoder_commit(name, revision)
    if config.encoder_commit not in (None, commit):
        raise ValueError(
            f"The selector {grpo_args.selector!r} was trained on embeddings of the encoder {config.encoder_commit}, "
            f"but {name!r} is {commit}: to it, other embeddings mean nothing. Set `encoder` to where that one lies."
        )
    return FoundEncoder(name, revision, commit, copied is not None)


def check_fit(grpo_args: GRPOArguments, config: BaseSelectorConfig, made_by: dict, facts: dict) -> None:
    """Raises `ValueError` if the rollouts were made for another kind of selector; warns if for another selector."""
    for key in ("insertion", "score"):
        recorded = made_by["facts"].get(key)
        if recorded not in (None, getattr(config, key)):
            raise ValueError(
                f"The rollouts {grpo_args.rollouts!r} were made with {key} {recorded!r}, but the selector "
                f"{grpo_args.selector!r} was trained with {getattr(config, key)!r}. Make rollouts with this selector."
            )
    if made_by["facts"].get("selector_commit") not in (None, facts["selector_commit"]):
        logger.warning(
            "The rollouts were sampled from another selector than %r. That is allowed, but rollouts of a selector's "
            "own samples teach it more.",
            grpo_args.selector,
        )


def check_known_pool(config: BaseSelectorConfig, fingerprint: str) -> None:
    """Raises `ValueError` if the selector knows the examples of another pool by heart."""
    if isinstance(config, GPT2SelectorConfig) and config.pool_fingerprint not in (None, fingerprint):
        raise ValueError(
            f"This selector (v0) knows the {config.pool_size} examples of one pool by heart (fingerprint "
            f"{config.pool_fingerprint}), and the pool named here is another ({fingerprint}). Name that pool."
        )


def rewards_of(
    rollouts: Dataset, queries: Dataset, training_args: OfflineGRPOConfig, made_by: dict
) -> list[np.ndarray]:
    """Rewards of every sequence of a split."""
    answers = {row["id"]: row["answers"] for row in queries.select_columns(["id", "answers"])}
    score = made_by["facts"]["score"]  # the scale that the table's zero-shot scores stand on
    return compute_rewards(rollouts, answers, training_args.reward_funcs, training_args.reward_weights, score)


def announce(groups: dict[str, RolloutGroups], training_args: OfflineGRPOConfig) -> None:
    """Says what there is to learn from, and warns if it is nothing."""
    for split, found in groups.items():
        spread = has_spread(found.rewards, found.group_mask).float().mean().item()
        sources = ", ".join(f"{source} {reward:.3f}" for source, reward in found.mean_rewards().items())
        logger.info(
            "Rollouts of %r: %d queries, %d sequences; in %.0f%% of the queries rewards differ. Mean reward by "
            "source: %s.",
            split,
            len(found.rewards),
            int(found.group_mask.sum()),
            100 * spread,
            sources,
        )
        if spread == 0.0:
            logger.warning(
                "NOTHING CAN BE LEARNED from %r: all sequences of each query have the same reward %s. Take a softer "
                "reward (`reward_funcs: [gt_prob]`), or make more and more various rollouts.",
                split,
                training_args.reward_funcs,
            )


def build(
    config: BaseSelectorConfig,
    encoder: FoundEncoder,
    rollouts: dict[str, Dataset],
    groups: dict[str, RolloutGroups],
    pool: Dataset,
    queries: dict[str, Dataset],
    grpo_args: GRPOArguments,
    seed: int,
) -> tuple[BaseSelectorModel, dict[str, RolloutDataset | PixelDataset]]:
    """The selector as SFT left it and its data, by split."""

    def embed(examples: Dataset, features: Sequence[str]) -> ExampleEmbeddings:
        where = {"batch_size": grpo_args.encoder_batch_size, "embeddings_dir": grpo_args.embeddings_dir}
        return embed_examples(examples, encoder.name, encoder.revision, features, **where)

    processor = AutoProcessor.from_pretrained(grpo_args.selector, revision=grpo_args.selector_revision)
    pool_embeddings = embed(pool, config.features)
    datasets = {}
    for split, table in rollouts.items():
        ids = table["query_id"], table["candidate_ids"]
        embeddings = embed(queries[split], config.query_features), pool_embeddings
        datasets[split] = RolloutDataset(*ids, *embeddings, processor, groups[split])
    set_seed(seed)
    model = AutoModel.from_pretrained(
        grpo_args.selector, revision=grpo_args.selector_revision, config=config, use_safetensors=True
    )
    return model, with_pixels(model, datasets, queries, pool, grpo_args.train_split, grpo_args.cache_mb)


if __name__ == "__main__":
    sys.exit(run_stage_here("grpo", sys.argv[1:]))
