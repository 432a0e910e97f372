# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
From rollouts, rewards and embeddings to tensors: each query with a group of sequences that were answered and rewarded.

Everything is a tensor before training starts, and a batch is a few index operations: no Python runs per example.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset as Table

from ..retrieval.embeddings import ExampleEmbeddings
from ..selectors.processing_selector import SelectorProcessor
from .base_selector_dataset import BaseSelectorDataset, candidate_positions


#: Rewards are stored in single precision, and their squares are taken.
MAX_REWARD = 1e18
#: A log-probability may be above 0 by the rounding of single precision.
LOGPROB_ROUNDING = 1e-4


@dataclass
class RolloutGroups:
    """
    Answered sequences by query. Groups may differ in size; what is behind the last sequence of one is padding.

    Args:
        demonstration_positions (`torch.LongTensor` of shape `[Q, G, S]`):
            Sequences as positions among the candidates in selection order, -1 padded.
        rewards (`torch.FloatTensor` of shape `[Q, G]`):
            Their rewards; 0 for padding.
        group_mask (`torch.BoolTensor` of shape `[Q, G]`):
            False for padding.
        behaviour_logprobs (`torch.FloatTensor` of shape `[Q, G]`):
            Log-probability under the distribution a sequence was drawn from; NaN where there is none.
        sources (`torch.LongTensor` of shape `[Q, G]`):
            Who proposed a sequence, as a position in `source_names`; -1 for padding.
        source_names (`list[str]`):
            The sources.
    """

    demonstration_positions: torch.Tensor
    rewards: torch.Tensor
    group_mask: torch.Tensor
    behaviour_logprobs: torch.Tensor
    sources: torch.Tensor
    source_names: list[str]

    def mean_rewards(self) -> dict[str, float]:
        """Mean reward of the sequences of each source."""
        return {name: self.rewards[self.sources == code].mean().item() for code, name in enumerate(self.source_names)}


