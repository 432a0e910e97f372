# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Has a selector collapsed to a constant? Accuracy does not show it, if its demonstrations suit many queries."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


MOST_COMMON_SHARE = 0.5  #: Above this share of the queries, a selection counts as a constant with exceptions.
SWAP_CHANGE_SHARE = 0.1  #: Below this share of selections that change with the query, the query is not read.
MIN_SELECTIONS = 10  #: Fewer selections show nothing.


@dataclass
class CollapseMeasures:
    """Measures of a set of selections; entropies are in nats over all picks."""

    num_selections: int
    id_entropy: float  #: 0 if the same example is always chosen.
    position_entropy: float  #: Of the positions among the candidates.
    most_common_share: float  #: Share of the most common selection, in order.
    most_common_position_share: float  #: Near 1 if the selector reads nothing but the order of the candidates.
    swap_change_share: float | None  #: Share of selections that change with the query if the candidates stay.
    collapsed: bool  #: Result of [`is_collapsed`].


def entropy(values: Sequence[Hashable]) -> float:
    """Entropy of the empirical distribution of some values, in nats."""
    if len(values) == 0:
        return 0.0
    shares = np.array(list(Counter(values).values())) / len(values)
    return float(-(shares * np.log(shares)).sum() + 0.0)


def most_common_share(selections: Sequence[Sequence[Hashable]]) -> float:
    """Share of the most common selection."""
    return max(Counter(map(tuple, selections)).values()) / len(selections)


def is_collapsed(
    num_selections: int,
    most_common_share: float,
    most_common_position_share: float,
    swap_change_share: float | None = None,
) -> bool:
    """
    Whether, of at least `MIN_SELECTIONS` selections, more than half are the same or fewer than a tenth change with the
    query. The positions count only without `swap_change_share`, since some samplers put the likely candidates first.
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
    Measures the selections of some queries: the chosen `ids` in order, their `positions` among the candidates, and the
    ids that are chosen from the same candidates for another query. Raises `ValueError` if there are no selections, or
    the numbers differ.
    """
    numbers = {len(ids), len(positions), len(ids if swapped_ids is None else swapped_ids)}
    if len(numbers) > 1 or not len(ids):
        raise ValueError(
            f"Got {len(ids)} selections, the positions of {len(positions)} and, with swapped queries, "
            f"{'none' if swapped_ids is None else len(swapped_ids)}; expected the same number above 0 of each."
        )
    changed = None
    if swapped_ids is not None:
        changed = sum(tuple(own) != tuple(other) for own, other in zip(ids, swapped_ids, strict=True)) / len(ids)
    rule = {
        "num_selections": len(ids),
        "most_common_share": most_common_share(ids),
        "most_common_position_share": most_common_share(positions),
        "swap_change_share": changed,
    }
    return CollapseMeasures(
        id_entropy=entropy([pick for picks in ids for pick in picks]),
        position_entropy=entropy([pick for picks in positions for pick in picks]),
        collapsed=is_collapsed(**rule),
        **rule,
    )
