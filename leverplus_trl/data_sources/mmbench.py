# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
MMBench: a TSV file with images in base64. The test split has no answers.

The file repeats each question with its choices rotated ("circular" evaluation: a rotation adds 1,000,000 to the
index); only the first is kept. The hub dataset has the same columns and decoded images.
"""

import base64
import binascii
import csv
from collections.abc import Iterator
from itertools import takewhile

from ..tasks.columns import TEXT, TEXTS
from .data_source import DataSource, Row, example
from .raw_files import RawFiles


#: The name in the first release, then the names in later releases.
FILES = ("MMBench_dev_en.tsv", "mmbench_dev_en_20231003.tsv", "MMBench_DEV_EN.tsv")
#: Rows of the file, rotations included.
OFFICIAL_ROWS = 4329
ROTATION = 1_000_000
LETTERS = "ABCD"
#: A shorter cell is not an image in base64 but the index of the row that holds the image.
SHORTEST_IMAGE = 64


def _read(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find(*FILES)
    names, rows = raw.read_tsv(file, csv.QUOTE_MINIMAL)
    wanted = {"index", "question", "answer", "image", *LETTERS}
    if not rows or not wanted <= set(names):
        raise ValueError(f"{str(file)!r} has the columns {names}; expected at least {sorted(wanted)}.")
    raw.check_count(file, len(rows), OFFICIAL_ROWS, "rows, rotations included")
    images = {row["index"]: row["image"] for row in rows}
    for position, row in enumerate(raw.each(file, rows)):
        if not _is_first(row):
            continue
        encoded = row["image"] or ""
        if len(encoded) < SHORTEST_IMAGE:
            encoded = images.get(encoded, "") or ""
        try:
            image = {"bytes": base64.b64decode(encoded, validate=True), "path": None} if encoded else None
            problem = "" if image else "it has no image"
        except binascii.Error:
            image, problem = None, "its image is not base64"
        columns = _read_row(row, split, position)
        yield columns | {"image": image, "problem": columns["problem"] or problem}


def _is_first(row: Row) -> bool:
    return int(row["index"]) < ROTATION


def _read_row(row: Row, split: str, position: int) -> Row:
    # Questions with fewer than four choices leave the last ones empty ("nan" on the hub).
    choices = list(takewhile(lambda choice: choice and choice != "nan", (row[letter] for letter in LETTERS)))
    right = (row["answer"] or "").strip()
    hint = row.get("hint") or ""
    return example(
        row["index"],
        row["question"],
        [right] if right else [],
        problem="" if right in list(LETTERS[: len(choices)]) else "the right answer is not one of the choices",
        choices=choices,
        context="" if hint == "nan" else hint,
        category=row.get("category"),
        l2_category=row.get("l2-category") or row.get("L2-category"),
    )


MMBENCH = DataSource(
    title="MMBench (English, dev)",
    homepage="https://github.com/open-compass/MMBench",
    licence="Apache-2.0 (the repository's); images: as their sources say",
    citation="liu2024mmbench",
    reference="Liu et al., MMBench: Is Your Multi-modal Model an All-around Player?, ECCV 2024",
    task="multiple_choice",
    metric="mmbench_accuracy",
    counts={"validation": None},
    read=_read,
    read_hub=_read_row,
    hub_ids={"lmms-lab/MMBench": "en", "lmms-lab/MMBench_EN": None},
    extras={"choices": TEXTS, **dict.fromkeys(("context", "category", "l2_category"), TEXT)},
    keep=_is_first,
    note="`answer` is the letter of the right one of `choices`; `context` is the hint. Each question appears once, "
    "without rotations. There is no train split: with `holdout`, `validation` is the pool and `holdout` the queries.",
)
