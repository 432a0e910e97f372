# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import itertools
import random

import pytest

from leverplus_trl.beams import beam_search, insert, num_scored_sequences, selection_order


POOL = ["a", "b", "c", "d"]


def table_score(values):
    """A score function that reads a table of sequences and records what it was asked."""
    asked = []

    def score(sequences):
        asked.extend(sequences)
        return [values[sequence] for _, sequence in sequences]

    return score, asked


def all_values(length, value):
    return {s: value(s) for n in range(1, length + 1) for s in itertools.permutations(POOL, n)}


@pytest.mark.parametrize("insertion", ["left", "right"])
@pytest.mark.parametrize("num_shots", [1, 2, 3])
def test_a_beam_as_wide_as_the_pool_finds_the_best_of_all_sequences(insertion, num_shots):
    generator = random.Random(num_shots)
    values = all_values(num_shots, lambda s: generator.random())
    score, asked = table_score(values)
    (found,) = beam_search(score, [POOL], num_shots, beam_size=100, insertion=insertion)
    best = sorted(itertools.permutations(POOL, num_shots), key=lambda s: -values[s])
    assert found.demonstration_ids == best
    assert found.scores == [values[s] for s in best]
    assert len(asked) == len(set(asked)) == len(values)


def test_left_insertion_puts_the_first_choice_next_to_the_query():
    values = all_values(2, lambda s: 1.0 if s == ("b", "a") else 0.9 if s == ("a",) else 0.0)
    score, _ = table_score(values)
    (left,) = beam_search(score, [POOL], 2, beam_size=1, insertion="left")
    assert left.demonstration_ids == [("b", "a")]
    assert left.step_scores == [[0.9, 1.0]]
    (right,) = beam_search(table_score(values)[0], [POOL], 2, beam_size=1, insertion="right")
    assert right.demonstration_ids == [("a", "b")]


def test_insert_and_selection_order_are_inverse():
    sequence = ()
    for choice in ("a", "b", "c"):
        sequence = insert(choice, sequence, "left")
    assert sequence == ("c", "b", "a")
    assert selection_order(sequence, "left") == ["a", "b", "c"]
    assert selection_order(("a", "b"), "right") == ["a", "b"]


def test_objectives_differ_where_a_good_start_leaves_little_to_gain():
    # a is good and stays so; b is bad and c mends it. Cumulative keeps (a, c) on top, marginal prefers the larger
    # step.
    single = {"a": 0.8, "b": 0.1, "c": 0.0, "d": -0.5}
    values = all_values(2, lambda s: single[s[-1]] if len(s) == 1 else {("c", "a"): 0.9, ("c", "b"): 0.6}.get(s, 0.0))
    (cumulative,) = beam_search(table_score(values)[0], [POOL], 2, beam_size=2)
    assert cumulative.demonstration_ids[0] == ("c", "a")
    assert cumulative.scores[0] == 0.9
    (marginal,) = beam_search(table_score(values)[0], [POOL], 2, beam_size=2, objective="marginal")
    assert marginal.demonstration_ids[0] == ("c", "b")
    assert marginal.scores[0] == pytest.approx(0.5)
    assert marginal.step_scores[0] == [0.1, 0.6]


def test_ties_go_to_the_earlier_candidate():
    values = all_values(2, lambda s: 0.5)
    (found,) = beam_search(table_score(values)[0], [POOL], 2, beam_size=3)
    assert found.demonstration_ids == [("b", "a"), ("c", "a"), ("d", "a")]


def test_queries_are_searched_in_lockstep_and_independently():
    generator = random.Random(0)
    values = all_values(2, lambda s: generator.random())
    calls = []

    def score(sequences):
        calls.append(len(sequences))
        return [values[sequence] for _, sequence in sequences]

    together = beam_search(score, [POOL, POOL[:3]], 2, beam_size=2)
    assert calls == [4 + 3, 2 * 3 + 2 * 2]
    assert together == [beam_search(score, [ids], 2, beam_size=2)[0] for ids in (POOL, POOL[:3])]


@pytest.mark.parametrize("num_candidates, num_shots, beam_size", [(64, 2, 5), (4, 3, 2), (3, 2, 10)])
def test_the_cost_is_known_before(num_candidates, num_shots, beam_size):
    asked = []

    def score(sequences):
        asked.extend(sequences)
        return [0.0] * len(sequences)

    beam_search(score, [[str(i) for i in range(num_candidates)]], num_shots, beam_size)
    assert num_scored_sequences(num_candidates, num_shots, beam_size) == len(asked) + 1  # and the zero-shot prompt


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"insertion": "middle"}, "insertion is 'middle'"),
        ({"objective": "best"}, "objective is 'best'"),
        ({"beam_size": 0}, "must be at least 1"),
        ({"num_shots": 5}, "has 4 candidates; 5 shots"),
        ({"candidate_ids": [["a", "a"]]}, "hold an id twice"),
        ({"candidate_ids": [[]]}, "has 0 candidates"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    settings = {"candidate_ids": [POOL], "num_shots": 2, "beam_size": 2} | arguments
    with pytest.raises(ValueError, match=message):
        beam_search(lambda sequences: [0.0] * len(sequences), **settings)
