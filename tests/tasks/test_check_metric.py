# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Saying the right answer must score: data or a metric of another kind is named before anything is answered."""

import pytest
from datasets import Dataset

from leverplus_trl.tasks import TaskArguments, make_task


def table(*answers):
    rows = [
        {"id": f"e{place}", "image": None, "question": "what ?", "answer": own[0], "answers": own[1]}
        for place, own in enumerate(answers)
    ]
    return Dataset.from_list(rows)


@pytest.mark.parametrize("metric", ["vqa_accuracy", "vqa_accuracy_normalized", "okvqa_accuracy"])
def test_metrics_of_several_annotators_refuse_one(metric):
    task = make_task(TaskArguments(metric=metric))
    with pytest.raises(
        ValueError, match=rf"metric {metric} gives 0 to the right answer of 2 of 2 examples of split 't'"
    ):
        task.check_metric(table(("red", ["red"]), ("blue", ["blue"])), "t")
    with pytest.raises(ValueError, match=r"for one answer set `metric: exact_match`"):
        task.check_metric(table(("red", ["red"])), "t")
    task.check_metric(table(("red", ["red"] * 10), ("blue", ["blue", "blue", "navy"])), "t")


def test_an_answer_that_is_none_of_the_answers_is_refused_or_named(caplog):
    task = make_task(TaskArguments(metric="exact_match"))
    with pytest.raises(
        ValueError, match=r"'nuvu' for 'e0', whose answers are \['wagu'\]. Compare `answer`, `answers`"
    ):
        task.check_metric(table(("nuvu", ["wagu"])), "t")
    task.check_metric(table(("nuvu", ["wagu"]), ("red", ["red"])), "t")
    assert "gives 0 to the right answer of 1 of 2 examples of split 't', e.g. to 'nuvu'" in caplog.text


def test_a_template_that_the_metric_does_not_see_through_is_refused():
    template = "The answer is {answer}."
    with pytest.raises(ValueError, match="`answer_template` and `stop_strings`, or set another `metric`"):
        make_task(TaskArguments(metric="exact_match", answer_template=template)).check_metric(
            table(("red", ["red"])), "t"
        )
    make_task(TaskArguments(metric="cover_exact_match", answer_template=template)).check_metric(
        table(("red", ["red"])), "t"
    )


def test_good_data_is_passed_in_silence(caplog):
    make_task(TaskArguments(metric="exact_match")).check_metric(
        table(("red", ["red"]), ("crimson", ["red", "crimson"])), "t"
    )
    assert not caplog.records
