# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Ends of the intervals of means and of paired differences, for other queries and, with several seeds, other seeds.

- Mean of 0/1 values: Clopper and Pearson (1934), which covers the truth at least as often as its confidence.
- Mean of values in 0..1: Agresti and Coull (1998) for the number of 0/1 queries that would vary as much (the effective
  sample size of Korn and Graubard 1998). A bootstrap of 0 of N would have no width.
- Paired difference: the score interval of Tango (1998) for differences of -1, 0 and 1, and for other differences that
  of the number of such queries that would vary as much.
- Several seeds: the variance of the mean is that over queries, without the part that changes with the seed, plus that
  of the seeds' means (two-way random effects: Searle, Casella and McCulloch 1992; Owen and Eckles 2012). Its t
  quantile has nu V / V_seeds degrees of freedom, nu by Satterthwaite (1946). His square of that ratio covers the truth
  only 92% of the time with three seeds. With two seeds of one method this ratio may cover it only 90% of the time.

Arrays are `[..., N, S]`, N queries and S seeds, and results `[...]`, so that many samples can be simulated at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special


CONFIDENCE = 0.95
#: As many queries with a whole step (right or wrong) are added before a metric's steps are called smaller.
PRIOR_STEPS = 1.0
#: As many queries on which all seeds agree are added before seeds are called independent.
PRIOR_AGREEMENT = 0.5

Ends = tuple[np.ndarray, np.ndarray]  # low and high, `[...]`


@dataclass(frozen=True)
class Spread:
    """How far a mean over queries and seeds varies, each field `[...]`."""

    shared: np.ndarray  # share of the variance over queries that does not change with the seed; 1 for one seed
    of_seeds: np.ndarray  # variance of the mean between seeds; 0 for one seed
    df: np.ndarray  # degrees of freedom of the whole variance

    def error(self, variance: np.ndarray) -> np.ndarray:
        """Standard error of the mean, if it has this variance over queries."""
        return np.sqrt(self.shared * variance + self.of_seeds)

    def quantile(self, confidence: float) -> np.ndarray:
        """Half the width of the interval in standard errors."""
        return special.stdtrit(self.df, (1.0 + confidence) / 2.0)


def mean_ends(values: np.ndarray, confidence: float = CONFIDENCE) -> Ends:
    """The interval of the mean of values in 0..1, `[..., N, S]`."""
    of_query = values.mean(axis=-1)  # [..., N]
    mean = of_query.mean(axis=-1)
    low, high = np.where(
        np.isin(of_query, (0.0, 1.0)).all(axis=-1),
        clopper_pearson(of_query.sum(axis=-1).round(), of_query.shape[-1], confidence),
        _agresti_coull(of_query, confidence),
    )
    if values.shape[-1] > 1:
        spread = spread_of_seeds([values], of_query, of_query.shape[-1] * np.minimum(mean, 1.0 - mean), np.inf)
        normal = special.ndtri((1.0 + confidence) / 2.0)
        low = mean - spread.quantile(confidence) * spread.error(np.square((mean - low) / normal))
        high = mean + spread.quantile(confidence) * spread.error(np.square((high - mean) / normal))
    return np.maximum(low, 0.0), np.minimum(high, 1.0)


def difference_ends(first: np.ndarray, second: np.ndarray, confidence: float = CONFIDENCE) -> Ends:
    """The interval of the mean of `first - second`, paired by query: `[..., N, S]` and `[..., N, S']`."""
    steps = Steps(first, second)
    quantile = steps.spread.quantile(confidence)
    ends = []
    for side in (-1, 1):  # where the mean is just as far away as the interval reaches from there
        inside = np.zeros_like(steps.mean)
        outside = 1.1 * quantile * steps.spread.error(np.square(steps.size) / steps.effective)
        for _ in range(50):
            middle = (inside + outside) / 2.0
            beyond = middle > quantile * steps.spread.error(steps.variance(steps.mean + side * middle))
            inside, outside = np.where(beyond, inside, middle), np.where(beyond, middle, outside)
        ends.append(steps.mean + side * outside)
    if in_unit(first) and in_unit(second):
        return np.maximum(ends[0], -1.0), np.minimum(ends[1], 1.0)
    return ends[0], ends[1]


def clopper_pearson(counts: np.ndarray, num_queries: int, confidence: float = CONFIDENCE) -> Ends:
    """The exact interval of the share `counts` of `num_queries`."""
    counts = np.asarray(counts, dtype=np.float64)
    tail = (1.0 - confidence) / 2.0
    rest = num_queries - counts
    low = np.where(counts > 0, special.betaincinv(np.maximum(counts, 1.0), rest + 1.0, tail), 0.0)
    high = np.where(rest > 0, special.betaincinv(counts + 1.0, np.maximum(rest, 1.0), 1.0 - tail), 1.0)
    return low, high


