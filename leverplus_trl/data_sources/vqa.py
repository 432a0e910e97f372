# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
OK-VQA and VQAv2: a file of questions and one of annotations for each split, and the images of COCO 2014.

Hub datasets have one row a question, `answers` being strings or `{"answer", ...}`. The ids below are known from their
cards; they are read by the same rules, but were not tried where there is no network. lmms-lab's hold no train split,
and HuggingFaceM4/VQAv2 is read at its revision `refs/convert/parquet`, since `datasets` no longer runs scripts.
"""

from collections.abc import Iterator
from functools import partial

from datasets import Features, List, Value

from .data_source import DataSource, Row, example, expect, image_file
from .raw_files import RawFiles


COCO_SPLITS = {"train": "train2014", "validation": "val2014"}
VQA_EXTRAS = {"image_id": Value("string"), "question_type": Value("string"), "answer_type": Value("string")}
OKVQA_EXTRAS = Features({**VQA_EXTRAS, "raw_answers": List(Value("string"))})


def _read(prefix: str, counts: dict[str, int], has_raw_answers: bool, raw: RawFiles, split: str) -> Iterator[Row]:
    coco_split = COCO_SPLITS[split]
    questions_file = raw.find(f"{prefix}OpenEnded_mscoco_{coco_split}_questions.json")
    annotations_file = raw.find(f"{prefix}mscoco_{coco_split}_annotations.json")
    questions = raw.records(questions_file, "questions")
    annotations = raw.records(annotations_file, "annotations")
    raw.check_count(questions_file, len(questions), counts[split], "questions")
    raw.check_count(annotations_file, len(annotations), counts[split], "annotations")
    folder = raw.image_folder(coco_split)
    unasked = {
        identifier: _said(annotation, has_raw_answers)
        for identifier, annotation in raw.by_id(annotations_file, annotations, "question_id")
    }
    del annotations  # those of VQAv2 take a gigabyte
    for identifier, question in raw.by_id(questions_file, questions, "question_id"):
        said = unasked.pop(identifier, None)
        image_id = expect(int, "image_id", question["image_id"], is_needed=True)
        yield example(
            identifier,
            question["question"],
            **(said or _said({}, has_raw_answers)),
            image=image_file(folder, f"COCO_{coco_split}_{image_id:012d}.jpg"),
            problem="" if said else "the question has no annotation",
            image_id=image_id,
        )
    for identifier, said in unasked.items():
        yield example(identifier, "", **said, problem="the annotation has no question", image_id=None)


def _said(annotation: Row, has_raw_answers: bool) -> Row:
    """What annotators said, as arguments of [`example`]."""
    given = expect(list, "answers", annotation.get("answers")) or []
    said = {
        "answers": [one["answer"] if isinstance(one, dict) else one for one in given],
        "answer": expect(str, "multiple_choice_answer", annotation.get("multiple_choice_answer")),
        "question_type": annotation.get("question_type"),
        "answer_type": annotation.get("answer_type"),
    }
    if has_raw_answers:
        said["raw_answers"] = [
            one.get("raw_answer") or one["answer"] if isinstance(one, dict) else one for one in given
        ]
    return said


def _read_hub(has_raw_answers: bool, row: Row, split: str, position: int) -> Row:
    said = _said(row, has_raw_answers)
    return example(row["question_id"], row["question"], **said, image_id=row.get("image_id"))


OKVQA_COUNTS = {"train": 9009, "validation": 5046}
OKVQA = DataSource(
    title="OK-VQA",
    homepage="https://okvqa.allenai.org (images: https://cocodataset.org)",
    licence="annotations: CC BY 4.0; images: the terms of use of Flickr, as COCO says",
    citation="marino2019okvqa",
    reference="Marino et al., OK-VQA: A Visual Question Answering Benchmark Requiring External Knowledge, CVPR 2019",
    task="vqa",
    metric="okvqa_accuracy",
    counts=OKVQA_COUNTS,
    read=partial(_read, "", OKVQA_COUNTS, True),
    read_hub=partial(_read_hub, True),
    hub_ids={"lmms-lab/OK-VQA": None},
    extras=OKVQA_EXTRAS,
    num_annotators=10,
    note="`answers` are the stemmed answers of the annotation files, which the official metric compares with; "
    "`raw_answers` is what the annotators wrote. Papers on demonstrations test on `validation`.",
)

VQAV2_COUNTS = {"train": 443757, "validation": 214354}
VQAV2 = DataSource(
    title="VQAv2",
    homepage="https://visualqa.org/download.html (images: https://cocodataset.org)",
    licence="annotations: CC BY 4.0; images: the terms of use of Flickr, as COCO says",
    citation="goyal2017making",
    reference="Goyal et al., Making the V in VQA Matter: Elevating the Role of Image Understanding in Visual Question "
    "Answering, CVPR 2017",
    task="vqa",
    metric="vqa_accuracy",
    counts=VQAV2_COUNTS,
    read=partial(_read, "v2_", VQAV2_COUNTS, False),
    read_hub=partial(_read_hub, False),
    hub_ids={"lmms-lab/VQAv2": None, "HuggingFaceM4/VQAv2": None},
    extras=Features(VQA_EXTRAS),
    num_annotators=10,
    note="`answer` is the annotation files' `multiple_choice_answer`. The official test splits have no answers; "
    "papers on demonstrations test on `validation`.",
)
