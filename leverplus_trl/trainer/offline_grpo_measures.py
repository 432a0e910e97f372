# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Measures of offline reinforcement learning: how good the policy is, how far it went, and why it may stand still."""

import logging
import math
from collections.abc import Mapping

import torch
from transformers.trainer_utils import EvalPrediction

from ..selectors.base_selector import BaseSelectorModel, action_mask, action_step_logprobs
from ..selectors.collapse import measure_collapse
from .offline_grpo_config import OfflineGRPOConfig
from .offline_grpo_losses import entropy, exact_kl, expected_reward
from .pixel_dataset import PixelDataset, embed_inputs
from .rollout_dataset import RolloutDataset
from .sft_trainer import greedy_positions, has_stop, sequence_logits


logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]

#: Advantages that spread less than this move nothing, however long they are trained on.
STILL_ADVANTAGES = 0.01
#: A policy of which fewer greedy selections than this changed has not moved.
STILL_CHANGED = 0.01
#: From here on beta is suspected to be what holds a policy that does not move.
HIGH_BETA = 0.5
#: Below this the learning rate is suspected.
LOW_LEARNING_RATE = 1e-5


@torch.no_grad()
def set_reference(model: BaseSelectorModel, dataset: RolloutDataset | PixelDataset, batch_size: int) -> None:
    """Lets a dataset know what a policy, as it is now, does with its queries; evaluated without dropout."""
    training = model.training
    model.eval()
    logits, positions = [], []
    for start in range(0, len(dataset), batch_size):
        batch = dataset.__getitems__(list(range(start, min(start + batch_size, len(dataset)))))
        batch = embed_inputs(model, {name: value.to(model.device) for name, value in batch.items()})
        logits.append(sequence_logits(model, batch, batch["demonstration_positions"]).cpu())  # [B, G, S, A]
        broken = (~logits[-1].isfinite()).flatten(1).any(-1)  # [B]
        if broken.any():
            query_id = dataset.query_ids[start + int(broken.nonzero()[0])]
            raise ValueError(
                f"The SFT selector's scores of the candidates of the query {query_id!r} are not finite; expected a "
                "selector that works. Train it again with `sft`, or train without fp16."
            )
        positions.append(greedy_positions(model, batch, dataset.num_shots).cpu())  # [B, S]
    model.train(training)
    dataset.set_reference(torch.cat(logits), torch.cat(positions))
    megabytes = sum(tensor.nbytes for tensor in logits) / 1e6
    logger.info("Reference policy: logits of %d queries, kept in %.1f MB.", len(dataset), megabytes)


def measure_groups(model, inputs: Batch) -> dict[str, torch.Tensor]:
    """What the measures of an evaluation are made of, one row a query; only `forward` is called, so every wrapper of a
    model works."""
    inputs = embed_inputs(model, inputs)
    stored, rewards, mask = inputs["demonstration_positions"], inputs["rewards"], inputs["group_mask"]
    logits, reference = sequence_logits(model, inputs, stored), inputs["reference_logits"]  # [B, G, S, A] both
    stop, num_shots = has_stop(logits, inputs), stored.shape[-1]
    acted = action_mask(stored, stop) & mask.unsqueeze(-1)  # [B, G, S]
    own, sft = (action_step_logprobs(one, stored, stop).sum(-1) for one in (logits, reference))  # [B, G] both
    positions = greedy_positions(model, inputs, num_shots)  # [B, S]
    others = inputs | {"query_embeds": inputs["swapped_query_embeds"]}
    swapped = greedy_positions(model, others, num_shots)  # [B, S]
    found = (stored == positions.unsqueeze(1)).all(-1) & mask  # [B, G]
    greedy = (rewards * found).sum(-1) / found.sum(-1)  # [B]; 0 / 0 is NaN where the group does not hold it
    rows = {
        name: torch.where(chosen >= 0, inputs["candidate_rows"].gather(1, chosen.clamp(min=0)), -1)  # [B, S]
        for name, chosen in (("rows", positions), ("swapped_rows", swapped))
    }
    return rows | {
        "positions": positions,
        "expected_reward": expected_reward(own, rewards, mask),
        "sft_expected_reward": expected_reward(sft, rewards, mask),
        "greedy_reward": greedy,
        "changed": (positions != inputs["reference_positions"]).any(-1).float(),
        "kl": exact_kl(logits, reference, acted),
        "entropy": entropy(logits, acted),
    }


def rollout_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Measures of an evaluation: how good the selections are, how many changed, and whether the selector has
    collapsed."""
    found = prediction.predictions
    covered = found["greedy_reward"] == found["greedy_reward"]
    names = ("expected_reward", "sft_expected_reward", "changed", "kl", "entropy")
    measured = {name: found[name] for name in names}
    measured["expected_reward_gain"] = found["expected_reward"] - found["sft_expected_reward"]
    measured["greedy_reward"] = found["greedy_reward"][covered]
    metrics = {"greedy_reward_coverage": float(covered.mean())}
    for name, values in measured.items():
        if len(values):
            metrics[name] = float(values.mean())
        if len(values) > 1:  # half of a 95% interval over queries, by the normal approximation
            metrics[f"{name}_margin"] = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    swapped = found["swapped_rows"].tolist() if len(covered) > 1 else None
    collapse = measure_collapse(found["rows"].tolist(), found["positions"].tolist(), swapped)
    metrics |= {
        "id_entropy": collapse.id_entropy,
        "position_entropy": collapse.position_entropy,
        "most_common_share": collapse.most_common_share,
        "collapsed": float(collapse.collapsed),
    }
    if collapse.swap_change_share is not None:
        metrics["swap_change_share"] = collapse.swap_change_share
    return metrics


def why_still(logged: Mapping[str, float], args: OfflineGRPOConfig, num_steps: int) -> str:
    """
    The likely cause of a policy that does not move, and what to do.

    Args:
        logged (`Mapping[str, float]`):
            What the trainer logged last.
        args ([`OfflineGRPOConfig`]):
            How it trains.
        num_steps (`int`):
            Steps taken so far.
    """
    if logged.get("frac_reward_zero_std", 0.0) > 0.9:
        return (
            f"the rewards of {logged['frac_reward_zero_std']:.0%} of the groups are all equal, and such groups teach "
            "nothing: take a softer reward (`reward_funcs: [gt_prob]`), or make more and more various rollouts"
        )
    if logged.get("advantage_std", 1.0) < STILL_ADVANTAGES:
        return (
            f"the advantages spread by only {logged['advantage_std']:.2g} with scale_rewards {args.scale_rewards!r}: "
            "set `scale_rewards: group`, which makes the spread of every group 1"
        )
    if logged.get("kl", 0.0) < args.kl_low and logged.get("beta", 0.0) >= HIGH_BETA:
        return (
            f"beta is {logged['beta']:.3g}, which holds the policy at the SFT policy (KL {logged['kl']:.2g}): lower "
            "it or set `adaptive_beta: true`"
        )
    if args.learning_rate < LOW_LEARNING_RATE:
        return f"the learning rate {args.learning_rate:.3g} is too low: 3e-4 moves a small selector"
    return (
        f"either {num_steps} steps at the learning rate {args.learning_rate:.3g} are too few (raise "
        "num_train_epochs or learning_rate), or the SFT policy prefers already what is rewarded"
    )
