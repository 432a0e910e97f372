# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""At which steps a selector acted, and the log-probabilities of its actions."""

import torch


def action_mask(demonstration_positions: torch.Tensor, stop: bool) -> torch.Tensor:
    """
    Steps at which the policy acted.

    Args:
        demonstration_positions (`torch.LongTensor` of shape `[..., S]`):
            Picks in selection order, -1 padded on the right.
        stop (`bool`):
            Whether ending is an action: then the first -1 of a sequence is one. After S picks ending is certain.

    Returns:
        `torch.BoolTensor` of shape `[..., S]`.
    """
    made = demonstration_positions >= 0  # [..., S]
    if not stop:
        return made
    before = torch.ones_like(made[..., :1])  # [..., 1]
    return torch.cat([before, made[..., :-1]], dim=-1)


def action_step_logprobs(logits: torch.Tensor, demonstration_positions: torch.Tensor, stop: bool) -> torch.Tensor:
    """
    Log-probability of each action of some sequences.

    Args:
        logits (`torch.FloatTensor` of shape `[..., S, A]`):
            What `forward` gives for these sequences.
        demonstration_positions (`torch.LongTensor` of shape `[..., S]`):
            Picks in selection order, -1 padded on the right.
        stop (`bool`):
            Whether the last action is STOP.

    Returns:
        `torch.FloatTensor` of shape `[..., S]`: 0 where there was no action; the sum over S is the log-probability of
        the sequence.
    """
    last = logits.shape[-1] - 1 if stop else 0
    actions = torch.where(demonstration_positions >= 0, demonstration_positions, last)  # [..., S]
    logprobs = logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)  # [..., S]
    return logprobs.masked_fill(~action_mask(demonstration_positions, stop), 0.0)
