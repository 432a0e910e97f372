# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

import math
from itertools import product

import numpy as np
import pytest

from leverplus_trl.evaluation.significance import (
    SMALLEST_P,
    bootstrap_mean,
    holm,
    paired_difference,
    paired_p_value,
)


def test_interval_of_half_right_is_that_of_the_binomial():
    # The resampled number of right answers is Binomial(100, 0.5), whose 2.5% and 97.5% quantiles are 40 and 60.
    interval = bootstrap_mean([1.0] * 50 + [0.0] * 50)
    assert interval.mean == 0.5
    assert interval.low == pytest.approx(0.40, abs=1e-12)
    assert interval.high == pytest.approx(0.60, abs=1e-12)


def test_interval_of_many_distinct_values_is_that_of_the_normal():
    values = np.random.default_rng(7).normal(3.0, 2.0, size=2_000)
    half_width = 1.96 * values.std() / math.sqrt(len(values))
    interval = bootstrap_mean(values)
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.05 * half_width)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.05 * half_width)


def test_counting_distinct_values_is_the_same_bootstrap_as_drawing_queries():
    values = np.array([0.0] * 30 + [0.3] * 15 + [0.6] * 5 + [1.0] * 10)
    drawn = np.random.default_rng(1).choice(values, size=(20_000, len(values))).mean(axis=1)
    interval = bootstrap_mean(values, num_resamples=20_000)
    assert [interval.low, interval.high] == pytest.approx(list(np.quantile(drawn, [0.025, 0.975])), abs=0.006)


def test_95_percent_intervals_cover_the_truth_95_percent_of_the_time():
    generator = np.random.default_rng(0)
    samples = generator.random((600, 150)) < 0.3
    intervals = [bootstrap_mean(sample, num_resamples=1_000) for sample in samples]
    coverage = np.mean([interval.low <= 0.3 <= interval.high for interval in intervals])
    # One standard error of the coverage is 0.009; the percentile bootstrap lies slightly under its nominal level.
    assert 0.92 <= coverage <= 0.97


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


def test_paired_differences_cover_the_truth():
    generator = np.random.default_rng(3)
    ids = [str(row) for row in range(120)]
    covered = []
    for _ in range(400):
        both = generator.random(120)
        baseline = dict(zip(ids, (both < 0.4).astype(float), strict=True))
        method = dict(zip(ids, (both < 0.55).astype(float), strict=True))
        interval = paired_difference(method, baseline, num_resamples=1_000)
        covered.append(interval.low <= 0.15 <= interval.high)
    assert 0.90 <= np.mean(covered) <= 0.98


def test_equal_values_have_an_interval_without_width():
    assert vars(bootstrap_mean([1.0] * 20)) == {"mean": 1.0, "low": 1.0, "high": 1.0}
    same = {"a": 0.3, "b": 0.9}
    assert vars(paired_difference(same, dict(same))) == {"mean": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize("values", [np.random.default_rng(2).random(50), np.arange(50) % 3 / 2.0])
def test_the_same_values_and_seed_give_the_same_interval_in_any_order(values, monkeypatch):
    whole = bootstrap_mean(values)
    assert bootstrap_mean(values[::-1]) == bootstrap_mean(values) == whole
    assert bootstrap_mean(values, 99, seed=1) != bootstrap_mean(values, 99, seed=2)
    monkeypatch.setattr("leverplus_trl.evaluation.significance.MAX_CELLS", 1_000)
    chunked = bootstrap_mean(values)
    # The generator hands out the same stream however the resamples are cut.
    assert [chunked.low, chunked.high] == pytest.approx([whole.low, whole.high], abs=1e-12)


def test_confidence_widens_the_interval():
    values = np.random.default_rng(4).random(80)
    narrow, wide = bootstrap_mean(values, confidence=0.5), bootstrap_mean(values, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([], {}, "one value a query"),
        ([[1.0, 0.0]], {}, r"shape \(1, 2\)"),
        ([1.0, float("nan")], {}, "1 of 2 are not"),
        ([1.0], {"num_resamples": 0}, "num_resamples must be at least 1; got 0"),
        ([1.0], {"confidence": 95}, "between 0 and 1, for example 0.95; got 95"),
    ],
)
def test_bad_input_is_named(values, settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, **settings)


