# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Published datasets: small ones in the exact official formats, through the stage, to what tasks load."""

import datasets
import pytest
from data_sources.official_formats import picture, write_dataset
from data_sources.preparing import SIZES, edit_json, prepared, sizes_of

from leverplus_trl.data_sources import DATA_SOURCES
from leverplus_trl.metrics import METRICS
from leverplus_trl.metrics.vqa_accuracy import vqa_accuracy
from leverplus_trl.scripts.parsers import make_parser
from leverplus_trl.tables import table_provenance
from leverplus_trl.tasks import DataArguments, TaskArguments, load_examples, make_task


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


@pytest.mark.parametrize("name", DATA_SOURCES)
def test_the_task_and_the_metric_that_a_source_names_take_its_examples(tmp_path, name):
    source = DATA_SOURCES[name]
    labels = ["negative", "positive"] if name == "sst2" else None
    task = make_task(TaskArguments(task=source.task, metric=source.metric, labels=labels))
    split = next(iter(source.counts))
    examples = load_examples(DataArguments(dataset=str(prepared(tmp_path, name))), split)
    task.check_examples(examples, split)
    assert METRICS[source.metric].applies(examples[0])
    assert examples[0]["question"] in task.content(examples[0])[-1]["text"]
    assert task.target(examples[0]) == examples[0]["answer"]


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


def test_gsm8k_breaks_lines_where_json_lines_does(tmp_path):
    """Some characters of a JSON string are ends of lines to Unicode; an empty last line is no problem."""
    root = tmp_path / "official"
    write_dataset("gsm8k", root, sizes_of("gsm8k"))
    with (root / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"question": "One\u2028two\u0085three?", "answer": "#### 3"}\n\n')
    rows = load_examples(DataArguments(dataset=str(prepared(tmp_path, "gsm8k"))), "test")
    assert "One\u2028two\u0085three?" in rows["question"]


def test_sst2_keeps_quotation_marks_and_names_the_labels(tmp_path):
    rows = {row["id"]: row for row in load_examples(DataArguments(dataset=str(prepared(tmp_path, "sst2"))), "train")}
    assert rows["train-0"]["question"] == '"film 0 is a bore' and rows["train-0"]["answer"] == "negative"
    assert rows["train-1"]["question"] == "film 1 is a joy" and rows["train-1"]["answer"] == "positive"


def test_the_later_release_of_docvqa(tmp_path):
    root = tmp_path / "official"
    write_dataset("docvqa", root, sizes_of("docvqa"))
    images = root / "spdocvqa_images"
    images.mkdir()
    (root / "spdocvqa_qas").mkdir()
    for name in ("train", "val"):
        for page in (root / name / "documents").iterdir():
            page.rename(images / page.name)
        (root / name / "documents").rmdir()
        edit_json(
            root / name / f"{name}_v1.0.json",
            lambda content: [row.update(question_types=["handwritten", "form"]) for row in content["data"]],
        )
        (root / name / f"{name}_v1.0.json").rename(root / "spdocvqa_qas" / f"{name}_v1.0_withQT.json")
    rows = load_examples(DataArguments(dataset=str(prepared(tmp_path, "docvqa"))), "validation")
    assert len(rows) == SIZES["validation"] and rows[0]["question_types"] == ["handwritten", "form"]


def test_the_answer_of_docvqa_is_the_first_that_is_not_empty(tmp_path):
    root = tmp_path / "official"
    write_dataset("docvqa", root, sizes_of("docvqa"))
    file = root / "val" / "val_v1.0.json"
    edit_json(file, lambda content: content["data"][0].update(answers=["", "x"]))
    rows = datasets.load_dataset(str(prepared(tmp_path, "docvqa", on_bad_example="raise")))["validation"]
    row = next(row for row in rows.remove_columns("image") if row["id"] == "1337")
    assert row["answer"] == "x" and row["answers"] == ["", "x"]


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
    parser = make_parser("prepare")
    for typed, expected in (("3", 3), ('{"train": 3}', {"train": 3}), ("{train: 3}", {"train": 3})):
        words = ["--dataset", "gsm8k", "--root", "r", "--output_dir", "o", "--num", typed]
        assert parser.check(*parser.read(words))["num"] == expected
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


def test_copies_of_an_image_under_other_names_are_one_image(tmp_path):
    """ScienceQA has a file for each question, also where several are about one picture."""
    root = tmp_path / "official"
    write_dataset("scienceqa", root, {**sizes_of("scienceqa"), "train": 12})
    for number in range(1, 13):
        file = root / "images" / "train" / str(number) / "image.png"
        file.write_bytes(picture((number - 1) // 4, "PNG"))
    output = prepared(tmp_path, "scienceqa", holdout=5)
    splits = datasets.load_dataset(str(output))
    shown = {
        split: {row["image"].tobytes() for row in splits[split].select_columns("image")}
        for split in ("train", "holdout")
    }
    assert len(splits["holdout"]) == 8 and len(splits["train"]) == 4
    assert not shown["train"] & shown["holdout"]
    moved = root.rename(tmp_path / "elsewhere")
    again = datasets.load_dataset(str(prepared(tmp_path, "scienceqa", to="again", root=str(moved), holdout=5)))
    assert again["holdout"]["id"][:] == splits["holdout"]["id"][:]  # wherever the files lie


def test_mmbench_can_be_cut_into_demonstrations_and_queries(tmp_path):
    splits = datasets.load_dataset(str(prepared(tmp_path, "mmbench", holdout=2, embed_images=True)))
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
