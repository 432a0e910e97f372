# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Near-duplicate images: the same picture, compressed again, resized, in grey, or stored in another format.

Two images are resized to one square, of half the pixels of the smaller image (on average of its axes), at most 362 an
axis. They are near duplicates if, in the 3 x 3 pixels around every pixel,

    mean (a - b)^2 <= 6^2 + 0.4^2 min(variance of a, variance of b)

where a and b are their grey levels (0 to 255) and each variance is taken over the 5 x 5 pixels around that pixel. The
first term is what JPEG compression may change, the second what resizing may change. So a changed word breaks the rule,
however much of the page is the same. The mean colours of 8 x 8 cells may differ by `MAX_COLOUR` (not compared if one
of the images is grey).

Two blank images of one colour are near duplicates. Not found are cropped, rotated and mirrored copies, and photos that
were reduced to a palette. Changes of the colour alone of small marks are not seen, nor are some digits on large pages:
of the 45 pairs of pages that differ in one digit, all are told apart if the text is 14 pixels high on 600 x 800 or 20
on 1240 x 1754, but 2 and 10 pairs are called copies if it is 10 pixels high.

Most pairs differ at 8 x 8 pixels: 895,000 pairs take 5.7 seconds of one core, so all pairs of 5,000 and 9,000 images
about 5 minutes. A pair that differs in one figure of a page of 256 x 256 pixels or more takes 1.2 ms.

A hash of the whole picture can't do this. By `phash` of `imagehash` 4.3 with 32 x 32 bits, copies of the photo-like
pictures differ by up to 168 bits, and some pages with another figure, and some other words on a large canvas, by none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter


#: Pixels an axis that images are compared at, or fewer if an image is small. Pairs that differ at one size are not
#: compared at the next.
SIDES = (8, 32, 362)
CELLS = 8
_LADDER = np.unique(np.round(2 ** (np.arange(18) / 2)).astype(int))  # the sides of small images: 1, 2, 3, 4, 6, 8, 11
MAX_NOISE = 6.0  # grey levels
MAX_BLUR = 0.4  # of the standard deviation near a pixel
MAX_COLOUR = 20.0
_MAX_GREY = 8.0  # difference of channels
_PIXELS = 2**22  # that are compared at once


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
            "copies (charts, photo-like pictures, pages of text, short words on large canvases, charts that differ in "
            "one bar and pages that differ in one figure)"
        )


#: On 100 pictures of each kind; a test measures it again.
MEASURED = Rates(copies=3600, found=3600, pairs=29700, false_alarms=0)


@dataclass(frozen=True)
class ImageSignatures:
    """
    What N images are compared by.

    Args:
        brightness (`Sequence[Mapping[int, np.ndarray]]`):
            Grey levels of each image by number of pixels an axis: that of `SIDES` and its largest. 0 to 255 is stored
            as 64 to 191.5, because resizing goes beyond black and white at edges.
        colours (`np.ndarray` of `float32`, `[N, 3, CELLS, CELLS]`):
            Mean RGB of cells, 0 to 255.
    """

    brightness: Sequence[Mapping[int, np.ndarray]]
    colours: np.ndarray

    def __len__(self) -> int:
        return len(self.colours)


def image_signatures(images: Iterable[Image.Image]) -> ImageSignatures:
    """
    Signatures of images: 133 kB of an image of 724 x 724 pixels or more, 18 kB of 256 x 256 pixels.

    Args:
        images (`Iterable[PIL.Image.Image]`):
            Images in mode RGB, as [`~leverplus_trl.tasks.images.decode_image`] gives them; one is in memory at a time.
    """
    brightness, colours = [], []
    for image in images:
        brightness.append(_grey_levels(image))
        small = image.resize((16 * CELLS, 16 * CELLS), Image.Resampling.LANCZOS, reducing_gap=3.0)
        colours.append(_cells(np.asarray(small, dtype=np.float32).transpose(2, 0, 1), CELLS))
    return ImageSignatures(brightness, np.array(colours, dtype=np.float32).reshape(-1, 3, CELLS, CELLS))


