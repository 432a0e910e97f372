# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""TextVQA: a JSON file per split, and images of Open Images. The test split has no answers."""

from collections.abc import Iterator

from ..tasks.columns import TEXT, TEXTS
from .data_source import DataSource, Row, example, expect, image_file
from .raw_files import RawFiles


COUNTS = {"train": 34602, "validation": 5000}


def _read(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find(f"TextVQA_0.5.1_{'train' if split == 'train' else 'val'}.json")
    records = raw.records(file, "data", COUNTS[split], "questions")
    folder = raw.image_folder("train_images")  # of both splits
    for position, record in enumerate(raw.each(file, records)):
        yield _read_row(record, split, position) | {"image": image_file(folder, f"{record['image_id']}.jpg")}


def _read_row(row: Row, split: str, position: int) -> Row:
    return example(
        row["question_id"],
        row["question"],
        expect(list, "answers", row.get("answers")) or [],
        image_id=row["image_id"],
        image_classes=row.get("image_classes") or [],
        problem="" if row.get("answers") else "the question has no answers",
    )


TEXTVQA = DataSource(
    title="TextVQA 0.5.1",
    homepage="https://textvqa.org/dataset",
    licence="CC BY 4.0; images: as Open Images says of each",
    citation="singh2019towards",
    reference="Singh et al., Towards VQA Models That Can Read, CVPR 2019",
    task="vqa",
    metric="vqa_accuracy",
    counts=COUNTS,
    read=_read,
    read_hub=_read_row,
    hub_ids={"lmms-lab/textvqa": None},
    extras={"image_id": TEXT, "image_classes": TEXTS},
    num_annotators=10,
)
