# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import yaml
from transformers.trainer_utils import EvalPrediction

from leverplus_trl.selectors import GPT2SelectorConfig, PointerSelectorConfig
from leverplus_trl.selectors.base_selector_config import is_hub_id, selector_card
from leverplus_trl.trainer.model_card import measures_table
from leverplus_trl.trainer.sft_trainer import selection_metrics


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
