# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Losses of offline reinforcement learning, as pure functions of tensors.

Everywhere, `rewards` are a `torch.FloatTensor` `[B, G]`, and `mask` is a `torch.BoolTensor` `[B, G]`, False for
padding. `sequence_logprobs` `[B, G]` and `step_logprobs` `[B, G, S]` are the log-probabilities of sequences and of
their actions under the policy; `logits` `[B, G, S, A]` are those of all actions at each step, where disallowed actions
have the lowest number of the dtype.

Each loss is a mean over all queries of a batch. Skipped groups add 0, so that micro-batches of equal size have the
same gradient as one batch.
"""

import torch
from torch import Tensor


#: A smaller difference between the rewards of a group is rounding.
MIN_SPREAD = 1e-6
_EPS = 1e-8
#: Larger log-ratios would overflow in `exp`.
_MAX_LOG_RATIO = 20.0


def has_spread(rewards: Tensor, mask: Tensor) -> Tensor:
    """Whether the rewards of each group differ, `[B]`. A group whose rewards are all equal is skipped."""
    highest = rewards.masked_fill(~mask, -torch.inf).amax(-1)  # [B]
    lowest = rewards.masked_fill(~mask, torch.inf).amin(-1)  # [B]
    return highest - lowest > MIN_SPREAD


def group_mean_std(rewards: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each group, both `[B, 1]`, without Bessel's correction."""
    count = mask.sum(-1, keepdim=True).clamp(min=1)  # [B, 1]
    mean = rewards.masked_fill(~mask, 0.0).sum(-1, keepdim=True) / count  # [B, 1]
    deviations = (rewards - mean).masked_fill(~mask, 0.0)  # [B, G]
    return mean, (deviations.square().sum(-1, keepdim=True) / count).sqrt()


