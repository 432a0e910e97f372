# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
ScienceQA, the questions with an image: `problems.json` and `images/<split>/<id>/image.png`.

The hub dataset has the same fields, without ids.
"""

from collections.abc import Iterator

from ..tasks.columns import TEXT, TEXTS
from .data_source import DataSource, Row, example, expect, image_file
from .raw_files import RawFiles


#: Of 12,726, 4,241 and 4,241 questions.
COUNTS = {"train": 6218, "validation": 2097, "test": 2017}
OFFICIAL_SPLITS = {"train": "train", "validation": "val", "test": "test"}
DESCRIPTIONS = ("subject", "topic", "category", "skill", "grade")


def _read(raw: RawFiles, split: str) -> Iterator[Row]:
    official = OFFICIAL_SPLITS[split]
    file = raw.find("problems.json")
    content = raw.read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"{str(file)!r} is not ScienceQA's problems.json: expected a mapping of ids to questions.")
    records = raw.each(file, content.items())
    wanted = {identifier for identifier, row in records if row["split"] == official and row["image"]}
    raw.check_count(file, len(wanted), COUNTS[split], f"questions with an image in the split {split}")
    folder = raw.image_folder("images") / official
    for identifier, row in raw.each(file, content.items()):
        if identifier in wanted:
            yield _example(identifier, row) | {"image": image_file(folder, identifier, row["image"])}


def _example(identifier: object, row: Row) -> Row:
    choices, right = expect(list, "choices", row["choices"]) or [], expect(int, "answer", row["answer"])
    known = right is not None and 0 <= right < len(choices)
    return example(
        identifier,
        row["question"],
        [chr(ord("A") + right)] if known else [],
        problem="" if known else "the right answer is not one of the choices",
        choices=choices,
        context=row.get("hint") or "",
        **{name: row.get(name) or "" for name in ("lecture", "solution", *DESCRIPTIONS)},
    )


def _read_hub(row: Row, split: str, position: int) -> Row:
    return _example(f"{split}-{position}", row)


SCIENCEQA = DataSource(
    title="ScienceQA, questions with an image",
    homepage="https://scienceqa.github.io",
    licence="CC BY-NC-SA 4.0",
    citation="lu2022learn",
    reference="Lu et al., Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering, "
    "NeurIPS 2022",
    task="multiple_choice",
    metric="scienceqa_accuracy",
    counts=COUNTS,
    read=_read,
    read_hub=_read_hub,
    hub_ids={"derek-thomas/ScienceQA": None},
    extras={"choices": TEXTS, **dict.fromkeys(("context", "lecture", "solution", *DESCRIPTIONS), TEXT)},
    keep=lambda row: row["image"] is not None,
    note="`answer` is the letter of the right one of `choices`; `context` is the hint, which is often empty.",
)
