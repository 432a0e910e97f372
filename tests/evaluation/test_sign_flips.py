# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import math
from itertools import product

import numpy as np
import pytest

from leverplus_trl.evaluation.significance import MAX_SUMS, SMALLEST_P, sign_flip_p_value


def of_all_signs(differences):
    """Share of all signs with a sum at least as far from 0."""
    signs = np.array(list(product([-1, 1], repeat=len(differences))))  # [2^N, N]
    sums = np.abs(signs @ np.abs(differences))
    return (sums >= abs(differences.sum()) - 1e-12 * np.abs(differences).sum()).mean()


def of_random_signs(differences, size=100_000):
    """The same of signs drawn at random, and the standard error of a share of them."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (size, len(differences)))
    share = (np.abs(signs @ np.abs(differences)) >= abs(differences.sum()) * (1.0 - 1e-12)).mean()
    return share, math.sqrt(share * (1.0 - share) / size)


def test_p_values_worked_by_hand():
    # Of the 8 signs of three equal differences two are as far from 0 as all plus.
    assert sign_flip_p_value(np.array([1.0, 1.0, 1.0, 0.0])) == pytest.approx(0.25, abs=1e-12)
    # |1 + 0.5 + 0.25| is reached by two of 8, |1 + 0.5 - 0.25| by four.
    assert sign_flip_p_value(np.array([1.0, 0.5, -0.25])) == pytest.approx(0.5, abs=1e-12)
    assert sign_flip_p_value(1e-9 * np.array([1.0, 0.5, -0.25])) == pytest.approx(0.5, abs=1e-12)
    # Four wins and no loss of ten: 2 / 2^4.
    assert sign_flip_p_value(np.array([1.0] * 4 + [0.0] * 6)) == 0.125
    # The largest decides nothing: with either sign of it, 3 - 2.5 + 2 is reached by three of 8.
    assert sign_flip_p_value(np.array([1000.0, 3.0, -2.5, 2.0])) == pytest.approx(0.375, abs=1e-12)
    assert sign_flip_p_value(np.array([1e9, 3.0, -2.5, 2.0])) == pytest.approx(0.375, abs=1e-12)
    assert sign_flip_p_value(np.zeros(3)) == sign_flip_p_value(np.array([1.0, -1.0])) == 1.0
    assert sign_flip_p_value(np.array([0.3 - 0.1, -0.2])) == 1.0  # but for the rounding of 0.3 - 0.1


@pytest.mark.parametrize(("wins", "losses", "expected"), [(5, 0, 0.0625), (6, 0, 0.03125), (1, 7, 0.0703125)])
def test_wins_and_losses_are_the_exact_test_of_mcnemar(wins, losses, expected):
    differences = np.array([1.0] * wins + [-1.0] * losses + [0.0] * 20)
    assert sign_flip_p_value(differences) == pytest.approx(expected, abs=1e-12)


KINDS = {
    "wins and losses": lambda generator, size: generator.integers(-1, 2, size).astype(float),
    "thirds of seeds": lambda generator, size: generator.integers(-6, 7, size) / 90,
    "VQA accuracy": lambda generator, size: np.subtract(*generator.choice([0.0, 0.3, 0.6, 0.9, 1.0], (2, size))),
    "any number": lambda generator, size: generator.normal(0.2, 1.0, size),
    "very unequal": lambda generator, size: 10.0 ** generator.integers(-5, 6, size) * generator.choice([-1, 1], size),
}


@pytest.mark.parametrize("size", [1, 2, 5, 9, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_p_values_are_those_of_a_list_of_all_signs(kind, size):
    for seed in range(4):
        differences = KINDS[kind](np.random.default_rng(seed), size)
        assert sign_flip_p_value(differences) == pytest.approx(of_all_signs(differences), abs=1e-12)


@pytest.mark.parametrize("size", [25, 40, 80])
@pytest.mark.parametrize("kind", KINDS)
def test_p_values_of_more_queries_are_those_of_random_signs(kind, size):
    differences = KINDS[kind](np.random.default_rng(size), size)
    share, error = of_random_signs(differences)
    assert sign_flip_p_value(differences) == pytest.approx(share, abs=4 * error + 1e-4)


def test_many_large_differences_that_are_equal_leave_it_to_the_small_ones():
    generator = np.random.default_rng(0)
    large = 1e6 * generator.choice([-1.0, 1.0], 20)
    large[:10] = -large[10:]
    differences = np.concatenate([large, generator.normal(0.4, 1.0, 30)])
    assert MAX_SUMS < 2**20
    share, error = of_random_signs(differences)
    assert sign_flip_p_value(differences) == pytest.approx(share, abs=4 * error)


def test_p_values_are_small_where_differences_are_clear():
    # 112 better and none worse: 2 / 2^112; any correction for many leaves what is given instead small.
    assert sign_flip_p_value((np.arange(300) < 112).astype(float)) == SMALLEST_P
    # 30 of 40 differences are plus: two tails of a binomial.
    mixed = np.concatenate([np.ones(30), -np.ones(10), np.zeros(260)])
    expected = 2 * sum(math.comb(40, count) for count in range(30, 41)) / 2**40
    assert sign_flip_p_value(mixed) == pytest.approx(expected, rel=1e-9)
    assert sign_flip_p_value(1 / 7 + np.arange(5000) / 1e6) == SMALLEST_P  # no common unit, and many


@pytest.mark.parametrize(
    ("size", "kind"), [(2000, "steps"), (214_354, "steps"), (2000, "any number"), (20_000, "any number")]
)
def test_p_values_of_many_queries_are_those_of_the_normal(size, kind):
    generator = np.random.default_rng(size)
    steps = np.array([0.1, 0.3, 0.6, 0.9, 1.0])
    sizes = generator.choice(steps, size) if kind == "steps" else generator.gamma(1.0, 2.0, size)
    differences = sizes * generator.choice([-1, 1], size)
    differences[: round(2.0 * math.sqrt(size))] = sizes[: round(2.0 * math.sqrt(size))]  # so that p is small
    found = sign_flip_p_value(differences)
    expected = math.erfc(abs(differences.sum()) / math.sqrt(2.0 * np.square(differences).sum()))
    assert found == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("sizes", [np.ones(60), 1.0 + 0.01 * np.arange(60)])  # equal, and all different
def test_p_values_err_as_often_as_they_say(sizes):
    generator = np.random.default_rng(5)
    found = np.array([sign_flip_p_value(sizes * generator.choice([-1, 1], 60)) for _ in range(400)])
    # One standard error of 0.05 is 0.011; equal sizes allow few sums, so that p-values come in steps.
    assert 0.01 <= np.mean(found <= 0.05) <= 0.08 and np.mean(found <= 0.5) <= 0.58
