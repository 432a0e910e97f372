# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import math

import numpy as np
import pytest

from leverplus_trl.evaluation.intervals import difference_ends, mean_ends
from leverplus_trl.evaluation.significance import (
    bootstrap_mean,
    holm,
    interval_name,
    paired_difference,
    paired_p_value,
    sign_flip_p_value,
)


def wins_and_losses(wins, losses, size):
    """Two methods by query, of which each alone is right so often."""
    method = {str(row): float(row < wins) for row in range(size)}
    return method, {str(row): float(wins <= row < wins + losses) for row in range(size)}


def by_query(table):
    return {str(row): list(values) for row, values in enumerate(table)}


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 0.0122), (300, 0.9878, 1.0)])
def test_none_and_all_right_have_an_interval_with_width(count, low, high):
    interval = bootstrap_mean([1.0] * count + [0.0] * (300 - count))
    assert interval.mean == count / 300
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_intervals_are_those_of_their_values():
    thirds = [0.0, 1.0, 0.3, 0.6] * 10
    assert vars(bootstrap_mean(thirds)) == pytest.approx(
        {"mean": 0.475, **dict(zip(("low", "high"), mean_ends(np.array(thirds)[:, None]), strict=True))}
    )
    assert interval_name([0.0, 1.0]) == "Clopper-Pearson"
    assert interval_name(thirds) == "Agresti-Coull, effective counts"
    assert interval_name([0.5, 1.2]) == "percentile bootstrap over queries"


def test_interval_of_many_distinct_values_is_that_of_the_normal():
    values = np.random.default_rng(7).normal(3.0, 2.0, size=2_000)
    half_width = 1.96 * values.std() / math.sqrt(len(values))
    interval = bootstrap_mean(values)
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.05 * half_width)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.05 * half_width)


def test_equal_values_outside_of_0_to_1_are_their_mean():
    assert vars(bootstrap_mean([4 / 3] * 3)) == pytest.approx({"mean": 4 / 3, "low": 4 / 3, "high": 4 / 3})
    interval = bootstrap_mean([4 / 3] * 3)
    assert interval.low <= interval.mean <= interval.high


def test_a_bootstrap_of_few_queries_is_as_wide_as_a_t_interval():
    values = np.random.default_rng(3).normal(3.0, 2.0, size=12)
    interval = bootstrap_mean(values)
    half_width = 2.201 * values.std(ddof=1) / math.sqrt(12)
    assert (interval.high - interval.low) / 2 == pytest.approx(half_width, rel=0.05)


def test_a_score_outside_of_0_to_1_knows_of_seeds():
    values = np.random.default_rng(5).gamma(1.0, 1.0, (60, 1)) + np.array([0.0, 0.3, 0.6])
    single, several = bootstrap_mean(values.mean(axis=1)), bootstrap_mean(values)
    assert several.mean == pytest.approx(single.mean, abs=1e-12)
    # t with little more than 2 degrees of freedom times 0.3 / sqrt(3), and what the queries vary.
    assert several.high - several.mean > 0.6 > single.high - single.mean


def test_paired_interval_is_narrower_than_the_one_of_independent_means():
    generator = np.random.default_rng(0)
    ids = [f"q{row}" for row in range(400)]
    hard = generator.random(400) < 0.5
    better = hard | (generator.random(400) < 0.1)
    baseline = dict(zip(ids, hard.astype(float), strict=True))
    method = dict(zip(reversed(ids), better[::-1].astype(float), strict=True))  # other row order, same queries
    interval = paired_difference(method, baseline)
    assert interval.mean == pytest.approx(better.mean() - hard.mean(), abs=1e-12)
    gained = better.mean() - hard.mean()
    half_width = 1.96 * math.sqrt(gained * (1 - gained) / 400)  # the differences are 0 or 1
    assert interval.low == pytest.approx(gained - half_width, abs=0.006)
    assert interval.high == pytest.approx(gained + half_width, abs=0.006)
    assert half_width < 0.5 * 1.96 * math.sqrt(0.25 / 400 * 2)


def test_methods_may_have_different_numbers_of_seeds():
    generator = np.random.default_rng(2)
    first, second = (generator.random((40, 3)) < 0.6) * 1.0, (generator.random((40, 1)) < 0.4) * 1.0
    interval = paired_difference(by_query(first), by_query(second))
    assert interval.mean == pytest.approx(first.mean() - second.mean(), abs=1e-12)
    assert (interval.low, interval.high) == pytest.approx(difference_ends(first, second), abs=1e-9)
    # One value a query and a list of one are the same.
    plain = {name: value for name, (value,) in by_query(second).items()}
    assert paired_difference(by_query(first), plain) == interval
    assert paired_p_value(by_query(first), plain) == paired_p_value(by_query(first), by_query(second))


