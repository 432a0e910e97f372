# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import json
import re

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image

from leverplus_trl.recipe_parser import RecipeParser
from leverplus_trl.schema import EXAMPLES
from leverplus_trl.tasks import DataArguments, TaskArguments, load_examples, make_task
from leverplus_trl.tasks.examples import to_examples


EXAMPLE = {"id": "q1", "image": None, "question": "a fine film", "answer": "positive", "answers": ["positive"]}


def examples_from(table, **arguments):
    return to_examples(table, DataArguments(dataset="memory", **arguments), "train")


def test_a_column_mapping_is_all_a_new_dataset_needs():
    table = Dataset.from_dict({"idx": [7, 8], "sentence": ["good", "bad"], "label": [1, 0]})
    table = table.cast(
        Features(
            {"idx": Value("int64"), "sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"])}
        )
    )
    examples = examples_from(table, columns={"id": "idx", "question": "sentence", "answer": "label"})
    assert {name: examples.features[name] for name in EXAMPLES} == dict(EXAMPLES)
    assert examples[0] == {
        "id": "7",
        "image": None,
        "question": "good",
        "answer": "positive",
        "answers": ["positive"],
    }


def test_answer_and_answers_stand_in_for_each_other():
    table = Dataset.from_dict({"question": ["q"], "answers": [["b", "a", "a"]]})
    row = examples_from(table)[0]
    assert (row["id"], row["answer"], row["answers"]) == ("train-0", "a", ["b", "a", "a"])


def test_further_columns_are_kept_and_a_mapped_name_wins():
    table = Dataset.from_dict({"question": ["old"], "text": ["new"], "answer": ["a"], "hint": ["h"]})
    row = examples_from(table, columns={"question": "text"})[0]
    assert row["question"] == "new" and row["hint"] == "h"


def test_columns_may_trade_places():
    table = Dataset.from_dict({"question": ["a"], "answer": ["q"]})
    row = examples_from(table, columns={"question": "answer", "answer": "question"})[0]
    assert (row["question"], row["answer"]) == ("q", "a")


def test_annotators_may_come_as_mappings():
    table = Dataset.from_dict(
        {"question": ["q"], "answers": [[{"answer": "yes", "id": 1}, {"answer": "yes", "id": 2}]]}
    )
    assert examples_from(table)[0]["answers"] == ["yes", "yes"]
    table = Dataset.from_dict({"question": ["q"], "answers": [[{"text": "yes"}]]})
    with pytest.raises(ValueError, match="has no key 'answer'"):
        examples_from(table)


@pytest.mark.parametrize(
    ("arguments", "generation", "bare", "shown"),
    [
        ({}, " red cat\nNext", "red cat", "red cat"),
        ({}, " \n", "", ""),
        ({"answer_template": "It is {answer}."}, "red", "red", "It is red."),
        ({"answer_template": "It is {answer}."}, "It is red.", "red", "It is red."),
        ({"answer_template": "It is {answer}."}, "It is red", "red", "It is red."),
        ({"task": "captioning"}, "a cat on a mat", "a cat on a mat", "a cat on a mat"),
        ({"task": "multiple_choice"}, "(B) stone\n\nC", "(B) stone", "(B) stone"),
        (
            {"task": "multiple_choice", "answer_template": "The answer is {answer}."},
            "The answer is B. Ice melts.",
            "B. Ice melts",
            "The answer is B. Ice melts.",
        ),
        ({"answer_template": "The answer is {answer}."}, "the answer is red.", "red", "The answer is red."),
        ({"answer_template": "The answer is {answer}."}, "The answer is", "", ""),
        ({"task": "math_word_problem"}, "1 + 1 = 2\n#### 2\n\nQuestion: 3", "1 + 1 = 2\n#### 2", "1 + 1 = 2\n#### 2"),
        (
            {"task": "text_classification", "labels": ["good", "bad"], "answer_template": "Verdict: {answer}"},
            "GOOD, I think",
            "good",
            "Verdict: good",
        ),
    ],
)
def test_predictions_are_shown_as_answers_are(arguments, generation, bare, shown):
    """What the VLM said of the answer template itself is not said twice."""
    task = make_task(TaskArguments(**arguments))
    found = task.bare_answer(task.postprocess(generation))
    assert found == bare
    assert task.target({**EXAMPLE, "answer": found}) == shown or not found


