# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch

from leverplus_trl.retrieval import ExampleEmbeddings
from leverplus_trl.selectors import SelectorProcessor
from leverplus_trl.trainer.model_card import baseline_regrets, grpo_verdict, sft_verdict
from leverplus_trl.trainer.sft_dataset import ScoredPrefixes, SelectorDataset


NAN = float("nan")


def unit(*rows):
    table = np.array(rows, dtype=np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def two_queries(scores):
    """Queries x and y among the candidates a, b, c; questions say that x is like a and y is like b."""
    queries = ExampleEmbeddings(["x", "y"], text=unit([1, 0], [0, 1]))
    pool = ExampleEmbeddings(["a", "b", "c"], text=unit([1, 0], [0, 1], [-1, -1]))
    prefixes = torch.tensor([[[-1, -1], [0, -1]]] * 2)  # after nothing, and after a
    beams = torch.tensor([[[0, 1]]] * 2), torch.ones(2, 1)
    scored = ScoredPrefixes(prefixes, torch.tensor(scores), *beams)
    processor = SelectorProcessor(["text"], ["text"])
    return SelectorDataset(["x", "y"], [["a", "b", "c"]] * 2, queries, pool, processor, scored)


def test_baselines_lose_what_they_lose_by_hand():
    found = baseline_regrets(two_queries([[[0.5, 0.1, 0.3], [NAN, 0.4, 0.8]], [[0.0, 0.2, 0.4], [NAN, 0.3, 0.1]]]))
    # x takes a (0), then b of b and c (0.4); y takes b (0.2), then b (0); both steps count alike.
    assert found["text_sim"] == pytest.approx(((0.0 + 0.4) / 2 + (0.2 + 0.0) / 2) / 2)
    # 0.5 - 0.3, 0.8 - 0.6; 0.4 - 0.2, 0.3 - 0.2.
    assert found["random"] == pytest.approx(((0.2 + 0.2) / 2 + (0.2 + 0.1) / 2) / 2)
    assert found.keys() == {"random", "text_sim"}


def test_ending_is_nothing_that_a_baseline_chooses():
    scores = [[[0.5, 0.1, 0.3], [NAN, 0.4, 0.8]], [[0.0, 0.2, 0.4], [NAN, 0.3, 0.1]]]
    with_stop = [[[*row, 9.0] for row in of_query] for of_query in scores]
    assert baseline_regrets(two_queries(with_stop)) == baseline_regrets(two_queries(scores))


def test_a_prefix_that_was_not_expanded_counts_for_nothing():
    scores = [[[0.5, 0.1, 0.3], [NAN, NAN, NAN]], [[0.0, 0.2, 0.4], [NAN, NAN, NAN]]]
    assert baseline_regrets(two_queries(scores))["text_sim"] == pytest.approx((0.0 + 0.2) / 2)


@pytest.mark.parametrize(
    ("regret", "expected"),
    [
        (0.02, "chooses better than the best baseline, text similarity"),
        (0.09, "chooses not clearly better than the best baseline"),
        (0.30, "chooses worse than the best baseline"),
        (NAN, "chooses not clearly better than the best baseline"),
    ],
)
def test_the_selector_is_held_against_the_best_baseline(regret, expected):
    metrics = {"eval_regret": regret, "eval_regret_margin": 0.03}
    text = sft_verdict(metrics, {"random": 0.4, "text similarity": 0.1}, "validation", 50)
    assert (
        expected in text and "50 queries of 'validation'" in text and text.endswith("that of text similarity 0.100.")
    )


def test_one_query_says_nothing():
    assert "not clearly better" in sft_verdict({"eval_regret": 0.0}, {"random": 0.4}, "validation", 1)


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.05, "a gain."), (-0.05, "a loss."), (0.01, "not distinguishable from no change.")]
)
def test_offline_rl_is_held_against_its_start(gain, expected):
    metrics = {
        "eval_expected_reward_gain": gain,
        "eval_expected_reward_gain_margin": 0.02,
        "eval_sft_expected_reward": 0.9,
        "eval_expected_reward": 0.9 + gain,
    }
    text = grpo_verdict(metrics, "validation", 50)
    assert text.endswith(expected) and f"{gain:+.3f} ± 0.020" in text