def test_differences_of_captions_are_in_points_of_their_own():
    generator = np.random.default_rng(4)
    method, baseline = 10.0 * generator.random((2, 200, 1))
    interval = paired_difference(by_query(method), by_query(baseline))
    differences = (method - baseline)[:, 0]
    half_width = 1.972 * differences.std() / math.sqrt(200)
    assert interval.low == pytest.approx(differences.mean() - half_width, abs=0.05 * half_width)
    assert interval.high == pytest.approx(differences.mean() + half_width, abs=0.05 * half_width)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(2).random(50),
        np.arange(50) % 3,
        np.arange(50) % 2,
        np.random.default_rng(2).random((50, 3)),
        np.random.default_rng(2).normal(size=(50, 3)),
    ],
)
def test_the_order_of_the_queries_does_not_matter(values):
    assert bootstrap_mean(values[::-1]) == bootstrap_mean(values)
    one, other = by_query(values.reshape(50, -1)), by_query(values[::-1].reshape(50, -1))
    backwards = dict(reversed(one.items())), dict(reversed(other.items()))
    assert paired_difference(*backwards) == paired_difference(one, other)
    assert paired_p_value(*backwards) == paired_p_value(one, other) == paired_p_value(other, one)


def test_the_same_seed_gives_the_same_bootstrap(monkeypatch):
    values = np.random.default_rng(2).normal(size=50)
    whole = bootstrap_mean(values)
    assert bootstrap_mean(values) == whole
    assert bootstrap_mean(values, 99, seed=1) != bootstrap_mean(values, 99, seed=2)
    monkeypatch.setattr("leverplus_trl.evaluation.significance.MAX_CELLS", 1_000)
    assert bootstrap_mean(values) == whole  # the generator hands out the same stream however the resamples are cut


@pytest.mark.parametrize("values", [[0.0, 1.0, 1.0] * 20, [0.3, 1.0] * 30, [0.3, 1.7] * 30])
def test_confidence_widens_the_interval(values):
    narrow, wide = bootstrap_mean(values, confidence=0.5), bootstrap_mean(values, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    method, baseline = dict(enumerate(values)), dict(enumerate(values[::-1]))
    narrow, wide = paired_difference(method, baseline, 0.5), paired_difference(method, baseline, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([], {}, "one value a query"),
        ([[[1.0]]], {}, r"shape \(1, 1, 1\)"),
        ([1.0, float("nan")], {}, "1 of 2 are not"),
        ([[1.0, float("inf")], [0.0, 1.0]], {}, "1 of 4 are not"),
        ([1.0], {"num_resamples": 0}, "num_resamples is 0; expected at least 1"),
        ([1.0], {"confidence": 95}, "confidence is 95; expected a number between 0 and 1"),
        ([1.0], {"confidence": float("nan")}, "confidence is nan"),
    ],
)
def test_bad_input_is_named(values, settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, **settings)


@pytest.mark.parametrize("of_pair", [paired_difference, paired_p_value])
def test_pairs_need_the_same_queries_and_finite_values(of_pair):
    with pytest.raises(ValueError, match=r"2 are on one side only, for example \['b', 'c'\]"):
        of_pair({"a": 1.0, "b": 0.0}, {"a": 1.0, "c": 0.0})
    with pytest.raises(ValueError, match="1 of 4 are not"):
        of_pair({"a": 1.0, "b": float("nan")}, {"a": 1.0, "b": 0.0})
    with pytest.raises(ValueError, match="one value a query"):
        of_pair({}, {})


def test_the_p_value_of_one_seed_is_that_of_sign_flips():
    method, baseline = wins_and_losses(4, 0, 10)
    assert paired_p_value(method, baseline) == 0.125
    assert paired_p_value(baseline, dict(baseline)) == 1.0
    values = np.random.default_rng(0).random((2, 15))
    pair = dict(enumerate(values[0])), dict(enumerate(values[1]))
    assert paired_p_value(*pair) == pytest.approx(sign_flip_p_value(values[0] - values[1]), rel=1e-11)


def test_the_p_value_of_seeds_is_no_smaller_than_that_of_queries():
    # Two seeds of three are much better on every tenth query, the other is much worse: no sign of a better method.
    rows = np.arange(200)
    seeds = np.stack([rows % 10 < 8, rows % 10 < 8, rows % 10 < 4], axis=1) * 1.0
    baseline = dict.fromkeys(map(str, rows), 0.0) | {str(row): 1.0 for row in rows if row % 10 < 5}
    means = {name: np.mean(values) for name, values in by_query(seeds).items()}
    assert paired_p_value(means, baseline) < 1e-6 and 0.3 < paired_p_value(by_query(seeds), baseline) < 1.0
    # Seeds that answer alike: four queries decide, whatever a t test of them would say.
    few, none = wins_and_losses(4, 0, 10)
    assert paired_p_value({name: [value] * 3 for name, value in few.items()}, none) == 0.125


def test_the_test_never_rejects_what_is_inside_the_interval():
    # Wins and losses of one seed: the exact test rejects later than the score of Tango.
    for discordant in range(1, 60):
        for losses in range(discordant // 2 + 1):
            pair = wins_and_losses(discordant - losses, losses, 60)
            if paired_p_value(*pair) <= 0.05:
                assert paired_difference(*pair).low > 0.0, (discordant, losses)
    generator = np.random.default_rng(0)
    rejected = 0
    for _ in range(150):
        accuracies = np.clip(generator.normal([[0.62], [0.5]], 0.05, (2, 3)), 0.0, 1.0)
        first, second = (generator.random((100, 3)) < one for one in accuracies)
        pair = by_query(first * 1.0), by_query(second * 1.0)
        if paired_p_value(*pair) <= 0.05:
            rejected += 1
            interval = paired_difference(*pair)
            assert interval.low > 0.0 or interval.high < 0.0
    assert 20 < rejected < 130


def test_holm_of_a_case_worked_by_hand():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1; the last may not be smaller than the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []
