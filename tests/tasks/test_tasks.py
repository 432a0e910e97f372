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

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image

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
    with pytest.raises(ValueError, match=r"1 of 1 examples of split 'train' have no image, e\.g\. \['train-0'\]"):
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
        arguments = {"dataset": "json", "data_files": f'{{"train": "{tmp_path}/rows.jsonl"}}'}
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
        ({"max_new_tokens": 0}, "at least one token"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TaskArguments(**arguments)


def test_unknown_tasks_and_missing_labels_are_refused():
    with pytest.raises(ValueError, match="task is 'chess'"):
        make_task(TaskArguments(task="chess"))
    with pytest.raises(ValueError, match="needs `labels`"):
        make_task(TaskArguments(task="text_classification"))
    with pytest.raises(ValueError, match="on_bad_example is 'ignore'"):
        DataArguments(dataset="x", on_bad_example="ignore")
    with pytest.raises(ValueError, match="columns is 'a'"):
        DataArguments(dataset="x", columns="a")
