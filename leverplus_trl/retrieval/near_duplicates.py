# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Near-duplicate images: the same picture, compressed again, resized, in grey, or stored in another format.

An image's signature holds the 128 x 128 lowest frequencies of its brightness (of its DCT, as perceptual hashes do) and
the mean colours of 8 x 8 cells. A frequency of amplitude c is stored as c / (|c| + t), where t is the amplitude that
compression could have made: nearly the sign of a strong frequency, nearly 0 for a weak one. Two images are near
duplicates if

    |a - b|^2 / (|a|^2 + |b|^2 + 0.02 n) <= 0.03 + 0.8 / max(8, sqrt(n))

over the n frequencies that both images show (those with three or more pixels each), and if the mean colours of no cell
differ by more than `MAX_COLOUR` of 255 (the brightness alone if one of the images is grey).

Two blank images of one colour are near duplicates. Not found are cropped, rotated and mirrored copies, and photos that
were reduced to a palette. Not seen are differences in details smaller than 1/128 of the image.

No threshold on a hash of signs separates these: by `phash` of `imagehash` with 32 x 32 bits, copies of the photo-like
pictures differ by up to 200 bits, and different pages of text by as few as 60.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image


SIDE = 256  # pixels an axis that an image is resized to
FREQUENCIES = 128
CELLS = 8
MAX_DISTANCE = 0.03
MAX_COLOUR = 20.0
#: Frequencies an axis that are compared, and the sides in cells, for images of all sizes.
_LIMITS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])
_GRIDS = np.array([1, 2, 4, 8])
_PIXELS_PER_FREQUENCY = 3
_PIXELS_PER_CELL = 16
_FLOOR = 0.02
_MAX_GREY = 8.0  # difference of channels
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ROWS = 512  # images in one matrix product, pairs in one comparison


@dataclass(frozen=True)
class Rates:
    """
    What [`near_duplicates`] finds on a reference set.

    Args:
        copies, found (`int`):
            Copies of pictures, and how many of them are found.
        pairs, false_alarms (`int`):
            Pairs of different pictures of one kind, and how many of them are taken for copies.
    """

    copies: int
    found: int
    pairs: int
    false_alarms: int

    def __str__(self) -> str:
        return (
            f"finds {self.found:,} of {self.copies:,} copies that were compressed as JPEG (quality 90, 75) or resized "
            f"(0.5 to 2 times), and takes {self.false_alarms:,} of {self.pairs:,} pairs of different pictures for "
            "copies (charts, photo-like pictures and pages of text)"
        )


#: On 100 charts, 100 photo-like pictures and 100 pages of text; a test measures it again.
MEASURED = Rates(copies=1800, found=1800, pairs=14850, false_alarms=0)


@dataclass(frozen=True)
class ImageSignatures:
    """
    What N images are compared by.

    Args:
        amplitudes (`np.ndarray` of `int8`, `[N, FREQUENCIES, FREQUENCIES]`):
            Compressed amplitudes, 127 for 1.
        limits (`np.ndarray` of `int64`, `[N, 2]`):
            Frequencies that the image is large enough to show, vertically and horizontally.
        colours (`np.ndarray` of `float32`, `[N, 3, CELLS, CELLS]`):
            Mean RGB of each cell, 0 to 255.
        grids (`np.ndarray` of `int64`, `[N]`):
            Cells an axis that are large enough to have a colour of their own.
    """

    amplitudes: np.ndarray
    limits: np.ndarray
    colours: np.ndarray
    grids: np.ndarray

    def __len__(self) -> int:
        return len(self.amplitudes)


def image_signatures(images: Iterable[Image.Image]) -> ImageSignatures:
    """
    Signatures of images, 17 kB each.

    Args:
        images (`Iterable[PIL.Image.Image]`):
            Images in mode RGB, as [`~leverplus_trl.tasks.images.decode_image`] gives them; one is in memory at a time.
    """
    rows = [_signature(image) for image in images]
    columns = zip(*rows, strict=True) if rows else [[], [], [], []]
    amplitudes, limits, colours, grids = columns
    return ImageSignatures(
        np.array(amplitudes, dtype=np.int8).reshape(-1, FREQUENCIES, FREQUENCIES),
        np.array(limits, dtype=np.int64).reshape(-1, 2),
        np.array(colours, dtype=np.float32).reshape(-1, 3, CELLS, CELLS),
        np.array(grids, dtype=np.int64),
    )


