# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import math
from collections import Counter
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
from evaluation.made_evaluations import ABOUT, answers, table

from leverplus_trl.evaluation.diagnostics import MEASURES, best_threshold, fold_of, kept_queries
from leverplus_trl.evaluation.evaluation import summarize
from leverplus_trl.evaluation.runs import read_runs
from leverplus_trl.evaluation.significance import paired_difference


IDS = [f"q{number}" for number in range(20)]


def zero_shot(accuracies, confidences):
    rows = zip(accuracies, confidences, strict=True)
    return answers("zero_shot", 0, {one: ((), "x", *row) for one, row in zip(ids(accuracies), rows, strict=True)})


def shown(accuracies, seed=0, method="selector"):
    rows = {one: (("a",), "x", float(value)) for one, value in zip(ids(accuracies), accuracies, strict=True)}
    return answers(method, 1, rows, seed)


def ids(values):
    return [f"q{number}" for number in range(len(values))]


def row(*runs, **options):
    """What the diagnostics say of the selector."""
    found = summarize(table(*runs), **ABOUT, **options)["diagnostics"]["rows"]
    return next(one for one in found if one["method"] == "selector")


#: Zero-shot is sure of the first half and right there; demonstrations are right in the second half.
SURE = [0.9 - number / 100 for number in range(10)] + [0.3 - number / 100 for number in range(10)]
ALONE, BEHIND = [1.0] * 10 + [0.0] * 10, [0.0] * 10 + [1.0] * 10


def test_confidence_that_tells_all_gains_what_the_oracle_gate_does():
    found = row(zero_shot(ALONE, SURE), shown(BEHIND))
    # From 0.5 to 1, with half of the queries kept.
    assert (found["gate_gain"], found["gate_kept_share"], found["oracle_gate_gain"]) == (0.5, 0.5, 0.5)
    expected = paired_difference(dict(enumerate([1.0] * 10 + [0.0] * 10)), dict.fromkeys(range(20), 0.0))
    assert (found["gate_ci_low"], found["gate_ci_high"]) == (expected.low, expected.high)


def test_the_interval_follows_the_settings_of_the_evaluation():
    found = row(zero_shot(ALONE, SURE), shown(BEHIND), confidence=0.5)
    expected = paired_difference(dict(enumerate([1.0] * 10 + [0.0] * 10)), dict.fromkeys(range(20), 0.0), 0.5)
    assert (found["gate_ci_low"], found["gate_ci_high"]) == (expected.low, expected.high)


def test_each_seed_is_gated_by_itself():
    # The other seed is right everywhere: nothing is kept.
    found = row(zero_shot(ALONE, SURE), shown(BEHIND), shown([1.0] * 20, seed=1))
    assert (found["gate_gain"], found["gate_kept_share"]) == (0.25, 0.25)


def test_a_query_is_gated_by_what_the_others_say():
    """The fold of q0 is {q0, q10, q11, q16}: by the other 16 queries confidence means nothing, by these four all."""
    assert [one for one in IDS if fold_of(one) == fold_of("q0")] == ["q0", "q10", "q11", "q16"]
    own = {"q0", "q10"}
    confidences = [0.9 if one in own else 0.2 + number / 100 for number, one in enumerate(IDS)]
    runs = read_runs(table(zero_shot([float(one in own) for one in IDS], confidences), shown([0.0] * 20)))
    kept = kept_queries(runs["selector", 1, 0], runs["zero_shot", 0, 0])
    assert kept == set()  # nobody else is better off alone
    everywhere = read_runs(table(zero_shot([1.0] * 20, confidences), shown([0.0] * 20)))
    kept = kept_queries(everywhere["selector", 1, 0], everywhere["zero_shot", 0, 0])
    assert own < kept


def test_where_zero_shot_is_always_better_it_is_always_kept():
    found = row(zero_shot([1.0] * 20, SURE), shown([0.25] * 20))
    assert (found["gate_gain"], found["gate_kept_share"]) == (0.75, 1.0)
    found = row(zero_shot([1.0] * 20, [0.5] * 20), shown([0.25] * 20))  # one and the same confidence
    assert (found["gate_gain"], found["gate_kept_share"]) == (0.75, 1.0)