def _agresti_coull(of_query: np.ndarray, confidence: float) -> Ends:
    """The interval of the mean of values in 0..1, `[..., N]`. Where few differ from 0 or 1, the variance is that of
    0/1 values: an unseen step may be a whole step."""
    num_queries = of_query.shape[-1]
    mean = of_query.mean(axis=-1)
    binomial = mean * (1.0 - mean) / num_queries
    steps = num_queries * np.minimum(mean, 1.0 - mean)
    effective = _effective(of_query.var(axis=-1) / num_queries, binomial, steps, num_queries)
    squared = special.ndtri((1.0 + confidence) / 2.0) ** 2
    total = effective + squared
    centre = (mean * effective + squared / 2.0) / total
    reach = np.sqrt(squared * centre * (1.0 - centre) / total)
    return np.maximum(centre - reach, 0.0), np.minimum(centre + reach, 1.0)


def _effective(variance: np.ndarray, whole: np.ndarray, steps: np.ndarray, num_queries: int) -> np.ndarray:
    """The number of queries with whole steps, which have the variance `whole`, that vary as much as these queries."""
    shrunk = (steps * variance + PRIOR_STEPS * whole) / (steps + PRIOR_STEPS)
    return num_queries * np.divide(whole, shrunk, out=np.ones_like(whole), where=shrunk > 0.0)


class Steps:
    """Paired differences of two methods, `[..., N, S]` and `[..., N, S']`, and the whole steps that vary as much."""

    def __init__(self, first: np.ndarray, second: np.ndarray):
        differences = first.mean(axis=-1) - second.mean(axis=-1)  # [..., N]
        largest = float(np.abs(differences).max())
        differences = np.where(np.abs(differences) < 1e-12 * largest, 0.0, differences)  # 0.3 - 0.1 is not 0.2
        self.differences, self.mean = differences, differences.mean(axis=-1)
        num_queries = differences.shape[-1]
        # Size of a whole step: 1 for values in 0..1, else the largest difference.
        self.size = 1.0 if in_unit(first) and in_unit(second) else largest or 1.0
        scaled = differences / self.size
        mean, share = scaled.mean(axis=-1), np.abs(scaled).mean(axis=-1)
        whole = (share - np.square(mean)) / num_queries
        # As many queries would vary as much if their differences were whole steps or 0; so many up, so many down.
        self.effective = _effective(scaled.var(axis=-1) / num_queries, whole, num_queries * share, num_queries)
        self.up, self.down = self.effective * (share + mean) / 2.0, self.effective * (share - mean) / 2.0
        # The variance of differences of -1, 0 and 1 follows from their shares; any other is an estimate.
        exact = np.isin(differences, (-1.0, 0.0, 1.0)).all(axis=-1)
        df = np.where(exact, np.inf, max(1, num_queries - 1))
        self.spread = spread_of_seeds([first, second], differences, np.abs(differences).sum(axis=-1) / self.size, df)

    def variance(self, difference: np.ndarray) -> np.ndarray:
        """Variance over queries if `difference` were the true mean: with the shares of steps up and down that are most
        likely then (Tango 1998)."""
        shift = np.clip(difference / self.size, -1.0, 1.0)
        linear = (2.0 * self.effective - self.up + self.down) * shift - self.up - self.down
        constant = -self.down * shift * (1.0 - shift)
        root = np.sqrt(np.maximum(np.square(linear) - 8.0 * self.effective * constant, 0.0))
        down = (root - linear) / (4.0 * self.effective)
        return np.maximum(2.0 * down + shift * (1.0 - shift), 0.0) * self.size**2 / self.effective


def spread_of_seeds(tables: Sequence[np.ndarray], of_query: np.ndarray, steps: np.ndarray, df: np.ndarray) -> Spread:
    """The spread of the mean of `of_query`, `[..., N]`: means over seeds, or differences of two such means. `tables`
    are the values of the methods, each `[..., N, S]`, `steps` the whole steps between `of_query` and equal values for
    all queries, `[...]`, and `df` the degrees of freedom of the variance over queries, `[...]`."""
    num_queries = of_query.shape[-1]
    of_seeds, squares, residual = (np.zeros(of_query.shape[:-1]) for _ in range(3))
    for table in (table for table in tables if table.shape[-1] > 1):
        num_seeds = table.shape[-1]
        seed_means = table.mean(axis=-2, keepdims=True)  # [..., 1, S]
        between = seed_means[..., 0, :].var(axis=-1, ddof=1) / num_seeds
        left = table - seed_means - table.mean(axis=-1, keepdims=True) + table.mean(axis=(-2, -1), keepdims=True)
        freedom = max(1, num_queries - 1) * (num_seeds - 1) * num_queries * num_seeds
        residual = residual + np.square(left).sum(axis=(-2, -1)) / freedom
        of_seeds = of_seeds + between
        squares = squares + np.square(between) / (num_seeds - 1)
    variance = of_query.var(axis=-1) / max(1, num_queries - 1)
    unshared = np.divide(residual, variance, out=np.zeros_like(variance), where=variance > 0.0)
    agreement = PRIOR_AGREEMENT / (steps + PRIOR_AGREEMENT)
    shared = agreement + (1.0 - agreement) * (1.0 - np.minimum(unshared, 1.0))
    whole = of_seeds * (shared * variance + of_seeds)
    freedom = np.divide(whole, squares, out=np.full(np.shape(whole), np.inf), where=squares > 0.0)
    return Spread(shared, of_seeds, np.minimum(df, freedom))


def in_unit(values: np.ndarray) -> bool:
    """Whether all values are in 0..1."""
    return bool(values.min() >= 0.0 and values.max() <= 1.0)
