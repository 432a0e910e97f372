# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Published datasets from hub datasets, which here are folders with the columns that their cards name."""

import datasets
import pytest
from data_sources.official_formats import colour_of, picture
from datasets import Dataset, Features, Image, List, Value

from leverplus_trl.scripts import prepare
from leverplus_trl.stage_arguments import StageArguments
from leverplus_trl.tasks import DataArguments, load_examples


TEXT, NUMBER = Value("string"), Value("int64")
ANNOTATORS = List({"answer": TEXT, "answer_confidence": TEXT, "answer_id": NUMBER})


def image(number):
    return {"bytes": picture(number), "path": f"{number}.jpg"}


def annotators(number):
    return [{"answer": colour_of(number), "answer_confidence": "yes", "answer_id": place} for place in range(10)]


def ask(number):
    return f"Colour of {number}?"


#: `{dataset: (split there, split here, columns, row)}`, as the cards of the hub datasets have them.
HUB = {
    "okvqa": (
        "val2014",
        "validation",
        {"question_id": TEXT, "image": Image(), "question": TEXT, "answers": List(TEXT), "question_type": TEXT},
        lambda n: (str(n), image(n), ask(n), [colour_of(n)] * 10, "four"),
    ),
    "vqav2": (
        "validation",
        "validation",
        {
            "question_type": TEXT,
            "multiple_choice_answer": TEXT,
            "answers": ANNOTATORS,
            "image_id": NUMBER,
            "answer_type": TEXT,
            "question_id": NUMBER,
            "question": TEXT,
            "image": Image(),
        },
        lambda n: ("what", colour_of(n), annotators(n), n, "other", n, ask(n), image(n)),
    ),
    "coco_2017": (
        "val",
        "validation",
        {"question_id": TEXT, "image": Image(), "question": TEXT, "answer": List(TEXT), "id": NUMBER},
        lambda n: (f"{n}.jpg", image(n), "Describe", [colour_of(n), f"it is {colour_of(n)}"], n),
    ),
    "textvqa": (
        "train",
        "train",
        {
            "image_id": TEXT,
            "question_id": Value("int32"),
            "question": TEXT,
            "image": Image(),
            "answers": List(TEXT),
            "image_classes": List(TEXT),
            "set_name": TEXT,
        },
        lambda n: (f"{n:x}", n, ask(n), image(n), [colour_of(n)] * 10, ["Sign"], "train"),
    ),
    "docvqa": (
        "validation",
        "validation",
        {
            "questionId": TEXT,
            "question": TEXT,
            "question_types": List(TEXT),
            "image": Image(),
            "docId": NUMBER,
            "ucsf_document_id": TEXT,
            "ucsf_document_page_no": TEXT,
            "answers": List(TEXT),
            "data_split": TEXT,
        },
        lambda n: (str(n), ask(n), ["form"], image(n), n, f"x{n}", "1", [colour_of(n)], "val"),
    ),
    "scienceqa": (
        "test",
        "test",
        {
            "image": Image(),
            "question": TEXT,
            "choices": List(TEXT),
            "answer": Value("int8"),
            "hint": TEXT,
            "task": TEXT,
            "grade": TEXT,
            "subject": TEXT,
            "topic": TEXT,
            "category": TEXT,
            "skill": TEXT,
            "lecture": TEXT,
            "solution": TEXT,
        },
        # The second has no image.
        lambda n: (None if n == 1 else image(n), ask(n), ["pink", colour_of(n)], 1, "", "closed choice", *"abcdefg"),
    ),
    "gsm8k": (
        "test",
        "test",
        {"question": TEXT, "answer": TEXT},
        lambda n: (ask(n), f"So it is.\n#### {n + 1}"),
    ),
    "sst2": (
        "validation",
        "validation",
        {"idx": Value("int32"), "sentence": TEXT, "label": datasets.ClassLabel(names=["negative", "positive"])},
        lambda n: (n, f"film {n} ", n % 2),
    ),
    "mmbench": (
        "dev",
        "validation",
        {
            "index": NUMBER,
            "question": TEXT,
            "hint": TEXT,
            "answer": TEXT,
            "A": TEXT,
            "B": TEXT,
            "C": TEXT,
            "D": TEXT,
            "category": TEXT,
            "image": Image(),
            "source": TEXT,
            "L2-category": TEXT,
            "comment": TEXT,
        },
        # The second is a rotation of the first.
        lambda n: (
            *(n if n != 1 else 1_000_000, ask(n), "nan", "B", "pink", colour_of(n), "nan", "nan", "c"),
            *(image(n), "s", "l2", ""),
        ),
    ),
}


def write_hub_dataset(folder, name, count=4, split=None, **first):
    """With these columns of the first row changed."""
    own_split, _, columns, row = HUB[name]
    split = split or own_split
    rows = [dict(zip(columns, row(n), strict=True)) for n in range(count)]
    table = Dataset.from_list([rows[0] | first, *rows[1:]], Features(columns))
    (folder / "data").mkdir(parents=True)
    table.to_parquet(folder / "data" / f"{split}-00000.parquet")
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: {split}\n    path: data/{split}-*\n---\n"
    )


