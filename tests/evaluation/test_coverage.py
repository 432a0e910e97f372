# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Simulations of what intervals cover, and of how often the test errs, over a grid of accuracies, numbers of queries,
correlations and seeds.

Each query has a difficulty that runs share with probability `sqrt(correlation)`: two runs then have that correlation.
A seed moves a run's accuracy on the probit scale, by the given number of points where the accuracy is 50%.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from scipy import special

from leverplus_trl.evaluation.intervals import difference_ends, mean_ends
from leverplus_trl.evaluation.significance import paired_p_value


ACCURACIES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997)
CORRELATIONS = (0.0, 0.5, 0.9)
#: Seeds of a method, and the standard deviation between them in points at 50%.
SEEDS = ((1, 0), (3, 0), (3, 2), (3, 4), (5, 0), (5, 2), (5, 4))


@dataclass(frozen=True)
class Point:
    num_queries: int
    accuracy: float
    correlation: float
    num_seeds: int
    deviation: float


def run_accuracies(point, size, generator):
    """Accuracies of seeds whose mean is that of the point, `[size, S]`."""
    scale = point.deviation / 100.0 / (1.0 / np.sqrt(2.0 * np.pi))  # over the slope of the probit at 50%
    centre = special.ndtri(point.accuracy) * np.sqrt(1.0 + scale**2)
    return special.ndtr(centre + scale * generator.standard_normal((size, point.num_seeds)))


def answer(accuracies, point, generator, difficulties):
    """0/1 answers, `[size, N, S]`, of runs with these accuracies `[size, S]`."""
    size, num_seeds = accuracies.shape
    shape = (size, point.num_queries, num_seeds)
    own = generator.random(shape, dtype=np.float32)
    common = generator.random(shape, dtype=np.float32) < np.sqrt(point.correlation)
    return (np.where(common, difficulties, own) < accuracies[:, None, :]).astype(np.float32)


def simulate(point, size, seed=0):
    """Coverage and mean width of each kind of interval: `{kind: (coverage, width)}`."""
    generator = np.random.default_rng([seed, *(round(1000 * value) for value in vars(point).values())])
    difficulties = generator.random((size, point.num_queries, 1), dtype=np.float32)
    runs = [answer(run_accuracies(point, size, generator), point, generator, difficulties) for _ in range(2)]
    towards = 1.0 if point.accuracy < 0.5 else -1.0
    found = {"mean": (point.accuracy, mean_ends(runs[0]))}
    found["both have seeds"] = (0.0, difference_ends(*runs))
    for name, gap in (("0 points", 0.0), ("5 points", 0.05), ("15 points", 0.15)):
        other = np.full((size, 1), point.accuracy + towards * gap)
        single = answer(other, point, generator, difficulties)
        found[name] = (-towards * gap, difference_ends(runs[0], single))
    return {
        name: (float(np.mean((low <= truth + 1e-6) & (truth - 1e-6 <= high))), float(np.mean(high - low)))
        for name, (truth, (low, high)) in found.items()
    }


def report(found):
    """The grid as a table: coverage by number of queries and seeds, averaged over correlations, and the width."""
    kinds = next(iter(found.values()))
    lines = []
    for kind in kinds:
        lines.append(f"\n{kind}: coverage in % by accuracy; mean, least, mean width in points")
        lines.append(f"{'queries':>8} {'seeds':>6} {'sd':>3} " + " ".join(f"{100 * one:5.1f}" for one in ACCURACIES))
        for queries, (seeds, sd) in product(sorted({point.num_queries for point in found}), SEEDS):
            group = {
                point: one[kind]
                for point, one in found.items()
                if (point.num_queries, point.num_seeds, point.deviation) == (queries, seeds, sd)
            }
            cells = [
                np.mean([covered for point, (covered, _) in group.items() if point.accuracy == accuracy])
                for accuracy in ACCURACIES
            ]
            covered, widths = zip(*group.values(), strict=True)
            lines.append(
                f"{queries:>8} {seeds:>6} {sd:>3} "
                + " ".join(f"{100 * cell:5.1f}" for cell in cells)
                + f"  {100 * np.mean(covered):5.1f} {100 * min(covered):5.1f} {100 * np.mean(widths):6.2f}"
            )
    return "\n".join(lines)


def coverages(point, found):
    """Coverages of a point, without the mean of one seed, which is exact by itself."""
    return [covered for kind, (covered, _) in found.items() if kind != "mean" or point.num_seeds > 1]


@pytest.mark.parametrize("num_queries", [50, 300])
def test_a_few_points_are_covered(num_queries):
    grid = product((0.01, 0.1, 0.5), (0.0, 0.9), ((1, 0), (3, 4), (5, 2)))
    found = {
        point: simulate(point, 300)
        for point in (Point(num_queries, accuracy, correlation, *seeds) for accuracy, correlation, seeds in grid)
    }
    covered = np.concatenate([coverages(*one) for one in found.items()])
    # One standard error of a point is 0.013, and of the mean 0.001.
    assert covered.min() > 0.90 and 0.95 < covered.mean() < 0.98, report(found)


def test_seeds_that_differ_are_rarely_called_a_difference():
    """Two methods of three seeds each, whose true accuracies are equal and vary by 4 points between seeds."""
    point, generator = Point(300, 0.5, 0.5, 3, 4), np.random.default_rng(0)
    difficulties = generator.random((300, 300, 1), dtype=np.float32)
    runs = [answer(run_accuracies(point, 300, generator), point, generator, difficulties) for _ in range(2)]
    called = {"queries": 0, "queries and seeds": 0}
    for first, second in zip(*runs, strict=True):
        pair = [dict(enumerate(one.tolist())) for one in (first, second)]
        called["queries and seeds"] += paired_p_value(*pair) <= 0.05
        means = [{row: float(np.mean(values)) for row, values in one.items()} for one in pair]
        called["queries"] += paired_p_value(*means) <= 0.05
    assert called["queries"] > 60 and called["queries and seeds"] <= 15


@pytest.mark.slow
def test_the_grid_is_covered(capsys):
    grid = product((50, 300, 1000), ACCURACIES, CORRELATIONS, SEEDS)
    points = [Point(queries, accuracy, correlation, *seeds) for queries, accuracy, correlation, seeds in grid]
    found = {point: simulate(point, 400) for point in points}
    doubtful = sorted(points, key=lambda point: min(coverages(point, found[point])))[:40]
    for point in doubtful:  # the least of hundreds is least by chance
        again = [simulate(point, 1_000, seed) for seed in range(1, 5)]
        found[point] = {kind: np.mean([one[kind] for one in again], axis=0) for kind in again[0]}
    with capsys.disabled():
        print(report(found))
    covered = np.concatenate([coverages(*one) for one in found.items()])
    assert 0.93 <= covered.mean() <= 0.97 and covered.min() >= 0.92
