# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Questions about texts in images: TextVQA and DocVQA's task 1 (questions about a single page). Both have a JSON file per
split. The test splits have no answers, and the hub dataset of DocVQA has no train split.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from ..tasks.columns import TEXT, TEXTS
from .data_source import DataSource, Row, example, expect, first_text, image_file
from .raw_files import RawFiles


FILE_SPLITS = {"train": "train", "validation": "val"}
TEXTVQA_COUNTS = {"train": 34602, "validation": 5000}
DOCVQA_COUNTS = {"train": 39463, "validation": 5349}


def _read_textvqa(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find(f"TextVQA_0.5.1_{FILE_SPLITS[split]}.json")
    records = raw.records(file, "data", TEXTVQA_COUNTS[split], "questions")
    folder = raw.image_folder("train_images")  # of both splits
    for position, record in enumerate(raw.each(file, records)):
        image = image_file(folder, f"{record['image_id']}.jpg")
        yield _textvqa_row(record, split, position) | {"image": image}


def _textvqa_row(row: Row, split: str, position: int) -> Row:
    columns = {"image_id": row["image_id"], "image_classes": row.get("image_classes") or []}
    return example(row["question_id"], row["question"], **_answers(row), **columns)


def _read_docvqa(raw: RawFiles, split: str) -> Iterator[Row]:
    name = f"{FILE_SPLITS[split]}_v1.0"
    file = raw.find(f"{name}_withQT.json", f"{name}.json")  # the later release adds the types of the questions
    records = raw.records(file, "data", DOCVQA_COUNTS[split], "questions")
    beside = file.parent / "documents"  # in the first release; later in a separate folder
    folder = beside if beside.is_dir() else raw.image_folder("spdocvqa_images", "documents")
    for position, record in enumerate(raw.each(file, records)):
        name = PurePosixPath(record["image"] or "").name
        yield _docvqa_row(record, split, position) | {"image": image_file(folder, name) if name else None}


def _docvqa_row(row: Row, split: str, position: int) -> Row:
    columns = {"document_id": row.get("ucsf_document_id"), "page": row.get("ucsf_document_page_no")}
    columns["question_types"] = row.get("question_types") or []
    answers = _answers(row)
    return example(row["questionId"], row["question"], **answers, answer=first_text(answers["answers"]), **columns)


def _answers(row: Row) -> Row:
    answers = expect(list, "answers", row.get("answers")) or []
    return {"answers": answers, "problem": "" if answers else "the question has no answers"}


TEXTVQA = DataSource(
    title="TextVQA 0.5.1",
    homepage="https://textvqa.org/dataset",
    licence="CC BY 4.0; images: as Open Images says of each",
    citation="singh2019towards",
    reference="Singh et al., Towards VQA Models That Can Read, CVPR 2019",
    task="vqa",
    metric="vqa_accuracy",
    counts=TEXTVQA_COUNTS,
    read=_read_textvqa,
    read_hub=_textvqa_row,
    hub_ids={"lmms-lab/textvqa": None},
    extras={"image_id": TEXT, "image_classes": TEXTS},
    num_annotators=10,
)
DOCVQA = DataSource(
    title="DocVQA",
    homepage="https://rrc.cvc.uab.es/?ch=17 (registration needed)",
    licence="not stated with the files; for research, see the homepage",
    citation="mathew2021docvqa",
    reference="Mathew et al., DocVQA: A Dataset for VQA on Document Images, WACV 2021",
    task="vqa",
    metric="anls",
    counts=DOCVQA_COUNTS,
    read=_read_docvqa,
    read_hub=_docvqa_row,
    hub_ids={"lmms-lab/DocVQA": "DocVQA"},
    extras={"document_id": TEXT, "page": TEXT, "question_types": TEXTS},
    note="`answer` is the first of the accepted answers that is not empty, as the publishers suggest.",
)
