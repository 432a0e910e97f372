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

"""Published datasets: small ones in the exact official formats, through the stage, to what tasks load."""

import json

import datasets
import pytest
from data_sources.official_formats import picture, write_dataset

from leverplus_trl.data_sources import DATA_SOURCES
from leverplus_trl.metrics.vqa_accuracy.vqa_accuracy import vqa_accuracy
from leverplus_trl.scripts import prepare
from leverplus_trl.scripts.stage_arguments import StageArguments
from leverplus_trl.tables import table_provenance
from leverplus_trl.tasks import DataArguments, load_examples


SIZES = {"train": 7, "validation": 4, "test": 3}


def sizes_of(name):
    """The splits of a dataset, as small as the fixtures are."""
    return {split: SIZES[split] for split in DATA_SOURCES[name].counts}


def prepared(tmp_path, name, **changes):
    """Runs the stage on official files, which are written if they are not there, and gives the output folder."""
    root = tmp_path / "official"
    if not root.exists():
        write_dataset(name, root, sizes_of(name))
    output = tmp_path / changes.pop("to", "examples")
    changes = {"root": str(root), "allow_other_counts": True} | changes
    prepare.main(StageArguments(), prepare.PrepareArguments(dataset=name, output_dir=str(output), **changes))
    return output


def edit_json(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("name", DATA_SOURCES)
def test_every_official_format_becomes_examples(tmp_path, name):
    source, output = DATA_SOURCES[name], None
    output = prepared(tmp_path, name)
    plain = datasets.load_dataset(str(output))
    data_args = DataArguments(dataset=str(output), on_bad_example="raise")
    assert {split: len(table) for split, table in plain.items()} == sizes_of(name)
    for split in plain:
        examples = load_examples(data_args, split)
        assert examples.column_names == ["id", "image", "question", "answer", "answers", *source.extras]
        for row in examples:
            assert row["question"].strip() and row["answer"].strip() and row["answers"]
            if source.has_images:
                assert row["image"].size == (32, 24)
    card = (output / "README.md").read_text()
    assert source.citation in card and source.licence in card and all(f"| {split} | " in card for split in plain)
    assert table_provenance(str(output))["recipe"]["dataset"] == name
    assert not (output / "missing_images.txt").exists()


def colours_and_answers(tmp_path, name, split="validation"):
    """Whether the answer is the colour of the very picture it stands beside."""
    for row in load_examples(DataArguments(dataset=str(prepared(tmp_path, name))), split):
        red, green, blue = row["image"].convert("RGB").getpixel((20, 12))
        shown = {
            (True, False, False): "red",
            (False, True, False): "green",
            (False, False, True): "blue",
            (True, True, True): "white",
            (False, False, False): "black",
            (True, True, False): "yellow",
        }[red > 100, green > 100, blue > 100]
        yield row, shown


@pytest.mark.parametrize("name", ["okvqa", "vqav2"])
def test_vqa_questions_meet_their_annotations_and_images(tmp_path, name):
    for row, shown in colours_and_answers(tmp_path, name):
        assert row["answer"] == shown and row["answers"] == [shown] * 8 + ["grey", "no idea"]
        assert row["image_id"] in row["question"] and row["id"].startswith(row["image_id"])
        assert vqa_accuracy(shown, row["answers"]) == 1
        if name == "okvqa":
            assert row["raw_answers"][0] == shown + "s" and row["question_type"] == "four"


@pytest.mark.parametrize("name", ["coco_2014", "coco_2017", "coco_karpathy"])
def test_captions_meet_their_images(tmp_path, name):
    for row, shown in colours_and_answers(tmp_path, name):
        assert len(row["answers"]) == 5 and all(shown in caption for caption in row["answers"])
        assert row["answer"] == f"A {shown} picture with the number {row['id']}."


@pytest.mark.parametrize("name", ["textvqa", "docvqa"])
def test_texts_in_pictures(tmp_path, name):
    for row, shown in colours_and_answers(tmp_path, name):
        assert row["answer"] == shown


@pytest.mark.parametrize("name", ["scienceqa", "mmbench"])
def test_multiple_choice_gives_letters_choices_and_contexts(tmp_path, name):
    contexts = set()
    for row, shown in colours_and_answers(tmp_path, name):
        assert row["choices"]["ABCD".index(row["answer"])] == shown and row["answers"] == [row["answer"]]
        contexts.add(bool(row["context"]))
    assert contexts == {True, False}
    assert all(len(row["choices"]) in (3, 4) for row, _ in colours_and_answers(tmp_path, name))


def test_gsm8k_keeps_the_solution_and_the_number(tmp_path):
    rows = load_examples(DataArguments(dataset=str(prepared(tmp_path, "gsm8k"))), "test")
    row = next(row for row in rows if row["id"] == "test-1")
    assert row["answers"] == ["3201"] and row["answer"].endswith("#### 3,201") and row["image"] is None


def test_sst2_keeps_quotation_marks_and_names_the_labels(tmp_path):
    rows = {row["id"]: row for row in load_examples(DataArguments(dataset=str(prepared(tmp_path, "sst2"))), "train")}
    assert rows["train-0"]["question"] == '"film 0 is a bore' and rows["train-0"]["answer"] == "negative"
    assert rows["train-1"]["question"] == "film 1 is a joy" and rows["train-1"]["answer"] == "positive"


def test_karpathy_train_holds_restval(tmp_path):
    rows = load_examples(DataArguments(dataset=str(prepared(tmp_path, "coco_karpathy"))), "train")
    assert sorted(rows["id"], key=int) == [str(number) for number in range(1, 8)]


def test_a_subset_is_the_beginning_of_a_larger_one_and_depends_on_the_seed(tmp_path):
    def ids(to, **changes):
        return list(datasets.load_dataset(str(prepared(tmp_path, "gsm8k", to=to, **changes)))["train"]["id"])

    whole, five, three = ids("whole"), ids("five", num=5), ids("three", num={"train": 3})
    assert five == whole[:5] and three == whole[:3]
    assert whole != sorted(whole) and set(whole) == {f"train-{place}" for place in range(7)}
    assert ids("other", seed=1) != whole
    assert prepare.PrepareArguments(dataset="gsm8k", root="r", output_dir="o", num="3").num == 3
    assert prepare.PrepareArguments(dataset="gsm8k", root="r", output_dir="o", num='{"train": 3}').num == {"train": 3}
    assert ids("many", num=8) == whole
    with pytest.raises(ValueError, match=r"num asks for 8 examples of split 'train', which has 7"):
        ids("named", num={"train": 8})
    with pytest.raises(ValueError, match="num names the split 'validation'; there are train, test"):
        ids("wrong", num={"validation": 2})


def test_a_holdout_shares_no_image_with_the_split_it_was_cut_off(tmp_path):
    output = prepared(tmp_path, "okvqa", holdout=3)
    splits = datasets.load_dataset(str(output))
    train, holdout = set(splits["train"]["image_id"]), set(splits["holdout"]["image_id"])
    assert len(splits["holdout"]) >= 3 and len(splits["train"]) + len(splits["holdout"]) == SIZES["train"]
    assert not train & holdout and len(splits["validation"]) == SIZES["validation"]
    assert "`holdout` shares no image with `train`" in (output / "README.md").read_text()
    with pytest.raises(ValueError, match=r"holdout is 7, but split 'train' has 7 examples"):
        prepared(tmp_path, "okvqa", to="all", holdout=7)


def test_mmbench_can_be_cut_into_demonstrations_and_queries(tmp_path):
    splits = datasets.load_dataset(str(prepared(tmp_path, "mmbench", holdout=2)))
    assert {split: len(table) for split, table in splits.items()} == {"validation": 2, "holdout": 2}


def test_images_are_referred_to_or_embedded_and_both_say_the_same(tmp_path):
    referred, embedded = prepared(tmp_path, "okvqa"), prepared(tmp_path, "okvqa", to="embedded", embed_images=True)
    files = {
        folder: datasets.load_dataset(str(folder), split="train").cast_column("image", datasets.Image(decode=False))
        for folder in (referred, embedded)
    }
    root = tmp_path / "official"
    for row in files[referred]:
        assert row["image"]["bytes"] is None and row["image"]["path"].startswith(f"{root}/train2014/COCO_train2014_")
    bytes_of = {row["id"]: row["image"]["bytes"] for row in files[embedded]}
    assert all(bytes_of[row["id"]] == picture(int(row["image_id"])) for row in files[referred])
    moved = tmp_path / "elsewhere"
    root.rename(tmp_path / "gone")
    embedded.rename(moved)
    assert len(load_examples(DataArguments(dataset=str(moved)), "train")) == SIZES["train"]
    with pytest.raises(ValueError, match="can't be"):
        load_examples(DataArguments(dataset=str(referred)), "train")


def test_a_folder_that_refers_to_images_can_be_moved(tmp_path):
    moved = prepared(tmp_path, "okvqa").rename(tmp_path / "moved")
    rows = load_examples(DataArguments(dataset=str(moved)), "train")
    assert rows[0]["image"].size == (32, 24)


def test_images_may_be_elsewhere_and_files_deeper(tmp_path):
    root = tmp_path / "official"
    write_dataset("vqav2", root, sizes_of("vqav2"))
    coco = tmp_path / "coco" / "images"
    coco.mkdir(parents=True)
    for folder in ("train2014", "val2014"):
        (root / folder).rename(coco / folder)
    (root / "v2_Questions").mkdir()
    for file in root.glob("*questions.json"):
        file.rename(root / "v2_Questions" / file.name)
    with pytest.raises(ValueError, match=r"There is no folder train2014 with images in .* Point `image_root`"):
        prepared(tmp_path, "vqav2")
    output = prepared(tmp_path, "vqav2", image_root=str(tmp_path / "coco"))
    assert len(load_examples(DataArguments(dataset=str(output)), "train")) == SIZES["train"]


def test_the_same_command_twice_gives_the_same_and_another_recipe_is_refused(tmp_path):
    output = prepared(tmp_path, "okvqa")
    before = {file.name: file.read_bytes() for file in (output / "data").iterdir()}
    card = (output / "README.md").read_bytes()
    prepared(tmp_path, "okvqa")
    assert {file.name: file.read_bytes() for file in (output / "data").iterdir()} == before
    assert (output / "README.md").read_bytes() == card
    with pytest.raises(ValueError, match="holds the output of another recipe"):
        prepared(tmp_path, "okvqa", seed=5)


# ── Bad input ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_missing_images_are_listed_counted_and_left_out(tmp_path, caplog):
    root = tmp_path / "official"
    write_dataset("okvqa", root, sizes_of("okvqa"))
    gone = sorted((root / "train2014").iterdir())[0]
    gone.unlink()
    with caplog.at_level("WARNING", "leverplus_trl"):
        output = prepared(tmp_path, "okvqa")
    lines = (output / "missing_images.txt").read_text().splitlines()
    assert len(lines) == 2 and all(line.split("\t")[0] == "train" and line.endswith(str(gone)) for line in lines)
    assert f"train: 2 of 7 examples are left out because their image is missing, 1 files: {gone}" in caplog.text
    assert len(load_examples(DataArguments(dataset=str(output)), "train")) == 5
    assert "train: 2 left out because their image is missing" in (output / "README.md").read_text()
    with pytest.raises(ValueError, match=r"2 of 7 examples of split 'train' can't be used: 2 because their image is"):
        prepared(tmp_path, "okvqa", to="strict", on_bad_example="raise")
    for file in (root / "train2014").iterdir():
        file.unlink()
    with pytest.raises(
        ValueError, match=r"None of the 7 examples of split 'train' can be used: 7 because their image"
    ):
        prepared(tmp_path, "okvqa", to="none")


def test_questions_and_annotations_without_each_other_are_counted(tmp_path, caplog):
    root = tmp_path / "official"
    write_dataset("vqav2", root, sizes_of("vqav2"))
    edit_json(root / "v2_mscoco_train2014_annotations.json", lambda content: content["annotations"].pop(0))
    edit_json(root / "v2_OpenEnded_mscoco_train2014_questions.json", lambda content: content["questions"].pop())
    with caplog.at_level("WARNING", "leverplus_trl"):
        output = prepared(tmp_path, "vqav2")
    assert "1 of 7 examples are left out: the question has no annotation" in caplog.text
    assert "1 of 7 examples are left out: the annotation has no question" in caplog.text
    assert len(load_examples(DataArguments(dataset=str(output)), "train")) == 5
    with pytest.raises(ValueError, match="1 because the question has no annotation; 1 because the annotation has no"):
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
        ("scienceqa", "problems.json", '{"1": {"question": "a"}}', "is not ScienceQA's problems.json"),
        ("mmbench", "MMBench_dev_en.tsv", "index\tquestion\n1\ta\n", "expected at least"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, name, file, content, message):
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / file).write_text(content)
    with pytest.raises(ValueError, match=message):
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
        ({"num": 0}, "num is 0; expected 1 or more"),
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