def test_pairs_need_the_same_queries():
    with pytest.raises(ValueError, match=r"2 stand on one side only, for example \['b', 'c'\]"):
        paired_difference({"a": 1.0, "b": 0.0}, {"a": 1.0, "c": 0.0})


def test_holm_of_a_case_worked_by_hand():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1; the last may not be smaller than the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


def test_p_values_are_those_of_all_signs():
    baseline = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.5}
    # Of the 8 signs of three equal differences two are as far from 0 as all plus.
    assert paired_p_value({"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.5}, baseline) == pytest.approx(0.25, abs=1e-12)
    # |1 + 0.5 + 0.25| is reached by two of 8, |1 + 0.5 - 0.25| by four.
    distinct = {"a": 1.0, "b": 0.5, "c": -0.25, "d": 0.5}
    assert paired_p_value(distinct, baseline) == pytest.approx(0.5, abs=1e-12)
    assert paired_p_value(baseline, dict(baseline)) == 1.0
    tiny = {name: 1e-9 * value for name, value in distinct.items() if name != "d"}
    assert paired_p_value(tiny, dict.fromkeys(tiny, 0.0)) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("kind", ["thirds of seeds", "any number"])
@pytest.mark.parametrize("seed", range(4))
def test_p_values_are_those_of_a_list_of_all_signs(kind, seed):
    generator = np.random.default_rng(seed)
    differences = generator.integers(-6, 7, 12) / 90 if kind == "thirds of seeds" else generator.normal(0.2, 1.0, 12)
    signs = np.array(list(product([-1, 1], repeat=12)))  # [4096, 12]
    as_far = np.abs(signs @ np.abs(differences)) >= abs(differences.sum()) - 1e-9
    found = paired_p_value(dict(enumerate(differences)), dict.fromkeys(range(12), 0.0))
    # What is rounded may move a sum past another that is nearly as large.
    assert found == pytest.approx(as_far.mean(), abs=1e-10 if kind == "thirds of seeds" else 2e-3)


def test_p_values_are_small_where_differences_are_clear():
    baseline = {str(row): 0.0 for row in range(300)}
    # 112 better and none worse: 2 / 2^112; any correction for many leaves what is given instead small.
    better = {str(row): float(row < 112) for row in range(300)}
    assert paired_p_value(better, baseline) == SMALLEST_P
    # 30 of 40 differences are plus: two tails of a binomial.
    mixed = {str(row): 1.0 if row < 30 else -1.0 if row < 40 else 0.0 for row in range(300)}
    expected = 2 * sum(math.comb(40, count) for count in range(30, 41)) / 2**40
    assert paired_p_value(mixed, baseline) == pytest.approx(expected, rel=1e-9)
    many = {str(row): 1 / 7 + row / 1e6 for row in range(5000)}  # no common unit, and many
    assert paired_p_value(many, dict.fromkeys(many, 0.0)) == SMALLEST_P


@pytest.mark.parametrize(
    ("size", "kind"), [(2000, "steps"), (214_354, "steps"), (2000, "any number"), (20_000, "any number")]
)
def test_p_values_of_many_queries_are_those_of_the_normal(size, kind):
    generator = np.random.default_rng(size)
    steps = np.array([0.1, 0.3, 0.6, 0.9, 1.0])
    sizes = generator.choice(steps, size) if kind == "steps" else generator.gamma(1.0, 2.0, size)
    differences = sizes * generator.choice([-1, 1], size)
    differences[: round(2.0 * math.sqrt(size))] = sizes[: round(2.0 * math.sqrt(size))]  # so that p is small
    found = paired_p_value(dict(enumerate(differences)), dict.fromkeys(range(size), 0.0))
    expected = math.erfc(abs(differences.sum()) / math.sqrt(2.0 * np.square(differences).sum()))
    assert found == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("sizes", [np.ones(60), 1.0 + 0.01 * np.arange(60)])  # equal, and all different
def test_p_values_err_as_often_as_they_say(sizes):
    generator = np.random.default_rng(5)
    baseline = {str(row): 0.0 for row in range(60)}
    found = np.array(
        [
            paired_p_value(dict(zip(baseline, sizes * generator.choice([-1, 1], 60), strict=True)), baseline)
            for _ in range(400)
        ]
    )
    # One standard error of 0.05 is 0.011; equal sizes allow few sums, so that p-values come in steps.
    assert 0.01 <= np.mean(found <= 0.05) <= 0.08 and np.mean(found <= 0.5) <= 0.58
