# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import pytest

from leverplus_trl.rollouts.rollout_table import describe, summarize_rollouts


def row(sequences, proposals):
    """`sequences`: {ids: (accuracy, gt_prob)}."""
    return {
        "demonstration_ids": [list(ids) for ids in sequences],
        "accuracies": [accuracy for accuracy, _ in sequences.values()],
        "gt_probs": [probability for _, probability in sequences.values()],
        "proposals": [{"source": source, "demonstration_ids": list(ids)} for source, ids in proposals],
    }


ROWS = [
    # the greedy choice is wrong, a sample repeats it, a beam is right
    row(
        {"ab": (0.0, 0.1), "cd": (1.0, 0.8)},
        [("greedy", "ab"), ("beam", "cd"), ("beam", "ab"), ("sample_1.0", "ab"), ("sample_1.0", "ab")],
    ),
    # all are right, and only the probabilities differ
    row({"ab": (1.0, 0.7), "dc": (1.0, 0.9)}, [("greedy", "ab"), ("beam", "ab"), ("sample_1.0", "dc")]),
    row({"ab": (0.0, 0.3), "dc": (0.0, 0.3)}, [("greedy", "ab"), ("beam", "dc"), ("sample_1.0", "ab")]),
]


def test_the_numbers_by_hand():
    summary = summarize_rollouts(ROWS)
    assert summary["num_groups"] == 3 and summary["num_sequences"] == 6
    assert summary["num_groups_with_accuracy_spread"] == 1 and summary["num_groups_with_gt_prob_spread"] == 2
    assert summary["sources"]["greedy"] == {
        "num_sequences": 3,
        "mean_accuracy": pytest.approx(1 / 3),
        "best_accuracy": pytest.approx(1 / 3),
    }
    assert summary["sources"]["beam"] == {
        "num_sequences": 4,
        "mean_accuracy": pytest.approx(2 / 4),  # over all that it proposed, also where another's name stands
        "best_accuracy": pytest.approx(2 / 3),
    }
    assert summary["sources"]["sample_1.0"]["mean_accuracy"] == pytest.approx(1 / 4)
    assert summary["greedy_accuracy"] == pytest.approx(1 / 3) and summary["best_accuracy"] == pytest.approx(2 / 3)
    assert summary["head_room"] == pytest.approx(1 / 3)


def test_it_is_said_in_words():
    text = describe(summarize_rollouts(ROWS), "train")
    assert "Rollouts of 'train': 3 queries, 6 different sequences." in text
    assert "differ in accuracy: 1 (33%); in gt_prob: 2 (67%)" in text
    assert "greedy choice reaches 33.3, the best sequence of each query 66.7: the head room is 33.3 points" in text
    assert "add the reward gt_prob" not in text
    assert "add the reward gt_prob" in describe(summarize_rollouts(ROWS[1:]), "train")


def test_without_a_selector_there_is_no_head_room():
    rows = [row({"ab": (1.0, 0.5), "cd": (0.0, 0.4)}, [("beam", "ab"), ("random", "cd")])]
    summary = summarize_rollouts(rows)
    assert summary["greedy_accuracy"] is None and summary["head_room"] is None and summary["best_accuracy"] == 1.0
    assert "Without a selector" in describe(summary, "train")
