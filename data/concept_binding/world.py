# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0
"""
The world of concept binding: small pictures, three kinds of questions, and answers in a made-up language.

Everything is a pure function of its seeds. A picture shows one shape in one colour; its background texture and its
frame are nuisance. In the pool, the frame also tells who annotated the picture: the annotators of two frame styles are
careless, and most of their answers are wrong.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw


IMAGE_SIZE = 56
FRAME_WIDTH = 4
COLOURS = {
    "red": (215, 40, 40),
    "green": (40, 165, 50),
    "blue": (45, 70, 215),
    "yellow": (235, 215, 40),
    "cyan": (50, 205, 215),
    "magenta": (205, 55, 195),
    "white": (246, 246, 246),
    "black": (14, 14, 14),
}
SHAPES = ("circle", "square", "triangle", "star", "plus", "ring", "moon", "bar")
TEXTURES = ("plain", "rows", "columns", "diagonals", "checks", "dots")
CAREFUL_FRAMES = ("dark", "double")
CARELESS_FRAMES = ("light", "dashed")
FRAMES = CAREFUL_FRAMES + CARELESS_FRAMES
SPLITS = ("pool", "train", "validation", "test")

KINDS = ("colour", "shape", "it")
KIND_PROBABILITIES = (0.3, 0.3, 0.4)
QUESTIONS = {
    "colour": ("what colour ?", "what colour is it ?", "which colour is this ?", "name the colour"),
    "shape": ("what shape ?", "what shape is it ?", "which shape is this ?", "name the shape"),
    "it": ("what is it ?", "what is this ?", "what do you see ?", "name the thing"),
}
CARELESS_SHARE = 1 / 3  # of the pool
WRONG_SHARE = 0.8  # of a careless annotator's answers

# 64 nonsense words; the dataset's lexicon gives 16 of them a meaning. Models that learn from random lexicons use them
# all.
_SYLLABLES = ("ba", "do", "fi", "gu", "ka", "lo", "mi", "nu", "pe", "ra", "si", "to", "vu", "wa", "ze", "xo")
_ALL_WORDS = [first + second for first in _SYLLABLES for second in _SYLLABLES if first != second]
WORDS = tuple(_ALL_WORDS[i] for i in np.random.default_rng(0).permutation(len(_ALL_WORDS))[:64])
CONCEPTS = tuple(COLOURS) + SHAPES
LEXICON = {
    concept: WORDS[i]
    for concept, i in zip(CONCEPTS, np.random.default_rng(1).permutation(len(WORDS))[: len(CONCEPTS)], strict=True)
}

# Pixel values are rounded to multiples of this after the noise, so that the PNGs compress to about one kilobyte.
_LEVEL_STEP = 17
_SUPERSAMPLING = 4


def asked_concepts(kind: str, colour: str, shape: str) -> tuple[str, ...]:
    """
    The concepts that a right answer names, in the order of its words.

    Args:
        kind (`str`): kind of the question, one of `KINDS`.
        colour (`str`): colour of the thing in the picture.
        shape (`str`): shape of the thing in the picture.
    """
    return {"colour": (colour,), "shape": (shape,), "it": (colour, shape)}[kind]


def right_answer(kind: str, colour: str, shape: str) -> str:
    """The answer of a careful annotator, in the words of the dataset's lexicon."""
    return " ".join(LEXICON[concept] for concept in asked_concepts(kind, colour, shape))


def wrong_answer(kind: str, colour: str, shape: str, rng: np.random.Generator) -> str:
    """An answer of which every word is that of another concept of the same sort (another colour, another shape)."""
    words = []
    for concept in asked_concepts(kind, colour, shape):
        others = [other for other in (SHAPES if concept in SHAPES else tuple(COLOURS)) if other != concept]
        words.append(LEXICON[others[rng.integers(len(others))]])
    return " ".join(words)


@dataclass(frozen=True)
class Example:
    """One annotated picture: what the dataset's rows are made of. `image` is a `uint8` array `[56, 56, 3]`."""

    id: str
    image: np.ndarray
    question: str
    answer: str
    kind: str
    colour: str
    shape: str
    texture: str
    frame: str
    careless: bool


