# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest
from datasets import Dataset
from PIL import Image

from leverplus_trl.tasks import TaskArguments, make_task


EXAMPLE = {
    "id": "1",
    "image": None,
    "question": "What barks?",
    "answer": "B",
    "answers": ["B"],
    "choices": ["a cat", "a dog"],
    "context": "",
}


def test_the_prompts_of_scienceqa_and_mmbench():
    task = make_task(TaskArguments(task="multiple_choice"))
    (text,) = task.content(EXAMPLE)
    assert text["text"].startswith("Question: What barks?\nContext: N/A\nOptions: (A) a cat (B) a dog\n")
    template = "{hint_line}Question: {question}\nOptions:\n{option_lines}\nPlease select."
    task = make_task(TaskArguments(task="multiple_choice", question_template=template))
    assert task.question_text(EXAMPLE) == "Question: What barks?\nOptions:\nA. a cat\nB. a dog\nPlease select."
    assert task.question_text(EXAMPLE | {"context": "Ears."}).startswith("Hint: Ears.\nQuestion: ")
    without = {name: value for name, value in EXAMPLE.items() if name != "context"}
    assert task.question_text(without).startswith("Question: ")


def test_the_image_is_shown_where_there_is_one():
    task = make_task(TaskArguments(task="multiple_choice"))
    kinds = [part["type"] for part in task.content(EXAMPLE | {"image": Image.new("RGB", (2, 2))})]
    assert kinds == ["image", "text"]


def test_answers_are_letters_in_words_of_choice():
    task = make_task(TaskArguments(task="multiple_choice"))
    assert task.target(EXAMPLE) == "B"
    assert task.accuracy(task.postprocess(" (B)\n\nQuestion: next?"), EXAMPLE) == 1
    assert task.accuracy("a cat", EXAMPLE) == 0
    official = TaskArguments(
        task="multiple_choice", metric="scienceqa_accuracy", answer_template="The answer is {answer}."
    )
    task = make_task(official)
    assert task.target(EXAMPLE) == "The answer is B."
    assert task.accuracy(task.target(EXAMPLE), EXAMPLE) == 1 and task.accuracy("B", EXAMPLE) == 0.5
    with pytest.raises(ValueError, match=r"does not contain \{answer\}"):
        TaskArguments(answer_template="The answer is")


def test_examples_of_another_kind_are_named():
    task = make_task(TaskArguments(task="multiple_choice"))
    task.check_examples(Dataset.from_list([EXAMPLE]), "train")
    with pytest.raises(ValueError, match=r"1 of 2 answers .* one of their choices: '2' \('C' of 2\)"):
        task.check_examples(Dataset.from_list([EXAMPLE, EXAMPLE | {"id": "2", "answer": "C"}]), "train")
    with pytest.raises(ValueError, match="'1' \\('1' of 2\\)"):
        task.check_examples(Dataset.from_list([EXAMPLE | {"answer": "1"}]), "train")
    with pytest.raises(ValueError, match="no column `choices`"):
        task.check_examples(Dataset.from_list([EXAMPLE]).remove_columns("choices"), "train")
