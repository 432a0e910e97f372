# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Intervals of means and of paired differences, the test of such differences, and the correction for many tests.

- Intervals: see `intervals.py`. Means of values outside 0..1 (CIDEr, InfoScore) have the percentile bootstrap of Efron
  (1979), with the quantiles of Hesterberg (2015): without these it is too narrow for a few dozen queries.
- Test: the two-sided randomisation test of Fisher (1935, "The Design of Experiments"). If two methods were equally
  good, each query's difference could as well have the other sign. The p-value is the share of all 2^N choices of signs
  whose sum is at least as far from 0 as the observed sum. For metrics of 0 and 1 this is the exact test of McNemar
  (1947). With several seeds the larger p-value of this test and of the interval counts.

The test decides what is called different. Tango's interval leaves 0 out a little earlier than the exact test rejects
(12 wins and 4 losses: 0.046 and 0.077). For 0/1 values, and with several seeds, the test never rejects what is inside
the interval.

The distribution of the sum is computed, not drawn, so that p-values stay exact however small they are:
- Differences that are all multiples of a unit 1/D: the characteristic function of the sum, the product of cos(t size),
  and its Fourier transform (Pagano and Tritchler 1983, "On obtaining permutation distributions in polynomial time").
- Other differences: all sums of the largest, and all sums of the rest, sorted and counted in pairs (Horowitz and Sahni
  1974). Where more than 2^13 sums are left, the transform gives those of the rest, rounded to 1/64 of their root mean
  square or less; the p-value then errs by less than a hundredth of itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
from scipy import special

from .intervals import CONFIDENCE, Steps, difference_ends, in_unit, mean_ends, spread_of_seeds


NUM_RESAMPLES = 10_000
MAX_CELLS = 4_000_000  # draws in memory at once: some 50 MB
DIGITS = 12  # the last digits of a number depend on the machine
#: As many sums of some differences are enumerated.
MAX_SUMS = 2**13
#: Largest D of a unit 1/D: VQA accuracy has 30, and the mean of its values over several seeds as many times that.
MAX_DENOMINATOR = 600
#: Largest standard deviation of a sum in units; beyond it differences are rounded.
MAX_DEVIATION = 2**15
#: No p-value is smaller: the rounding of the transform begins there.
SMALLEST_P = 1e-12
#: Sums that differ by less than this share of all sizes are equal: 0.3 - 0.1 is not 0.2.
TOLERANCE = 1e-13

Scores = Mapping[str, float | Sequence[float]]  # query id -> value, or one value a seed


@dataclass(frozen=True)
class Interval:
    """A mean with the two ends of its interval."""

    mean: float
    low: float
    high: float


def columns(interval: Interval | None, name: str, ends: str = "ci") -> dict[str, float | None]:
    """An interval as columns: `{name: mean, "ENDS_low": low, "ENDS_high": high}`, null without an interval."""
    values = vars(interval).values() if interval else (None, None, None)
    return dict(zip((name, f"{ends}_low", f"{ends}_high"), values, strict=True))


@dataclass(frozen=True)
class IntervalSettings:
    """How an evaluation makes its intervals."""

    num_resamples: int
    confidence: float
    seed: int

    def mean(self, scores: Scores) -> Interval:
        return bootstrap_mean(list(scores.values()), **asdict(self))

    def difference(self, method: Scores, baseline: Scores) -> Interval:
        return paired_difference(method, baseline, self.confidence)

    def differs(self, p_value: float) -> bool:
        """Whether a p-value is small enough to call a difference significant."""
        return p_value <= 1.0 - self.confidence


