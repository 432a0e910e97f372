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

"""
Do the demonstrations give the query away? An audit of what was chosen, and of what was copied from it.

Of each query and each demonstration that any method chose for it four things are asked:
- `same_image`: are the stored images equal, byte by byte (see `tasks.images.image_key`)?
- `near_duplicate_image`: do the images look the same, though they are stored differently (scaled, compressed again)?
  Their 8 x 8 colour thumbnails may differ by `MAX_DISTANCE` of 255 on average and must correlate by
  `MIN_CORRELATION`. Cropped, mirrored and very small copies are not found.
- `same_question`: are the questions (with `context` and `choices`) equal, but for case, punctuation and spaces?
- `leaked`: both, the same or nearly the same image (or none on either side) and the same question. One of the two
  alone is ordinary in many datasets: people ask "what colour is it?" of thousands of images.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from PIL import Image

from ..tasks.images import decode_image, image_key, undecoded


SAME_IMAGE, NEAR_DUPLICATE, SAME_QUESTION = "same_image", "near_duplicate_image", "same_question"
LEAKED = "leaked"
KINDS = (SAME_IMAGE, NEAR_DUPLICATE, SAME_QUESTION, LEAKED)
THUMBNAIL = 8
MAX_DISTANCE = 8.0
MIN_CORRELATION = 0.985
#: Standard deviation of a thumbnail that shows nothing whose shape could be compared.
FLAT = 2.0
CHUNK = 20_000  # pairs in memory at once

Pair = tuple[str, str]  # query id, demonstration id


@dataclass(frozen=True)
class _Look:
    """What an example is compared by."""

    key: str | None
    thumbnail: np.ndarray  # [192], colours; all nan without an image
    question: str


def find_leaks(pairs: Iterable[Pair], queries: Dataset, pool: Dataset) -> dict[Pair, tuple[str, ...]]:
    """
    The pairs of query and demonstration that have something in common.

    Args:
        pairs (`Iterable[tuple[str, str]]`):
            Ids of a query and of a demonstration that was chosen for it.
        queries (`Dataset`):
            Examples that were asked.
        pool (`Dataset`):
            Examples that were chosen from.

    Returns:
        `dict[tuple[str, str], tuple[str, ...]]`: some of `KINDS`, of the pairs that have any.

    Raises:
        `ValueError`: an id that none of the examples has.
    """
    pairs = sorted(set(pairs))
    if not pairs:
        return {}
    asked = _looks(sorted({query_id for query_id, _ in pairs}), queries, "queries")
    shown = _looks(sorted({demonstration_id for _, demonstration_id in pairs}), pool, "pool")
    alike = np.concatenate(
        [
            _alike(
                np.stack([asked[query_id].thumbnail for query_id, _ in pairs[start : start + CHUNK]]),
                np.stack([shown[demonstration_id].thumbnail for _, demonstration_id in pairs[start : start + CHUNK]]),
            )
            for start in range(0, len(pairs), CHUNK)
        ]
    )
    found = {}
    for pair, similar in zip(pairs, alike.tolist(), strict=True):
        query, demonstration = asked[pair[0]], shown[pair[1]]
        same_image = query.key is not None and query.key == demonstration.key
        no_images = query.key is None and demonstration.key is None
        same_question = query.question == demonstration.question
        said = {
            SAME_IMAGE: same_image,
            NEAR_DUPLICATE: similar and not same_image,
            SAME_QUESTION: same_question,
            LEAKED: same_question and (same_image or similar or no_images),
        }
        if any(said.values()):
            found[pair] = tuple(kind for kind in KINDS if said[kind])
    return found


def plain_text(text: str) -> str:
    """A text without case, punctuation and extra spaces; one of punctuation alone stays as it is."""
    return " ".join(re.sub(r"[\W_]+", " ", text.casefold()).split()) or text.strip()


def select_by_id(examples: Dataset, identifiers: Sequence[str], name: str) -> Dataset:
    """
    Some of the examples, in the order of the ids, undecoded.

    Raises:
        `ValueError`: an id that none of them has.
    """
    row_of = {identifier: row for row, identifier in enumerate(examples["id"])}
    strangers = [identifier for identifier in identifiers if identifier not in row_of]
    if strangers:
        raise ValueError(
            f"{len(strangers)} of the ids in the predictions are not among the {len(row_of)} examples of the {name}, "
            f"e.g. {strangers[:3]}. Name the dataset and splits that the predictions were made on."
        )
    return undecoded(examples).select([row_of[identifier] for identifier in identifiers])


def _looks(identifiers: Sequence[str], examples: Dataset, name: str) -> dict[str, _Look]:
    looks = {}
    thumbnails: dict[str, np.ndarray] = {}  # many questions may be asked of one image
    for example in select_by_id(examples, identifiers, name):
        key, thumbnail = None, np.full(THUMBNAIL * THUMBNAIL * 3, np.nan, dtype=np.float32)
        if example["image"] is not None:
            key = image_key(example["image"])
            if key not in thumbnails:
                thumbnails[key] = _thumbnail(decode_image(example["image"]))
            thumbnail = thumbnails[key]
        looks[example["id"]] = _Look(key, thumbnail, _question(example))
    return looks


def _question(example: Mapping) -> str:
    """The whole of what is asked: "Which is solid?" is another question with other options."""
    return plain_text(" ".join([example["question"], example.get("context") or "", *(example.get("choices") or ())]))


def _thumbnail(image: Image.Image) -> np.ndarray:
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()  # [192]


def _alike(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which of the pairs `[P, 192]` look the same, `[P]`; where one has no image, all comparisons are false."""
    close = np.abs(left - right).mean(1) <= MAX_DISTANCE  # [P]
    left, right = left - left.mean(1, keepdims=True), right - right.mean(1, keepdims=True)  # [P, 192]
    spreads = left.std(1), right.std(1)  # [P] each
    correlation = (left * right).mean(1) / np.maximum(spreads[0] * spreads[1], 1e-6)  # [P]
    flat = (spreads[0] < FLAT) & (spreads[1] < FLAT)
    return close & (flat | (correlation >= MIN_CORRELATION))
