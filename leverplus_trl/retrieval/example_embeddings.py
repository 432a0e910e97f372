# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The embeddings of a dataset's examples, in memory or memory-mapped."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


#: The column of each modality.
COLUMNS = {"image": "image", "text": "question", "answer": "answer"}
MODALITIES = tuple(COLUMNS)
ROWS_AT_ONCE = 65536  # that are checked at a time


@dataclass
class ExampleEmbeddings:
    """
    Embeddings of a dataset's examples: float32 rows of unit length.

    Raises:
        `ValueError`: an id is repeated, the numbers of rows and ids differ, or a row is not finite or not float32.
    """

    ids: list[str]  #: The N unique ids.
    image: np.ndarray | None = None  #: `[N, D_image]`.
    text: np.ndarray | None = None  #: `[N, D_text]`, of the questions.
    answer: np.ndarray | None = None  #: `[N, D_text]`, of the answers.
    positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.ids = list(self.ids)
        self.positions = {}
        for position, example_id in enumerate(self.ids):
            if self.positions.setdefault(example_id, position) != position:
                raise ValueError(f"The id {example_id!r} comes more than once; ids must be unique.")
        for modality in MODALITIES:
            rows = getattr(self, modality)
            if rows is None:
                continue
            if not isinstance(rows, np.ndarray):
                raise ValueError(
                    f"The {modality} embeddings are a {type(rows).__name__}; expected a float32 np.ndarray."
                )
            if rows.ndim != 2 or len(rows) != len(self.ids):
                raise ValueError(f"Got {modality} embeddings of shape {rows.shape} for {len(self.ids)} ids.")
            check_finite(rows, self.ids, modality)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers of the examples with these ids; raises `ValueError` for an unknown id."""
        missing = [example_id for example_id in ids if example_id not in self.positions]
        if missing:
            raise ValueError(
                f"No embedding of the example {missing[0]!r} ({len(missing)} such ids): these are the embeddings of "
                f"{len(self.ids)} other examples. Embed the split that the id comes from."
            )
        return np.array([self.positions[example_id] for example_id in ids], dtype=np.int64)


def check_finite(rows: np.ndarray, ids: Sequence[str], modality: str) -> None:
    """Raises `ValueError` if `rows` `[N, D]` are not float32, or one is NaN or infinite."""
    if rows.dtype != np.float32:
        raise ValueError(
            f"The {modality} embeddings are {rows.dtype}; expected float32. Convert them with `.astype(np.float32)`, "
            "if their values have not overflowed."
        )
    for start in range(0, len(rows), ROWS_AT_ONCE):
        broken = np.argwhere(~np.isfinite(rows[start : start + ROWS_AT_ONCE]))  # [*, 2]
        if len(broken):
            row, column = broken[0]
            raise ValueError(
                f"The {modality} embedding of the example {ids[start + row]!r} holds {rows[start + row, column]} "
                f"(column {column}); expected finite numbers. The encoder overflows on this example, or its weights "
                "are damaged: check the example, or use another encoder."
            )
