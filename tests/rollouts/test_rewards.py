# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import math

import numpy as np
import pytest
from datasets import Dataset

from leverplus_trl.metrics import METRICS
from leverplus_trl.rollouts.rewards import REWARDS, compute_rewards, load_reward
from leverplus_trl.schema import ROLLOUTS


ANSWERS = {"q1": ["dog", "dog", "puppy"], "q2": ["tolo rawa"]}


def table(**changes):
    """Two queries: three sequences (right, half right, wrong), and two (wrong, right) with no demonstrations first."""
    first = {
        "query_id": "q1",
        "split": "train",
        "candidate_ids": ["a", "b", "c"],
        "zero_shot_score": 0.25,
        "demonstration_ids": [["a", "b"], ["b"], ["c", "a"]],
        "sources": ["beam", "sample_1.0", "random"],
        "generations": ["dog\n", "puppy", "cat"],
        "predictions": ["dog", "puppy", "cat"],
        "accuracies": [1.0, 0.3, 0.0],
        "gt_probs": [0.9, 0.5, 0.1],
        "relevances": [1.0, 1.0, 0.2],
        "answer_logprobs": [math.log(0.81), math.log(0.25), math.log(0.01)],
        "num_answer_tokens": [2, 2, 2],
        "behaviour_logprobs": [None, -1.5, -2.0],
    }
    second = {
        **first,
        "query_id": "q2",
        "zero_shot_score": 0.5,
        "demonstration_ids": [[], ["a"]],
        "sources": ["zero_shot", "random"],
        "generations": ["it is tolo", "it is tolo rawa"],
        "predictions": ["it is tolo", "it is tolo rawa"],
        "accuracies": [0.0, 1.0],
        "gt_probs": [0.4, 0.6],
        "relevances": [0.6, 0.9],
        "answer_logprobs": [math.log(0.5), math.log(0.8)],
        "num_answer_tokens": [1, 1],
        "behaviour_logprobs": [None, -1.0],
    }
    return Dataset.from_list([{**first, **changes}, second], features=ROLLOUTS)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("accuracy", [1.0, 0.3, 0.0], [0.0, 1.0]),
        ("correct", [1.0, 1.0, 0.0], [0.0, 1.0]),
        ("hard_plus_soft", [2.0, 1.3, 0.0], [0.0, 2.0]),
        ("separated", [2.0, 1.3, 0.1], [0.4, 2.0]),
        ("gt_prob", [0.9, 0.5, 0.1], [0.4, 0.6]),
        ("relevance_if_wrong", [0.0, 0.0, 0.2], [0.6, 0.0]),
        ("info_score", [0.9 - 0.25, 0.5 - 0.25, 0.1 - 0.25], [0.0, 0.3]),
        ("exact_match", [1.0, 1.0, 0.0], [0.0, 0.0]),
        ("cover_exact_match", [1.0, 1.0, 0.0], [0.0, 1.0]),
        ("token_f1", [1.0, 1.0, 0.0], [2 / 5, 4 / 6]),
        ("num_demonstrations", [-2.0, -1.0, -2.0], [0.0, -1.0]),
    ],
)
def test_every_reward_by_hand(name, first, second):
    found = compute_rewards(table(), ANSWERS, [name])
    assert [group.tolist() for group in found] == [pytest.approx(first), pytest.approx(second)]


def test_all_rewards_are_tried_above():
    tried = test_every_reward_by_hand.pytestmark[0].args[1]
    assert {case[0] for case in tried} == set(REWARDS)


def test_rewards_are_added_with_their_weights():
    found = compute_rewards(table(), ANSWERS, ["accuracy", "num_demonstrations"], [2.0, 0.05])
    assert found[0].tolist() == pytest.approx([1.9, 0.55, -0.1])
    assert found[1].tolist() == pytest.approx([0.0, 1.95])
    assert compute_rewards(table(), ANSWERS, ["accuracy", "correct"])[0].tolist() == pytest.approx([2.0, 1.3, 0.0])


def test_info_score_on_the_scale_of_logarithms():
    found = compute_rewards(table(zero_shot_score=-1.0), ANSWERS, ["info_score"], score="logprob")
    assert found[0].tolist() == pytest.approx([math.log(0.9) + 1, math.log(0.5) + 1, math.log(0.1) + 1])


def test_info_score_on_the_scale_of_the_metric_is_accuracy_minus_that_of_the_zero_shot_prompt():
    found = compute_rewards(table(zero_shot_score=0.3), ANSWERS, ["info_score"], score="metric")
    assert [group.tolist() for group in found] == [pytest.approx([0.7, 0.0, -0.3]), pytest.approx([-0.5, 0.5])]


