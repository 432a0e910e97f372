# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import numpy as np
import pytest
from scipy import special

from leverplus_trl.evaluation.intervals import clopper_pearson, difference_ends, mean_ends


def binary(count, size):
    """`count` ones of `size`, `[N, 1]`."""
    return (np.arange(size) < count).astype(float)[:, None]


def pair(wins, losses, size):
    """Two runs with so many queries on which one alone is right, `[N, 1]` each."""
    rows = np.arange(size)[:, None]
    return (rows < wins).astype(float), ((wins <= rows) & (rows < wins + losses)).astype(float)


@pytest.mark.parametrize(
    ("count", "size", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 5.
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_clopper_pearson_against_published_values(count, size, low, high):
    assert clopper_pearson(count, size) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert mean_ends(binary(count, size)) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 1.0 - 1e-7])
@pytest.mark.parametrize("size", [1, 499, 100_000])
def test_ends_at_no_and_at_all_right_have_a_closed_form(size, confidence):
    expected = 1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / size)  # none of N: (1 - p)^N is the tail
    assert clopper_pearson(0, size, confidence) == (0.0, pytest.approx(expected, rel=1e-6))
    assert clopper_pearson(size, size, confidence) == (pytest.approx(1.0 - expected, rel=1e-6), 1.0)


@pytest.mark.parametrize("size", [1, 7, 50, 300, 1000])
def test_clopper_pearson_covers_at_every_accuracy(size):
    counts = np.arange(size + 1)
    low, high = clopper_pearson(counts, size)
    accuracies = np.concatenate([[0.003, 0.01, 0.03, 0.97, 0.99, 0.997], np.linspace(0.0, 1.0, 201)])[:, None]
    below = np.where(counts > 0, special.betainc(np.maximum(counts, 1), size - counts + 1, accuracies), 1.0)
    probabilities = below - np.append(below[:, 1:], np.zeros_like(accuracies), axis=1)  # of each count
    coverage = (probabilities * ((low <= accuracies) & (accuracies <= high))).sum(axis=1)
    assert coverage.min() >= 0.95 - 1e-12


def test_a_paired_interval_against_a_published_value():
    # Fagerland, Lydersen and Laake 2014, "Recommended tests and confidence intervals for paired binomial proportions".
    assert difference_ends(*pair(1, 7, 21)) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))


@pytest.mark.parametrize("size", [10, 300])
def test_no_difference_on_any_query_has_an_interval_with_width(size):
    reach = 1.959964**2 / (size + 1.959964**2)  # where (N d)^2 = z^2 N |d| (1 - |d|)
    assert difference_ends(*pair(0, 0, size)) == (pytest.approx(-reach, rel=1e-5), pytest.approx(reach, rel=1e-5))


def test_effective_counts_are_those_of_more_queries_with_smaller_steps():
    # Five independent seeds that are right on one half of all: as 500 queries, but for what is added to them.
    generator = np.random.default_rng(0)
    values = generator.permuted(np.tile(binary(250, 500).reshape(1, 100, 5), (200, 1, 1)), axis=2)
    values = generator.permuted(values.reshape(200, 500), axis=1).reshape(200, 100, 5).mean(axis=-1, keepdims=True)
    low, high = mean_ends(values)
    assert np.mean(high - low) == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(500), rel=0.03)
    # Steps of 0.3 on three of 100 queries: more than a third of what whole steps of the same mean would allow.
    few = np.where(np.arange(100)[:, None] < 3, 0.3, 0.0)
    assert mean_ends(few)[1] > 0.3 * mean_ends(binary(3, 100))[1]


def test_seeds_that_answer_alike_are_one_seed():
    once, other = binary(30, 100), binary(50, 100)[::-1]
    same = np.tile(once, (1, 3))
    assert mean_ends(same) == pytest.approx(mean_ends(once), abs=1e-12)
    assert difference_ends(same, other) == pytest.approx(difference_ends(once, other), abs=1e-12)


def test_seeds_that_differ_widen_the_interval():
    # All seeds right on one half of the queries, or one on 45, 50 and 55 of 100 each: t with 2 degrees of freedom.
    alike = np.tile(binary(50, 100), (1, 3))
    apart = np.hstack([binary(count, 100) for count in (45, 50, 55)])
    low, high = mean_ends(apart)
    of_seeds = 4.303 * 0.05 / np.sqrt(3)
    assert high - low > mean_ends(alike)[1] - mean_ends(alike)[0]
    assert of_seeds < (high - low) / 2 < np.hypot(of_seeds, 1.96 * 0.05)
    for ends in (difference_ends(apart, binary(30, 100)), difference_ends(binary(30, 100), apart)):
        plain = difference_ends(alike, binary(30, 100))
        assert ends[1] - ends[0] > plain[1] - plain[0]


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_wrong_and_right_are_mirror_images(num_seeds):
    generator = np.random.default_rng(0)
    first, second = (generator.random((20, 50, num_seeds)) < share for share in (0.1, 0.3))
    first, second = first.astype(float), second.astype(float)
    difference = difference_ends(first, second)
    for total, one, other in (
        (1.0, mean_ends(1.0 - first), mean_ends(first)),
        (0.0, difference_ends(1.0 - first, 1.0 - second), difference),
        (0.0, difference_ends(second, first), difference),
    ):
        assert one[0] + other[1] == pytest.approx(np.full(20, total), abs=1e-9)
        assert one[1] + other[0] == pytest.approx(np.full(20, total), abs=1e-9)


def test_many_samples_at_once_are_the_same_as_one_by_one():
    generator = np.random.default_rng(1)
    first, second = generator.choice([0.0, 0.3, 1.0], (2, 4, 30, 3))
    together = mean_ends(first), difference_ends(first, second[..., :2])
    for row in range(4):
        assert np.array(mean_ends(first[row])) == pytest.approx(np.array(together[0])[:, row], abs=1e-12)
        alone = difference_ends(first[row], second[row, :, :2])
        assert np.array(alone) == pytest.approx(np.array(together[1])[:, row], abs=1e-12)
