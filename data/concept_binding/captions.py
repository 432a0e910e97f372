# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Captions for the tiny CLIP: what is seen in a picture, all of it or a part, in varied words.

Nuisance (texture, frame) is named like everything else, and more often than colour and shape, as captions of real
pictures dwell on what no question asks about. That is what image similarity follows.
"""

import numpy as np
from world import COLOURS, FRAMES, KINDS, QUESTIONS, SHAPES, TEXTURES, render


#: What a picture shows, in the order of the columns of every attribute table.
ATTRIBUTES = {"colour": tuple(COLOURS), "shape": SHAPES, "texture": TEXTURES, "frame": FRAMES}
NAMED_SHARE = (0.45, 0.45, 0.6, 0.6)  # how often a caption names each of them
UNSAID = -1
_COLUMNS = {name: i for i, name in enumerate(ATTRIBUTES)}
_KIND_COLUMNS = {"colour": [0], "shape": [1], "it": [0, 1]}
_OTHER_WORDS = ("a", "on", "in", "with", "and", "background", ",", "picture", "of", "there")


def caption_words() -> tuple[str, ...]:
    """All words of captions and questions, sorted."""
    asked = {word for wordings in QUESTIONS.values() for text in wordings for word in text.split()}
    named = {word for values in ATTRIBUTES.values() for word in values}
    return tuple(sorted(asked | named | {*_OTHER_WORDS, *ATTRIBUTES}))


def draw_pictures(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """
    Draws pictures of anything.

    Returns:
        Pixels, `uint8` `[N, 56, 56, 3]`, and attributes, `int64` `[N, 4]`: positions in the values of `ATTRIBUTES`.
    """
    attributes = np.stack([rng.integers(len(values), size=number) for values in ATTRIBUTES.values()], axis=1)
    names = [[values[row[i]] for i, values in enumerate(ATTRIBUTES.values())] for row in attributes]
    return np.stack([render(*row, rng) for row in names]), attributes


def draw_caption(attributes: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """
    Draws a caption of one picture.

    Args:
        attributes (`np.ndarray` of shape `[4]`): what the picture shows.
        rng (`np.random.Generator`): source of what is said and how.

    Returns:
        The caption, and the attributes that it names (`[4]`, -1 where it says nothing).
    """
    style = rng.integers(4)
    if style == 0:  # a question and its answer, in plain words
        kind = KINDS[rng.integers(len(KINDS))]
        said = np.full(len(ATTRIBUTES), UNSAID)
        said[_KIND_COLUMNS[kind]] = attributes[_KIND_COLUMNS[kind]]
        question = QUESTIONS[kind][rng.integers(len(QUESTIONS[kind]))]
        return f"{question} {' '.join(_values(said).values())}", said
    named = rng.random(len(ATTRIBUTES)) < NAMED_SHARE
    if not named.any():
        named[rng.integers(len(named))] = True
    said = np.where(named, attributes, UNSAID)
    values = _values(said)
    if style == 1:  # a red circle on dots in a dark frame
        return _sentence(values, rng), said
    order = [list(values)[i] for i in rng.permutation(len(values))]
    if style == 2:  # colour red , frame dark
        return " , ".join(f"{name} {values[name]}" for name in order), said
    return " and ".join(f"the {name} is {values[name]}" for name in order), said


def _values(said: np.ndarray) -> dict[str, str]:
    return {name: ATTRIBUTES[name][said[i]] for name, i in _COLUMNS.items() if said[i] != UNSAID}


def _sentence(values: dict[str, str], rng: np.random.Generator) -> str:
    start = ("a", "a picture of a", "there is a")[rng.integers(3)]
    words = [start, values.get("colour", ""), values.get("shape", "thing")]
    endings = []
    if "texture" in values:
        endings.append(f"on {values['texture']}" if rng.random() < 0.5 else f"with background {values['texture']}")
    if "frame" in values:
        endings.append(f"in a {values['frame']} frame" if rng.random() < 0.5 else f"with frame {values['frame']}")
    rng.shuffle(endings)
    return " ".join(word for word in [*words, *endings] if word)