def test_confidence_that_tells_nothing_gains_nothing():
    rows = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        alone, behind, sure = (rng.random(1000) for _ in range(3))
        alone, behind = (alone < 0.5).astype(float), (behind < 0.5).astype(float)
        rows.append(row(zero_shot(alone.tolist(), sure.tolist()), shown(behind), num_resamples=500))
    assert abs(fmean(found["gate_gain"] for found in rows)) < 0.01 and any(found["gate_kept_share"] for found in rows)
    for found in rows:
        assert abs(found["gate_gain"]) < 0.08  # what keeping everything would give by chance: 3.6 standard errors
        # A gate that knows gains wherever zero-shot alone is right: a quarter of the queries.
        assert found["oracle_gate_gain"] == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_no_gate_gains_more_than_one_that_knows(seed):
    rng = np.random.default_rng(seed)
    alone, behind = rng.choice([0.0, 0.3, 0.6, 1.0], size=(2, 60))
    sure = [None if one < 0.1 else one for one in rng.random(60).round(1)]
    found = row(zero_shot(alone.tolist(), sure), shown(behind), num_resamples=100)
    assert found["gate_gain"] <= found["oracle_gate_gain"] + 1e-12
    assert found["gate_kept_share"] <= sum(one is not None for one in sure) / 60


def test_the_order_of_the_table_does_not_matter():
    rng = np.random.default_rng(1)
    alone, behind = rng.choice([0.0, 0.3, 0.6, 1.0], size=(2, 60))
    groups = zero_shot(alone.tolist(), rng.random(60).round(1).tolist()), shown(behind)
    forward, backward = row(*groups), row(*(group[::-1] for group in groups))
    assert [forward[name] for name in MEASURES] == pytest.approx([backward[name] for name in MEASURES], abs=1e-12)
    assert forward["gate_kept_share"] > 0.0


def test_answers_without_a_confidence_are_never_kept():
    sure = [None if number in (0, 1, 12) else one for number, one in enumerate(SURE)]
    found = row(zero_shot(ALONE, sure), shown(BEHIND))
    assert (found["gate_gain"], found["gate_kept_share"]) == (0.4, 0.4)  # but for q0 and q1


def test_without_confidences_there_is_no_gate():
    assert dict.fromkeys(MEASURES).items() <= row(zero_shot(ALONE, [None] * 20), shown(BEHIND)).items()


def test_fewer_queries_than_folds_are_not_gated():
    few = zero_shot(ALONE[:4], SURE[:4]), shown(BEHIND[:4])
    assert dict.fromkeys(MEASURES).items() <= row(*few).items()
    assert row(zero_shot(ALONE[:5], SURE[:5]), shown(BEHIND[:5]))["gate_gain"] >= 0.0


def test_folds_are_the_same_everywhere_and_about_as_large():
    assert [fold_of(one) for one in IDS] == [3, 1, 0, 4, 1, 0, 0, 0, 1, 0, 3, 3, 4, 4, 0, 2, 3, 1, 4, 2]
    sizes = Counter(fold_of(f"coco-{number}") for number in range(5000))
    assert set(sizes) == set(range(5)) and all(900 < size < 1100 for size in sizes.values())


@pytest.mark.parametrize(
    ("confidences", "gains", "expected"),
    [
        ([0.2, 0.9, 0.6], [-1.0, 1.0, 1.0], 0.4),
        ([0.9, 0.8, 0.6, 0.2], [1.0, -1.0, 1.0, -1.0], 0.85),  # 0.4 is as good, and keeps more
        ([0.9, 0.8, 0.6, 0.2], [-1.0, 1.0, 0.0, 0.0], math.inf),  # so is keeping nothing
        ([0.9, 0.8], [1.0, 1.0], 0.0),  # all of them
        ([0.9, 0.9, 0.9, 0.1], [0.1, 0.2, -0.3, 0.0], math.inf),  # 0.1 + 0.2 is not 0.3
        ([0.5, 0.5], [1.0, 1.0], 0.0),  # nothing lies between
        ([0.5, 0.5], [1.0, -2.0], math.inf),
        ([0.5], [1.0], 0.0),
        ([], [], math.inf),
    ],
)
def test_thresholds_by_hand(confidences, gains, expected):
    assert best_threshold(confidences, gains) == pytest.approx(expected)


def test_thresholds_are_the_best_of_all():
    rng = np.random.default_rng(2)
    for _ in range(50):
        sure, gains = rng.integers(1, 8, 12) / 8, rng.integers(-2, 3, 12) / 2
        levels = sorted(set(sure))
        choices = [math.inf, 0.0, *((low + high) / 2 for low, high in pairwise(levels))]
        totals = {choice: gains[sure >= choice].sum() for choice in choices}
        best = max(choice for choice, total in totals.items() if total == max(totals.values()))
        assert best_threshold(sure.tolist(), gains.tolist()) == best
