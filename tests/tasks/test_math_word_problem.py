# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest
from datasets import Dataset

from leverplus_trl.tasks import TaskArguments, make_task


EXAMPLE = {"id": "1", "image": None, "question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2", "answers": ["2"]}


def test_the_reply_is_kept_up_to_the_next_question():
    task = make_task(TaskArguments(task="math_word_problem"))
    assert task.target(EXAMPLE) == "1 + 1 = 2\n#### 2"
    prediction = task.postprocess(" It is 2.\n#### 2\n\nQuestion: 2 + 2?\n#### 4")
    assert prediction == "It is 2.\n#### 2"
    assert task.postprocess("2<|im_end|>3") == "2"
    assert task.accuracy(prediction, EXAMPLE) == 1 and task.accuracy("2", EXAMPLE) == 0
    flexible = make_task(TaskArguments(task="math_word_problem", metric="gsm8k_flexible"))
    assert flexible.accuracy("2", EXAMPLE) == 1
    assert task.content(EXAMPLE) == [{"type": "text", "text": "1 + 1?"}]


def test_the_recipe_says_where_a_reply_ends():
    assert make_task(TaskArguments(task="math_word_problem")).stop_strings == ["Question:", "</s>", "<|im_end|>"]
    task = make_task(TaskArguments(task="math_word_problem", stop_strings=["\n\n", "Q:"]))
    assert task.postprocess("2 Question: 3 Q: 4\n\n5") == "2 Question: 3"
    assert make_task(TaskArguments(task="math_word_problem", stop_strings=[])).postprocess("2</s>") == "2</s>"
    assert make_task(TaskArguments()).stop_strings == []


def test_stop_strings_that_cut_every_right_answer_are_refused():
    task = make_task(TaskArguments(task="math_word_problem", stop_strings=["####"]))
    with pytest.raises(
        ValueError, match=r"metric gsm8k_strict gives 0 to the right answer of 1 of 1 .*`stop_strings`"
    ):
        task.check_metric(Dataset.from_list([EXAMPLE]), "train")


def test_solutions_without_a_number_are_named():
    task = make_task(TaskArguments(task="math_word_problem"))
    task.check_examples(Dataset.from_list([EXAMPLE]), "train")
    wrong = Dataset.from_list([EXAMPLE, EXAMPLE | {"id": "7", "answer": "2"}])
    with pytest.raises(ValueError, match=r"1 of 2 answers of split 'train' have no '#### number', .*'7'"):
        task.check_examples(wrong, "train")
