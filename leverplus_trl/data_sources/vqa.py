# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
OK-VQA and VQAv2 (per split a file of questions and a file of annotations; images of COCO 2014), TextVQA and DocVQA's
task 1, questions about a single page (a file per split). The test splits have no answers.

On the hub, those of lmms-lab have no train split, and `answers` are strings or `{"answer", ...}`. Read
HuggingFaceM4/VQAv2 at its revision `refs/convert/parquet`, since `datasets` no longer runs scripts.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

from ..tasks.columns import TEXT, TEXTS
from .data_source import DataSource, RawFiles, Row, example, expect, first_text, image_file


COCO_SPLITS = {"train": "train2014", "validation": "val2014"}
VQA_EXTRAS = dict.fromkeys(("image_id", "question_type", "answer_type"), TEXT)
OKVQA_COUNTS = {"train": 9009, "validation": 5046}
VQAV2_COUNTS = {"train": 443757, "validation": 214354}
FILE_SPLITS = {"train": "train", "validation": "val"}
TEXTVQA_COUNTS = {"train": 34602, "validation": 5000}
DOCVQA_COUNTS = {"train": 39463, "validation": 5349}


def _read(prefix: str, counts: dict[str, int], has_raw_answers: bool, raw: RawFiles, split: str) -> Iterator[Row]:
    coco_split = COCO_SPLITS[split]
    questions_file = raw.find(f"{prefix}OpenEnded_mscoco_{coco_split}_questions.json")
    annotations_file = raw.find(f"{prefix}mscoco_{coco_split}_annotations.json")
    questions = raw.records(questions_file, "questions", counts[split], "questions")
    annotations = raw.records(annotations_file, "annotations", counts[split], "annotations")
    folder = raw.image_folder(coco_split)
    answers_of = {
        identifier: _answers(annotation, has_raw_answers)
        for identifier, annotation in raw.by_id(annotations_file, annotations, "question_id")
    }
    del annotations  # a gigabyte for VQAv2
    for identifier, question in raw.by_id(questions_file, questions, "question_id"):
        own = answers_of.pop(identifier, None)
        image_id = expect(int, "image_id", question["image_id"], is_needed=True)
        yield example(
            identifier,
            question["question"],
            **(own or _answers({}, has_raw_answers)),
            image=image_file(folder, f"COCO_{coco_split}_{image_id:012d}.jpg"),
            problem="" if own else "the question has no annotation",
            image_id=image_id,
        )
    for identifier, own in answers_of.items():
        yield example(identifier, "", **own, problem="the annotation has no question", image_id=None)


def _answers(annotation: Row, has_raw_answers: bool) -> Row:
    answers = expect(list, "answers", annotation.get("answers")) or []
    objects = [answer if isinstance(answer, dict) else {"answer": answer} for answer in answers]
    columns = {
        "answers": [answer["answer"] for answer in objects],
        "answer": expect(str, "multiple_choice_answer", annotation.get("multiple_choice_answer")),
        "question_type": annotation.get("question_type"),
        "answer_type": annotation.get("answer_type"),
    }
    if has_raw_answers:
        columns["raw_answers"] = [answer.get("raw_answer") or answer["answer"] for answer in objects]
    return columns


def _read_hub(has_raw_answers: bool, row: Row, split: str, position: int) -> Row:
    columns = _answers(row, has_raw_answers)
    return example(row["question_id"], row["question"], **columns, image_id=row.get("image_id"))


def _read_textvqa(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find(f"TextVQA_0.5.1_{FILE_SPLITS[split]}.json")
    records = raw.records(file, "data", TEXTVQA_COUNTS[split], "questions")
    folder = raw.image_folder("train_images")  # of both splits
    for position, record in enumerate(raw.each(file, records)):
        image = image_file(folder, f"{record['image_id']}.jpg")
        yield _textvqa_row(record, split, position) | {"image": image}


def _textvqa_row(row: Row, split: str, position: int) -> Row:
    columns = {"image_id": row["image_id"], "image_classes": row.get("image_classes") or []}
    return example(row["question_id"], row["question"], **_accepted(row), **columns)


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
    answers = _accepted(row)
    return example(row["questionId"], row["question"], **answers, answer=first_text(answers["answers"]), **columns)


def _accepted(row: Row) -> Row:
    answers = expect(list, "answers", row.get("answers")) or []
    return {"answers": answers, "problem": "" if answers else "the question has no answers"}


_vqa = partial(DataSource, task="vqa")
_coco = partial(
    _vqa, licence="annotations: CC BY 4.0; images: the terms of use of Flickr, as COCO says", num_annotators=10
)
OKVQA = _coco(
    title="OK-VQA",
    homepage="https://okvqa.allenai.org (images: https://cocodataset.org)",
    citation="marino2019okvqa",
    reference="Marino et al., OK-VQA: A Visual Question Answering Benchmark Requiring External Knowledge, CVPR 2019",
    metric="okvqa_accuracy",
    counts=OKVQA_COUNTS,
    read=partial(_read, "", OKVQA_COUNTS, True),
    read_hub=partial(_read_hub, True),
    hub_ids={"lmms-lab/OK-VQA": None},
    extras={**VQA_EXTRAS, "raw_answers": TEXTS},
    note="`answers` are the stemmed answers of the annotation files, which the official metric compares with; "
    "`raw_answers` is what the annotators wrote. Papers on demonstrations test on `validation`.",
)
VQAV2 = _coco(
    title="VQAv2",
    homepage="https://visualqa.org/download.html (images: https://cocodataset.org)",
    citation="goyal2017making",
    reference="Goyal et al., Making the V in VQA Matter: Elevating the Role of Image Understanding in Visual Question "
    "Answering, CVPR 2017",
    metric="vqa_accuracy",
    counts=VQAV2_COUNTS,
    read=partial(_read, "v2_", VQAV2_COUNTS, False),
    read_hub=partial(_read_hub, False),
    hub_ids={"lmms-lab/VQAv2": None, "HuggingFaceM4/VQAv2": None},
    extras=VQA_EXTRAS,
    note="`answer` is the annotation files' `multiple_choice_answer`. The official test splits have no answers; "
    "papers on demonstrations test on `validation`.",
)
TEXTVQA = _vqa(
    title="TextVQA 0.5.1",
    homepage="https://textvqa.org/dataset",
    licence="CC BY 4.0; images: as Open Images says of each",
    citation="singh2019towards",
    reference="Singh et al., Towards VQA Models That Can Read, CVPR 2019",
    metric="vqa_accuracy",
    counts=TEXTVQA_COUNTS,
    read=_read_textvqa,
    read_hub=_textvqa_row,
    hub_ids={"lmms-lab/textvqa": None},
    extras={"image_id": TEXT, "image_classes": TEXTS},
    num_annotators=10,
)
DOCVQA = _vqa(
    title="DocVQA",
    homepage="https://rrc.cvc.uab.es/?ch=17 (registration needed)",
    licence="not stated with the files; for research, see the homepage",
    citation="mathew2021docvqa",
    reference="Mathew et al., DocVQA: A Dataset for VQA on Document Images, WACV 2021",
    metric="anls",
    counts=DOCVQA_COUNTS,
    read=_read_docvqa,
    read_hub=_docvqa_row,
    hub_ids={"lmms-lab/DocVQA": "DocVQA"},
    extras={"document_id": TEXT, "page": TEXT, "question_types": TEXTS},
    note="`answer` is the first of the accepted answers that is not empty, as the publishers suggest.",
)
