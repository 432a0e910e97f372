# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Official files that are missing, truncated, inconsistent or of something else."""

import base64
import re

import datasets
import pytest
from data_sources.official_formats import write_dataset
from data_sources.preparing import edit_json, prepared, sizes_of

from leverplus_trl.data_sources.vqa import OKVQA_COUNTS
from leverplus_trl.metrics.vqa_accuracy.vqa_accuracy import vqa_accuracy
from leverplus_trl.scripts import prepare
from leverplus_trl.tasks import DataArguments, load_examples


def test_missing_images_are_listed_counted_and_left_out(tmp_path, caplog):
    root = tmp_path / "official"
    write_dataset("okvqa", root, sizes_of("okvqa"))
    gone = sorted((root / "train2014").iterdir())[0]
    gone.unlink()
    with caplog.at_level("WARNING", "leverplus_trl"):
        output = prepared(tmp_path, "okvqa")
    lines = (output / "missing_images.txt").read_text().splitlines()
    assert len(lines) == 2 and all(line.split("\t")[0] == "train" and line.endswith(str(gone)) for line in lines)
    assert (
        f"train: 2 of 7 examples are left out because their image is missing. Missing files (1): {gone}" in caplog.text
    )
    assert len(load_examples(DataArguments(dataset=str(output)), "train")) == 5
    assert "train: 2 left out because their image is missing" in (output / "README.md").read_text()
    content = gone.with_name("COCO_train2014_000000000026.jpg").read_bytes()
    gone.write_bytes(content)
    prepared(tmp_path, "okvqa")
    assert len(load_examples(DataArguments(dataset=str(output)), "train")) == 7
    assert not (output / "missing_images.txt").exists()
    gone.unlink()
    with pytest.raises(ValueError, match=r"2 of 7 examples of split 'train' can't be used: 2 because their image is"):
        prepared(tmp_path, "okvqa", to="strict", on_bad_example="raise")
    for file in (root / "train2014").iterdir():
        file.unlink()
    with pytest.raises(
        ValueError, match=r"None of the 7 examples of split 'train' can be used: 7 because their image"
    ):
        prepared(tmp_path, "okvqa", to="none")


HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


@pytest.mark.parametrize("changes", [{"embed_images": True}, {"holdout": 1}])
def test_broken_image_files_are_listed_counted_and_left_out(tmp_path, caplog, changes):
    root = tmp_path / "official"
    write_dataset("okvqa", root, sizes_of("okvqa"))
    empty, page = sorted((root / "train2014").iterdir())[:2]
    content = empty.read_bytes()
    empty.write_bytes(b"")
    page.write_bytes(HTML)
    with caplog.at_level("WARNING", "leverplus_trl"):
        output = prepared(tmp_path, "okvqa", **changes)
    assert "train: 2 of 7 examples are left out: its image file is empty (id '90', '91')." in caplog.text
    assert "train: 2 of 7 examples are left out: its image is not one that can be opened (id '" in caplog.text
    lines = [line.split("\t") for line in (output / "broken_images.txt").read_text().splitlines()]
    assert [line[2] for line in lines] == [str(empty)] * 2 + [str(page)] * 2 and lines[0][:2] == ["train", "90"]
    assert (
        "- train: `broken_images.txt` lists the 4 whose image file is no image" in (output / "README.md").read_text()
    )
    with pytest.raises(
        ValueError, match=r"4 of 7 examples .* 2 because its image file is empty .* 2 because its image is"
    ):
        prepared(tmp_path, "okvqa", to="strict", on_bad_example="raise", **changes)
    for file in (empty, page):
        file.write_bytes(content)
    prepared(tmp_path, "okvqa", on_bad_example="skip", **changes)
    assert not (output / "broken_images.txt").exists()


