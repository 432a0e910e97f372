# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Rollouts and rewards as tensors: for each query, a group of answered sequences with their rewards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset as Table

from .base_selector_dataset import BaseSelectorDataset, candidate_positions, picked_positions


#: Rewards are stored in single precision, and the losses square them.
MAX_REWARD = 1e18
#: Rounding in single precision can make a log-probability slightly positive.
LOGPROB_ROUNDING = 1e-4


@dataclass
class RolloutGroups:
    """The answered sequences of each query. Groups may differ in size; shorter groups are padded."""

    #: `[Q, G, S]`: sequences as positions among the candidates in selection order, -1 padded.
    demonstration_positions: torch.Tensor
    #: `[Q, G]`; 0 for padding.
    rewards: torch.Tensor
    #: `[Q, G]`; False for padding.
    group_mask: torch.Tensor
    #: `[Q, G]`: log-probability under the distribution that the sequence was drawn from; NaN for a source without a
    #: density.
    behaviour_logprobs: torch.Tensor
    #: `[Q, G]`: source of the sequence, as a position in `source_names`; -1 for padding.
    sources: torch.Tensor
    source_names: list[str]

    def mean_rewards(self) -> dict[str, float]:
        """Mean reward of the sequences of each source."""
        return {name: self.rewards[self.sources == code].mean().item() for code, name in enumerate(self.source_names)}


def rollout_groups(
    rollouts: Table, rewards: Sequence[np.ndarray], insertion: str, stop: bool = False, num_shots: int | None = None
) -> RolloutGroups:
    """
    Reads the rollouts table of one split (columns of `schema.ROLLOUTS`), in its order.

    `rewards` are those of the sequences of each query. `insertion` is that of the rollouts: it turns prompt order into
    selection order. Every sequence must have `num_shots` (S; default: the length of the longest sequence), or with
    `stop` at most as many.

    Raises:
        `ValueError`: a sequence that no selector could choose from the candidates, a group of fewer than two
            sequences, rewards that are not finite or of another number, or a positive or infinite log-probability.
    """
    if len(rollouts) == 0:
        raise ValueError("The rollouts table is empty: there is nothing to learn from.")
    sequences, query_ids = rollouts["demonstration_ids"][:], rollouts["query_id"][:]
    sources, logprobs = rollouts["sources"][:], rollouts["behaviour_logprobs"][:]
    num_shots = num_shots or max(1, max(len(ids) for group in sequences for ids in group))
    names = sorted({name for group in sources for name in group})
    size = (len(sequences), max(map(len, sequences)))
    groups = RolloutGroups(
        demonstration_positions=torch.full((*size, num_shots), -1, dtype=torch.long),
        rewards=torch.zeros(size),
        group_mask=torch.zeros(size, dtype=torch.bool),
        behaviour_logprobs=torch.full(size, torch.nan),
        sources=torch.full(size, -1, dtype=torch.long),
        source_names=names,
    )
    for row, (query_id, group, candidate_ids) in enumerate(
        zip(query_ids, sequences, rollouts["candidate_ids"], strict=True)
    ):
        own = np.asarray(rewards[row], dtype=np.float64)  # [G_q]
        _check_group(query_id, group, own, logprobs[row])
        positions = candidate_positions(query_id, candidate_ids)
        for number, ids in enumerate(group):
            picks = _checked_picks(query_id, ids, positions, insertion, num_shots, stop)
            groups.demonstration_positions[row, number, : len(picks)] = torch.tensor(picks, dtype=torch.long)
        groups.rewards[row, : len(group)] = torch.from_numpy(own).float()
        groups.group_mask[row, : len(group)] = True
        known = [np.nan if value is None else value for value in logprobs[row]]
        groups.behaviour_logprobs[row, : len(group)] = torch.tensor(known)
        groups.sources[row, : len(group)] = torch.tensor([names.index(name) for name in sources[row]])
    return groups


def _check_group(
    query_id: str, group: Sequence[Sequence[str]], rewards: np.ndarray, logprobs: Sequence[float | None]
) -> None:
    if len(group) < 2:
        raise ValueError(
            f"The query {query_id!r} has {len(group)} rollout(s); expected at least 2, to "
            "compare their rewards. Run the stage `rollouts` again with a higher num_rollouts."
        )
    if rewards.shape != (len(group),):
        raise ValueError(f"The query {query_id!r} has {len(group)} rollouts, but rewards of shape {rewards.shape}.")
    for ids, reward in zip(group, rewards.tolist(), strict=True):
        if not abs(reward) <= MAX_REWARD:
            raise ValueError(
                f"The reward of the rollout {list(ids)} of the query {query_id!r} is {reward}; a reward must be a "
                "finite number of single precision. Check the reward function and this row of the table."
            )
    for value in logprobs:
        if value is not None and not -np.inf < value <= LOGPROB_ROUNDING:
            raise ValueError(
                f"A behaviour log-probability of the query {query_id!r} is {value}; expected a finite number of at "
                "most 0, or null for a source without a density. The table is damaged, make it again."
            )


def _checked_picks(
    query_id: str, ids: Sequence[str], positions: dict[str, int], insertion: str, num_shots: int, stop: bool
) -> list[int]:
    where = f"The rollout {list(ids)} of the query {query_id!r}"
    if len(ids) > len(positions):
        raise ValueError(f"{where} has {len(ids)} demonstrations, but there are only {len(positions)} candidates.")
    picks = picked_positions(query_id, ids, positions, insertion)
    if len(set(ids)) < len(ids):
        raise ValueError(f"{where} holds a demonstration twice, which a selector can't choose.")
    if len(ids) > num_shots or (len(ids) < num_shots and not stop):
        raise ValueError(
            f"{where} has {len(ids)} demonstrations, but this selector always chooses {num_shots}{' at most' * stop}. "
            "Make rollouts with this selector, or train a selector with `stop: true` on them."
        )
    return picks


class RolloutDataset(BaseSelectorDataset):
    """Queries, their candidates and their answered sequences. The arguments are those of [`BaseSelectorDataset`], with
    [`RolloutGroups`] as labels."""

    label_names = ("demonstration_positions", "rewards", "group_mask", "behaviour_logprobs")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.groups: RolloutGroups = self.labels
        self.num_shots = self.groups.demonstration_positions.shape[-1]
        self.reference: dict[str, torch.Tensor] = {}

    def set_reference(self, logits: torch.Tensor, positions: torch.Tensor) -> None:
        """Adds the reference policy to each batch: `reference_logits` `[Q, G, S, A]`, its logits at each step of each
        stored sequence, and `reference_positions` `[Q, S]`, its greedy selections."""
        self.reference = {"reference_logits": logits, "reference_positions": positions}

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        reference = {name: value[torch.tensor(indices)] for name, value in self.reference.items()}
        return super().__getitems__(indices) | reference  # [B, G, S, A] and [B, S]
