# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import datetime

import pytest
from datasets import Dataset

from leverplus_trl.tasks import DataArguments, TaskArguments, load_examples, make_task
from leverplus_trl.tasks.arguments import fill_template, template_fields
from leverplus_trl.tasks.examples import to_examples


@pytest.mark.parametrize(
    ("template", "fields", "text"),
    [
        ("{question}", ["question"], "red {hint}"),
        ('{"q": "{question}", "a": {"b": [{}]}}', ["question"], '{"q": "red {hint}", "a": {"b": [{}]}}'),
        ("{question} {}", ["question"], "red {hint} {}"),
        (r"\frac{1}{2} {question}", ["question"], r"\frac{1}{2} red {hint}"),
        ("{question}{question} {größe}", ["question", "größe"], "red {hint}red {hint} 7"),
        ("{{question}} is {question}", ["question"], "{question} is red {hint}"),
        ("{{{question}}}", [], "{{question}}"),
        ("{ question } {question!r} {question:>9} {0}", [], "{ question } {question!r} {question:>9} {0}"),
    ],
)
def test_fields_are_names_in_braces_and_other_braces_are_text(template, fields, text):
    assert template_fields(template) == fields
    assert fill_template(template, {"question": "red {hint}", "größe": "7"}) == text


def labelled(template, **columns):
    task = make_task(TaskArguments(task="text_classification", labels=["a"], question_template=template))
    table = Dataset.from_dict({"question": ["q", "r"], "answer": ["a", "a"], **columns})
    return task, to_examples(table, DataArguments("memory"), "train")


def test_a_template_shows_values_as_people_write_them():
    columns = {
        "year": [1990.0, 2.5],
        "count": [3, 4],
        "fair": [True, False],
        "day": [datetime.date(2019, 1, 1)] * 2,
    }
    task, table = labelled("{year} {count} {fair} {day} {question}", **columns)
    task.check_examples(table, "train")
    assert [task.question_text(row) for row in table] == ["1990 3 true 2019-01-01 q", "2.5 4 false 2019-01-01 r"]
    # The same of rows that never were in a table.
    row = {name: values[0] for name, values in columns.items()} | {"id": "x", "question": "q"}
    assert task.question_text(row) == "1990 3 true 2019-01-01 q"


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_a_gap_is_never_shown(gap):
    task, table = labelled("{year} {question}", year=[1990.0, gap])
    with pytest.raises(ValueError, match=r"1 of 2 examples .* an empty column 'year'.*\['train-1'\]"):
        task.check_examples(table, "train")
    with pytest.raises(ValueError, match="names 'year', which in example 'train-1' is empty"):
        task.question_text(table[1])
    with pytest.raises(ValueError, match="names 'year', which in example 'x' is empty"):
        task.question_text({"id": "x", "question": "q", "year": gap})


def test_an_example_with_a_gap_can_be_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer,hint\nq,a,left\nr,a,\n")
    arguments = {"dataset": "csv", "data_files": str(tmp_path / "a.csv")}
    task = make_task(TaskArguments(task="text_classification", labels=["a"], question_template="{hint}\n{question}"))
    with pytest.raises(ValueError, match="'train-1': its column 'hint', which question_template names, is empty"):
        load_examples(DataArguments(**arguments), "train", task)
    table = load_examples(DataArguments(**arguments, on_bad_example="skip"), "train", task)
    assert table["id"][:] == ["train-0"]
    task.check_examples(table, "train")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{hint} {question}", "names 'hint', which is no column of split 'train'"),
        ("{image} {question}", "names 'image', which is no column of split 'train' that can be shown"),
        ("{tags} {question}", "names 'tags', which holds List.* in split 'train'; expected text"),
    ],
)
def test_columns_that_cannot_be_shown_are_refused_before_any_work(template, message):
    task, table = labelled(template, tags=[["x"], ["y"]])
    with pytest.raises(ValueError, match=message):
        task.check_examples(table, "train")


def test_the_context_of_a_multiple_choice_question_may_be_missing():
    task = make_task(TaskArguments(task="multiple_choice"))
    rows = {"question": ["q"] * 2, "answer": ["A"] * 2, "choices": [["x", "y"]] * 2, "context": [1990.0, None]}
    table = to_examples(Dataset.from_dict(rows), DataArguments("memory"), "train")
    task.check_examples(table, "train")
    first, second = (task.question_text(row) for row in table)
    assert "Context: 1990\n" in first and "Context: N/A\n" in second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"question_template": "{question} {answer}"}, "contains {answer}: the VLM would be shown what it is asked"),
        ({"question_template": "{question} {answers}"}, "contains {answers}"),
        ({"question_template": "{{question}}"}, "does not contain {question}"),
        ({"question_template": "{question!r}"}, "does not contain {question}"),
        ({"answer_template": "It is {Answer}"}, "does not contain {answer}"),
        ({"answer_template": "{question} is {answer}"}, "contains {question}; expected no field but {answer}"),
        ({"labels": [True, False]}, "Item 1 of labels is true; expected text"),
        ({"labels": ["a", 7]}, "Item 2 of labels is 7; expected text"),
        ({"labels": ["a", " "]}, "Item 2 of labels is ' '; expected text"),
        ({"labels": ["Yes", "yes"]}, "labels holds 'Yes' and 'yes', which an answer can't tell apart"),
        ({"labels": "a, b"}, "labels is 'a, b'; expected a list of texts"),
    ],
)
def test_templates_and_labels_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        TaskArguments(**arguments)


@pytest.mark.parametrize(
    ("template", "said", "bare"),
    [
        ("a {answer}", "apple", "apple"),
        ("a {answer}", "a red apple", "red apple"),
        ("It is {answer}", "it isn't red", "it isn't red"),
        ("{answer} dogs", "hotdogs", "hotdogs"),
        ("{answer} dogs", "two DOGS", "two"),
        ("${answer}", "$5", "5"),
        ("{answer}cm", "5cm", "5"),
        ("Answer: {answer}", "answer:red", "red"),
        ("The answer is {answer}.", "The answer isİ", "The answer isİ"),
        ('{"answer": "{answer}"}', '{"answer": "red"}', "red"),
    ],
)
def test_the_answer_template_is_cut_off_at_words(template, said, bare):
    task = make_task(TaskArguments(answer_template=template))
    assert task.bare_answer(said) == bare


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("positively not", "positively not"),
        ("Positive: it is", "positive"),
        ("POSITIVE", "positive"),
        ("1.5 of 5", "1.5 of 5"),
        ("1. good", "1"),
        ("10", "10"),
        ("non-toxic", "non-toxic"),
        ("c++ code", "C++"),
        ("C, I think", "C"),
        ("Nature", "Nature"),
    ],
)
def test_a_label_begins_an_answer_as_a_word(said, found):
    labels = ["positive", "1", "non", "C", "C++", "Na"]
    task = make_task(TaskArguments(task="text_classification", labels=labels))
    assert task.postprocess(said) == found


@pytest.mark.parametrize("choices", [["x", None], ["x", " "], [str(number) for number in range(27)]])
def test_choices_that_cannot_be_shown_are_named(choices):
    rows = {"question": ["q"] * 2, "answer": ["A"] * 2, "choices": [["x", "y"], choices]}
    table = to_examples(Dataset.from_dict(rows), DataArguments("memory"), "train")
    with pytest.raises(ValueError, match="1 of 2 examples of split 'train' have an empty choice, or more than 26"):
        make_task(TaskArguments(task="multiple_choice")).check_examples(table, "train")
