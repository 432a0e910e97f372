# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The sign-flip test: the two-sided randomisation test of paired differences (Fisher 1935, "The Design of Experiments").

If two methods were equally good, each query's difference could as well have the other sign. The p-value is the share
of all 2^N choices of signs whose sum is at least as far from 0 as the observed sum. For metrics of 0 and 1 this is the
exact test of McNemar (1947).

The distribution of the sum is computed, not drawn, so that p-values stay exact however small they are:
- Differences that are all multiples of a unit 1/D, as those of most metrics are: the characteristic function of the
  sum, the product of cos(t size), and its Fourier transform (Pagano and Tritchler 1983, "On obtaining permutation
  distributions in polynomial time").
- Other differences: all sums of the largest, and all sums of the rest, sorted and counted in pairs (Horowitz and Sahni
  1974). Where more than 2^13 sums are left, the transform gives those of the rest, rounded to 1/64 of their root mean
  square or less; the p-value then errs by less than a hundredth of itself.
"""

import math

import numpy as np


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


def sign_flip_p_value(differences: np.ndarray) -> float:
    """
    Two-sided p-value of the mean of paired differences, over all choices of their signs.

    Args:
        differences (`np.ndarray`):
            One finite number a query, `[N]`.

    Returns:
        `float`: at least `SMALLEST_P`, and 1 where no difference is left.
    """
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
    total = int(units.sum())
    # Beyond 12 standard deviations lies less than exp(-72), by Hoeffding's inequality.
    reach = min(total, math.ceil(12.0 * _deviation(units)))
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
