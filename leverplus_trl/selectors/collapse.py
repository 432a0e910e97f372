# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Has a selector collapsed to a constant? Measures of a set of selections, as pure functions.

Accuracy hides it: a selector that gives everybody the same good-looking demonstrations scores like a fair heuristic.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


#: A selection that is given to more than this share of the queries is a constant with exceptions.
MOST_COMMON_SHARE = 0.5
#: If fewer selections than this change when the query is swapped for another, the query is not read.
SWAP_CHANGE_SHARE = 0.1
#: Fewer selections than these say nothing.
MIN_SELECTIONS = 10


@dataclass
class CollapseMeasures:
    """
    Args:
        num_selections (`int`):
            How many selections were looked at.
        id_entropy (`float`):
            Entropy of the chosen ids in nats, over all picks: 0 if one example is always chosen.
        position_entropy (`float`):
            Entropy of the chosen positions among the candidates, in nats.
        most_common_share (`float`):
            Share of the most common selection (the same ids in the same order).
        most_common_position_share (`float`):
            Share of the most common tuple of positions; near 1 if the selector always takes the candidates that stand
            at the same places, whatever they are.
        swap_change_share (`float`, *optional*):
            Share of selections that change when the query is swapped for another while the candidates stay.
        collapsed (`bool`):
            The verdict of [`is_collapsed`].
    """

    num_selections: int
    id_entropy: float
    position_entropy: float
    most_common_share: float
    most_common_position_share: float
    swap_change_share: float | None
    collapsed: bool


def entropy(values: Sequence[Hashable]) -> float:
    """Entropy of the empirical distribution of some values, in nats."""
    if len(values) == 0:
        return 0.0
    shares = np.array(list(Counter(values).values())) / len(values)
    return float(-(shares * np.log(shares)).sum() + 0.0)


def most_common_share(selections: Sequence[Sequence[Hashable]]) -> float:
    """Share of the most common selection."""
    return max(Counter(map(tuple, selections)).values()) / len(selections)


def swap_change_share(
    selections: Sequence[Sequence[Hashable]], swapped_selections: Sequence[Sequence[Hashable]]
) -> float:
    """
    Share of selections that differ from those made for another query over the same candidates.

    Raises:
        `ValueError`: not as many of one as of the other.
    """
    if len(selections) != len(swapped_selections):
        raise ValueError(f"Got {len(selections)} selections, but {len(swapped_selections)} with swapped queries.")
    changed = [tuple(own) != tuple(other) for own, other in zip(selections, swapped_selections, strict=True)]
    return sum(changed) / len(changed)


def is_collapsed(
    num_selections: int,
    most_common_share: float,
    most_common_position_share: float,
    swap_change_share: float | None = None,
) -> bool:
    """
    The rule: of at least `MIN_SELECTIONS` selections more than half are one and the same, or fewer than a tenth change
    when the query is swapped for another. Where no swap was tried, more than half at the same positions count as well;
    where one was, they do not, since some samplers put the likely candidates first.
    """
    if num_selections < MIN_SELECTIONS:
        return False
    # Written so that a share that is NaN counts as collapsed.
    if swap_change_share is None:
        return not (most_common_share <= MOST_COMMON_SHARE and most_common_position_share <= MOST_COMMON_SHARE)
    return not (most_common_share <= MOST_COMMON_SHARE and swap_change_share >= SWAP_CHANGE_SHARE)


def measure_collapse(
    ids: Sequence[Sequence[Hashable]],
    positions: Sequence[Sequence[int]],
    swapped_ids: Sequence[Sequence[Hashable]] | None = None,
) -> CollapseMeasures:
    """
    Measures a set of selections.

    Args:
        ids (`Sequence[Sequence[Hashable]]`):
            The chosen examples of each query, in order.
        positions (`Sequence[Sequence[int]]`):
            Where these stood among the candidates.
        swapped_ids (`Sequence[Sequence[Hashable]]`, *optional*):
            What is chosen from the same candidates for another query.

    Raises:
        `ValueError`: no selections, or not as many of one as of the other.
    """
    if len(ids) == 0 or len(ids) != len(positions):
        raise ValueError(
            f"Got {len(ids)} selections and the positions of {len(positions)}; expected one of each a query."
        )
    rule = {
        "num_selections": len(ids),
        "most_common_share": most_common_share(ids),
        "most_common_position_share": most_common_share(positions),
        "swap_change_share": None if swapped_ids is None else swap_change_share(ids, swapped_ids),
    }
    return CollapseMeasures(
        id_entropy=entropy([pick for picks in ids for pick in picks]),
        position_entropy=entropy([pick for picks in positions for pick in picks]),
        collapsed=is_collapsed(**rule),
        **rule,
    )
