# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import math

import pytest

from leverplus_trl.selectors.collapse import (
    entropy,
    is_collapsed,
    measure_collapse,
    most_common_share,
)


def test_entropy_of_hand_made_cases():
    assert entropy(["a"] * 5) == 0.0
    assert entropy(["a", "b", "c", "d"]) == pytest.approx(math.log(4))
    assert entropy([1, 1, 1, 2]) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert entropy([]) == 0.0


def test_shares_of_hand_made_cases():
    assert most_common_share([("a", "b"), ("a", "b"), ("b", "a"), ("c", "a")]) == 0.5  # order counts
    positions = [(0, 1), (0, 1)]
    measures = measure_collapse([("a", "b"), ("c", "d")], positions, [("a", "b"), ("d", "c")])
    assert measures.swap_change_share == 0.5
    with pytest.raises(ValueError, match="2 selections, the positions of 2 and, with swapped queries, 1;"):
        measure_collapse([("a",), ("b",)], positions, [("a",)])


def test_the_rule():
    healthy = {"num_selections": 100, "most_common_share": 0.1, "most_common_position_share": 0.1}
    assert not is_collapsed(**healthy, swap_change_share=0.8)
    assert is_collapsed(**healthy, swap_change_share=0.05)
    assert is_collapsed(**healthy | {"most_common_share": 0.51}, swap_change_share=0.8)
    # Always the same places: suspicious, unless swapping the query shows that it is read.
    assert is_collapsed(**healthy | {"most_common_position_share": 0.9})
    assert not is_collapsed(**healthy | {"most_common_position_share": 0.9}, swap_change_share=0.8)
    assert not is_collapsed(9, 1.0, 1.0, 0.0)  # too few to say


def test_a_constant_selector_is_called_collapsed():
    measures = measure_collapse([("a", "b")] * 20, [(0, 1)] * 20, [("a", "b")] * 20)
    assert measures.collapsed
    assert measures.id_entropy == pytest.approx(math.log(2))
    assert (measures.most_common_share, measures.swap_change_share, measures.num_selections) == (1.0, 0.0, 20)


def test_a_selector_that_reads_the_query_is_not():
    ids = [(f"a{row}", f"b{row}") for row in range(20)]
    measures = measure_collapse(ids, [(row % 5, 5) for row in range(20)], ids[1:] + ids[:1])
    assert not measures.collapsed
    assert measures.most_common_share == 0.05
    assert measures.most_common_position_share == 0.2
    assert measures.swap_change_share == 1.0
    assert measures.id_entropy == pytest.approx(math.log(40))
    assert measures.position_entropy == pytest.approx(-(0.5 * math.log(0.5) + 5 * 0.1 * math.log(0.1)))


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="0 selections"):
        measure_collapse([], [])
