# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Near-duplicate images: the same picture, compressed again, resized, in grey, or stored in another format.

Two images are resized to one square, of half the pixels of the smaller image (on average of its axes), at most 362 an
axis. They are near duplicates if, in the 3 x 3 pixels around every pixel,

    mean (a - b)^2 <= 6^2 + 0.4^2 min(variance of a, variance of b)

where a and b are their grey levels (0 to 255) and each variance is that of the 5 x 5 pixels around that pixel. The
first term allows for JPEG compression, the second for resizing. So a single changed word on a page breaks the rule.
The mean colours of 8 x 8 cells may differ by `MAX_COLOUR` (they are not compared if an image is grey).

Limits: two blank images of the same colour are near duplicates. The rule misses cropped, rotated and mirrored copies,
photos that were reduced to a palette, and pairs that differ only in the colour of small marks. It takes some pages
that differ in a digit of 10 pixels for copies. A hash of the whole picture separates copies from changes less well:
with `phash` of 32 x 32 bits, copies of photos differ by up to 168 bits, and some pages with a changed word by none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter


#: Sides in pixels at which images are compared, or less for small images. Only pairs that are equal at a side are
#: compared at the next.
SIDES = (8, 32, 362)
CELLS = 8
_LADDER = np.unique(np.round(2 ** (np.arange(18) / 2)).astype(int))  # the sides of small images: 1, 2, 3, 4, 6, 8, 11
MAX_NOISE = 6.0  # grey levels
MAX_BLUR = 0.4  # fraction of the standard deviation around a pixel
MAX_COLOUR = 20.0
_MAX_GREY = 8.0  # difference of channels
_PIXELS = 2**22  # compared at once


@dataclass(frozen=True)
class Rates:
    """Detection rates of [`near_duplicates`] for copies and for pairs of different pictures."""

    copies: int
    detected: int
    pairs: int
    false_alarms: int

    def __str__(self) -> str:
        return (
            f"finds {self.detected:,} of {self.copies:,} copies that were compressed as JPEG (quality 90, 75) or "
            f"resized (0.5 to 2 times), and takes {self.false_alarms:,} of {self.pairs:,} pairs of different pictures "
            "for copies (charts, photo-like pictures, pages of text, short words on large canvases, charts that "
            "differ in one bar and pages that differ in one figure)"
        )


#: On 100 pictures of each kind; a test checks it.
MEASURED = Rates(copies=3600, detected=3600, pairs=29700, false_alarms=0)


@dataclass(frozen=True)
class ImageSignatures:
    """The compact form in which N images are compared."""

    #: Grey levels of each image by side in pixels: those of `SIDES` and the largest. The range 0 to 255 is stored as
    #: 64 to 191.5, because resizing overshoots at edges.
    brightness: Sequence[Mapping[int, np.ndarray]]
    colours: np.ndarray  #: Mean RGB of cells, 0 to 255: float32 `[N, 3, CELLS, CELLS]`.

    def __len__(self) -> int:
        return len(self.colours)


def image_signatures(images: Iterable[Image.Image]) -> ImageSignatures:
    """Signatures of images in mode RGB, which are read one at a time. A signature has up to 133 kB."""
    brightness, colours = [], []
    for image in images:
        brightness.append(_grey_levels(image))
        small = image.resize((16 * CELLS, 16 * CELLS), Image.Resampling.LANCZOS, reducing_gap=3.0)
        colours.append(_cells(np.asarray(small, dtype=np.float32).transpose(2, 0, 1), CELLS))
    return ImageSignatures(brightness, np.array(colours, dtype=np.float32).reshape(-1, 3, CELLS, CELLS))


def near_duplicates(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray) -> np.ndarray:
    """The near duplicates among `pairs` `[P, 2]` (int64) of positions in `left` and `right`, in their order."""
    left_sides = np.array([max(levels) for levels in left.brightness], dtype=int)
    right_sides = np.array([max(levels) for levels in right.brightness], dtype=int)
    for largest in SIDES:
        sides = np.minimum(np.minimum(left_sides[pairs[:, 0]], right_sides[pairs[:, 1]]), largest)  # [P]
        alike = np.zeros(len(pairs), dtype=bool)
        for side in np.unique(sides).tolist():
            chosen = np.flatnonzero(sides == side)
            for batch in np.array_split(chosen, 1 + len(chosen) * side**2 // _PIXELS):
                alike[batch] = _same_brightness(left, right, pairs[batch], side)
                if largest == SIDES[0]:
                    alike[batch] &= _same_colours(left, right, pairs[batch], side)
        pairs = pairs[alike]
    return pairs


def _grey_levels(image: Image.Image) -> dict[int, np.ndarray]:
    # At full size, an image differs too much from its compressed and resized copies.
    half = max(1.0, np.sqrt(image.height * image.width) / 2)
    own = int(_LADDER[np.searchsorted(_LADDER, half, side="right") - 1])
    grey, levels = image.convert("F"), {}
    for side in sorted({own, *(side for side in SIDES if side < own)}, reverse=True):
        grey = grey.resize((side, side), Image.Resampling.LANCZOS)
        levels[side] = np.round(64 + np.asarray(grey) / 2).clip(0, 255).astype(np.uint8)
    return levels


def _at(levels: Mapping[int, np.ndarray], side: int) -> np.ndarray:
    """Grey levels `[side, side]`, from the next larger stored side."""
    stored = 2.0 * (levels[min(larger for larger in levels if larger >= side)].astype(np.float32) - 64)
    if len(stored) == side:
        return stored
    return np.asarray(Image.fromarray(stored).resize((side, side), Image.Resampling.LANCZOS))


def _same_brightness(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray, side: int) -> np.ndarray:
    """Whether the images of each pair `[P, 2]` have the same grey levels around each pixel, `[P]`."""
    left_levels, left_variance = _with_variance(left, pairs[:, 0], side)
    right_levels, right_variance = _with_variance(right, pairs[:, 1], side)
    residual = uniform_filter((left_levels - right_levels) ** 2, (1, 3, 3), mode="nearest")  # [P, H, W]
    return (residual <= MAX_NOISE**2 + MAX_BLUR**2 * np.minimum(left_variance, right_variance)).all((1, 2))


def _with_variance(signatures: ImageSignatures, rows: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels of the images in these rows, and their variance around each pixel, `[P, H, W]`."""
    rows, places = np.unique(rows, return_inverse=True)
    images = np.stack([_at(signatures.brightness[row], side) for row in rows])
    mean, square = (uniform_filter(values, (1, 5, 5), mode="nearest") for values in (images, images**2))
    return images[places], np.maximum(0, square - mean**2)[places]


def _same_colours(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray, side: int) -> np.ndarray:
    """Whether the images of each pair `[P, 2]` have the same mean colours, or one of them is grey, `[P]`."""
    number = 2 ** int(np.log2(side))
    left_cells, right_cells = _cells(left.colours[pairs[:, 0]], number), _cells(right.colours[pairs[:, 1]], number)
    left_grey, right_grey = ((np.ptp(cells, 1) <= _MAX_GREY).all((1, 2)) for cells in (left_cells, right_cells))
    return left_grey | right_grey | (np.abs(left_cells - right_cells) <= MAX_COLOUR).all((1, 2, 3))


def _cells(colours: np.ndarray, number: int) -> np.ndarray:
    """The means of number x number cells: `[..., side, side]` -> `[..., number, number]`"""
    width = colours.shape[-1] // number
    return colours.reshape(*colours.shape[:-2], number, width, number, width).mean((-3, -1))
