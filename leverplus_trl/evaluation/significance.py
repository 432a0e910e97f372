# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Intervals of means and of paired differences, the test of such differences, and the correction for many tests.

- Intervals: those of `intervals.py`, exact where values are 0 or 1. Means of values outside 0..1 (CIDEr, InfoScore)
  have the percentile bootstrap of Efron (1979), with the quantiles of Hesterberg (2015): without these it is too
  narrow for a few dozen queries.
- Test: sign flips, exact over queries, see `sign_flips.py`. With several seeds also the test that the interval
  inverts, and the larger p-value of the two.

The test decides everywhere what is called different; an interval is its estimate. Where the two disagree, an end of
the interval is close to 0: Tango's interval leaves 0 out a little earlier than the exact test rejects (12 wins and 4
losses: 0.046 and 0.077). For 0/1 values, and wherever there are several seeds, the test never rejects what is inside
the interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy import special

from .intervals import CONFIDENCE, Steps, difference_ends, in_unit, mean_ends, spread_of_seeds
from .sign_flips import sign_flip_p_value


NUM_RESAMPLES = 10_000
MAX_CELLS = 4_000_000  # draws in memory at once: some 50 MB
#: The last digits of a number depend on the machine.
DIGITS = 12

Scores = Mapping[str, float | Sequence[float]]  # query id -> value, or one value a seed


@dataclass(frozen=True)
class Interval:
    """A mean with the two ends of its interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float] | Sequence[Sequence[float]],
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """
    Interval of a mean: exact for values of 0 and 1, by effective counts for other values in 0..1, else by bootstrap.

    Args:
        values (`Sequence[float]` or `Sequence[Sequence[float]]`):
            One value a query, `[N]`, or one a query and seed, `[N, S]`.
        num_resamples (`int`, *optional*, defaults to 10,000):
            Bootstrap resamples, for values outside 0..1.
        confidence (`float`, *optional*, defaults to 0.95):
            How often such intervals cover the truth.
        seed (`int`, *optional*, defaults to 0):
            Seed of the bootstrap: the same values and seed give the same interval.

    Raises:
        `ValueError`: no values, values that are not finite, or settings out of range.
    """
    values = _table(values)  # [N, S]
    _check_confidence(confidence)
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; expected at least 1.")
    mean = fmean(values.ravel().tolist())
    if in_unit(values):
        return _interval(mean, *mean_ends(values, confidence))
    of_query = values.mean(axis=-1)  # [N]
    ends = np.array(_percentiles(of_query, num_resamples, confidence, seed))
    spread = spread_of_seeds([values], of_query, np.inf, np.inf)
    variances = np.square((ends - mean) / special.ndtri((1.0 + confidence) / 2.0))  # [2]; below and above the mean
    reach = spread.quantile(confidence) * spread.error(variances)
    return _interval(mean, mean - reach[0], mean + reach[1])


def paired_difference(method: Scores, baseline: Scores, confidence: float = CONFIDENCE) -> Interval:
    """
    Score interval of the mean difference between two methods on the same queries.

    Each query keeps its own difference, so what makes a query easy or hard for both cancels. Seeds of the two methods
    are taken to be independent.

    Args:
        method (`Mapping[str, float | Sequence[float]]`):
            Query id to value, or to one value a seed.
        baseline (`Mapping[str, float | Sequence[float]]`):
            The same of exactly the same queries; it may have another number of seeds. The difference is
            `method - baseline`.
        confidence (`float`, *optional*, defaults to 0.95):
            How often such intervals cover the truth.

    Raises:
        `ValueError`: the two do not hold the same queries, a value is not finite, or the confidence is out of range.
    """
    _check_confidence(confidence)
    first, second = _paired(method, baseline)
    mean = fmean((first.mean(axis=-1) - second.mean(axis=-1)).tolist())
    return _interval(mean, *difference_ends(first, second, confidence))


def paired_p_value(method: Scores, baseline: Scores) -> float:
    """
    Two-sided p-value of the mean difference between two methods on the same queries.

    Args:
        method (`Mapping[str, float | Sequence[float]]`):
            Query id to value, or to one value a seed.
        baseline (`Mapping[str, float | Sequence[float]]`):
            The same of exactly the same queries.

    Returns:
        `float`: by sign flips of the queries' differences; where a method has several seeds the larger of that and of
        the p-value of the interval of [`paired_difference`], which knows of the seeds.

    Raises:
        `ValueError`: the two do not hold the same queries, or a value is not finite.
    """
    first, second = _paired(method, baseline)
    steps = Steps.of(first, second)
    p_value = sign_flip_p_value(steps.differences)
    spread = steps.spread(first, second)
    if spread.of_seeds > 0.0:
        error = spread.error(steps.variance(np.zeros(())))
        p_value = max(p_value, 2.0 * float(special.stdtr(spread.df, -np.abs(steps.mean) / error)))
    return float(f"{p_value:.{DIGITS}g}")


def holm(p_values: Sequence[float]) -> list[float]:
    """
    p-values corrected for being many (Holm 1979, "A simple sequentially rejective multiple test procedure"): the
    smallest counts times their number m, the next times m - 1, and so on, and none is smaller than one before it.

    Args:
        p_values (`Sequence[float]`):
            The p-values of one family of tests.

    Returns:
        `list[float]`: in the order they came in. Calling those of at most 0.05 significant errs with probability 0.05
        at most, in the whole family.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda position: p_values[position])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = largest
    return corrected


