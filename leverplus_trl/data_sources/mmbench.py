# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
MMBench: one TSV file with images in base64. The test split has no answers.

The file repeats each question with its choices rotated ("circular" evaluation: index + 1,000,000 a turn); only the
first is kept. The hub dataset has the same columns, with images; not tried where there is no network.
"""

import base64
import binascii
import csv
import io
import sys
from collections.abc import Iterator
from itertools import takewhile

from datasets import Features, List, Value

from .data_source import DataSource, Row, example
from .raw_files import RawFiles


#: The first is the file's own name; the others are those of other releases of it.
FILES = ("MMBench_dev_en.tsv", "mmbench_dev_en_20231003.tsv", "MMBench_DEV_EN.tsv")
#: Rows of the file, rotations included.
OFFICIAL_ROWS = 4329
ROTATION = 1_000_000
LETTERS = "ABCD"
#: Base64 of any image is longer; what is shorter is the index of the row that has it.
SHORTEST_IMAGE = 64


def _read(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find(*FILES)
    csv.field_size_limit(sys.maxsize)
    rows = list(csv.DictReader(io.StringIO(raw.read_text(file), newline=""), delimiter="\t"))
    wanted = {"index", "question", "answer", "image", *LETTERS}
    if not rows or not wanted <= rows[0].keys():
        raise ValueError(
            f"{str(file)!r} has the columns {list(rows[0]) if rows else []}; expected at least {sorted(wanted)}."
        )
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
        made = _read_row(row, split, position)
        yield made | {"image": image, "problem": made["problem"] or problem}


def _is_first(row: Row) -> bool:
    return int(row["index"]) < ROTATION


def _read_row(row: Row, split: str, position: int) -> Row:
    # Questions with fewer than four choices leave the last ones empty ("nan" on the hub).
    choices = list(takewhile(lambda choice: choice and choice != "nan", (row[letter] for letter in LETTERS)))
    right = (row["answer"] or "").strip()
    problem = "" if right in list(LETTERS[: len(choices)]) else "the right answer is not one of the choices"
    hint = row.get("hint") or ""
    return example(
        row["index"],
        row["question"],
        [right] if right else [],
        problem=problem,
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
    extras=Features(
        {
            "choices": List(Value("string")),
            **{name: Value("string") for name in ("context", "category", "l2_category")},
        }
    ),
    keep=_is_first,
    note="`answer` is the letter of the right one of `choices`; `context` is the hint. Questions stand here once, "
    "without rotations. There is no train split: with `holdout`, `validation` is the pool and `holdout` the queries.",
)
