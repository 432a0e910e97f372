# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from datasets import Dataset

from leverplus_trl.retrieval.embeddings import ExampleEmbeddings
from leverplus_trl.schema import ROLLOUTS
from leverplus_trl.selectors import SelectorProcessor
from leverplus_trl.trainer import RolloutDataset, rollout_groups


def row(query_id, candidates, sequences, logprobs=None, sources=None):
    size = len(sequences)
    numbers = dict.fromkeys(("accuracies", "gt_probs", "relevances", "answer_logprobs"), [0.5] * size)
    return {
        "query_id": query_id,
        "split": "train",
        "candidate_ids": list(candidates),
        "zero_shot_score": 0.1,
        "demonstration_ids": [list(ids) for ids in sequences],
        "sources": sources or ["random"] * size,
        "generations": [""] * size,
        "predictions": [""] * size,
        **numbers,
        "num_answer_tokens": [1] * size,
        "behaviour_logprobs": logprobs or [None] * size,
    }


def table(*rows):
    return Dataset.from_list(list(rows), features=ROLLOUTS)


TWO = table(
    row("q", "abc", ["ab", "ca", "bc"], [-1.5, None, -2.5], ["random", "beam", "sample_1.0"]),
    row("r", "dc", ["cd", "dc"], None, ["beam", "greedy"]),
)
REWARDS = [np.array([1.0, 0.0, 0.5]), np.array([0.25, 0.75])]


@pytest.mark.parametrize(
    ("insertion", "expected"),
    [
        ("left", [[[1, 0], [0, 2], [2, 1]], [[0, 1], [1, 0], [-1, -1]]]),  # the last in the prompt is chosen first
        ("right", [[[0, 1], [2, 0], [1, 2]], [[1, 0], [0, 1], [-1, -1]]]),
    ],
)
def test_groups_are_read_in_selection_order_and_padded(insertion, expected):
    groups = rollout_groups(TWO, REWARDS, insertion)
    assert groups.demonstration_positions.tolist() == expected
    assert groups.rewards.tolist() == [[1.0, 0.0, 0.5], [0.25, 0.75, 0.0]]
    assert groups.group_mask.tolist() == [[True, True, True], [True, True, False]]
    nan = torch.nan
    torch.testing.assert_close(
        groups.behaviour_logprobs, torch.tensor([[-1.5, nan, -2.5], [nan, nan, nan]]), equal_nan=True
    )
    assert groups.source_names == ["beam", "greedy", "random", "sample_1.0"]
    assert groups.sources.tolist() == [[2, 0, 3], [0, 1, -1]]
    assert groups.mean_rewards() == {"beam": 0.125, "greedy": 0.75, "random": 1.0, "sample_1.0": 0.5}


def test_with_stop_sequences_may_be_shorter():
    rollouts = table(row("q", "abc", ["", "b", "ca"]))
    groups = rollout_groups(rollouts, [np.zeros(3)], "left", stop=True, num_shots=3)
    assert groups.demonstration_positions.tolist() == [[[-1, -1, -1], [1, -1, -1], [0, 2, -1]]]


def test_a_batch_is_gathered_from_tensors():
    pool = ExampleEmbeddings(["a", "b", "c", "d"], np.eye(4, dtype=np.float32))
    queries = ExampleEmbeddings(["r", "q"], np.array([[1, 2], [3, 4]], np.float32), np.zeros((2, 1), np.float32))
    processor = SelectorProcessor(["image"], ["image"])
    groups = rollout_groups(TWO, REWARDS, "left")
    dataset = RolloutDataset(TWO["query_id"], TWO["candidate_ids"], queries, pool, processor, groups)
    batch = dataset.__getitems__([1, 0])
    assert batch["query_embeds"].tolist() == [[1, 2], [3, 4]]
    assert batch["swapped_query_embeds"].tolist() == [[3, 4], [1, 2]]
    assert batch["candidate_rows"].tolist() == [[3, 2, -1], [0, 1, 2]]
    assert batch["candidate_mask"].tolist() == [[True, True, False], [True, True, True]]
    assert batch["candidate_embeds"][0, 0].tolist() == [0, 0, 0, 1]
    assert batch["demonstration_positions"][0].tolist() == [[0, 1], [1, 0], [-1, -1]]
    assert batch["rewards"].tolist() == [[0.25, 0.75, 0.0], [1.0, 0.0, 0.5]]
    assert batch["group_mask"].tolist() == [[True, True, False], [True, True, True]]
    assert "reference_logits" not in batch
    logits = torch.arange(2 * 3 * 2 * 3).reshape(2, 3, 2, 3)
    dataset.set_reference(logits, torch.tensor([[0, 1], [1, 0]]))
    batch = dataset[1]
    assert torch.equal(batch["reference_logits"], logits[1:])
    assert batch["reference_positions"].tolist() == [[1, 0]]
    assert len(dataset) == 2 and dataset.num_shots == 2


def test_candidates_of_another_pool_are_refused():
    pool = ExampleEmbeddings(["a", "b", "c"], np.eye(3, dtype=np.float32))
    groups = rollout_groups(TWO, REWARDS, "left")
    queries = ExampleEmbeddings(["q", "r"], np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match="No embedding of the example 'd'"):
        RolloutDataset(TWO["query_id"], TWO["candidate_ids"], queries, pool, SelectorProcessor(["image"]), groups)


@pytest.mark.parametrize(
    ("sequences", "rewards", "values", "message"),
    [
        (["ab"], [1.0], {}, "'q' has 1 rollout.*num_rollouts"),
        (["ab", "ba"], [1.0, np.nan], {}, r"reward of the rollout \['b', 'a'\] of the query 'q' is nan"),
        (["ab", "ba"], [1.0, np.inf], {}, "'q' is inf"),
        (["ab", "ba"], [1.0, 1e300], {}, r"'q' is 1e\+300; a reward must be a finite number of single precision"),
        (["ab", "ba"], [1.0], {}, r"2 rollouts, but rewards of shape \(1,\)"),
        (["ab", "az"], [1.0, 0.0], {}, "holds 'z', which is not among its candidates"),
        (["abca", "ab"], [1.0, 0.0], {}, "has 4 demonstrations, but there are only 3 candidates"),
        (["ab", "aa"], [1.0, 0.0], {}, "holds a demonstration twice"),
        (["ab", "a"], [1.0, 0.0], {}, "has 1 demonstrations, but this selector always chooses 2.*stop: true"),
        (["abc", "cba"], [1.0, 0.0], {"num_shots": 2, "stop": True}, "always chooses 2 at most"),
    ],
)
def test_groups_that_teach_nothing_or_can_not_be_are_refused(sequences, rewards, values, message):
    with pytest.raises(ValueError, match=message):
        rollout_groups(table(row("q", "abc", sequences)), [np.array(rewards)], "left", **values)


@pytest.mark.parametrize("logprob", [-np.inf, np.inf, np.nan, 0.5])
def test_a_density_is_a_finite_log_probability_or_null(logprob):
    rollouts = table(row("q", "abc", ["ab", "ba"], [-1.0, logprob]))
    with pytest.raises(ValueError, match=rf"behaviour log-probability of the query 'q' is {logprob}"):
        rollout_groups(rollouts, [np.zeros(2)], "left")


def test_candidates_that_come_twice_are_refused():
    with pytest.raises(ValueError, match="query 'q' has the candidate 'b' more than once"):
        rollout_groups(table(row("q", "abb", ["ab", "ba"])), [np.zeros(2)], "left")


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="The rollouts table is empty"):
        rollout_groups(TWO.select([]), [], "left")
