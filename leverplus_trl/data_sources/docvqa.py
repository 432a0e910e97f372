# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
DocVQA, task 1 (questions about a single page): a JSON file per split, and scanned pages. The later release (`_withQT`)
adds the types of the questions. The test split has no answers.

The hub dataset has the same fields and no train split.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from ..tasks.columns import TEXT, TEXTS
from .data_source import DataSource, Row, example, expect, first_text, image_file
from .raw_files import RawFiles


COUNTS = {"train": 39463, "validation": 5349}
#: Beside the JSON file in the first release, in a separate folder in the later release.
FOLDERS = ("spdocvqa_images", "documents")


def _read(raw: RawFiles, split: str) -> Iterator[Row]:
    name = "train" if split == "train" else "val"
    file = raw.find(f"{name}_v1.0_withQT.json", f"{name}_v1.0.json")
    records = raw.records(file, "data", COUNTS[split], "questions")
    beside = file.parent / "documents"
    folder = beside if beside.is_dir() else raw.image_folder(*FOLDERS)
    for position, record in enumerate(raw.each(file, records)):
        name = PurePosixPath(record["image"] or "").name
        yield _read_row(record, split, position) | {"image": image_file(folder, name) if name else None}


def _read_row(row: Row, split: str, position: int) -> Row:
    answers = expect(list, "answers", row.get("answers")) or []
    return example(
        row["questionId"],
        row["question"],
        answers,
        answer=first_text(answers),
        problem="" if answers else "the question has no answers",
        document_id=row.get("ucsf_document_id"),
        page=row.get("ucsf_document_page_no"),
        question_types=row.get("question_types") or [],
    )


DOCVQA = DataSource(
    title="DocVQA",
    homepage="https://rrc.cvc.uab.es/?ch=17 (registration needed)",
    licence="not stated with the files; for research, see the homepage",
    citation="mathew2021docvqa",
    reference="Mathew et al., DocVQA: A Dataset for VQA on Document Images, WACV 2021",
    task="vqa",
    metric="anls",
    counts=COUNTS,
    read=_read,
    read_hub=_read_row,
    hub_ids={"lmms-lab/DocVQA": "DocVQA"},
    extras={"document_id": TEXT, "page": TEXT, "question_types": TEXTS},
    note="`answer` is the first of the accepted answers that is not empty, as the publishers suggest.",
)