def test_examples_a_task_cannot_use_are_named_before_anything_runs():
    table = examples_from(Dataset.from_dict({"question": ["q"], "answer": ["sunny"]}))
    with pytest.raises(
        ValueError,
        match=r"1 of 1 examples of split 'train' have no image, which vqa and captioning need, e\.g\. \['train-0'\].*"
        "`task` to one.*text_class",
    ):
        make_task(TaskArguments(task="vqa")).check_examples(table, "train")
    with pytest.raises(ValueError, match="not among `labels`: 'sunny'"):
        make_task(TaskArguments(task="text_classification", labels=["wet"])).check_examples(table, "train")
    make_task(TaskArguments(task="text_classification", labels=["sunny"])).check_examples(table, "train")


def test_image_paths_are_read_from_their_folder(tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.png")
    table = Dataset.from_dict({"question": ["q"], "answer": ["a"], "image": ["a.png"]})
    assert examples_from(table, image_dir=str(tmp_path))[0]["image"].size == (3, 2)


@pytest.mark.parametrize("kind", ["parquet folder", "save_to_disk", "json"])
def test_local_datasets_of_every_kind(tmp_path, kind):
    table = Dataset.from_dict({"id": ["a", "b"], "question": ["q", "r"], "answer": ["x", "y"]})
    arguments = {"dataset": str(tmp_path)}
    if kind == "parquet folder":
        table.to_parquet(tmp_path / "train.parquet")
    elif kind == "save_to_disk":
        datasets.DatasetDict({"train": table}).save_to_disk(tmp_path)
    else:
        table.to_json(tmp_path / "rows.jsonl")
        arguments = {"dataset": "json", "data_files": {"train": f"{tmp_path}/rows.jsonl"}}
    assert load_examples(DataArguments(**arguments), "train")["question"][:] == ["q", "r"]
    with pytest.raises(ValueError, match="nowhere"):
        load_examples(DataArguments(**arguments), "nowhere")


def test_vqa_shows_the_image_before_the_question():
    task = make_task(TaskArguments(task="vqa", question_template="{question} Answer briefly."))
    image = Image.new("RGB", (2, 2))
    content = task.content({**EXAMPLE, "image": image})
    assert [part["type"] for part in content] == ["image", "text"]
    assert content[0]["image"] is image and content[1]["text"] == "a fine film Answer briefly."
    with pytest.raises(ValueError, match="'q1' has no image"):
        task.content(EXAMPLE)
    assert task.postprocess(" two dogs\nQuestion: what else?") == "two dogs"
    answers = ["two"] * 2 + ["2"] * 2 + ["three"] * 6
    assert task.accuracy("two", {**EXAMPLE, "answers": answers}) == pytest.approx((4 * 1.0 + 6 * 1.0) / 10)


def test_classification_finds_the_longest_label_that_begins_the_answer():
    task = make_task(TaskArguments(task="text_classification", labels=["Sport", "Sport News", "Art"]))
    assert task.postprocess(" sport news today\n") == "Sport News"
    assert task.postprocess("SPORT.") == "Sport"
    assert task.postprocess("Cooking\nArt") == "Cooking"
    assert task.accuracy("Sport", {**EXAMPLE, "answers": ["Sport"]}) == 1.0
    assert task.accuracy("Cooking", {**EXAMPLE, "answers": ["Sport"]}) == 0.0


def test_a_template_may_name_any_column():
    task = make_task(TaskArguments(task="text_classification", labels=["a"], question_template="{hint}: {question}"))
    assert task.question_text({**EXAMPLE, "hint": "think"}) == "think: a fine film"
    with pytest.raises(ValueError, match="names 'hint', which example 'q1' does not have"):
        task.question_text(EXAMPLE)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"metric": "bleu"}, "metric is 'bleu'"),
        ({"question_template": "Answer!"}, "does not contain {question}"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected a whole number of at least 1"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TaskArguments(**arguments)


def test_unknown_tasks_and_missing_labels_are_refused():
    with pytest.raises(ValueError, match="task is 'chess'"):
        make_task(TaskArguments(task="chess"))
    with pytest.raises(ValueError, match="which needs labels"):
        make_task(TaskArguments(task="text_classification"))
    with pytest.raises(ValueError, match="on_bad_example is 'ignore'"):
        DataArguments(dataset="x", on_bad_example="ignore")
    with pytest.raises(ValueError, match="columns is 'a'"):
        DataArguments(dataset="x", columns="a")


def load(tmp_path, *rows, split="train", key="pool_split", **arguments):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"train": str(tmp_path / "rows.jsonl")}
    return load_examples(DataArguments("json", data_files=files, **arguments), split, key=key)


