# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Official files that are truncated, of another kind, or hold records that are."""

import json
import re

import datasets
import pytest
from data_sources.official_formats import write_dataset
from data_sources.preparing import edit_json, prepared, sizes_of

from leverplus_trl.data_sources.vqa import OKVQA_COUNTS
from leverplus_trl.scripts import prepare


def test_other_counts_than_the_official_ones_are_refused_naming_the_file(tmp_path, caplog):
    with pytest.raises(
        ValueError,
        match=r"OpenEnded_mscoco_train2014_questions.json' holds 7 questions; the official file holds 9,009",
    ):
        prepared(tmp_path, "okvqa", allow_other_counts=False)
    assert not (tmp_path / "examples").exists()
    with caplog.at_level("WARNING", "leverplus_trl"):
        prepared(tmp_path, "okvqa")
    assert "mscoco_val2014_annotations.json' holds 4 annotations; the official file holds 5,046" in caplog.text


def test_the_official_counts_need_no_permission(tmp_path, monkeypatch):
    for split, size in sizes_of("okvqa").items():
        monkeypatch.setitem(OKVQA_COUNTS, split, size)
    assert (prepared(tmp_path, "okvqa", allow_other_counts=False) / "README.md").exists()


def test_truncated_and_foreign_files_are_named(tmp_path):
    root = tmp_path / "official"
    write_dataset("okvqa", root, sizes_of("okvqa"))
    file = root / "mscoco_train2014_annotations.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"mscoco_train2014_annotations.json' \(.* bytes\) is not whole JSON"):
        prepared(tmp_path, "okvqa")
    file.write_text('{"questions": []}')
    with pytest.raises(ValueError, match=r"holds no list 'annotations': it is not the official file"):
        prepared(tmp_path, "okvqa")
    file.unlink()
    with pytest.raises(ValueError, match=r"There is no mscoco_train2014_annotations.json in .* name in `splits` only"):
        prepared(tmp_path, "okvqa")
    output = prepared(tmp_path, "okvqa", splits=["validation"])
    assert list(datasets.load_dataset(str(output))) == ["validation"]
    for place in ("one", "two"):
        (root / place).mkdir()
        (root / place / file.name).write_text(whole)
    with pytest.raises(ValueError, match="is in several places"):
        prepared(tmp_path, "okvqa", to="again")