def near_duplicates(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray) -> np.ndarray:
    """
    The pairs of near duplicates among pairs of images.

    Args:
        left, right ([`ImageSignatures`]):
            Signatures of the two sets.
        pairs (`np.ndarray` of `int64`, `[P, 2]`):
            Positions in `left` and in `right` of the images to compare.

    Returns:
        `np.ndarray`: those that are near duplicates, in their order.
    """
    mine, others = (np.array([max(sizes) for sizes in one.brightness], dtype=int) for one in (left, right))
    for largest in SIDES:
        sides = np.minimum(np.minimum(mine[pairs[:, 0]], others[pairs[:, 1]]), largest)  # [P]
        alike = np.zeros(len(pairs), dtype=bool)
        for side in np.unique(sides).tolist():
            chosen = np.flatnonzero(sides == side)
            for some in np.array_split(chosen, 1 + len(chosen) * side**2 // _PIXELS):
                alike[some] = _same_brightness(left, right, pairs[some], side)
                if largest == SIDES[0]:
                    alike[some] &= _same_colours(left, right, pairs[some], side)
        pairs = pairs[alike]
    return pairs


def _grey_levels(image: Image.Image) -> dict[int, np.ndarray]:
    # At its full size, an image differs too much from its compressed and resized copies.
    half = max(1.0, np.sqrt(image.height * image.width) / 2)
    own = int(_LADDER[np.searchsorted(_LADDER, half, side="right") - 1])
    grey, levels = image.convert("F"), {}
    for side in sorted({own, *(one for one in SIDES if one < own)}, reverse=True):
        grey = grey.resize((side, side), Image.Resampling.LANCZOS)
        levels[side] = np.round(64 + np.asarray(grey) / 2).clip(0, 255).astype(np.uint8)
    return levels


def _at(levels: Mapping[int, np.ndarray], side: int) -> np.ndarray:
    """Grey levels `[side, side]`, from the next larger size that is stored."""
    stored = 2.0 * (levels[min(one for one in levels if one >= side)].astype(np.float32) - 64)
    if len(stored) == side:
        return stored
    return np.asarray(Image.fromarray(stored).resize((side, side), Image.Resampling.LANCZOS))


def _same_brightness(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray, side: int) -> np.ndarray:
    """Which of the pairs `[P, 2]` have the same grey levels around each pixel, `[P]`."""
    mine, variance = _with_variance(left, pairs[:, 0], side)
    others, other_variance = _with_variance(right, pairs[:, 1], side)
    residual = uniform_filter((mine - others) ** 2, (1, 3, 3), mode="nearest")  # [P, H, W]
    return (residual <= MAX_NOISE**2 + MAX_BLUR**2 * np.minimum(variance, other_variance)).all((1, 2))


def _with_variance(signatures: ImageSignatures, rows: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels of the rows' images and their variance around each pixel, `[P, H, W]`."""
    rows, places = np.unique(rows, return_inverse=True)
    images = np.stack([_at(signatures.brightness[row], side) for row in rows])
    mean, square = (uniform_filter(one, (1, 5, 5), mode="nearest") for one in (images, images**2))
    return images[places], np.maximum(0, square - mean**2)[places]


def _same_colours(left: ImageSignatures, right: ImageSignatures, pairs: np.ndarray, side: int) -> np.ndarray:
    """Which of the pairs `[P, 2]` have the same mean colours, or are grey on one side, `[P]`."""
    number = 2 ** int(np.log2(side))
    mine, others = (_cells(one.colours[rows], number) for one, rows in ((left, pairs[:, 0]), (right, pairs[:, 1])))
    grey = [(np.ptp(one, 1) <= _MAX_GREY).all((1, 2)) for one in (mine, others)]
    return grey[0] | grey[1] | (np.abs(mine - others) <= MAX_COLOUR).all((1, 2, 3))


def _cells(colours: np.ndarray, number: int) -> np.ndarray:
    """The means of number x number cells: `[..., side, side]` -> `[..., number, number]`"""
    each = colours.shape[-1] // number
    return colours.reshape(*colours.shape[:-2], number, each, number, each).mean((-3, -1))