GOOD = {"id": "x", "question": "q", "answer": "a"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": None}, "example 1: its id is empty"),
        ({"id": ""}, "example 1: its id is empty"),
        ({"id": " "}, "example 1: its id is empty"),
        ({"question": None}, "'y': its question is empty"),
        ({"question": " \n"}, "'y': its question is empty"),
        ({"answer": None}, "'y': its answer is empty"),
        ({"answer": ""}, "'y': its answer is empty"),
        ({"answers": []}, "'y': it has no annotators' answers"),
        ({"answers": [""]}, "'y': all its `answers` are empty"),
        ({"answers": [None]}, "'y': an answer in its `answers` is missing"),
        ({"answers": ["a", None]}, "'y': an answer in its `answers` is missing"),
        ({"image": "nowhere.png"}, "'y': its image can't be decoded"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_or_left_out(tmp_path, changes, problem):
    rows = [{**GOOD, "id": "y", "answers": ["a"], **changes}, {**GOOD, "answers": ["a"]}]
    with pytest.raises(ValueError, match=f"1 of 2 examples of split 'train' can't be used: {problem}"):
        load(tmp_path, *rows)
    assert load(tmp_path, *rows, on_bad_example="skip")["id"][:] == ["x"]
    with pytest.raises(ValueError, match="None of the 1 examples of split 'train' can be used"):
        load(tmp_path, rows[0], on_bad_example="skip")


@pytest.mark.parametrize("answers", [[""], [None], [], None])
def test_rows_whose_answers_are_empty_have_no_answer(tmp_path, answers):
    with pytest.raises(ValueError, match="'train-0': its answer is empty"):
        load(tmp_path, {"question": "q", "answers": answers}, {"question": "q", "answers": ["a"]})


def test_a_mended_image_is_looked_at_again(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_text("none")
    with pytest.raises(ValueError, match="its image can't be decoded"):
        load(tmp_path, {**GOOD, "image": str(picture)})
    Image.new("RGB", (2, 2)).save(picture)
    assert load(tmp_path, {**GOOD, "image": str(picture)})[0]["image"].size == (2, 2)


def test_a_column_may_go_by_two_names(tmp_path):
    rows = load(tmp_path, {"key": "k", "answer": "a"}, columns={"id": "key", "question": "key"})
    assert rows[0] == {"id": "k", "image": None, "question": "k", "answer": "a", "answers": ["a"]}


def test_ids_that_are_made_name_the_row_of_the_whole_split(tmp_path):
    rows = [{"question": f"q{i}", "answer": "a"} for i in range(10)]
    whole = load(tmp_path, *rows)["id"][:]
    assert whole == [f"train-{row}" for row in range(10)]
    for split, expected in {
        "train[:3]": whole[:3],
        "train[8:]": whole[8:],
        "train[50%:]": whole[5:],
        "train[-2:]": whole[8:],
        "train[:2]+train[7:9]": whole[:2] + whole[7:9],
        "train[:99]": whole,
    }.items():
        assert load(tmp_path, *rows, split=split)["id"][:] == expected
    with pytest.raises(ValueError, match=r"'train\[:2\]\+train\[:1\]' has 1 duplicate ids"):
        load(tmp_path, *rows, split="train[:2]+train[:1]")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train[:0]", "which names no row of 'train'. Write e.g. train[:100] or train[20%:80%], the start before"),
        ("train[2:1]", "which names no row of 'train'."),
        ("train[9:]+train", "which names no row of 'train'."),
        ("train[x]", "which is no split or slice of rows. Write e.g. train[:100]"),
        ("train[:abc]", "which is no split or slice of rows."),
        ("train[:2", "which is no split or slice of rows."),
        ("train[:200%]", "which is no split or slice of rows."),
        ("trian[:1]", "but the dataset 'json' has no split 'trian', only train. Did you mean 'train'?"),
        ("train+dev", "but the dataset 'json' has no split 'dev', only train. Use one of these, or a slice such as"),
    ],
)
def test_a_split_or_slice_that_is_not_there_is_named_with_its_key(tmp_path, split, message):
    for key in ("pool_split", "eval_split"):
        with pytest.raises(ValueError, match=re.escape(f"{key} is {split!r}, {message}")) as error:
            load(tmp_path, GOOD, {**GOOD, "id": "y"}, split=split, key=key)
        assert "'train' has 2 rows" in str(error.value) or "no split" in message


def test_rows_that_a_slice_leaves_out_are_not_looked_at(tmp_path):
    rows = [{**GOOD, "id": str(place), "answers": "['a']"} for place in range(6)]
    rows[4] |= {"answer": "", "image": "nowhere.png"}
    rows[5] |= {"id": "0", "answers": "no list"}
    for split, ids in {"train[:4]": "0123", "train[1:3]+train[:1]": "120"}.items():
        assert load(tmp_path, *rows, split=split)["id"][:] == list(ids)
    with pytest.raises(ValueError, match="1 of 2 examples of split 'train\\[3:5\\]' can't be used: '4': its answer"):
        load(tmp_path, *rows, split="train[3:5]")
    with pytest.raises(ValueError, match="Column 'answers' of split 'train' holds the text 'no list'"):
        load(tmp_path, *rows, split="train[3:]")


MISSING = {
    "no files": ({"dataset": "csv"}, "dataset is 'csv', a kind of file, and no data_files are given. Set the files"),
    "no file": (
        {"dataset": "json", "data_files": {"train": "{}/row.jsonl"}},
        "row.jsonl', and there is no such file in '{}'. Did you mean 'rows.jsonl'?",
    ),
    "no match": (
        {"dataset": "json", "data_files": ["{}/rows.jsonl", "{}/extra-*.csv"]},
        "data_files names '{}/extra-*.csv', and there is no such file in '{}'. Set it to a file that exists.",
    ),
    "no folder": ({"dataset": "{}/examples"}, "dataset is '{}/examples', and there is no such folder."),
}


@pytest.mark.parametrize("case", list(MISSING))
def test_files_that_are_not_there_are_named_with_the_key(tmp_path, case):
    arguments, message = MISSING[case]
    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD))
    arguments = json.loads(json.dumps(arguments).replace("{}", str(tmp_path)))
    with pytest.raises(ValueError, match=re.escape(message.replace("{}", str(tmp_path)))):
        load_examples(DataArguments(**arguments), "train")