def test_rewards_with_the_name_of_a_metric_are_that_metric():
    said = {"q1": ["It's two dogs.", "2 dogs", "the dog-house"], "q2": ["a tolo", "tolo rawa!"]}
    right = {"q1": ["two dogs", "dog house"], "q2": ["tolo rawa"]}
    rows = [{**row, "predictions": said[row["query_id"]]} for row in table()]
    changed = Dataset.from_list(rows, features=ROLLOUTS)
    for name in ("exact_match", "cover_exact_match", "token_f1"):
        found = compute_rewards(changed, right, [name])
        expected = [
            [METRICS[name].function(one, right[row["query_id"]]) for one in row["predictions"]] for row in rows
        ]
        assert [group.tolist() for group in found] == expected


def own_reward(*, sources, behaviour_logprobs, query_ids, splits, generations, demonstration_ids, **columns):
    assert set(splits) == {"train"} and len(generations) == len(demonstration_ids) == len(query_ids) == 5
    drawn = ~np.isnan(behaviour_logprobs)
    return [float(source == "random") + 10 * own for source, own in zip(sources, drawn, strict=True)]


def test_a_reward_of_the_users_own_gets_every_column(monkeypatch):
    monkeypatch.setattr("leverplus_trl.rollouts.rewards.own_reward", own_reward, raising=False)
    found = compute_rewards(table(), ANSWERS, ["leverplus_trl.rollouts.rewards:own_reward"])
    assert [group.tolist() for group in found] == [[0.0, 10.0, 11.0], [0.0, 11.0]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "acuracy",
            r"Unknown reward 'acuracy'. Expected one of accuracy, .*token_f1, num_demonstrations, or the",
        ),
        ("no.such.module:reward", "can't be imported .*No module named 'no'"),
        ("math:no_such", "can't be imported .*no_such"),
        ("math:pi", "is 3.14.*, which is not a function"),
    ],
)
def test_an_unknown_reward_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        load_reward(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward_funcs": []}, "reward_funcs is empty"),
        ({"reward_weights": [1.0, 2.0]}, r"2 reward_weights \(\[1.0, 2.0\]\) for 1 reward_funcs"),
        ({"reward_weights": [float("nan")]}, "expected finite numbers"),
        ({"score": "cider"}, "score is 'cider'"),
        ({"answers": {"q1": ["dog"]}}, "1 of 2 queries of the rollouts have no answers, e.g. 'q2'"),
        ({"answers": {**ANSWERS, "q1": []}}, "e.g. 'q1'"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        compute_rewards(**{"rollouts": table(), "answers": ANSWERS, "reward_funcs": ["accuracy"], **arguments})


@pytest.mark.parametrize("reward", ["gt_prob", "correct", "num_demonstrations"])
@pytest.mark.parametrize("name", ["gt_probs", "accuracies", "answer_logprobs"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_measure_that_is_no_number_is_refused_whoever_reads_it(bad, name, reward):
    with pytest.raises(ValueError, match=rf"{name} of the rollout \['b'\] of the query 'q1' is (nan|inf) \(1 such"):
        compute_rewards(table(**{name: [0.5, bad, 0.1]}), ANSWERS, [reward])


def test_a_reward_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setitem(REWARDS, "mine", lambda accuracies, **columns: np.log(accuracies - 0.3))
    with pytest.raises(ValueError, match=r"reward 'mine' is -inf for query 'q1' \(3 such"), np.errstate(all="ignore"):
        compute_rewards(table(), ANSWERS, ["mine"])
    with pytest.raises(ValueError, match=r"behaviour_logprobs of the rollout \['b'\] of the query 'q1' is -inf"):
        compute_rewards(table(behaviour_logprobs=[None, -math.inf, -2.0]), ANSWERS, ["accuracy"])


def test_a_damaged_table_is_refused():
    with pytest.raises(ValueError, match="query 'q1' hold 3 sequences, but 2 accuracies"):
        compute_rewards(table(accuracies=[1.0, 0.0]), ANSWERS, ["accuracy"])


def test_a_reward_of_the_wrong_length_is_refused(monkeypatch):
    monkeypatch.setitem(REWARDS, "short", lambda **columns: np.zeros(2))
    with pytest.raises(ValueError, match=r"'short' gave values of shape \[2\]; expected one number for each of 5"):
        compute_rewards(table(), ANSWERS, ["short"])


def test_an_empty_table_has_no_rewards():
    assert compute_rewards(table().select([]), ANSWERS, ["accuracy", "token_f1"]) == []
