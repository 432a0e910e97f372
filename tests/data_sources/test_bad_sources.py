# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Examples that can't be used, as official files hold them, and arguments that don't go together."""

import base64

import datasets
import pytest
from data_sources.official_formats import write_dataset
from data_sources.preparing import edit_json, prepared, sizes_of

from leverplus_trl.data_sources.data_source import example
from leverplus_trl.metrics.vqa_accuracy import vqa_accuracy
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
    assert "train: 2 of 7 examples are left out: its image can't be opened (id '" in caplog.text
    lines = [line.split("\t") for line in (output / "broken_images.txt").read_text().splitlines()]
    assert [line[2] for line in lines] == [str(empty)] * 2 + [str(page)] * 2 and lines[0][:2] == ["train", "90"]
    assert (
        "- train: `broken_images.txt` lists the 4 whose image file is no image" in (output / "README.md").read_text()
    )
    with pytest.raises(
        ValueError, match=r"4 of 7 examples .* 2 because its image file is empty .* 2 because its image can't be"
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
    with pytest.raises(ValueError, match=r"1 of 4 examples .* 1 because its image can't be opened \(id"):
        prepared(tmp_path, "mmbench", on_bad_example="raise")


def test_images_of_a_karpathy_split_that_is_not_known_are_named(tmp_path, caplog):
    root = tmp_path / "official"
    write_dataset("coco_karpathy", root, sizes_of("coco_karpathy"))
    edit_json(root / "dataset_coco.json", lambda content: content["images"][0].update(split="restvall"))
    with caplog.at_level("WARNING", "leverplus_trl"):
        prepared(tmp_path, "coco_karpathy", splits=["validation"])
    assert "dataset_coco.json: 1 images are skipped: their split is 'restvall', which is none of" in caplog.text


def test_a_folder_of_images_that_is_not_there_is_no_fault_of_the_file(tmp_path):
    root = tmp_path / "official"
    write_dataset("coco_karpathy", root, sizes_of("coco_karpathy"))
    (root / "train2014").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"^There is no folder train2014 .* Point `image_root` at the folder"):
        prepared(tmp_path, "coco_karpathy", splits=["train"])


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


def test_an_id_in_two_splits_is_refused(tmp_path):
    root = tmp_path / "official"
    write_dataset("textvqa", root, sizes_of("textvqa"))
    edit_json(root / "TextVQA_0.5.1_val.json", lambda content: content["data"][0].update(question_id=0))
    with pytest.raises(ValueError, match="The id '0' appears twice, in 'train' and in 'validation'"):
        prepared(tmp_path, "textvqa")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dataset": "okvqq"}, "dataset is 'okvqq'; expected one of okvqa"),
        ({"root": None}, "set one of them"),
        ({"hub_id": "a/b"}, "set one of them"),
        ({"hub_config": "c"}, "hub_config is 'c', which needs `hub_id`"),
        ({"num": "{}"}, "num is '{}'; expected a mapping"),
        ({"num": 0}, "num is 0; expected a whole number of at least 1"),
        ({"num": "abc"}, "num is 'abc'; expected a mapping"),
        ({"num": ""}, "num is empty; expected a mapping"),
        ({"num": "{train: 2"}, "num is '{train: 2'; expected a mapping"),
        ({"num": '{"train": "2"}'}, "num is .*; expected a mapping"),
        ({"num": {"train": None}}, r"num\['train'\] is null; expected a whole number of at least 1"),
        ({"num": True}, "num is true; expected a mapping"),
        ({"num": "1.5"}, "num is '1.5'; expected a mapping"),
        ({"holdout": 0}, "holdout is 0"),
        ({"on_bad_example": "warn"}, "on_bad_example is 'warn'"),
    ],
)
def test_arguments_are_checked_against_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        prepare.PrepareArguments(**{"dataset": "okvqa", "root": "r", "output_dir": "o"} | changes)


def test_a_split_without_answers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="splits names 'test'; okvqa has train, validation with answers"):
        prepared(tmp_path, "okvqa", splits=["test"])


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"root is .*nowhere', which is not a folder"):
        prepared(tmp_path, "okvqa", root=str(tmp_path / "nowhere"))


def test_values_of_a_record_are_spelled_as_people_write_them():
    row = example(7.0, "q", [3.0, 2.5, True, None], choices=[1990.0, "x"], context=4.0)
    assert row["id"] == "7" and row["answers"] == ["3", "2.5", "true", ""]
    assert row["choices"] == ["1990", "x"] and row["context"] == "4"
    for identifier in (None, "", " ", float("nan")):
        with pytest.raises(ValueError, match="its id is empty"):
            example(identifier, "q", ["a"])
    with pytest.raises(ValueError, match=r"answers holds \{'a': 1\} of the type dict; expected text or a number"):
        example("x", "q", [{"a": 1}])