def prepare_from_hub(tmp_path, name, **changes):
    if not (tmp_path / "hub").exists():
        write_hub_dataset(tmp_path / "hub", name)
    changes = {"splits": [HUB[name][1]], "allow_other_counts": True} | changes
    args = prepare.PrepareArguments(
        dataset=name, hub_id=str(tmp_path / "hub"), output_dir=str(tmp_path / "examples"), **changes
    )
    prepare.main(StageArguments(), args)
    return load_examples(DataArguments(dataset=args.output_dir), HUB[name][1])


@pytest.mark.parametrize("name", HUB)
def test_hub_columns_become_the_columns_of_the_official_files(tmp_path, name):
    source = prepare.DATA_SOURCES[name]
    rows = prepare_from_hub(tmp_path, name)
    assert rows.column_names == ["id", "image", "question", "answer", "answers", *source.extras]
    assert len(rows) == (3 if name in ("scienceqa", "mmbench") else 4)
    for row in rows:
        number = int(row["id"].rpartition("-")[2])
        if source.has_images:
            expected = Image().decode_example(image(number))
            assert row["image"].tobytes() == expected.tobytes()
        if name in ("scienceqa", "mmbench"):
            assert row["answer"] == "B" and row["choices"] == ["pink", colour_of(number)] and row["context"] == ""
        elif name == "gsm8k":
            assert row["answers"] == [str(number + 1)]
        elif name == "sst2":
            assert row["answer"] == ("negative", "positive")[number % 2] and row["question"] == f"film {number}"
        else:
            assert row["answer"] == colour_of(number)
    card = (tmp_path / "examples" / "README.md").read_text()
    assert str(tmp_path / "hub") in card and "by absolute paths" not in card


@pytest.mark.parametrize(
    "name, column, answers",
    [
        ("okvqa", "answers", [None, "red"]),
        ("vqav2", "answers", [{"answer": None}, {"answer": "red"}]),
        ("textvqa", "answers", [None, "red"]),
        ("docvqa", "answers", [None, "red"]),
        ("coco_2017", "answer", [None, "red"]),
    ],
)
def test_a_null_answer_is_an_empty_one(tmp_path, name, column, answers):
    write_hub_dataset(tmp_path / "hub", name, **{column: answers})
    rows = prepare_from_hub(tmp_path, name, on_bad_example="raise").remove_columns("image")
    assert next(row for row in rows if row["answers"][0] == "")["answers"] == ["", "red"]


@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_stored_bytes_that_are_no_image(tmp_path, content):
    write_hub_dataset(tmp_path / "hub", "vqav2", image={"bytes": content, "path": "0.jpg"})
    with pytest.raises(ValueError, match=r"1 of 4 examples .* because its image can't be opened \(id '0'"):
        prepare_from_hub(tmp_path, "vqav2", on_bad_example="raise")


def test_a_subset_of_a_hub_dataset_and_a_holdout(tmp_path):
    assert len(prepare_from_hub(tmp_path, "vqav2", num=2, holdout=1)) == 2


def test_hub_datasets_of_another_kind_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has 4 examples; officially 214,354\. Set `allow_other_counts`"):
        prepare_from_hub(tmp_path, "vqav2", allow_other_counts=False)
    with pytest.raises(ValueError, match=r"has the splits \['validation'\], none of them 'train'"):
        prepare_from_hub(tmp_path, "vqav2", splits=["train"])
    args = {"hub_id": str(tmp_path / "hub"), "output_dir": str(tmp_path / "o"), "splits": ["validation"]}
    with pytest.raises(
        ValueError, match=r"it has no 'questionId'.* Its columns are .* Supported datasets: lmms-lab/DocVQA"
    ):
        prepare.main(StageArguments(), prepare.PrepareArguments(dataset="docvqa", **args))
    with pytest.raises(ValueError, match="Can't read the dataset 'nobody/nothing'"):
        prepare.main(
            StageArguments(), prepare.PrepareArguments(dataset="docvqa", **args | {"hub_id": "nobody/nothing"})
        )


@pytest.mark.parametrize(
    "name, there, message",
    [
        ("mmbench", "textvqa", "Row 0 .*of MMBench .*: it has no 'index'.* Supported datasets: lmms-lab/MMBench"),
        (
            "gsm8k",
            "coco_2017",
            r"Row 0 .*of GSM8K: answer is \['red', .*'\]; expected text.* Supported datasets: openai/gsm8k",
        ),
        ("coco_2017", "gsm8k", "has no column 'image'"),
    ],
)
def test_a_hub_dataset_of_another_source_is_refused_naming_the_row(tmp_path, name, there, message):
    write_hub_dataset(tmp_path / "hub", there, split=HUB[name][0])
    with pytest.raises(ValueError, match=message):
        prepare_from_hub(tmp_path, name)


def test_a_hub_dataset_without_images_is_refused(tmp_path):
    table = Dataset.from_dict({"question_id": ["1"], "question": ["a?"], "answers": [["b"]]})
    (tmp_path / "hub" / "data").mkdir(parents=True)
    table.to_parquet(tmp_path / "hub" / "data" / "validation-0.parquet")
    with pytest.raises(ValueError, match="has no column 'image'"):
        prepare_from_hub(tmp_path, "okvqa")
