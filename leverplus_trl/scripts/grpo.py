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
from functools import partial
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from transformers import AutoModel, AutoProcessor, set_seed

from ..provenance import encoder_commit, json_hash, model_revision
from ..retrieval import ExampleEmbeddings, embed_examples
from ..rollouts import compute_rewards
from ..schema import ROLLOUTS
from ..selectors import BaseSelectorConfig, BaseSelectorModel, read_selector_config
from ..selectors.encoder_lora import copied_encoder
from ..stage_arguments import StageArguments
from ..stage_process import run_stage_here
from ..tasks import DataArguments
from ..trainer import (
    OfflineGRPOConfig,
    OfflineGRPOTrainer,
    PixelDataset,
    RolloutDataset,
    RolloutGroups,
    rollout_groups,
    with_pixels,
)
from ..trainer.model_card import grpo_verdict
from ..trainer.offline_grpo_losses import has_spread
from . import parsers
from .arguments import GRPOArguments
from .training import TrainingStage, step_size


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
    stage = TrainingStage("grpo", "rollouts", ROLLOUTS, stage_args, data_args, grpo_args, training_args)
    config = read_selector_config(grpo_args.selector, grpo_args.selector_revision)
    encoder = encoder_of(grpo_args, config)
    facts = {
        "selector_commit": model_revision(grpo_args.selector, grpo_args.selector_revision),
        "encoder_commit": encoder.commit,
    }
    check_fit(grpo_args, config, stage.made_by, facts)
    stage.load_data()
    config.check_pool(stage.pool)
    rewards = {
        split: rewards_of(rows, stage.queries[split], training_args, stage.made_by)
        for split, rows in stage.rows.items()
    }
    num_shots = stage.made_by["recipe"]["num_shots"]
    groups = {
        split: rollout_groups(rows, rewards[split], config.insertion, config.stop, num_shots)
        for split, rows in stage.rows.items()
    }
    announce(groups, training_args)
    training_args.check_max_steps(-(-len(stage.rows[grpo_args.train_split]) // step_size(training_args)))
    if stage_args.dry_run:
        return
    facts["rewards_hash"] = {split: json_hash([own.tolist() for own in found]) for split, found in rewards.items()}
    run = stage.claim(facts)
    if run is None:
        return
    config.trained_on = {
        **(config.trained_on or {}),
        "selector": grpo_args.selector,
        "selector_commit": facts["selector_commit"],
        "rollouts": grpo_args.rollouts,
        "rollouts_made_by": stage.made_by,
    }
    if encoder.copied:
        stage.copy_encoder(encoder.name, None, run)
    model, datasets = build(stage, config, encoder, groups)
    stage.train(OfflineGRPOTrainer, model, datasets, grpo_verdict)


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
    stage: TrainingStage, config: BaseSelectorConfig, encoder: FoundEncoder, groups: dict[str, RolloutGroups]
) -> tuple[BaseSelectorModel, dict[str, RolloutDataset | PixelDataset]]:
    """The selector as SFT left it and its data, by split."""
    grpo_args, pool, queries = stage.own_args, stage.pool, stage.queries

    def embed(examples: Dataset, features: Sequence[str]) -> ExampleEmbeddings:
        where = {"batch_size": grpo_args.encoder_batch_size, "embeddings_dir": grpo_args.embeddings_dir}
        return embed_examples(examples, encoder.name, encoder.revision, features, **where)

    processor = AutoProcessor.from_pretrained(grpo_args.selector, revision=grpo_args.selector_revision)
    pool_embeddings = embed(pool, config.features)
    datasets = {}
    for split, table in stage.rows.items():
        ids = table["query_id"], table["candidate_ids"]
        embeddings = embed(queries[split], config.query_features), pool_embeddings
        datasets[split] = RolloutDataset(*ids, *embeddings, processor, groups[split])
    set_seed(stage.training_args.seed)
    model = AutoModel.from_pretrained(
        grpo_args.selector, revision=grpo_args.selector_revision, config=config, use_safetensors=True
    )
    return model, with_pixels(model, datasets, queries, pool, grpo_args.train_split, grpo_args.cache_mb)


if __name__ == "__main__":
    sys.exit(run_stage_here("grpo", sys.argv[1:]))