@pytest.mark.parametrize(
    "name, file, content, message",
    [
        ("gsm8k", "train.jsonl", '{"question": "a", "answer": "1 #### 1"}\n{"quest', r"Line 2 of .*looks truncated"),
        ("sst2", "train.tsv", "index\tsentence\n0\tfine\n", "has the columns"),
        ("scienceqa", "problems.json", '{"1": {"question": "a"}}', "it has no 'split'"),
        ("scienceqa", "problems.json", "[]", "is not ScienceQA's problems.json"),
        ("gsm8k", "train.jsonl", b"\xff", "is not text in UTF-8"),
        ("mmbench", "MMBench_dev_en.tsv", "index\tquestion\n1\ta\n", "expected at least"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, name, file, content, message):
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, name)


def lacks(field):
    return lambda record: record.pop(field)


def says(**fields):
    return lambda record: record.update(fields)


OKVQA_QUESTIONS, OKVQA_ANNOTATIONS = "OpenEnded_mscoco_train2014_questions.json", "mscoco_train2014_annotations.json"


@pytest.mark.parametrize(
    "name, file, key, damage, message",
    [
        ("okvqa", OKVQA_QUESTIONS, "questions", lacks("question_id"), "it has no 'question_id'"),
        ("okvqa", OKVQA_ANNOTATIONS, "annotations", lacks("question_id"), "it has no 'question_id'"),
        ("okvqa", OKVQA_QUESTIONS, "questions", says(image_id="9"), "image_id is '9'; expected a whole number"),
        ("okvqa", OKVQA_QUESTIONS, "questions", says(question=5), "question is 5; expected text"),
        (
            "okvqa",
            OKVQA_ANNOTATIONS,
            "annotations",
            says(multiple_choice_answer=7),
            "multiple_choice_answer is 7; expe",
        ),
        ("okvqa", OKVQA_ANNOTATIONS, "annotations", says(answers="red"), "answers is 'red'; expected a list"),
        (
            "coco_2014",
            "annotations/captions_train2014.json",
            "annotations",
            says(caption=3),
            "caption is 3; expected te",
        ),
        ("coco_2014", "annotations/captions_train2014.json", "images", lacks("file_name"), "it has no 'file_name'"),
        ("coco_karpathy", "dataset_coco.json", "images", lacks("split"), "it has no 'split'"),
        ("textvqa", "TextVQA_0.5.1_train.json", "data", says(answers="red"), "answers is 'red'; expected a list"),
        ("docvqa", "train/train_v1.0.json", "data", says(image=7), "TypeError: "),
    ],
)
def test_a_record_of_another_kind_is_named(tmp_path, name, file, key, damage, message):
    root = tmp_path / "official"
    write_dataset(name, root, sizes_of(name))
    edit_json(root / file, lambda content: damage(content[key][1]))
    title = prepare.DATA_SOURCES[name].title
    expected = (
        f"Record 1 (counted from 0) of {str(root / file)!r}, read for split 'train', is not in the official format"
    )
    with pytest.raises(ValueError, match=re.escape(f"{expected} of {title}: {message}")) as raised:
        prepared(tmp_path, name)
    assert "It is {" in str(raised.value) and "Fetch the file again" in str(raised.value)
    assert raised.value.__cause__ is not None


def test_a_record_is_counted_in_its_file_and_not_in_its_split(tmp_path):
    """Both files hold all splits, one behind the other."""
    root = tmp_path / "karpathy" / "official"
    write_dataset("coco_karpathy", root, sizes_of("coco_karpathy"))
    images = json.loads((root / "dataset_coco.json").read_text())["images"]
    place = [number for number, image in enumerate(images) if image["split"] == "val"][1]
    edit_json(root / "dataset_coco.json", lambda content: content["images"][place].pop("sentences"))
    with pytest.raises(ValueError, match=rf"Record {place} .* it has no 'sentences'"):
        prepared(tmp_path / "karpathy", "coco_karpathy", splits=["validation"])
    root = tmp_path / "scienceqa" / "official"
    write_dataset("scienceqa", root, sizes_of("scienceqa"))
    rows = list(json.loads((root / "problems.json").read_text()).items())
    place = [number for number, (_, row) in enumerate(rows) if row["split"] == "val" and row["image"]][1]
    edit_json(root / "problems.json", lambda content: content[rows[place][0]].pop("choices"))
    with pytest.raises(ValueError, match=rf"Record {place} .* it has no 'choices'"):
        prepared(tmp_path / "scienceqa", "scienceqa", splits=["validation"])


def test_a_record_of_another_kind_is_named_in_lines_and_tables(tmp_path):
    root = tmp_path / "official"
    write_dataset("gsm8k", root, sizes_of("gsm8k"))
    (root / "test.jsonl").write_text('{"question": "a"}\n')
    with pytest.raises(
        ValueError, match=r"Record 0 .*test.jsonl'.* of GSM8K: it has no 'answer'. It is {'question': 'a'}"
    ):
        prepared(tmp_path, "gsm8k", splits=["test"])
    write_dataset("mmbench", root, sizes_of("mmbench"))
    file = root / "MMBench_dev_en.tsv"
    file.write_text(re.sub("^1\t", "x1\t", file.read_text(), flags=re.MULTILINE))
    with pytest.raises(ValueError, match=r"Record 1 .*MMBench_dev_en.tsv'.* MMBench .*: 'x1'. It is .* 'index': 'x1'"):
        prepared(tmp_path, "mmbench")


@pytest.mark.parametrize(
    "name, file, key, identifier",
    [
        ("okvqa", OKVQA_QUESTIONS, "questions", 90),
        ("okvqa", OKVQA_ANNOTATIONS, "annotations", 90),
        ("vqav2", f"v2_{OKVQA_QUESTIONS}", "questions", 9000),
        ("coco_2017", "annotations/captions_train2017.json", "images", 1),
    ],
)
def test_an_id_that_stands_twice_in_a_file_is_refused(tmp_path, name, file, key, identifier):
    root = tmp_path / "official"
    write_dataset(name, root, sizes_of(name))
    edit_json(root / file, lambda content: content[key].append(content[key][0] | {"answers": []}))
    message = (
        f"of {str(root / file)!r}, read for split 'train', is not in the official format of .*: the id {identifier}"
    )
    with pytest.raises(ValueError, match=f"{message} appears twice: two versions of the dataset may be mixed"):
        prepared(tmp_path, name)


@pytest.mark.parametrize(
    "name, file",
    [
        ("sst2", "SST-2/train.tsv"),
        ("mmbench", "MMBench_dev_en.tsv"),
        ("gsm8k", "train.jsonl"),
        ("okvqa", OKVQA_QUESTIONS),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path, name, file):
    without = datasets.load_dataset(str(prepared(tmp_path, name)))
    path = tmp_path / "official" / file
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    marked = datasets.load_dataset(str(prepared(tmp_path, name, to="marked", on_bad_example="raise")))
    assert {split: table["id"][:] for split, table in marked.items()} == {
        split: table["id"][:] for split, table in without.items()
    }


def in_karpathy(content, name):
    content["images"][0]["filename"] = name


def in_scienceqa(content, name):
    next(row for row in content.values() if row["image"])["image"] = name


def as_id_of_scienceqa(content, name):
    content[name] = content.pop(next(one for one, row in content.items() if row["image"]))


@pytest.mark.parametrize("image", ["/etc/hostname", "../image.png", "a/b.png", ".."])
@pytest.mark.parametrize(
    "name, file, write",
    [
        ("coco_karpathy", "dataset_coco.json", in_karpathy),
        ("scienceqa", "problems.json", in_scienceqa),
        ("scienceqa", "problems.json", as_id_of_scienceqa),
    ],
)
def test_an_annotation_file_names_no_file_outside_its_folder(tmp_path, name, file, write, image):
    root = tmp_path / "official"
    write_dataset(name, root, sizes_of(name))
    edit_json(root / file, lambda content: write(content, image))
    with pytest.raises(ValueError, match=f"names the image {re.escape(repr(image))}; expected the name of a file"):
        prepared(tmp_path, name)


def test_what_a_record_has_no_image_or_image_id_for_is_said(tmp_path):
    """A document without an image is one example less; a question about no image is no record of VQAv2."""
    root = tmp_path / "docvqa" / "official"
    write_dataset("docvqa", root, sizes_of("docvqa"))
    edit_json(root / "train/train_v1.0.json", lambda content: content["data"][0].update(image=""))
    output = prepared(tmp_path / "docvqa", "docvqa")
    assert len(datasets.load_dataset(str(output), split="train")) == sizes_of("docvqa")["train"] - 1
    assert "it has no image" in (output / "README.md").read_text()
    root = tmp_path / "vqav2" / "official"
    write_dataset("vqav2", root, sizes_of("vqav2"))
    file = next(root.rglob("*OpenEnded_mscoco_train2014_questions.json"))
    for image_id in (None, True):
        edit_json(file, lambda content, value=image_id: content["questions"][0].update(image_id=value))
        with pytest.raises(ValueError, match=f"image_id is {image_id}; expected a whole number"):
            prepared(tmp_path / "vqav2", "vqav2")
