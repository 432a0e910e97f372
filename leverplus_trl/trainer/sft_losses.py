# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Losses of supervised training, as pure functions of tensors."""

import torch

from ..selectors.actions import action_mask, action_step_logprobs


def listwise_loss(
    logits: torch.Tensor,
    scores: torch.Tensor,
    weights: torch.Tensor,
    tau: float,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> torch.Tensor:
    """
    Cross-entropy of the policy to softmax(score / tau), both over the candidates scored after a prefix.

    Args:
        logits (`torch.FloatTensor` of shape `[B, P, A]`):
            The policy after each prefix; the lowest number of the dtype for disallowed actions.
        scores (`torch.FloatTensor` of shape `[B, P, A]`):
            InfoScores; NaN for candidates that were not scored, which are left out.
        weights (`torch.FloatTensor` of shape `[B, P]`):
            Weight of each prefix.
        tau (`float`):
            Temperature of the targets.
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Share of each target that is spread evenly over these candidates.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"mean"` over the queries, or `"none"`.

    Returns:
        `torch.FloatTensor` of shape `[]` or `[B]`: the weighted sum over prefixes.
    """
    lowest = torch.finfo(logits.dtype).min
    counted = ~scores.isnan() & ~(logits <= lowest)  # [B, P, A]; logits that are NaN count, and make the loss NaN
    targets = (scores.nan_to_num(0.0) / tau).masked_fill(~counted, lowest).softmax(-1)  # [B, P, A]
    uniform = counted / counted.sum(-1, keepdim=True).clamp(min=1)  # [B, P, A]
    targets = (1.0 - label_smoothing) * targets + label_smoothing * uniform
    logprobs = logits.masked_fill(~counted, lowest).log_softmax(-1)  # [B, P, A]
    losses = -(targets * logprobs.masked_fill(~counted, 0.0)).sum(-1)  # [B, P]
    return _reduced((losses * weights).sum(-1), reduction)  # [B]


def beams_loss(
    logits: torch.Tensor,
    positions: torch.Tensor,
    weights: torch.Tensor,
    label_smoothing: float = 0.0,
    stop: bool = False,
    reduction: str = "mean",
) -> torch.Tensor:
    """
    Cross-entropy to the beams, step by step in selection order (Lever-LM, Yang et al., NeurIPS 2024).

    Args:
        logits (`torch.FloatTensor` of shape `[B, N, S, A]`):
            The policy at each step of each beam; the lowest number of the dtype for disallowed actions.
        positions (`torch.LongTensor` of shape `[B, N, S]`):
            The beams in selection order, -1 padded.
        weights (`torch.FloatTensor` of shape `[B, N]`):
            Weight of each beam.
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Share of each target that is spread evenly over the allowed actions.
        stop (`bool`, *optional*, defaults to `False`):
            Whether the last action is STOP, the target after a beam shorter than S.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"mean"` over the queries, or `"none"`.

    Returns:
        `torch.FloatTensor` of shape `[]` or `[B]`: the mean over the steps of a beam, weighted over beams.
    """
    logprobs = logits.log_softmax(-1)  # [B, N, S, A]
    allowed = ~(logits <= torch.finfo(logits.dtype).min)  # [B, N, S, A]; NaN stays in
    made = action_mask(positions, stop)  # [B, N, S]
    chosen = action_step_logprobs(logits, positions, stop)  # [B, N, S]
    spread = logprobs.masked_fill(~allowed, 0.0).sum(-1) / allowed.sum(-1).clamp(min=1)  # [B, N, S]
    losses = -((1.0 - label_smoothing) * chosen + label_smoothing * spread).masked_fill(~made, 0.0)  # [B, N, S]
    losses = losses.sum(-1) / made.sum(-1).clamp(min=1)  # [B, N]
    return _reduced((losses * weights).sum(-1), reduction)  # [B]


def beam_weights(scores: torch.Tensor, top_n: int, kind: str, tau: float) -> torch.Tensor:
    """
    Weights of the best `top_n` beams of each query, with a sum of 1: equal weights (`kind` `"none"`) or
    softmax(score / tau) (`"softmax"`).

    Args:
        scores (`torch.FloatTensor` of shape `[B, N]`):
            Scores of the beams, best first; NaN for padding.

    Returns:
        `torch.FloatTensor` of shape `[B, N]`.
    """
    counted = ~scores.isnan() & (torch.arange(scores.shape[1], device=scores.device) < top_n)  # [B, N]
    values = scores.nan_to_num(0.0) / tau if kind == "softmax" else torch.zeros_like(scores)
    return values.masked_fill(~counted, torch.finfo(scores.dtype).min).softmax(-1) * counted


def _reduced(losses: torch.Tensor, reduction: str) -> torch.Tensor:
    return losses if reduction == "none" else losses.mean()
