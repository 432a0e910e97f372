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

"""Bootstrap intervals for means over queries and for paired differences between two methods on the same queries, tests
of such differences, and what to make of many tests at once.

The percentile bootstrap of Efron (1979, "Bootstrap methods: another look at the jackknife"; Efron and Tibshirani 1993,
chapter 13): draw N queries with replacement from the N at hand, take the mean, repeat, and read the interval off the
quantiles of those means. Queries are what is resampled, so an interval speaks of other queries of the same kind, not
of other training seeds.

A resample's mean depends on *how often* each distinct value was drawn and on nothing else, and these counts follow a
multinomial distribution. Accuracies take few distinct values, so drawing counts instead of queries is the same
bootstrap at a fraction of the cost. Metrics with many distinct values (CIDEr) are drawn query by query. Either way the
result does not depend on the order of the queries.

Limits: where all values are equal (0 of N or N of N right) every resample is equal too and the interval has no width;
the percentile interval is a little too narrow for a few dozen queries.

A difference is tested by flipping signs (Fisher's randomisation test of paired data): if two methods were equally
good, each query's difference could as well have had the other sign. Of many tests some come out by chance; Holm's
procedure ("A simple sequentially rejective multiple test procedure", 1979) corrects a whole table, whatever depends on
what.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np


NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
MAX_CELLS = 4_000_000  # draws in memory at once: some 50 MB
#: Largest D of a unit 1/D: VQA accuracy has 30, and the mean of its values over several seeds as many times that.
MAX_DENOMINATOR = 600
#: Largest standard deviation of a sum in units; beyond it differences are rounded.
MAX_DEVIATION = 2**15
#: A p-value below it is given as this.
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Interval:
    """A mean with the two ends of its interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float], num_resamples: int = NUM_RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """
    Percentile bootstrap interval of the mean of one value a query.

    Args:
        values (`Sequence[float]`):
            One value a query, `[N]`.
        num_resamples (`int`, *optional*, defaults to 10,000):
            Number of bootstrap resamples.
        confidence (`float`, *optional*, defaults to 0.95):
            Share of the resampled means that the interval holds.
        seed (`int`, *optional*, defaults to 0):
            Seed of the resampling: the same values and seed give the same interval.

    Raises:
        `ValueError`: no values, values that are not finite, or settings out of range.
    """
    values = np.asarray(values, dtype=np.float64)  # [N]
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"A bootstrap needs one value a query, in a flat list; got the shape {values.shape}.")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"A bootstrap needs finite values; {bad} of {values.size} are not.")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1; got {num_resamples}.")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, for example 0.95; got {confidence}.")
    distinct, counts = np.unique(values, return_counts=True)  # [V], [V]
    repetitive = distinct.size < values.size / 4  # else drawing the values themselves is several times faster
    ordered = np.sort(values)  # [N]; so that the order of the queries can't matter
    generator = np.random.default_rng(seed)
    chunk = max(1, MAX_CELLS // (distinct.size if repetitive else values.size))
    means = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        if repetitive:
            drawn = generator.multinomial(values.size, counts / values.size, size=size)  # [chunk, V]
            means.append(drawn @ distinct / values.size)  # [chunk]
        else:
            rows = generator.integers(values.size, size=(size, values.size), dtype=np.int32)  # [chunk, N]
            means.append(ordered[rows].mean(axis=1))  # [chunk]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return Interval(fmean(values.tolist()), float(low), float(high))


def paired_difference(
    method: Mapping[str, float],
    baseline: Mapping[str, float],
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """
    Percentile bootstrap interval of the mean difference between two methods on the same queries.

    Each query keeps its own difference while queries are resampled, so what makes a query easy or hard for both
    cancels.

    Args:
        method (`Mapping[str, float]`):
            Query id to value.
        baseline (`Mapping[str, float]`):
            Query id to value, of exactly the same queries. The difference is `method - baseline`.
        num_resamples (`int`, *optional*, defaults to 10,000):
            Number of bootstrap resamples.
        confidence (`float`, *optional*, defaults to 0.95):
            Share of the resampled means that the interval holds.
        seed (`int`, *optional*, defaults to 0):
            Seed of the resampling.

    Raises:
        `ValueError`: the two do not hold the same queries.
    """
    if method.keys() != baseline.keys():
        unpaired = sorted(method.keys() ^ baseline.keys())
        raise ValueError(
            f"A paired difference needs the same queries on both sides; {len(unpaired)} stand on one side only, "
            f"for example {unpaired[:3]}. Answer the same queries with both methods."
        )
    differences = [method[query_id] - baseline[query_id] for query_id in method]
    return bootstrap_mean(differences, num_resamples, confidence, seed)


def paired_p_value(method: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """
    Two-sided sign-flipping test of the mean difference between two methods on the same queries, over all 2^N signs.

    The distribution of the sum is computed, not drawn, so that small p-values survive the correction for many: its
    characteristic function is the product of cos(t size) over the differences' sizes, and a Fourier transform makes
    probabilities of that (Pagano and Tritchler 1983, "On obtaining permutation distributions in polynomial time").
    Sizes are counted in units of 1/D, exactly, where they are multiples of it for a D up to `MAX_DENOMINATOR`, as
    those of most metrics are; else their root mean square is 64 units, or more where there are few. Nothing is said
    below `SMALLEST_P`, where the transform's rounding begins. Differences of less than half a unit count as none,
    which matters only beside others that are thousands of times as large.

    Args:
        method (`Mapping[str, float]`):
            Query id to value.
        baseline (`Mapping[str, float]`):
            Query id to value, of exactly the same queries.

    Returns:
        `float`: probability of a mean at least as far from 0, if each difference could as well have the other sign.
    """
    differences = np.array([method[query_id] - baseline[query_id] for query_id in method], dtype=np.float64)
    differences = differences[np.abs(differences) > 1e-12]
    units = _units(differences)  # [N], whole numbers
    observed, total = abs(int(units.sum())), int(np.abs(units).sum())
    if observed == 0:
        return 1.0
    smallest = max(SMALLEST_P, 2.0 ** (1 - len(units)))  # all plus or all minus
    deviation = _deviation(units)
    if observed > 12.0 * deviation:  # less than 2 exp(-72), by Hoeffding's inequality
        return smallest
    reach = min(total, observed + math.ceil(10.0 * deviation))  # sums beyond it are as rare
    sizes, counts = np.unique(np.abs(units), return_counts=True)  # [V], [V]
    length = 1 << (2 * reach + 1).bit_length()  # so that no sum meets another, going round
    angles = 2.0 * np.pi * np.arange(length // 2 + 1) / length
    characteristic = np.ones(length // 2 + 1)
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(size * angles) ** count
    probabilities = np.fft.irfft(characteristic, length)  # of the sums 0, 1, 2, ...
    return float(min(1.0, max(smallest, 2.0 * probabilities[observed : reach + 1].sum())))


def _deviation(units: np.ndarray) -> float:
    """Standard deviation of the sum of numbers with random signs."""
    return math.sqrt(float(np.square(units, dtype=np.float64).sum()))


def _units(differences: np.ndarray) -> np.ndarray:
    """Differences as whole numbers of the largest unit 1/D that fits them, or of a small part of what is usual."""
    distinct = np.unique(differences)
    for denominator in range(1, MAX_DENOMINATOR + 1):
        scaled = distinct * denominator
        if np.abs(scaled - scaled.round()).max(initial=0.0) < 1e-7 and scaled.round().all():
            units = (differences * denominator).round()
            if _deviation(units) <= MAX_DEVIATION:
                return units.astype(np.int64)
            break
    scale = max(64, 2**14 // len(differences)) / math.sqrt(np.square(differences).mean())
    return (differences * scale).round().astype(np.int64)


def holm(p_values: Sequence[float]) -> list[float]:
    """
    p-values corrected for being many: the smallest counts times their number m, the next times m - 1, and so on, and
    none is smaller than one before it.

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
