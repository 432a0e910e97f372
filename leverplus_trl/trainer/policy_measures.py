# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Logits, greedy selections and measures of a policy. Only `forward` of the model is called, so that a wrapped model
works, too."""

import logging
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from transformers.trainer_utils import EvalPrediction

from ..selectors import BaseSelectorModel, action_mask, action_step_logprobs
from ..selectors.collapse import measure_collapse
from ..selectors.encoder_lora import ENCODER_INPUTS
from .offline_grpo_config import OfflineGRPOConfig
from .offline_grpo_losses import entropy, exact_kl, expected_reward
from .pixel_dataset import Batch, PixelDataset, embed_inputs
from .rollout_dataset import RolloutDataset


logger = logging.getLogger(__name__)

SELECTOR_INPUTS = ("query_embeds", "candidate_embeds", "candidate_mask", "candidate_rows", *ENCODER_INPUTS)
#: Advantages with a smaller standard deviation do not move a policy.
STILL_ADVANTAGES = 0.01
#: A policy has not moved if a smaller share of its greedy selections has changed.
STILL_CHANGED = 0.01
#: A beta from here on, or a learning rate below this, is a likely cause of a policy that does not move.
HIGH_BETA, LOW_LEARNING_RATE = 0.5, 1e-5


def sequence_logits(model, inputs: Batch, positions: Tensor) -> Tensor:
    """Logits `[B, G, S, A]` at each step of the sequences `positions` `[B, G, S]`."""
    given = {name: inputs[name] for name in SELECTOR_INPUTS if name in inputs}
    logits = model(**given, demonstration_positions=positions).logits
    # In half precision, disallowed actions have the lowest number of that dtype, not that of single precision.
    masked = logits <= torch.finfo(torch.float16).min
    return logits.float().masked_fill(masked, torch.finfo(torch.float32).min)


def has_stop(logits: Tensor, inputs: Batch) -> bool:
    """Whether the last action is STOP. A wrapped model hides its config, so this is read from the shapes."""
    return logits.shape[-1] > inputs["candidate_mask"].shape[-1]


def greedy_positions(model, inputs: Batch, num_shots: int) -> Tensor:
    """Greedy selection `[B, S]`; -1 after the end of a sequence."""
    num_candidates = inputs["candidate_mask"].shape[-1]
    positions = torch.full_like(inputs["candidate_rows"][:, :1], -1).repeat(1, num_shots)  # [B, S]
    going_on = torch.ones_like(positions[:, 0], dtype=torch.bool)  # [B]
    for step in range(num_shots):
        actions = sequence_logits(model, inputs, positions)[:, step].argmax(-1)  # [B, S, A] -> [B]
        going_on = going_on & (actions < num_candidates)
        positions[:, step] = torch.where(going_on, actions, -1)
    return positions


def greedy_selections(model, inputs: Batch, num_shots: int) -> Batch:
    """Greedy selections `[B, S]`: `positions` among the candidates, their `rows` in the pool, and `swapped_rows`, the
    rows selected for the next query from the same candidates; -1 is padding."""
    others = inputs | {"query_embeds": inputs["swapped_query_embeds"]}
    positions, swapped = (greedy_positions(model, batch, num_shots) for batch in (inputs, others))  # [B, S] both
    rows, swapped_rows = (
        torch.where(chosen >= 0, inputs["candidate_rows"].gather(1, chosen.clamp(min=0)), -1)
        for chosen in (positions, swapped)
    )  # [B, S] both
    return {"positions": positions, "rows": rows, "swapped_rows": swapped_rows}


def query_means(measures: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each measure over queries; `{name}_margin` is half of its 95% interval (normal approximation)."""
    metrics = {}
    for name, values in measures.items():
        if len(values):
            metrics[name] = float(values.mean())
        if len(values) > 1:
            metrics[f"{name}_margin"] = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return metrics