def test_a_folder_with_metadata_of_images_is_a_split_by_its_own_name(tmp_path):
    for place, name in enumerate(("pool", "train", "val", "other")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (2 + place, 2)).save(tmp_path / name / "a.png")
        row = {"file_name": "a.png", "question": "q", "answer": name}
        if name != "other":
            (tmp_path / name / "metadata.jsonl").write_text(json.dumps(row))
    data = DataArguments(str(tmp_path))
    for place, split in enumerate(("pool", "train", "validation")):
        (row,) = load_examples(data, split)
        assert row["image"].width == 2 + place and row["id"] == f"{split}-0" and split.startswith(row["answer"])
    with pytest.raises(
        ValueError, match=r"has no split 'other', only pool, train, validation. Set `data_files: {other: o"
    ):
        load_examples(data, "other")
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: x\n  data_files: pool/**\n---\n")
    assert load_examples(data, "train")["answer"][:] == ["pool"]


def test_splits_with_different_columns_are_joined_where_the_types_allow_it(tmp_path):
    files = {}
    for name, extras in {"train": {"hint": "h"}, "dev": {}, "test": {"hint": ["h"]}}.items():
        files[name] = str(tmp_path / f"{name}.jsonl")
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": "q", "answer": "a"} | extras))
    data = DataArguments("json", data_files=files)
    assert load_examples(data, "train+dev")["hint"][:] == ["h", None]
    assert load_examples(data, "dev+train")["hint"][:] == [None, "h"]
    with pytest.raises(
        ValueError,
        match=r"the split is 'dev\+train\+test', and the column 'hint' of its splits holds List.* and Value",
    ):
        load_examples(data, "dev+train+test")


def test_a_column_that_is_not_there_is_named_with_the_key(tmp_path):
    with pytest.raises(
        ValueError, match=r"columns says \{id: ids\}, .* no column 'ids', only id, question, answer. Did you mean 'id'"
    ):
        load(tmp_path, GOOD, columns={"id": "ids"})


def test_images_that_are_not_there_ask_for_their_folder(tmp_path):
    row = {"question": "q", "answer": "a", "image": "nowhere.png"}
    with pytest.raises(ValueError, match=r"nowhere.png.*Set `image_dir` to the folder .*; it is not set"):
        load(tmp_path, row)
    with pytest.raises(ValueError, match=f"Set `image_dir` .*; it is '{tmp_path}'"):
        load(tmp_path, row, image_dir=str(tmp_path))


def test_made_ids_say_where_they_begin(tmp_path):
    with pytest.raises(ValueError, match=r"'train-1': its answer is empty.* train-0 is the first row"):
        load(tmp_path, {"question": "q", "answer": "a"}, {"question": "q", "answer": ""}, split="train[1:]")
    with pytest.raises(ValueError, match=r"'x': its answer is empty.*leave them out\.$"):
        load(tmp_path, GOOD | {"answer": ""}, GOOD | {"id": "train-1"})


def test_slices_of_a_dataset_on_disk(tmp_path):
    table = Dataset.from_dict({"question": ["q", "r"], "answer": ["x", "y"]})
    table.save_to_disk(tmp_path)
    arguments = DataArguments(str(tmp_path))
    assert load_examples(arguments, "train[1:]")["id"][:] == ["train-1"]
    with pytest.raises(ValueError, match="has no split 'test', only train"):
        load_examples(arguments, "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": ""}, "dataset is empty; expected text"),
        ({"dataset": 3}, "dataset is 3; expected text"),
        ({"dataset": "setup.cfg"}, "dataset is 'setup.cfg', which is a file; name the kind of file"),
        ({"columns": {"id": 3}}, r"columns\['id'\] is 3; expected text"),
        ({"columns": "label"}, "columns is 'label'; expected a mapping from names to texts"),
        ({"data_files": {"train": 3}}, r"data_files\['train'\] is 3; expected text or a list of texts"),
        ({"data_files": {"train": None}}, r"data_files\['train'\] is null"),
        ({"data_files": 3}, "data_files is 3; expected a mapping"),
        ({"data_files": ["tests"]}, "Item 1 of data_files is 'tests', which is a folder; expected a file"),
    ],
)
def test_arguments_of_the_data_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**{"dataset": "csv"} | arguments)


def test_mappings_on_the_command_line_are_yaml():
    for text in ("{question: text}", '{"question": "text"}'):
        (arguments,) = RecipeParser([DataArguments]).parse_args_and_config(["--dataset", "x", "--columns", text])
        assert arguments.columns == {"question": "text"}


def test_every_process_names_what_is_cached_alike(tmp_path):
    """The first load reads the file, a later one what it has cached: both go on from the same hash."""
    rows = [{"question": f"q{i}", "answer": i, "hint": {"a": i}} for i in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataArguments(
        "json", data_files=str(tmp_path / "rows.jsonl"), columns={"id": "question", "question": "question"}
    )
    for split in ("train", "train[2:]", "train[:2]+train[4:]"):
        first, second = load_examples(data, split), load_examples(data, split)
        assert first._fingerprint == second._fingerprint and first[:] == second[:]
