# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
import yaml
from transformers.trainer_utils import EvalPrediction

from leverplus_trl.retrieval import ExampleEmbeddings
from leverplus_trl.selectors import GPT2SelectorConfig, PointerSelectorConfig, SelectorProcessor
from leverplus_trl.selectors.base_selector_config import is_hub_id, selector_card
from leverplus_trl.trainer.model_card import baseline_regrets, grpo_verdict, measures_table, sft_verdict
from leverplus_trl.trainer.sft_dataset import ScoredPrefixes, SelectorDataset
from leverplus_trl.trainer.sft_trainer import selection_metrics


NAN = float("nan")


def test_intervals_are_those_of_the_mean_over_queries():
    rows = np.array([[0, 1], [2, 3], [4, 5]])
    found = {"rows": rows, "positions": rows, "swapped_rows": rows[::-1]}
    found |= {
        "loss": np.array([1.0, 1.0, 1.0]),
        "regret": np.array([0.0, 1.0, 2.0]),
        "recall": np.array([0.5, 0.5, 0.5]),
    }
    found["info_score"] = np.array([1.0, np.nan, np.nan])
    metrics = selection_metrics(EvalPrediction(found, None))
    assert metrics["regret"] == 1.0 and metrics["regret_margin"] == pytest.approx(1.96 / 3**0.5)  # deviation 1
    assert metrics["recall_margin"] == 0.0
    assert metrics["info_score"] == 1.0 and "info_score_margin" not in metrics  # of one query there is none
    table = measures_table({"eval_regret": 1.0, "eval_regret_margin": 1.1316, "eval_loss": 2.0}, {"eval_regret": "r"})
    assert "| r | 1.0000 ± 1.1316 |" in table and "95% interval" in table and "loss" not in table
    assert measures_table({}, {"eval_regret": "r"}) == "There were none."


@pytest.mark.parametrize("kind", [PointerSelectorConfig, GPT2SelectorConfig])
def test_a_card_has_metadata_that_the_hub_takes(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "world").mkdir(parents=True)
    made_by = {"beams": "someone/beams", "recipe": {"dataset": "data/world", "vlm": "a --- b\n---\nx: y"}}
    card = selector_card(kind(encoder="openai/clip", trained_on=made_by), {"rewards": ["accuracy"]}, {"More": "words"})
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["library_name"] == "transformers" and kind.model_type in metadata["tags"]
    assert metadata["datasets"] == ["someone/beams"]  # "data/world" looks like a name and is none while it is a folder
    for words in (
        '| rewards | ["accuracy"] |'.replace('"', "&quot;"),
        "| VLM that scored | a --- b --- x: y |",
        "## More",
    ):
        assert words in card
    assert "encoder=PATH" not in card
    assert "encoder=PATH" in selector_card(kind(encoder="/data/clip"))


def test_what_is_a_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("user/name") and is_hub_id("user/na.me-2")
    assert not any(is_hub_id(name) for name in (None, "", "name", "a/b/c", "/a/b", "./b", "a b/c", "a/b\nc"))
    (tmp_path / "user" / "name").mkdir(parents=True)
    assert not is_hub_id("user/name")


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
