# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
from datasets import Dataset

from leverplus_trl.evaluation.evaluation_arguments import EvaluationArguments
from leverplus_trl.evaluation.methods import HEURISTICS, METHODS, Choices, oracle, reordered
from leverplus_trl.retrieval import SAMPLERS, ExampleEmbeddings
from leverplus_trl.schema import LEDGER
from leverplus_trl.scripts.evaluate import check_room


def unit(*degrees):
    radians = np.deg2rad(np.array(degrees, dtype=np.float64))
    return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)


def choose(method, choices, num_shots, seed):
    return METHODS[method].choose(choices, num_shots, seed)


@pytest.fixture
def choices():
    """Pool examples at known angles from the query: images at 10, 20, 30, 40, 50 degrees; texts the other way
    round."""
    pool = ExampleEmbeddings(["a", "b", "c", "d", "e"], unit(10, 20, 30, 40, 50), unit(50, 40, 30, 20, 10))
    queries = ExampleEmbeddings(["q"], unit(0), unit(0))
    return Choices(["q"], [["b", "c", "d"]], list(pool.ids), pool, queries)


def test_the_most_similar_stands_next_to_the_query(choices):
    assert choose("image_sim", choices, 2, seed=0) == [["c", "b"]]
    assert choose("text_sim", choices, 2, seed=0) == [["c", "d"]]
    assert choose("image_sim_pool", choices, 2, seed=0) == [["b", "a"]]
    assert choose("text_sim_pool", choices, 3, seed=0) == [["c", "d", "e"]]
    # cos 30 + cos 30 is the largest sum of both, of the candidates and of the pool.
    assert choose("image_text_sim", choices, 1, seed=0) == choose("image_text_sim_pool", choices, 1, seed=0) == [["c"]]


def many(count):
    ids = [f"p{i}" for i in range(20)]
    angles = np.random.default_rng(0).uniform(0, 180, 20)
    pool = ExampleEmbeddings(ids, unit(*angles), unit(*angles[::-1]))
    query_ids = [f"q{i}" for i in range(count)]
    queries = ExampleEmbeddings(query_ids, unit(*([5.0] * count)), unit(*([90.0] * count)))
    return Choices(query_ids, [ids[:12]] * count, ids, pool, queries)


@pytest.mark.parametrize("method", HEURISTICS)
def test_every_method_gives_different_examples_of_its_scope_and_grows_by_shots(method):
    choices = many(5)
    two, four = choose(method, choices, 2, seed=3), choose(method, choices, 4, seed=3)
    scope = set(choices.pool_ids if method.endswith("_pool") else choices.candidate_ids[0])
    for short, long in zip(two, four, strict=True):
        assert len(set(long)) == 4 and set(long) <= scope
        assert long[-2:] == short  # the first choices stay next to the query


def test_random_draws_by_query_and_seed_alone():
    together = choose("random", many(6), 3, seed=1)
    alone = many(6)
    alone.query_ids, alone.candidate_ids = alone.query_ids[4:5], alone.candidate_ids[4:5]
    assert choose("random", alone, 3, seed=1) == together[4:5]
    assert choose("random", many(6), 3, seed=2) != together
    assert len({tuple(ids) for ids in together}) > 1


def test_random_over_the_pool_never_shows_a_query_itself():
    ids = ["a", "b"]
    choices = Choices(["a"], [["b"]], ids)
    assert choose("random_pool", choices, 1, seed=0) == [["b"]]


def test_mix_draws_its_sources_in_their_shares():
    choices = many(2000)
    firsts = [ids[-1] for ids in choose("mix", choices, 1, seed=0)]
    best = {kind: choose(kind, choices, 1, seed=0)[0][0] for kind in ("text_sim", "image_sim")}
    share = SAMPLERS["mix"]["random"] / 12  # what falls on any one candidate by chance
    for kind, identifier in best.items():
        assert firsts.count(identifier) / 2000 == pytest.approx(SAMPLERS["mix"][kind] + share, abs=0.03)


def test_more_shots_than_examples_are_refused(choices):
    with pytest.raises(ValueError, match="shots holds 4, but a query has 3 candidates"):
        choose("random", choices, 4, seed=0)
    assert len(choose("random_pool", choices, 4, seed=0)[0]) == 4  # of the five examples of the pool
    with pytest.raises(ValueError, match="shots holds 6, but a query has 5 examples of the pool"):
        choose("random_pool", choices, 6, seed=0)


def test_another_order_is_of_the_same_demonstrations_and_never_the_same():
    query_ids = [f"q{number}" for number in range(30)]
    chosen = [["a", "b"], ["a"], []] + [["a", "b", "c"]] * 27
    found = reordered(query_ids, chosen, 20, seed=0)
    assert found[:3] == [["b", "a"], None, None] and found[20:] == [None] * 10
    assert all(sorted(order) == ["a", "b", "c"] and order != ["a", "b", "c"] for order in found[3:20])
    assert len({tuple(order) for order in found[3:20]}) == 5  # every other order comes up
    assert reordered(query_ids[7:8], chosen[7:8], 5, seed=0) == found[7:8]
    assert reordered(query_ids, chosen, 20, seed=1) != found
    assert reordered(query_ids, chosen, 0, seed=0) == [None] * 30


def ledger(rows):
    names = ("query_id", "demonstration_ids", "answer_logprob", "num_answer_tokens")
    table = [{"split": "test", "accuracy": None, **dict(zip(names, row, strict=True))} for row in rows]
    return Dataset.from_list(table, features=LEDGER)


def test_the_oracle_takes_the_best_sequence_of_its_length():
    table = ledger(
        [
            ("q", [], -6.0, 2),
            ("q", ["a"], -1.0, 2),
            ("q", ["b"], -3.0, 2),
            ("q", ["b", "a"], -0.5, 2),
            ("q", ["a", "b"], -0.2, 2),
        ]
    )
    assert oracle(table, ["q"], 1, "prob") == [["a"]]
    assert oracle(table, ["q"], 2, "prob") == [["a", "b"]]
    with pytest.raises(ValueError, match="no sequences of 3 demonstrations for 1 queries"):
        oracle(table, ["q"], 3, "prob")


def test_the_oracle_chooses_on_the_scale_of_the_search():
    table = ledger([("q", [], -6.0, 2), ("q", ["a"], -1.0, 2), ("q", ["b"], -3.0, 2), ("q", ["c"], -4.0, 2)])
    with pytest.raises(ValueError, match="Search beams with `score: metric`"):
        oracle(table, ["q"], 1, "metric")
    said = table.remove_columns("accuracy").add_column("accuracy", [0.1, 0.2, 0.9, 0.9])
    assert oracle(said, ["q"], 1, "metric") == [["b"]]  # of equal ones the first
    assert oracle(said, ["q"], 1, "prob") == [["a"]]


def test_shots_above_the_candidates_of_a_query_are_refused_by_key():
    def check(shots, methods, beams=None):
        candidate_ids = [["a", "b", "c"], ["a", "b"]]
        check_room(candidate_ids, EvaluationArguments(output_dir="o", shots=shots, methods=methods, beams=beams))

    with pytest.raises(
        ValueError, match=r"shots holds 3, but a query has 2 candidates. Lower shots, or take a larger"
    ):
        check([1, 3], ["random"])
    with pytest.raises(ValueError, match=r"or search beams with more \(num_candidates\)"):
        check([3], ["random"], "beams")
    check([1, 2], ["random"])
    check([3], ["random_pool"])
