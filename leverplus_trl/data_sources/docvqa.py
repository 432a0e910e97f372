# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
DocVQA (its task 1, questions about one page): one JSON file a split, with the types of questions in the later release
(`_withQT`), and scanned pages. The test split has no answers.

The hub dataset has the same fields and no train split; not tried where there is no network.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from datasets import Features, List, Value

from .data_source import DataSource, Row, example, expect, first_text, image_file
from .raw_files import RawFiles


COUNTS = {"train": 39463, "validation": 5349}
#: Beside the JSON file in the first release, in a folder of its own in the later one.
FOLDERS = ("spdocvqa_images", "documents")


def _read(raw: RawFiles, split: str) -> Iterator[Row]:
    name = "train" if split == "train" else "val"
    file = raw.find(f"{name}_v1.0_withQT.json", f"{name}_v1.0.json")
    records = raw.records(file, "data")
    raw.check_count(file, len(records), COUNTS[split], "questions")
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
    extras=Features(
        {"document_id": Value("string"), "page": Value("string"), "question_types": List(Value("string"))}
    ),
    note="`answer` is the first of the accepted answers that is not empty, as the publishers suggest.",
)