def near_duplicates(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray | None = None) -> np.ndarray:
    """
    The pairs of near duplicates among two sets of images.

    Args:
        left, right ([`ImageSignatures`]):
            Signatures of the two sets.
        pairs (`np.ndarray` of `int64`, `[P, 2]`, *optional*):
            Positions in `left` and in `right` of the pairs to compare; all pairs by default.

    Returns:
        `np.ndarray`: those that are near duplicates, sorted and without repetition.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for some in [pairs] if pairs is not None else _possible_pairs(left, right):
        chunks = (some[start : start + _ROWS] for start in range(0, len(some), _ROWS))
        found += [chunk[_same_brightness(left, right, chunk) & _same_colours(left, right, chunk)] for chunk in chunks]
    return np.unique(np.concatenate(found), axis=0)


def _signature(image: Image.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    small = np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1), dtype=np.float32)  # [3, SIDE, SIDE]
    basis = _cosines()
    amplitudes = basis @ _brightness(small) @ basis.T / SIDE  # [FREQUENCIES, FREQUENCIES], in grey levels
    amplitudes[0, 0] = 0.0
    noise = _noise(small)
    compressed = amplitudes / (np.abs(amplitudes) + noise)
    sides = np.array([image.height, image.width])
    shown = np.maximum(np.minimum(sides, 4), sides // _PIXELS_PER_FREQUENCY)
    limits = _LIMITS[np.searchsorted(_LIMITS, shown, side="right") - 1]
    grid = _GRIDS[np.searchsorted(_GRIDS, max(1, sides.min() // _PIXELS_PER_CELL), side="right") - 1]
    return np.round(127 * compressed).astype(np.int8), limits, _cells(small, CELLS), grid


def _brightness(image: np.ndarray) -> np.ndarray:
    """`[..., 3, H, W]` -> `[..., H, W]`"""
    return np.einsum("c,...chw->...hw", _LUMA, image)


def _noise(image: np.ndarray) -> float:
    """The amplitude that compression could have made. Colours, too, leave traces in the brightness."""
    brightness, colours = _brightness(image).std(), np.sqrt(image.reshape(3, -1).var(1).mean())
    return max(0.05, 0.01 * float(brightness), 0.0075 * float(colours))


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """The lowest frequencies of an orthonormal DCT-II, `[FREQUENCIES, SIDE]`."""
    frequency, place = np.arange(FREQUENCIES)[:, None], np.arange(SIDE)[None]
    cosines = np.cos(np.pi * frequency * (place + 0.5) / SIDE) * np.sqrt(np.where(frequency == 0, 1, 2) / SIDE)
    return cosines.astype(np.float32)


def _cells(image: np.ndarray, number: int) -> np.ndarray:
    """The mean colours of number x number cells: `[..., H, W]` -> `[..., number, number]`."""
    *several, height, width = image.shape
    return image.reshape(*several, number, height // number, number, width // number).mean((-3, -1))


def _possible_pairs(left: ImageSignatures, right: ImageSignatures) -> Iterator[np.ndarray]:
    """
    The pairs `[P, 2]` whose distance over the lower half of each axis' frequencies is small enough: the others make a
    distance larger, never smaller.
    """
    for limit in np.unique(left.limits, axis=0):
        rows = np.flatnonzero((left.limits == limit).all(1))
        for other in np.unique(right.limits, axis=0):
            columns = np.flatnonzero((right.limits == other).all(1))
            shown = np.minimum(limit, other)
            for begin in range(0, len(columns), _ROWS):
                block = columns[begin : begin + _ROWS]
                others, others_energy = _halves(right, block, shown)
                for start in range(0, len(rows), _ROWS):
                    mine, energy = _halves(left, rows[start : start + _ROWS], shown)
                    squares = (mine**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * mine @ others.T
                    allowed = _max_distance(shown) * (energy[:, None] + others_energy[None] + _FLOOR * shown.prod())
                    near = np.argwhere(squares <= allowed + 1e-3)  # a margin for rounding
                    yield np.stack([rows[start + near[:, 0]], block[near[:, 1]]], axis=1)


def _halves(signatures: ImageSignatures, chosen: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes of the lower half of each axis' frequencies, `[N, F]`, and the energy of all, `[N]`."""
    height, width = limit
    all_of_them = signatures.amplitudes[chosen, :height, :width].astype(np.float32) / 127
    return all_of_them[:, : -(-height // 2), : -(-width // 2)].reshape(len(chosen), -1), (all_of_them**2).sum((1, 2))


def _same_brightness(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray) -> np.ndarray:
    """Which of the pairs `[P, 2]` are near in their frequencies, `[P]`."""
    same = np.zeros(len(pairs), dtype=bool)
    limits = np.minimum(left.limits[pairs[:, 0]], right.limits[pairs[:, 1]])  # [P, 2]
    for limit in np.unique(limits, axis=0):
        chosen = np.flatnonzero((limits == limit).all(1))
        same[chosen] = _distances(left, right, pairs[chosen], limit) <= _max_distance(limit)
    return same


def _distances(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray, limit: np.ndarray) -> np.ndarray:
    height, width = limit
    mine = left.amplitudes[pairs[:, 0], :height, :width].astype(np.float32) / 127  # [P, height, width]
    others = right.amplitudes[pairs[:, 1], :height, :width].astype(np.float32) / 127
    energy = (mine**2).sum((1, 2)) + (others**2).sum((1, 2))
    return ((mine - others) ** 2).sum((1, 2)) / (energy + _FLOOR * height * width)


def _max_distance(limit: np.ndarray) -> float:
    """Small images differ more from their copies, and even more from each other."""
    return MAX_DISTANCE + 0.8 / max(8.0, float(np.sqrt(limit.prod())))


def _same_colours(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray) -> np.ndarray:
    """Which of the pairs `[P, 2]` have the same colours, `[P]`."""
    same = np.zeros(len(pairs), dtype=bool)
    mine, others = left.colours[pairs[:, 0]], right.colours[pairs[:, 1]]  # [P, 3, CELLS, CELLS]
    grids = np.minimum(left.grids[pairs[:, 0]], right.grids[pairs[:, 1]])  # [P]
    for grid in np.unique(grids):
        chosen = grids == grid
        one, other = _cells(mine[chosen], grid), _cells(others[chosen], grid)
        grey = (np.ptp(one, 1) <= _MAX_GREY).all((1, 2)) | (np.ptp(other, 1) <= _MAX_GREY).all((1, 2))
        brightness, colour = np.abs(_brightness(one - other)).max((1, 2)), np.abs(one - other).max((1, 2, 3))
        same[chosen] = np.where(grey, brightness, colour) <= MAX_COLOUR
    return same