def interval_name(values: Sequence[float]) -> str:
    """The name of the interval that [`bootstrap_mean`] gives for one value a query."""
    values = np.asarray(values, dtype=np.float64)
    if np.isin(values, (0.0, 1.0)).all():
        return "Clopper-Pearson"
    return "Agresti-Coull, effective counts" if in_unit(values) else "percentile bootstrap over queries"


def _percentiles(of_query: np.ndarray, num_resamples: int, confidence: float, seed: int) -> tuple[float, float]:
    """Quantiles of the means of resampled queries."""
    num_queries = len(of_query)
    ordered = np.sort(of_query)  # so that the order of the queries can't matter
    generator = np.random.default_rng(seed)
    chunk = max(1, MAX_CELLS // num_queries)
    means = []
    for start in range(0, num_resamples, chunk):
        rows = generator.integers(num_queries, size=(min(chunk, num_resamples - start), num_queries), dtype=np.int32)
        means.append(ordered[rows].mean(axis=1))  # [chunk]
    freedom = max(1, num_queries - 1)
    tail = special.ndtr(special.stdtrit(freedom, (1.0 - confidence) / 2.0) * math.sqrt(num_queries / freedom))
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return float(low), float(high)


def _table(values: Sequence[float] | Sequence[Sequence[float]]) -> np.ndarray:
    """Values as `[N, S]`, in an order that does not depend on that of the queries."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim not in (1, 2) or table.size == 0:
        raise ValueError(f"An interval needs one value a query, or one a query and seed; got the shape {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError(f"An interval needs finite values; {(~np.isfinite(table)).sum()} of {table.size} are not.")
    table = table.reshape(len(table), -1)
    return table[np.lexsort(table.T)]


def _paired(method: Scores, baseline: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Both as `[N, S]` and `[N, S']`, a query a row."""
    if method.keys() != baseline.keys():
        unpaired = sorted(method.keys() ^ baseline.keys())
        raise ValueError(
            f"A paired difference needs the same queries on both sides; {len(unpaired)} are on one side only, "
            f"for example {unpaired[:3]}. Answer the same queries with both methods."
        )
    first, second = (
        np.array([side[query_id] for query_id in method], dtype=np.float64).reshape(len(method) or 1, -1)
        for side in (method, baseline)
    )
    both = _table(np.hstack([first, second]))  # [N, S + S']
    return both[:, : first.shape[1]], both[:, first.shape[1] :]


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; expected a number between 0 and 1, for example 0.95.")


def _interval(mean: float, low: np.ndarray, high: np.ndarray) -> Interval:
    low, high = (round(float(end), DIGITS) + 0.0 for end in (low, high))  # the sum turns -0.0 into 0.0
    return Interval(mean, min(low, mean), max(high, mean))