def collapse_metrics(selections: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The measures of [`measure_collapse`] for the [`greedy_selections`] of an evaluation."""
    rows, positions = selections["rows"].tolist(), selections["positions"].tolist()
    swapped = selections["swapped_rows"].tolist() if len(rows) > 1 else None
    values = vars(measure_collapse(rows, positions, swapped))
    names = ("id_entropy", "position_entropy", "most_common_share", "collapsed", "swap_change_share")
    return {name: float(values[name]) for name in names if values[name] is not None}


@torch.no_grad()
def set_reference(model: BaseSelectorModel, dataset: RolloutDataset | PixelDataset, batch_size: int) -> None:
    """Stores the current policy's logits and greedy selections in a dataset, computed without dropout; raises
    `ValueError` for logits that are NaN or infinite."""
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
                f"The SFT selector's scores of the candidates of the query {query_id!r} are not finite. Train the "
                "selector again with `sft`, or train without fp16."
            )
        positions.append(greedy_positions(model, batch, dataset.num_shots).cpu())  # [B, S]
    model.train(training)
    dataset.set_reference(torch.cat(logits), torch.cat(positions))
    megabytes = sum(tensor.nbytes for tensor in logits) / 1e6
    logger.info("Reference policy: logits of %d queries, kept in %.1f MB.", len(dataset), megabytes)


def measure_groups(model, inputs: Batch) -> dict[str, Tensor]:
    """The inputs of [`rollout_metrics`], one row for each query."""
    stored, rewards, mask = inputs["demonstration_positions"], inputs["rewards"], inputs["group_mask"]
    logits, reference = sequence_logits(model, inputs, stored), inputs["reference_logits"]  # [B, G, S, A] both
    stop = has_stop(logits, inputs)
    acted = action_mask(stored, stop) & mask.unsqueeze(-1)  # [B, G, S]
    own, sft = (action_step_logprobs(policy, stored, stop).sum(-1) for policy in (logits, reference))  # [B, G] both
    selections = greedy_selections(model, inputs, stored.shape[-1])
    positions = selections["positions"]  # [B, S]
    is_greedy = (stored == positions.unsqueeze(1)).all(-1) & mask  # [B, G]
    return selections | {
        "expected_reward": expected_reward(own, rewards, mask),
        "sft_expected_reward": expected_reward(sft, rewards, mask),
        "greedy_reward": (rewards * is_greedy).sum(-1) / is_greedy.sum(-1),  # 0 / 0 is NaN: it is not in the group
        "changed": (positions != inputs["reference_positions"]).any(-1).float(),
        "kl": exact_kl(logits, reference, acted),
        "entropy": entropy(logits, acted),
    }


def rollout_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Metrics of an evaluation: how good the selections are, how many changed, and whether the selector has
    collapsed."""
    measured = prediction.predictions
    covered = ~np.isnan(measured["greedy_reward"])
    names = ("expected_reward", "sft_expected_reward", "changed", "kl", "entropy")
    measures = {name: measured[name] for name in names}
    measures["expected_reward_gain"] = measured["expected_reward"] - measured["sft_expected_reward"]
    measures["greedy_reward"] = measured["greedy_reward"][covered]
    return {"greedy_reward_coverage": float(covered.mean())} | query_means(measures) | collapse_metrics(measured)


def why_still(logged: Mapping[str, float], args: OfflineGRPOConfig, num_steps: int) -> str:
    """The likely cause of a policy that does not move, and the remedy, by the values that the trainer logged last."""
    if logged.get("frac_reward_zero_std", 0.0) > 0.9:
        return (
            f"the rewards of {logged['frac_reward_zero_std']:.0%} of the groups are all equal, and such groups "
            "are skipped: take a softer reward (`reward_funcs: [gt_prob]`), or make more, and more varied, rollouts"
        )
    if logged.get("advantage_std", 1.0) < STILL_ADVANTAGES:
        return (
            f"the advantages spread by only {logged['advantage_std']:.2g} with scale_rewards {args.scale_rewards!r}: "
            "set `scale_rewards: group`, which makes the spread of every group 1"
        )
    if logged.get("kl", 0.0) < args.kl_low and logged.get("beta", 0.0) >= HIGH_BETA:
        return (
            f"beta is {logged['beta']:.3g}, which holds the policy at the SFT policy (KL {logged['kl']:.2g}): lower "
            "beta or set `adaptive_beta: true`"
        )
    if args.learning_rate < LOW_LEARNING_RATE:
        return f"the learning rate {args.learning_rate:.3g} is too low: 3e-4 moves a small selector"
    return (
        f"either {num_steps} steps at the learning rate {args.learning_rate:.3g} are too few (raise "
        "num_train_epochs or learning_rate), or the SFT policy already prefers the rewarded sequences"
    )
