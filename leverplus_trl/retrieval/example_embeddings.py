# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Embeddings of the examples of one dataset, in memory or memory-mapped."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


#: What is embedded: the column of each, and, but for images, its words.
COLUMNS = {"image": "image", "text": "question", "answer": "answer"}
MODALITIES = tuple(COLUMNS)
ROWS_AT_ONCE = 65536  # of a table that is checked


@dataclass
class ExampleEmbeddings:
    """
    Embeddings of the examples of one dataset.

    Args:
        ids (`list[str]`):
            Ids of the examples, unique.
        image (`np.ndarray`, *optional*):
            `[N, D_image]` float32, rows of unit length.
        text (`np.ndarray`, *optional*):
            `[N, D_text]` float32, rows of unit length; what is embedded is the question.
        answer (`np.ndarray`, *optional*):
            `[N, D_text]` float32, rows of unit length; what is embedded is the answer.

    Raises:
        `ValueError`: an id comes twice, there are not as many rows as ids, or a row is not finite or not float32.
    """

    ids: list[str]
    image: np.ndarray | None = None
    text: np.ndarray | None = None
    answer: np.ndarray | None = None
    positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.ids = list(self.ids)
        self.positions = {}
        for position, example_id in enumerate(self.ids):
            if self.positions.setdefault(example_id, position) != position:
                raise ValueError(f"The id {example_id!r} comes more than once; ids must be unique.")
        for modality in MODALITIES:
            rows = getattr(self, modality)
            if rows is not None and not isinstance(rows, np.ndarray):
                raise ValueError(
                    f"The {modality} embeddings are a {type(rows).__name__}; expected a float32 np.ndarray."
                )
            if rows is not None and (rows.ndim != 2 or len(rows) != len(self.ids)):
                raise ValueError(f"Got {modality} embeddings of shape {rows.shape} for {len(self.ids)} ids.")
            if rows is not None:
                check_finite(rows, self.ids, modality)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """
        Row numbers of some examples.

        Raises:
            `ValueError`: an id is unknown.
        """
        missing = [example_id for example_id in ids if example_id not in self.positions]
        if missing:
            raise ValueError(
                f"No embedding of the example {missing[0]!r} ({len(missing)} such ids): these are the embeddings of "
                f"{len(self.ids)} other examples. Embed the split that the id comes from."
            )
        return np.array([self.positions[example_id] for example_id in ids], dtype=np.int64)


def check_finite(rows: np.ndarray, ids: Sequence[str], modality: str) -> None:
    """Raises `ValueError`, with the id, if a row of `[N, D]` is NaN or infinite, or if rows are not float32."""
    if rows.dtype != np.float32:
        raise ValueError(
            f"The {modality} embeddings are {rows.dtype}; expected float32. Convert them with `.astype(np.float32)`, "
            "from numbers that have not overflowed."
        )
    for start in range(0, len(rows), ROWS_AT_ONCE):
        broken = np.argwhere(~np.isfinite(rows[start : start + ROWS_AT_ONCE]))  # [*, 2]
        if len(broken):
            row, column = broken[0]
            raise ValueError(
                f"The {modality} embedding of the example {ids[start + row]!r} holds {rows[start + row, column]} "
                f"(column {column}); expected finite numbers. The encoder overflows on this example, or its weights "
                "are damaged: look at the example, or name another encoder."
            )
