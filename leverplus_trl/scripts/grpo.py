# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Stage `grpo`: a selector goes on from SFT by reward, on stored rollouts; no VLM is loaded."""

import logging
from functools import partial

from transformers import AutoModel, AutoProcessor, set_seed

from ..provenance import json_hash, model_revision
from ..rollouts import compute_rewards
from ..schema import ROLLOUTS
from ..selectors import BaseSelectorConfig, read_selector_config
from ..stage_arguments import StageArguments
from ..tasks import DataArguments
from ..trainer import OfflineGRPOConfig, OfflineGRPOTrainer, RolloutDataset, RolloutGroups, rollout_groups, with_pixels
from ..trainer.model_card import grpo_verdict
from ..trainer.offline_grpo_losses import has_spread
from . import parsers
from .arguments import GRPOArguments
from .inputs import find_encoder
from .training import TrainingStage, step_size


logger = logging.getLogger(__name__)

make_parser = partial(parsers.make_parser, "grpo")


def main(
    stage_args: StageArguments, data_args: DataArguments, grpo_args: GRPOArguments, training_args: OfflineGRPOConfig
) -> None:
    stage = TrainingStage("grpo", "rollouts", ROLLOUTS, stage_args, data_args, grpo_args, training_args)
    config = read_selector_config(grpo_args.selector, grpo_args.selector_revision)
    encoder = find_encoder(grpo_args, config, {}, grpo_args.encoder_batch_size)
    if encoder is None:
        raise ValueError(f"The config of the selector {grpo_args.selector!r} names no encoder; set `encoder`.")
    commit = model_revision(grpo_args.selector, grpo_args.selector_revision)
    check_fit(grpo_args, config, stage.made_by["facts"], commit)
    stage.load_data()
    config.check_pool(stage.pool)
    groups, hashes = {}, {}
    for split, rows in stage.rows.items():
        answers = {row["id"]: row["answers"] for row in stage.queries[split].select_columns(["id", "answers"])}
        scale = stage.made_by["facts"]["score"]  # that of the table's zero-shot scores
        funcs, weights = training_args.reward_funcs, training_args.reward_weights
        rewards = compute_rewards(rows, answers, funcs, weights, scale)
        hashes[split] = json_hash([of_query.tolist() for of_query in rewards])
        num_shots = stage.made_by["recipe"]["num_shots"]
        groups[split] = rollout_groups(rows, rewards, config.insertion, config.stop, num_shots)
        announce(split, groups[split], funcs)
    training_args.check_max_steps(-(-len(stage.rows[grpo_args.train_split]) // step_size(training_args)))
    if stage_args.dry_run:
        return
    run = stage.claim({"selector_commit": commit, "encoder_commit": encoder.commit, "rewards_hash": hashes})
    if run is None:
        return
    config.trained_on = {
        **(config.trained_on or {}),
        "selector": grpo_args.selector,
        "selector_commit": commit,
        "rollouts": grpo_args.rollouts,
        "rollouts_made_by": stage.made_by,
    }
    if encoder.copied:
        stage.copy_encoder(encoder.name, None, run)
    where = {"revision": grpo_args.selector_revision}
    processor = AutoProcessor.from_pretrained(grpo_args.selector, **where)
    datasets, _ = stage.make_datasets(RolloutDataset, encoder, config, processor, groups)
    set_seed(training_args.seed)
    model = AutoModel.from_pretrained(grpo_args.selector, config=config, use_safetensors=True, **where)
    datasets = with_pixels(model, datasets, stage.queries, stage.pool, grpo_args.train_split, grpo_args.cache_mb)
    stage.train(OfflineGRPOTrainer, model, datasets, grpo_verdict)


def check_fit(grpo_args: GRPOArguments, config: BaseSelectorConfig, facts: dict, commit: str) -> None:
    """Raises `ValueError` if the rollouts were made for another kind of selector; warns if for another selector."""
    for key in ("insertion", "score"):
        recorded = facts.get(key)
        if recorded not in (None, getattr(config, key)):
            raise ValueError(
                f"The rollouts {grpo_args.rollouts!r} were made with {key} {recorded!r}, but the selector "
                f"{grpo_args.selector!r} was trained with {getattr(config, key)!r}. Make rollouts with this selector."
            )
    if facts.get("selector_commit") not in (None, commit):
        logger.warning(
            "The rollouts were sampled from another selector than %r. That is allowed, but rollouts of a selector's "
            "own samples teach it more.",
            grpo_args.selector,
        )


def announce(split: str, groups: RolloutGroups, reward_funcs: list[str]) -> None:
    """Logs what there is to learn from, and warns if it is nothing."""
    spread = has_spread(groups.rewards, groups.group_mask).float().mean().item()
    sources = ", ".join(f"{source} {reward:.3f}" for source, reward in groups.mean_rewards().items())
    logger.info(
        "Rollouts of %r: %d queries, %d sequences; in %.0f%% of the queries rewards differ. Mean reward by source: "
        "%s.",
        *(split, len(groups.rewards), int(groups.group_mask.sum()), 100 * spread, sources),
    )
    if spread == 0.0:
        logger.warning(
            "NOTHING CAN BE LEARNED from %r: all sequences of each query have the same reward %s. Take a softer "
            "reward (`reward_funcs: [gt_prob]`), or make more and more various rollouts.",
            *(split, reward_funcs),
        )


if __name__ == "__main__":
    parsers.run_script("grpo")
