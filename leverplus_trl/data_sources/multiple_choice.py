# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Questions with options: ScienceQA, its questions with an image (the hub dataset has no ids), and MMBench (a TSV file
with images in base64; the test split has no answers).

MMBench's file repeats each question with its choices rotated; a rotation adds 1,000,000 to the index. Only the first
is kept.
"""

import base64
import binascii
import csv
from collections.abc import Iterator
from itertools import takewhile

from ..tasks.columns import TEXT, TEXTS
from .data_source import DataSource, RawFiles, Row, example, expect, image_file


#: Of 12,726, 4,241 and 4,241 questions.
SCIENCEQA_COUNTS = {"train": 6218, "validation": 2097, "test": 2017}
SCIENCEQA_SPLITS = {"train": "train", "validation": "val", "test": "test"}
SCIENCEQA_TEXTS = ("lecture", "solution", "subject", "topic", "category", "skill", "grade")
#: The name in the first release, then the names in later releases.
MMBENCH_FILES = ("MMBench_dev_en.tsv", "mmbench_dev_en_20231003.tsv", "MMBench_DEV_EN.tsv")
#: Rows of the file, rotations included.
MMBENCH_ROWS = 4329
LETTERS = "ABCD"
#: A shorter cell is not an image in base64 but the index of the row that holds the image.
SHORTEST_IMAGE = 64
NO_CHOICE = "the right answer is not one of the choices"


def _read_scienceqa(raw: RawFiles, split: str) -> Iterator[Row]:
    official = SCIENCEQA_SPLITS[split]
    file = raw.find("problems.json")
    content = raw.read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{str(file)!r} is not ScienceQA's problems.json: expected a mapping of ids to questions.")
    records = raw.each(file, content.items())
    ids = {identifier for identifier, row in records if row["split"] == official and row["image"]}
    raw.check_count(file, len(ids), SCIENCEQA_COUNTS[split], f"questions with an image in the split {split}")
    folder = raw.image_folder("images") / official
    for identifier, row in raw.each(file, content.items()):
        if identifier in ids:
            yield _scienceqa_row(identifier, row) | {"image": image_file(folder, identifier, row["image"])}


def _scienceqa_hub_row(row: Row, split: str, position: int) -> Row:
    return _scienceqa_row(f"{split}-{position}", row)


def _scienceqa_row(identifier: object, row: Row) -> Row:
    choices, right = expect(list, "choices", row["choices"]) or [], expect(int, "answer", row["answer"])
    is_known = right is not None and 0 <= right < len(choices)
    return example(
        identifier,
        row["question"],
        [chr(ord("A") + right)] if is_known else [],
        problem="" if is_known else NO_CHOICE,
        choices=choices,
        context=row.get("hint") or "",
        **{name: row.get(name) or "" for name in SCIENCEQA_TEXTS},
    )


def _read_mmbench(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find(*MMBENCH_FILES)
    names, rows = raw.read_tsv(file, csv.QUOTE_MINIMAL)
    needed = {"index", "question", "answer", "image", *LETTERS}
    if not rows or not needed <= set(names):
        raise ValueError(f"{str(file)!r} has the columns {names}; expected at least {sorted(needed)}.")
    raw.check_count(file, len(rows), MMBENCH_ROWS, "rows, rotations included")
    images = {row["index"]: row["image"] for row in rows}
    for position, row in enumerate(raw.each(file, rows)):
        if not _is_first(row):
            continue
        encoded = row["image"] or ""
        if len(encoded) < SHORTEST_IMAGE:
            encoded = images.get(encoded) or ""
        try:
            image = {"bytes": base64.b64decode(encoded, validate=True), "path": None} if encoded else None
            problem = "" if image else "it has no image"
        except binascii.Error:
            image, problem = None, "its image is not base64"
        columns = _mmbench_row(row, split, position)
        yield columns | {"image": image, "problem": columns["problem"] or problem}


def _is_first(row: Row) -> bool:
    return int(row["index"]) < 1_000_000


def _mmbench_row(row: Row, split: str, position: int) -> Row:
    # Questions with fewer than four choices leave the last ones empty ("nan" on the hub).
    choices = list(takewhile(lambda choice: choice and choice != "nan", (row[letter] for letter in LETTERS)))
    right = (row["answer"] or "").strip()
    hint = row.get("hint") or ""
    return example(
        row["index"],
        row["question"],
        [right] if right else [],
        problem="" if right in list(LETTERS[: len(choices)]) else NO_CHOICE,
        choices=choices,
        context="" if hint == "nan" else hint,
        category=row.get("category"),
        l2_category=row.get("l2-category") or row.get("L2-category"),
    )


SCIENCEQA = DataSource(
    title="ScienceQA, questions with an image",
    homepage="https://scienceqa.github.io",
    licence="CC BY-NC-SA 4.0",
    citation="lu2022learn",
    reference="Lu et al., Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering, "
    "NeurIPS 2022",
    task="multiple_choice",
    metric="scienceqa_accuracy",
    counts=SCIENCEQA_COUNTS,
    read=_read_scienceqa,
    read_hub=_scienceqa_hub_row,
    hub_ids={"derek-thomas/ScienceQA": None},
    extras={"choices": TEXTS, "context": TEXT, **dict.fromkeys(SCIENCEQA_TEXTS, TEXT)},
    keep=lambda row: row["image"] is not None,
    note="`answer` is the letter of the right one of `choices`; `context` is the hint, which is often empty.",
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
    read=_read_mmbench,
    read_hub=_mmbench_row,
    hub_ids={"lmms-lab/MMBench": "en", "lmms-lab/MMBench_EN": None},
    extras={"choices": TEXTS, **dict.fromkeys(("context", "category", "l2_category"), TEXT)},
    keep=_is_first,
    note="`answer` is the letter of the right one of `choices`; `context` is the hint. Each question appears once, "
    "without rotations. There is no train split: with `holdout`, `validation` is the pool and `holdout` the queries.",
)