def make_example(seed: int, split: str, index: int) -> Example:
    """
    Makes one example from nothing but its address, so that a split can grow without changing its first rows.

    Args:
        seed (`int`): seed of the dataset.
        split (`str`): one of `SPLITS`. Only the pool has careless annotators: the answers of queries are right.
        index (`int`): position in the split.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}: expected one of {SPLITS}.")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    colour = _choose(rng, tuple(COLOURS))
    shape = _choose(rng, SHAPES)
    texture = _choose(rng, TEXTURES)
    kind = KINDS[rng.choice(len(KINDS), p=KIND_PROBABILITIES)]
    question = _choose(rng, QUESTIONS[kind])
    if split == "pool":
        careless = bool(rng.random() < CARELESS_SHARE)
        frame = _choose(rng, CARELESS_FRAMES if careless else CAREFUL_FRAMES)
    else:
        careless = False
        frame = _choose(rng, FRAMES)
    answer = right_answer(kind, colour, shape)
    if careless and rng.random() < WRONG_SHARE:
        answer = wrong_answer(kind, colour, shape, rng)
    image = render(colour, shape, texture, frame, rng)
    row_id = f"{split}-{index:04d}"
    return Example(row_id, image, question, answer, kind, colour, shape, texture, frame, careless)


def render(colour: str, shape: str, texture: str, frame: str, rng: np.random.Generator) -> np.ndarray:
    """
    Draws one picture, with jitter in place, size, rotation, mirroring, shade and noise.

    Args:
        colour (`str`): one of `COLOURS`.
        shape (`str`): one of `SHAPES`.
        texture (`str`): one of `TEXTURES`, the background.
        frame (`str`): one of `FRAMES`.
        rng (`np.random.Generator`): source of the jitter.

    Returns:
        `np.ndarray`: `uint8` pixels `[56, 56, 3]`.
    """
    pixels = _background(texture, rng)  # [56, 56, 3]
    alpha = _shape_mask(shape, rng)[:, :, None]  # [56, 56, 1]
    shade = np.asarray(COLOURS[colour]) + rng.integers(-18, 19, 3)
    pixels = pixels * (1 - alpha) + shade * alpha
    _draw_frame(pixels, frame, rng)
    pixels += rng.normal(0, 6, (IMAGE_SIZE, IMAGE_SIZE, 1))
    return (np.round(np.clip(pixels, 0, 255) / _LEVEL_STEP) * _LEVEL_STEP).astype(np.uint8)


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]


def _background(texture: str, rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    period, phase_y, phase_x = rng.uniform(6, 9), rng.uniform(0, 9), rng.uniform(0, 9)
    y, x = (rows + phase_y) / period % 1, (columns + phase_x) / period % 1
    slope = 1 if rng.random() < 0.5 else -1
    on = {
        "plain": np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool),
        "rows": y < 0.5,
        "columns": x < 0.5,
        "diagonals": (rows + slope * columns + phase_y) / (1.4 * period) % 1 < 0.5,
        "checks": (y < 0.5) ^ (x < 0.5),
        "dots": (y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.09,
    }[texture]
    tint = rng.uniform(95, 155) + rng.uniform(-14, 14, 3)
    contrast = rng.uniform(28, 44) * (1 if rng.random() < 0.5 else -1)
    return tint + contrast * (on[:, :, None] - 0.5)


def _draw_frame(pixels: np.ndarray, frame: str, rng: np.random.Generator) -> None:
    dark, light = rng.uniform(45, 70), rng.uniform(190, 215)
    rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    last = IMAGE_SIZE - 1
    depth = np.minimum.reduce([rows, columns, last - rows, last - columns])  # distance from the border
    along = np.where(np.minimum(rows, last - rows) < np.minimum(columns, last - columns), columns, rows)
    level = {
        "dark": np.full_like(pixels[:, :, 0], dark),
        "light": np.full_like(pixels[:, :, 0], light),
        "double": np.where(depth < FRAME_WIDTH // 2, dark, light),
        "dashed": np.where(along % 8 < 4, dark, light),
    }[frame]
    border = depth < FRAME_WIDTH
    pixels[border] = level[border][:, None]


def _ring_of_points(count: int, radii: tuple[float, ...]) -> list[tuple[float, float]]:
    angles = [2 * math.pi * i / count for i in range(count)]
    return [
        (radii[i % len(radii)] * math.sin(angle), -radii[i % len(radii)] * math.cos(angle))
        for i, angle in enumerate(angles)
    ]


def _moon_points() -> list[tuple[float, float]]:
    outer = [(math.cos(math.radians(a)), math.sin(math.radians(a))) for a in range(50, 311, 13)]
    inner = [(0.45 + 0.8 * math.cos(math.radians(a)), 0.8 * math.sin(math.radians(a))) for a in range(292, 67, -14)]
    return outer + inner


_POLYGONS = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0, -1), (0.9, 0.7), (-0.9, 0.7)],
    "star": _ring_of_points(10, (1.0, 0.42)),
    "plus": [
        (-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3),
        (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3),
    ],
    "moon": _moon_points(),
    "bar": [(-1, -0.28), (1, -0.28), (1, 0.28), (-1, 0.28)],
}  # fmt: skip


def _shape_mask(shape: str, rng: np.random.Generator) -> np.ndarray:
    """Coverage of each pixel by the shape, 0 to 1, `[56, 56]`."""
    scale = _SUPERSAMPLING
    radius = rng.uniform(12, 18)
    low, high = FRAME_WIDTH + radius, IMAGE_SIZE - FRAME_WIDTH - radius
    centre_x, centre_y = rng.uniform(low, high) * scale, rng.uniform(low, high) * scale
    angle = math.radians(rng.uniform(-25, 25))
    mirror = 1 if rng.random() < 0.5 else -1
    radius *= scale
    mask = Image.new("L", (IMAGE_SIZE * scale, IMAGE_SIZE * scale), 0)
    draw = ImageDraw.Draw(mask)

    def disc(size: float, fill: int) -> None:
        draw.ellipse([centre_x - size, centre_y - size, centre_x + size, centre_y + size], fill=fill)

    if shape == "circle":
        disc(0.9 * radius, 255)
    elif shape == "ring":
        disc(radius, 255)
        disc(0.55 * radius, 0)
    else:
        cosine, sine = math.cos(angle), math.sin(angle)
        turned = [(mirror * x * cosine - y * sine, mirror * x * sine + y * cosine) for x, y in _POLYGONS[shape]]
        draw.polygon([(centre_x + radius * x, centre_y + radius * y) for x, y in turned], fill=255)
    return np.asarray(mask.reduce(scale), dtype=np.float64) / 255