def rollout_groups(
    rollouts: Table, rewards: Sequence[np.ndarray], insertion: str, stop: bool = False, num_shots: int | None = None
) -> RolloutGroups:
    """
    Reads the rollouts table of one split.

    Args:
        rollouts (`Table`):
            Rows with the columns of `schema.ROLLOUTS`, one a query.
        rewards (`Sequence[np.ndarray]`):
            A reward for each sequence of each query.
        insertion (`str`):
            `"left"` or `"right"`, as the sequences were put into prompts: turns prompt order into selection order.
        stop (`bool`, *optional*, defaults to `False`):
            Whether the selector may end before `num_shots` picks. If it may not, every sequence must have as many.
        num_shots (`int`, *optional*, defaults to the longest sequence of the table):
            S.

    Returns:
        [`RolloutGroups`], queries in the order of `rollouts`.

    Raises:
        `ValueError`: sequences that no selector could choose from these candidates, a group of one, rewards that are
            not finite or not as many as there are sequences, or a behaviour log-probability that is none.
    """
    if len(rollouts) == 0:
        raise ValueError("The rollouts table is empty: there is nothing to learn from.")
    sequences, query_ids = rollouts["demonstration_ids"][:], rollouts["query_id"][:]
    sources, logprobs = rollouts["sources"][:], rollouts["behaviour_logprobs"][:]
    num_shots = num_shots or max(1, max(len(ids) for group in sequences for ids in group))
    names = sorted({name for group in sources for name in group})
    size = (len(sequences), max(map(len, sequences)))
    positions = torch.full((*size, num_shots), -1, dtype=torch.long)
    found = RolloutGroups(
        demonstration_positions=positions,
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
        _check_group(query_id, group, own)
        known = candidate_positions(query_id, candidate_ids)
        for number, ids in enumerate(group):
            _check_sequence(query_id, ids, known, num_shots, stop)
            picks = [known[name] for name in (reversed(ids) if insertion == "left" else ids)]
            positions[row, number, : len(picks)] = torch.tensor(picks, dtype=torch.long)
        found.rewards[row, : len(group)] = torch.from_numpy(own).float()
        found.group_mask[row, : len(group)] = True
        values = _checked_logprobs(query_id, logprobs[row])
        found.behaviour_logprobs[row, : len(group)] = torch.tensor(values)
        found.sources[row, : len(group)] = torch.tensor([names.index(name) for name in sources[row]])
    return found


def _check_group(query_id: str, group: Sequence[Sequence[str]], rewards: np.ndarray) -> None:
    if len(group) < 2:
        raise ValueError(
            f"The query {query_id!r} has {len(group)} rollout(s): a reward says something only beside another one. "
            "Run the stage `rollouts` with more sequences a query (`num_rollouts`)."
        )
    if rewards.shape != (len(group),):
        raise ValueError(f"The query {query_id!r} has {len(group)} rollouts, but rewards of shape {rewards.shape}.")
    broken = np.flatnonzero(~(np.abs(rewards) <= MAX_REWARD))
    if broken.size:
        number = int(broken[0])
        raise ValueError(
            f"The reward of the rollout {list(group[number])} of the query {query_id!r} is {rewards[number]}; a "
            "reward must be a finite number of single precision. Look at the reward function, or at this row of the "
            "table."
        )


def _checked_logprobs(query_id: str, logprobs: Sequence[float | None]) -> list[float]:
    """Behaviour log-probabilities of a group, NaN where there are none."""
    broken = [value for value in logprobs if value is not None and not -np.inf < value <= LOGPROB_ROUNDING]
    if broken:
        raise ValueError(
            f"A behaviour log-probability of the query {query_id!r} is {broken[0]}; expected a finite number of at "
            "most 0, or null for a source without a density. The table is damaged, make it again."
        )
    return [np.nan if value is None else value for value in logprobs]


def _check_sequence(query_id: str, ids: Sequence[str], known: dict[str, int], num_shots: int, stop: bool) -> None:
    where = f"The rollout {list(ids)} of the query {query_id!r}"
    if len(ids) > len(known):
        raise ValueError(f"{where} has {len(ids)} demonstrations, but there are only {len(known)} candidates.")
    missing = [name for name in ids if name not in known]
    if missing:
        raise ValueError(
            f"{where} holds {missing[0]!r}, which is not among its candidates: the table is damaged, or was put "
            "together from runs with different candidates."
        )
    if len(set(ids)) < len(ids):
        raise ValueError(f"{where} holds a demonstration twice, which a selector can't choose.")
    if len(ids) > num_shots or (len(ids) < num_shots and not stop):
        raise ValueError(
            f"{where} has {len(ids)} demonstrations, but this selector always chooses {num_shots}"
            f"{' at most' * stop}. Make rollouts with this selector, or train a selector with `stop: "
            "true` on them."
        )


class RolloutDataset(BaseSelectorDataset):
    """
    Queries, their candidates and their groups of answered sequences.

    Args:
        query_ids, candidate_ids, queries, pool, processor:
            Those of [`BaseSelectorDataset`].
        groups ([`RolloutGroups`]):
            What was answered.
    """

    def __init__(
        self,
        query_ids: Sequence[str],
        candidate_ids: Sequence[Sequence[str]],
        queries: ExampleEmbeddings,
        pool: ExampleEmbeddings,
        processor: SelectorProcessor,
        groups: RolloutGroups,
    ):
        super().__init__(query_ids, candidate_ids, queries, pool, processor)
        self.groups = groups
        self.reference: dict[str, torch.Tensor] = {}

    @property
    def num_shots(self) -> int:
        return self.groups.demonstration_positions.shape[-1]

    def set_reference(self, logits: torch.Tensor, positions: torch.Tensor) -> None:
        """
        What the reference policy does with these queries; from here on part of each batch.

        Args:
            logits (`torch.FloatTensor` of shape `[Q, G, S, A]`):
                Its logits at each step of each stored sequence.
            positions (`torch.LongTensor` of shape `[Q, S]`):
                Its greedy selections.
        """
        self.reference = {"reference_logits": logits, "reference_positions": positions}

    def targets(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        groups = self.groups
        return {
            "demonstration_positions": groups.demonstration_positions[rows],  # [B, G, S]
            "rewards": groups.rewards[rows],  # [B, G]
            "group_mask": groups.group_mask[rows],  # [B, G]
            "behaviour_logprobs": groups.behaviour_logprobs[rows],  # [B, G]
            **{name: value[rows] for name, value in self.reference.items()},  # [B, G, S, A] and [B, S]
        }
