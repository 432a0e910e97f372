# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Do demonstrations give the query away? An audit of every query with each demonstration that any method chose for it.

- `same_image`: the stored images are equal, byte by byte (see `tasks.images.image_key`).
- `near_duplicate_image`: one image is a copy of the other, stored differently (see `retrieval.near_duplicates`).
- `same_question`: the questions (with `context` and `choices`) are equal, but for case, punctuation and spaces.
- `leaked`: both, the same or nearly the same image (or none on either side) and the same question. One of the two
  alone is ordinary in many datasets: thousands of images have the question "what colour is it?".
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from ..retrieval.near_duplicates import ImageSignatures, image_signatures, near_duplicates
from ..tasks.images import decode_image, image_key, undecoded
from .runs import example_rows


SAME_IMAGE, NEAR_DUPLICATE, SAME_QUESTION = "same_image", "near_duplicate_image", "same_question"
LEAKED = "leaked"
KINDS = (SAME_IMAGE, NEAR_DUPLICATE, SAME_QUESTION, LEAKED)

Pair = tuple[str, str]  # query id, demonstration id
Leaks = Mapping[Pair, tuple[str, ...]]  # some of `KINDS`, of the pairs that have any


@dataclass(frozen=True)
class _Examples:
    """What examples are compared by."""

    questions: Mapping[str, str]  # by id
    keys: Mapping[str, str | None]  # of the images, by id
    positions: Mapping[str, int]  # of the signatures, by key
    signatures: ImageSignatures


def find_leaks(pairs: Iterable[Pair], queries: Dataset, pool: Dataset) -> Leaks:
    """The pairs of query and demonstration ids that have something in common; raises `ValueError` for an id that no
    example has."""
    pairs = sorted(set(pairs))
    left = _examples({query_id for query_id, _ in pairs}, queries, "queries")
    right = _examples({demonstration_id for _, demonstration_id in pairs}, pool, "pool")
    keys = {(left.keys[query_id], right.keys[demonstration_id]) for query_id, demonstration_id in pairs}
    compared = [(key, other) for key, other in keys if key is not None and other is not None and key != other]
    positions = [(left.positions[key], right.positions[other]) for key, other in compared]
    key_of = dict(zip(positions, compared, strict=True))
    rows = np.array(positions, dtype=np.int64).reshape(-1, 2)
    similar = {key_of[row, other] for row, other in near_duplicates(left.signatures, right.signatures, rows).tolist()}
    leaks = {}
    for query_id, demonstration_id in pairs:
        pair = left.keys[query_id], right.keys[demonstration_id]
        same_question = left.questions[query_id] == right.questions[demonstration_id]
        kinds = {
            SAME_IMAGE: pair[0] is not None and pair[0] == pair[1],
            NEAR_DUPLICATE: pair in similar,
            SAME_QUESTION: same_question,
            LEAKED: same_question and (pair[0] == pair[1] or pair in similar),
        }
        if any(kinds.values()):
            leaks[query_id, demonstration_id] = tuple(kind for kind in KINDS if kinds[kind])
    return leaks


def _examples(identifiers: Iterable[str], examples: Dataset, name: str) -> _Examples:
    chosen = undecoded(examples).select(example_rows(examples, sorted(identifiers), name))
    questions, keys, rows = {}, {}, {}  # many questions may have the same image
    for row, example in enumerate(chosen):
        # The same question with other options is another question.
        texts = [example["question"], example.get("context") or "", *(example.get("choices") or ())]
        questions[example["id"]] = plain_text(" ".join(texts))
        key = keys[example["id"]] = None if example["image"] is None else image_key(example["image"])
        if key is not None:
            rows.setdefault(key, row)
    signatures = image_signatures(decode_image(chosen[row]["image"]) for row in rows.values())
    return _Examples(questions, keys, {key: position for position, key in enumerate(rows)}, signatures)


def plain_text(text: str) -> str:
    """A text in NFC without case, punctuation and extra spaces; a text of punctuation alone stays as it is."""
    text = unicodedata.normalize("NFC", text)
    # Marks are the vowels of Hindi and Thai, and no letters to `str.isalnum`.
    plain = "".join(
        letter if letter.isalnum() or unicodedata.category(letter).startswith("M") else " "
        for letter in text.casefold()
    )
    return " ".join(plain.split()) or text.strip()