def test_an_empty_image_file_is_found_without_opening_any(tmp_path):
    root = tmp_path / "official"
    write_dataset("okvqa", root, sizes_of("okvqa"))
    sorted((root / "train2014").iterdir())[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 of 7 examples .* 2 because its image file is empty"):
        prepared(tmp_path, "okvqa", on_bad_example="raise")


def test_base64_of_no_image_is_no_image(tmp_path):
    root = tmp_path / "official"
    write_dataset("mmbench", root, sizes_of("mmbench"))
    file = root / "MMBench_dev_en.tsv"
    text = file.read_text()
    encoded = max(text.split(), key=len)
    file.write_text(text.replace(encoded, base64.b64encode(HTML * 2).decode()))
    with pytest.raises(ValueError, match=r"1 of 4 examples .* 1 because its image is not one that can be opened \(id"):
        prepared(tmp_path, "mmbench", on_bad_example="raise")


def test_images_of_a_karpathy_split_that_is_not_known_are_named(tmp_path, caplog):
    root = tmp_path / "official"
    write_dataset("coco_karpathy", root, sizes_of("coco_karpathy"))
    edit_json(root / "dataset_coco.json", lambda content: content["images"][0].update(split="restvall"))
    with caplog.at_level("WARNING", "leverplus_trl"):
        prepared(tmp_path, "coco_karpathy", splits=["validation"])
    assert "dataset_coco.json: 1 images are left out: their split is 'restvall', which is none of" in caplog.text


def test_questions_and_annotations_without_each_other_are_counted(tmp_path, caplog):
    root = tmp_path / "official"
    write_dataset("vqav2", root, sizes_of("vqav2"))
    edit_json(root / "v2_mscoco_train2014_annotations.json", lambda content: content["annotations"].pop(0))
    edit_json(root / "v2_OpenEnded_mscoco_train2014_questions.json", lambda content: content["questions"].pop())
    with caplog.at_level("WARNING", "leverplus_trl"):
        output = prepared(tmp_path, "vqav2")
    assert "1 of 7 examples are left out: the question has no annotation (id '9000')." in caplog.text
    assert "1 of 7 examples are left out: the annotation has no question" in caplog.text
    assert len(load_examples(DataArguments(dataset=str(output)), "train")) == 5
    with pytest.raises(
        ValueError, match=r"1 because the question has no annotation \(id '9000'\); 1 because the annotation has no"
    ):
        prepared(tmp_path, "vqav2", to="strict", on_bad_example="raise")


def test_nine_annotators_are_counted_and_kept_and_empty_answers_left_out(tmp_path):
    root = tmp_path / "official"
    write_dataset("okvqa", root, sizes_of("okvqa"))

    def damage(content):
        content["annotations"][0]["answers"].pop()
        for answer in content["annotations"][1]["answers"]:
            answer["answer"] = answer["raw_answer"] = " "

    edit_json(root / "mscoco_train2014_annotations.json", damage)
    edit_json(
        root / "OpenEnded_mscoco_train2014_questions.json", lambda content: content["questions"][2].update(question="")
    )
    card = (prepared(tmp_path, "okvqa") / "README.md").read_text()
    assert "- train: 1 do not have 10 answers, which the official metric expects" in card
    assert "- train: 1 left out because all its answers are empty" in card
    assert "- train: 1 left out because the question is empty" in card
    assert "| train | 9009 | 7 | 2 | 5 |" in card


def test_a_null_answer_is_an_empty_one(tmp_path):
    """Not the text "None", which VQA accuracy reads as "0"; the number of annotators stays."""
    root = tmp_path / "official"
    write_dataset("okvqa", root, sizes_of("okvqa"))

    def damage(content):
        for answer in content["annotations"][0]["answers"][7:]:
            answer["answer"] = answer["raw_answer"] = None

    edit_json(root / "mscoco_train2014_annotations.json", damage)
    rows = datasets.load_dataset(str(prepared(tmp_path, "okvqa", on_bad_example="raise")))["train"]
    row = next(row for row in rows.remove_columns("image") if row["id"] == "90")
    assert row["answers"] == ["white"] * 7 + [""] * 3 and row["raw_answers"] == ["whites"] * 7 + [""] * 3
    assert vqa_accuracy("None", row["answers"]) == vqa_accuracy("0", row["answers"]) == 0


def test_a_null_caption_is_an_empty_one(tmp_path):
    root = tmp_path / "official"
    write_dataset("coco_2014", root, sizes_of("coco_2014"))
    edit_json(
        root / "annotations" / "captions_train2014.json",
        lambda content: content["annotations"][0].update(caption=None),
    )
    rows = datasets.load_dataset(str(prepared(tmp_path, "coco_2014", on_bad_example="raise")))["train"]
    row = next(row for row in rows.remove_columns("image") if row["id"] == "1")
    assert row["answers"][0] == "" and row["answer"] == row["answers"][1] == "A picture that is green."


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
    with pytest.raises(ValueError, match="stands in several places"):
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
    with pytest.raises(ValueError, match=f"{message} stands twice: two versions of the dataset may be mixed"):
        prepared(tmp_path, name)


@pytest.mark.parametrize("name, file", [("sst2", "SST-2/train.tsv"), ("mmbench", "MMBench_dev_en.tsv")])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path, name, file):
    root = tmp_path / "official"
    write_dataset(name, root, sizes_of(name))
    (root / file).write_bytes(b"\xef\xbb\xbf" + (root / file).read_bytes())
    prepared(tmp_path, name, on_bad_example="raise")


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


def test_an_id_in_two_splits_is_refused(tmp_path):
    root = tmp_path / "official"
    write_dataset("textvqa", root, sizes_of("textvqa"))
    edit_json(root / "TextVQA_0.5.1_val.json", lambda content: content["data"][0].update(question_id=0))
    with pytest.raises(ValueError, match="The id '0' stands twice, in 'train' and in 'validation'"):
        prepared(tmp_path, "textvqa")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dataset": "okvqq"}, "dataset is 'okvqq'; expected one of okvqa"),
        ({"root": None}, "set one of them"),
        ({"hub_id": "a/b"}, "set one of them"),
        ({"hub_config": "c"}, "hub_config is 'c', which needs `hub_id`"),
        ({"splits": ["test"]}, "splits names 'test'; okvqa has train, validation with answers"),
        ({"num": "{}"}, "num is '{}'; expected 1 or more"),
        ({"num": 0}, "num is 0; expected 1 or more"),
        ({"num": "abc"}, "num is 'abc'; expected 1 or more"),
        ({"num": ""}, "num is ''; expected 1 or more"),
        ({"num": "{train: 2"}, "num is '{train: 2'; expected 1 or more"),
        ({"num": '{"train": "2"}'}, r"num is '{\"train\": \"2\"}'; expected 1 or more"),
        ({"num": {"train": None}}, "num is {'train': None}; expected 1 or more"),
        ({"num": True}, "num is True; expected 1 or more"),
        ({"num": "1.5"}, "num is '1.5'; expected 1 or more"),
        ({"holdout": 0}, "holdout is 0"),
        ({"on_bad_example": "warn"}, "on_bad_example is 'warn'"),
    ],
)
def test_arguments_are_checked_against_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        prepare.PrepareArguments(**{"dataset": "okvqa", "root": "r", "output_dir": "o"} | changes)


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"root is .*nowhere', which is not a folder"):
        prepared(tmp_path, "okvqa", root=str(tmp_path / "nowhere"))


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