def batch_std(rewards: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation `[]` of all rewards of a batch."""
    return rewards[mask].std(correction=0)


def standardised_advantages(
    rewards: Tensor, mask: Tensor, scale_rewards: str = "group", clip: float = 5.0, std_of_batch: Tensor | None = None
) -> Tensor:
    """
    A = clip((r - mean) / std) `[B, G]`, with the mean of the group (GRPO, Shao et al., 2024, arXiv:2402.03300); 0 for
    padding and for groups whose rewards are all equal.

    std is with `scale_rewards` `"group"` that of the group, and with `"batch"` that of all rewards of the batch
    (`std_of_batch`, if these rewards are only a part of it); `"none"` does not divide (Dr. GRPO, Liu et al., 2025,
    arXiv:2503.20783). `clip` is the largest advantage, in either direction.
    """
    mean, std = group_mean_std(rewards, mask)  # [B, 1] both
    if scale_rewards == "batch":
        std = batch_std(rewards, mask) if std_of_batch is None else std_of_batch
    advantages = rewards - mean if scale_rewards == "none" else (rewards - mean) / (std + _EPS)  # [B, G]
    taught = mask & has_spread(rewards, mask).unsqueeze(-1)  # [B, G]
    return advantages.clamp(-clip, clip).masked_fill(~taught, 0.0)


def rce_weights(rewards: Tensor, mask: Tensor, tau: float) -> Tensor:
    """
    Weights softmax(z / tau) `[B, G]` of the sequences of a group, where z are the rewards standardised within the
    group; 0 for a group whose rewards are all equal.

    With raw rewards of 0 and 1 and tau 2, the worst sequences would weigh 0.6 times as much as the best, and the
    policy would imitate the sources of the sequences.
    """
    mean, std = group_mean_std(rewards, mask)  # [B, 1] both
    scores = ((rewards - mean) / (std + _EPS) / tau).masked_fill(~mask, torch.finfo(rewards.dtype).min)  # [B, G]
    return scores.softmax(-1) * (mask & has_spread(rewards, mask).unsqueeze(-1))


def rce_loss(sequence_logprobs: Tensor, weights: Tensor) -> Tensor:
    """Reward-weighted cross-entropy `[]` with the weights `[B, G]` of [`rce_weights`] (RCE, Lever-Plus)."""
    return -(sequence_logprobs * weights).sum(-1).mean()


def top_sequences(rewards: Tensor, mask: Tensor, top_k: int) -> Tensor:
    """The mask `[B, G]` of the best `top_k` sequences of each group, and of all that tie with the last of them."""
    ranked = rewards.masked_fill(~mask, -torch.inf)  # [B, G]
    least = ranked.topk(min(top_k, ranked.shape[-1]), dim=-1).values[:, -1:]  # [B, 1]
    return mask & (ranked >= least - MIN_SPREAD)


def grpo_loss(
    step_logprobs: Tensor,
    old_step_logprobs: Tensor,
    advantages: Tensor,
    action_mask: Tensor,
    sequence_mask: Tensor,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    importance_sampling_level: str = "step",
    loss_type: str = "grpo",
) -> tuple[Tensor, Tensor]:
    """
    The clipped group-relative objective -min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon_high) A), without KL
    (Shao et al., 2024, arXiv:2402.03300).

    `old_step_logprobs` `[B, G, S]` are those before the updates on this batch, and `advantages` `[B, G]` include
    weights. `action_mask` `[B, G, S]` marks steps that have an action, `sequence_mask` `[B, G]` sequences that count.
    `epsilon_high` is `epsilon` if not given (DAPO, Yu et al., 2025, arXiv:2503.14476). `importance_sampling_level`
    `"step"` has a ratio for each action, `"sequence"` the product of these ratios. `loss_type` `"grpo"` takes the mean
    over the steps of a sequence, `"dr_grpo"` their sum divided by the constant S, which weighs the steps of short and
    long sequences alike (Liu et al., 2025, arXiv:2503.20783); it has no effect on the level of sequences.

    Returns:
        `tuple`: the loss `[]`, the mean over the sequences of a group, then over queries; and the share `[]` of the
        counted ratios that are clipped.
    """
    log_ratios = (step_logprobs - old_step_logprobs).masked_fill(~action_mask, 0.0)  # [B, G, S]
    counted = action_mask & sequence_mask.unsqueeze(-1)  # [B, G, S]
    if importance_sampling_level == "sequence":
        log_ratios = log_ratios.sum(-1, keepdim=True)  # [B, G, 1]
        counted = counted.any(-1, keepdim=True)  # [B, G, 1]
    high = epsilon if epsilon_high is None else epsilon_high
    ratios = log_ratios.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()  # [B, G, S] or [B, G, 1], as all below
    gains = advantages.unsqueeze(-1)  # [B, G, 1]
    terms = -torch.minimum(ratios * gains, ratios.clamp(1.0 - epsilon, 1.0 + high) * gains)
    clipped = ((ratios < 1.0 - epsilon) & (gains < 0.0)) | ((ratios > 1.0 + high) & (gains > 0.0))
    clipped_share = (clipped & counted).sum() / counted.sum().clamp(min=1)
    lengths = terms.shape[-1] if loss_type == "dr_grpo" else counted.sum(-1).clamp(min=1)  # [] or [B, G]
    sequence_losses = (terms * counted).sum(-1) / lengths  # [B, G]
    group_losses = sequence_losses.sum(-1) / sequence_mask.sum(-1).clamp(min=1)  # [B]
    return group_losses.mean(), clipped_share


def exact_kl(logits: Tensor, ref_logits: Tensor, mask: Tensor) -> Tensor:
    """KL(pi || pi_ref) `[B]` in nats, summed over the allowed actions of each step, and averaged over the steps of a
    query in `mask` `[B, G, S]`. `ref_logits` `[B, G, S, A]` are those of the reference policy."""
    allowed = ~(ref_logits <= torch.finfo(ref_logits.dtype).min)  # [B, G, S, A]; NaN stays in
    logprobs = logits.log_softmax(-1).masked_fill(~allowed, 0.0)  # [B, G, S, A]
    ref_logprobs = ref_logits.log_softmax(-1).masked_fill(~allowed, 0.0)  # [B, G, S, A]
    kl = (logprobs.exp() * (logprobs - ref_logprobs)).sum(-1)  # [B, G, S]; a masked action adds 0
    return (kl * mask).flatten(1).sum(-1) / mask.flatten(1).sum(-1).clamp(min=1)


def entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Entropy `[B]` of the policy in nats, averaged over the steps of a query in `mask` `[B, G, S]`."""
    allowed = ~(logits <= torch.finfo(logits.dtype).min)  # [B, G, S, A]; NaN stays in
    logprobs = logits.log_softmax(-1).masked_fill(~allowed, 0.0)  # [B, G, S, A]
    step_entropies = -(logprobs.exp() * logprobs).sum(-1)  # [B, G, S]
    return (step_entropies * mask).flatten(1).sum(-1) / mask.flatten(1).sum(-1).clamp(min=1)


def behaviour_weights(sequence_logprobs: Tensor, behaviour_logprobs: Tensor, cap: float = 2.0) -> Tensor:
    """Truncated importance weights min(pi / b, cap) `[B, G]` of sequences drawn from a distribution b (Ionides, 2008,
    "Truncated importance sampling"), without gradient. `behaviour_logprobs` `[B, G]` are those under b; NaN for a
    source without a density, whose weight is 1."""
    log_weights = (sequence_logprobs.detach() - behaviour_logprobs).clamp(max=_MAX_LOG_RATIO)  # [B, G]
    return torch.where(behaviour_logprobs.isnan(), 1.0, log_weights.exp().clamp(max=cap))


def expected_reward(sequence_logprobs: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """The mean reward `[B]` of the stored sequences of each query, weighted by their probabilities under the policy,
    normalised to a sum of 1 within the group."""
    lowest = torch.finfo(sequence_logprobs.dtype).min
    shares = sequence_logprobs.masked_fill(~mask, lowest).softmax(-1)  # [B, G]
    return (shares * rewards.masked_fill(~mask, 0.0)).sum(-1)
