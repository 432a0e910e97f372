# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest
from datasets import Dataset

from leverplus_trl.beams import ScoredPrompt, answer_score, info_score
from leverplus_trl.beams.info_score import ledger_prompts
from leverplus_trl.schema import LEDGER


def test_info_score_by_hand():
    # exp(-2/2) - exp(-6/3) = 0.36788 - 0.13534
    some, none = ScoredPrompt(-2.0, 2, 0.3), ScoredPrompt(-6.0, 3, 1.2)
    assert info_score(some, none) == pytest.approx(0.2325442, abs=1e-7)
    assert info_score(some, none, "logprob") == pytest.approx(1.0)
    assert info_score(none, some) < 0
    # by the metric the same demonstrations hurt, whatever the right answer's probability
    assert info_score(some, none, "metric") == pytest.approx(-0.9)


def test_a_metric_that_nobody_asked_for_is_not_made_up():
    assert answer_score(ScoredPrompt(-2.0, 2, 0.0), "metric") == 0.0
    with pytest.raises(ValueError, match=r"ledger has no accuracies: .*Search beams with `score: metric`"):
        answer_score(ScoredPrompt(-2.0, 2), "metric")


def test_a_table_and_its_rows_say_the_same():
    rows = [
        {"query_id": "q", "split": "train", "demonstration_ids": ids, "num_answer_tokens": 2, **values}
        for ids, values in (
            ([], {"answer_logprob": -3.0, "accuracy": None}),
            (["a"], {"answer_logprob": -1.0, "accuracy": 0.5}),
        )
    ]
    table = Dataset.from_list(rows, features=LEDGER)
    expected = [ScoredPrompt(-3.0, 2, None), ScoredPrompt(-1.0, 2, 0.5)]
    assert ledger_prompts(table) == ledger_prompts(table[:]) == [ScoredPrompt.of(row) for row in table] == expected
