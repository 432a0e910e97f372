# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What is given to a [`DemonstrationSelector`], checked before anything is embedded: pools, encoders, queries,
candidates."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict
from PIL import Image

from ..provenance import encoder_commit, json_hash
from ..retrieval.example_embeddings import COLUMNS
from ..tasks.images import decode_image, image_source
from .base_selector_config import BaseSelectorConfig


logger = logging.getLogger(__name__)


def check_examples(examples: Any, features: Sequence[str], name: str) -> Dataset:
    """
    Examples with plain Python values as rows.

    Args:
        examples (`Any`):
            What a user gave; expected is a `Dataset`.
        features (`Sequence[str]`):
            Embeddings that are read of them, of `"image"`, `"text"` and `"answer"`.
        name (`str`):
            Name of the argument: `"pool"` or `"queries"`.

    Raises:
        `ValueError`: no `Dataset`, a missing column, or an id that is not a string.
    """
    if not isinstance(examples, Dataset):
        advice = "`Dataset.from_list(rows)` makes one"
        if isinstance(examples, DatasetDict):
            advice = f"it has the splits {', '.join(map(repr, examples))}: name one of them"
        raise ValueError(f"{name} is a {type(examples).__name__}; expected a datasets.Dataset: {advice}.")
    for column in dict.fromkeys(("id", "question", *(COLUMNS[feature] for feature in features))):
        if column not in examples.column_names:
            raise ValueError(
                f"{name} has no column {column!r}, only {', '.join(examples.column_names)}; this selector reads "
                f"{', '.join(features) or 'ids'}. Rename the column that holds it: `{name}.rename_column(old, new)`."
            )
    examples = examples.with_format(None)
    broken = next((row for row, one in enumerate(examples["id"]) if not isinstance(one, str) or not one), None)
    if broken is not None:
        raise ValueError(
            f"The id of row {broken} of {name} is {examples[broken]['id']!r}; expected a string that is not empty: "
            f"`{name}.cast_column('id', Value('string'))` converts numbers."
        )
    return examples


def make_query(question: Any, image: Any, example_id: Any) -> dict[str, Any]:
    """
    A query as an example, with the pixels that a model is shown.

    Args:
        question (`str`):
            What is asked.
        image (`Any`):
            What [`~leverplus_trl.tasks.images.image_source`] takes, or `None`.
        example_id (`str`, *optional*):
            Its id, else [`query_id`].

    Raises:
        `ValueError`: a question or id that is no string, or an image that can't be decoded.
    """
    if not isinstance(question, str):
        raise ValueError(f"question is {question!r}; expected a string.")
    if example_id is not None and (not isinstance(example_id, str) or not example_id):
        raise ValueError(f"id is {example_id!r}; expected a string that is not empty, or none.")
    shown = None
    if image is not None:
        try:
            source = image_source(image)
            shown = decode_image(source)
        except ValueError as error:
            raise ValueError(f"The query's image {error}") from error
    return {
        "id": query_id(question, shown) if example_id is None else example_id,
        "image": image if isinstance(image, Image.Image) else shown,
        "question": question,
        "answer": "",
        "answers": [],
    }


def query_id(question: str, image: Image.Image | None) -> str:
    """
    Id of a query that has none: a hash of what it says and shows, so that the same query gets the same candidates.
    """
    pixels = None if image is None else [image.mode, image.size, hashlib.sha256(image.tobytes()).hexdigest()]
    return f"query-{json_hash([question, pixels])}"


def check_candidates(
    candidate_ids: Any, query_ids: Sequence[str], pool_positions: Mapping[str, int]
) -> list[list[str]]:
    """
    Candidates of some queries as lists.

    Args:
        candidate_ids (`Any`):
            What a user gave; expected is a list of ids for each query.
        query_ids (`Sequence[str]`):
            The queries.
        pool_positions (`Mapping[str, int]`):
            The examples of the pool, by id.

    Raises:
        `ValueError`: not a list for each query, an id that is not in the pool, or one that comes twice.
    """
    lists = list(candidate_ids) if isinstance(candidate_ids, Sequence) else None
    if lists is None or any(isinstance(ids, str) or not isinstance(ids, Sequence) for ids in lists):
        raise ValueError(f"candidate_ids is {str(candidate_ids)[:100]}; expected a list of ids for each query.")
    if len(lists) != len(query_ids):
        raise ValueError(f"Got the candidates of {len(lists)} queries for {len(query_ids)} queries.")
    for query_id, ids in zip(query_ids, lists, strict=True):
        unknown = [name for name in ids if name not in pool_positions]
        if unknown:
            raise ValueError(
                f"The candidate {unknown[0]!r} of the query {query_id!r} is not in the pool of {len(pool_positions)} "
                f"examples ({len(unknown)} are not); name ids of the pool that the selector was given."
            )
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if list(ids).count(name) > 1)
            raise ValueError(
                f"The query {query_id!r} has the candidate {twice!r} more than once; expected different candidates."
            )
    return [list(ids) for ids in lists]


def check_trained_encoder(config: BaseSelectorConfig, encoder: str, revision: str | None, asked_for: bool) -> None:
    """Raises `ValueError` if the encoder is not the one of the training, or warns if it is `asked_for` by name."""
    trained = config.encoder_commit
    if trained is None:
        return
    found = encoder_commit(encoder, revision)
    if found != trained and not asked_for:
        raise ValueError(
            f"The encoder {encoder!r} ({found}) is not the one the selector was trained with ({trained}): "
            "its embeddings mean something else. Say where that one lies, or which to take instead: encoder=PATH."
        )
    if found != trained:
        logger.warning(
            "The encoder %r (%s) is not the one the selector was trained with (%s): its embeddings mean something "
            "else.",
            encoder,
            found,
            trained,
        )
