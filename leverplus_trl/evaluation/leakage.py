# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Do the demonstrations give the query away? An audit of what was chosen, and of what was copied from it.

Of each query and each demonstration that any method chose for it four things are asked:
- `same_image`: are the stored images equal, byte by byte (see `tasks.images.image_key`)?
- `near_duplicate_image`: is one a copy of the other that is stored differently (see `retrieval.near_duplicates`)?
- `same_question`: are the questions (with `context` and `choices`) equal, but for case, punctuation and spaces?
- `leaked`: both, the same or nearly the same image (or none on either side) and the same question. One of the two
  alone is ordinary in many datasets: people ask "what colour is it?" of thousands of images.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from ..retrieval.near_duplicates import MEASURED, ImageSignatures, image_signatures, near_duplicates
from ..tasks.images import decode_image, image_key, undecoded


SAME_IMAGE, NEAR_DUPLICATE, SAME_QUESTION = "same_image", "near_duplicate_image", "same_question"
LEAKED = "leaked"
KINDS = (SAME_IMAGE, NEAR_DUPLICATE, SAME_QUESTION, LEAKED)
#: How far the audit can be trusted.
RATES = f"The search for nearly the same images {MEASURED}."

Pair = tuple[str, str]  # query id, demonstration id


@dataclass(frozen=True)
class _Examples:
    """What examples are compared by."""

    questions: Mapping[str, str]  # id -> what is asked
    keys: Mapping[str, str | None]  # id -> key of the image
    positions: Mapping[str, int]  # key -> row of the signatures
    signatures: ImageSignatures


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
    asked = _examples(sorted({query_id for query_id, _ in pairs}), queries, "queries")
    shown = _examples(sorted({demonstration_id for _, demonstration_id in pairs}), pool, "pool")
    similar = _similar_images(pairs, asked, shown)
    found = {}
    for query_id, demonstration_id in pairs:
        keys = asked.keys[query_id], shown.keys[demonstration_id]
        same_question = asked.questions[query_id] == shown.questions[demonstration_id]
        said = {
            SAME_IMAGE: keys[0] is not None and keys[0] == keys[1],
            NEAR_DUPLICATE: keys in similar,
            SAME_QUESTION: same_question,
            LEAKED: same_question and (keys[0] == keys[1] or keys in similar),
        }
        if any(said.values()):
            found[query_id, demonstration_id] = tuple(kind for kind in KINDS if said[kind])
    return found


def _similar_images(pairs: Sequence[Pair], asked: _Examples, shown: _Examples) -> set[tuple[str, str]]:
    """The keys of different images that look the same, of the query and of the demonstration."""
    compared = {
        (asked.positions[mine], shown.positions[other]): (mine, other)
        for mine, other in {(asked.keys[query_id], shown.keys[one]) for query_id, one in pairs}
        if mine is not None and other is not None and mine != other
    }
    rows = np.array(list(compared), dtype=np.int64).reshape(-1, 2)
    found = near_duplicates(asked.signatures, shown.signatures, rows)
    return {compared[row, other] for row, other in found.tolist()}


def plain_text(text: str) -> str:
    """A text in NFC without case, punctuation and extra spaces; one of punctuation alone stays as it is."""
    text = unicodedata.normalize("NFC", text)
    # Marks are the vowels of Hindi and Thai, and no letters to `str.isalnum`.
    plain = "".join(letter if letter.isalnum() or _is_mark(letter) else " " for letter in text.casefold())
    return " ".join(plain.split()) or text.strip()


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("M")


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


def _examples(identifiers: Sequence[str], examples: Dataset, name: str) -> _Examples:
    chosen = select_by_id(examples, identifiers, name)
    questions, keys, positions, rows = {}, {}, {}, []  # many questions may be asked of one image
    for row, example in enumerate(chosen):
        questions[example["id"]] = _question(example)
        key = keys[example["id"]] = None if example["image"] is None else image_key(example["image"])
        if key is not None and key not in positions:
            positions[key] = len(rows)
            rows.append(row)
    signatures = image_signatures(decode_image(chosen[row]["image"]) for row in rows)
    return _Examples(questions, keys, positions, signatures)


def _question(example: Mapping) -> str:
    """The whole of what is asked: "Which is solid?" is another question with other options."""
    return plain_text(" ".join([example["question"], example.get("context") or "", *(example.get("choices") or ())]))