def bootstrap_mean(
    values: Sequence[float] | Sequence[Sequence[float]],
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Interval of the mean of `values`, `[N]` or `[N, S]`: N queries and S seeds. Only values outside 0..1 are
    resampled, with `num_resamples` and `seed`. Raises `ValueError` without values, for values that are not finite, and
    for settings out of range."""
    values = _table(values)  # [N, S]
    _check_confidence(confidence)
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; expected at least 1.")
    mean = fmean(values.ravel().tolist())
    if in_unit(values):
        return _interval(mean, *mean_ends(values, confidence))
    of_query = values.mean(axis=-1)  # [N]
    num_queries, ordered = len(of_query), np.sort(of_query)  # so that the order of the queries can't matter
    generator = np.random.default_rng(seed)
    chunk = max(1, MAX_CELLS // num_queries)
    means = []
    for start in range(0, num_resamples, chunk):
        rows = generator.integers(num_queries, size=(min(chunk, num_resamples - start), num_queries), dtype=np.int32)
        means.append(ordered[rows].mean(axis=1))  # [chunk]
    freedom = max(1, num_queries - 1)
    tail = special.ndtr(special.stdtrit(freedom, (1.0 - confidence) / 2.0) * math.sqrt(num_queries / freedom))
    ends = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    spread = spread_of_seeds([values], of_query, np.inf, np.inf)
    variances = np.square((ends - mean) / special.ndtri((1.0 + confidence) / 2.0))  # [2]; below and above the mean
    reach = spread.quantile(confidence) * spread.error(variances)
    return _interval(mean, mean - reach[0], mean + reach[1])


def paired_difference(method: Scores, baseline: Scores, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of the mean of `method - baseline`, paired by query. Seeds of the two methods are taken to be
    independent; their numbers may differ. Raises `ValueError` for different queries, for values that are not finite,
    and for a confidence out of range."""
    _check_confidence(confidence)
    first, second = _paired(method, baseline)
    mean = fmean((first.mean(axis=-1) - second.mean(axis=-1)).tolist())
    return _interval(mean, *difference_ends(first, second, confidence))


def paired_p_value(method: Scores, baseline: Scores) -> float:
    """Two-sided p-value of the mean difference between two methods, paired by query; raises `ValueError` for different
    queries and for values that are not finite."""
    first, second = _paired(method, baseline)
    steps = Steps(first, second)
    p_value = sign_flip_p_value(steps.differences)
    if steps.spread.of_seeds > 0.0:
        error = steps.spread.error(steps.variance(np.zeros(())))
        p_value = max(p_value, 2.0 * float(special.stdtr(steps.spread.df, -np.abs(steps.mean) / error)))
    return float(f"{p_value:.{DIGITS}g}")


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, corrected for their number (Holm 1979, "A simple sequentially rejective
    multiple test procedure"): the smallest of m counts m times, the next m - 1 times, none less than the last."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = largest
    return corrected


def interval_name(values: Sequence[float]) -> str:
    """The name of the interval that [`bootstrap_mean`] gives for one value a query."""
    values = np.asarray(values, dtype=np.float64)
    if np.isin(values, (0.0, 1.0)).all():
        return "Clopper-Pearson"
    return "Agresti-Coull, effective counts" if in_unit(values) else "percentile bootstrap over queries"


def sign_flip_p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of the mean of paired differences, `[N]`, over all choices of their signs: at least
    `SMALLEST_P`, and 1 if all are 0."""
    sizes = np.sort(np.abs(differences))[::-1]  # [N], the largest first; signs are what is flipped
    total = math.fsum(sizes)
    sizes = sizes[sizes > TOLERANCE * total]
    observed = abs(math.fsum(differences)) - TOLERANCE * total
    if observed <= 0.0:
        return 1.0
    units = _units(sizes)
    if units is not None:
        upper, shares = _upper_tail(units, np.array([round(observed / sizes[0] * units[0])])), np.ones(1)
    else:
        sums, shares, used = _sums(sizes, TOLERANCE * total)
        upper = _upper_share(sizes[used:], observed - sums, TOLERANCE * total)
    smallest = max(SMALLEST_P, 2.0 ** (1 - len(sizes)))  # all plus or all minus
    return min(1.0, max(smallest, 2.0 * math.fsum(upper * shares)))


def _sums(sizes: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, int]:
    """The distinct sums of the first numbers with every choice of signs, their shares, and how many numbers they use:
    as many as give no more than `MAX_SUMS` sums. Equal numbers have few sums."""
    sums, shares = np.zeros(1), np.ones(1)
    for used, size in enumerate(sizes):
        both = np.concatenate([sums - size, sums + size])
        _, first, place = np.unique((both / tolerance).round(), return_index=True, return_inverse=True)
        if len(first) > MAX_SUMS:
            return sums, shares, used
        sums, shares = both[first], np.bincount(place, np.tile(shares, 2) / 2.0)
    return sums, shares, len(sizes)


def _upper_share(sizes: np.ndarray, thresholds: np.ndarray, tolerance: float) -> np.ndarray:
    """For each threshold the probability that the sum of numbers with random signs is as large or larger."""
    sums, shares, used = _sums(sizes, tolerance)
    if used == len(sizes):
        tail = np.append(np.cumsum(shares[::-1])[::-1], 0.0)  # `sums` are in order
        return tail[np.searchsorted(sums, thresholds)]
    scale = max(64, 2**14 // len(sizes)) / math.sqrt(float(np.square(sizes).mean()))
    return _upper_tail((sizes * scale).round().astype(np.int64), np.ceil(thresholds * scale).astype(np.int64))


def _upper_tail(units: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """For each whole number the probability that the sum of `units` with random signs is as large or larger."""
    # Beyond 12 standard deviations lies less than exp(-72), by Hoeffding's inequality.
    reach = min(int(units.sum()), math.ceil(12.0 * _deviation(units)))
    sizes, counts = np.unique(units, return_counts=True)  # [V], [V]
    length = 1 << (2 * reach + 1).bit_length()  # so that no sum meets another, going round
    angles = 2.0 * np.pi * np.arange(length // 2 + 1) / length
    characteristic = np.ones(length // 2 + 1)
    for size, count in zip(sizes, counts, strict=True):
        characteristic *= np.cos(size * angles) ** count
    probabilities = np.roll(np.fft.irfft(characteristic, length), reach)[: 2 * reach + 1]  # of the sums -reach..reach
    tail = np.append(np.cumsum(probabilities[::-1])[::-1], 0.0)  # summed from the small end, so that little is lost
    return tail[np.clip(thresholds + reach, 0, 2 * reach + 1)]


def _deviation(units: np.ndarray) -> float:
    """Standard deviation of the sum of numbers with random signs."""
    return math.sqrt(float(np.square(units, dtype=np.float64).sum()))


def _units(sizes: np.ndarray) -> np.ndarray | None:
    """Sizes as whole numbers of the largest unit 1/D that fits them all; `None` where no unit does."""
    distinct = np.unique(sizes)
    for denominator in range(1, MAX_DENOMINATOR + 1):
        scaled = distinct * denominator
        if np.abs(scaled - scaled.round()).max() < 1e-7 and scaled.round().all():
            units = (sizes * denominator).round()
            return units.astype(np.int64) if _deviation(units) <= MAX_DEVIATION else None
    return None


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
