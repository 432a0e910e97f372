# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest
from datasets import Dataset
from PIL import Image

from leverplus_trl.tasks import TaskArguments, make_task


EXAMPLES = Dataset.from_dict({"id": ["1", "2"], "answers": [["a dog", "a big dog"], ["a cat", "one cat"]]})


def test_captions_are_scored_by_cider_over_the_references_given():
    task = make_task(TaskArguments(task="captioning"))
    with pytest.raises(ValueError, match=r"needs the document frequencies .*use_references"):
        task.accuracy("a dog", EXAMPLES[0])
    task.use_references(EXAMPLES)
    assert task.accuracy("a dog", EXAMPLES[0]) > task.accuracy("a cow", EXAMPLES[0]) == 0
    halves = EXAMPLES.select([0]), EXAMPLES.select([1])
    of_halves = make_task(TaskArguments(task="captioning"))
    of_halves.use_references(*halves)
    assert of_halves.document_frequencies == task.document_frequencies
    assert task.document_frequencies.num_documents == 2


def test_references_are_only_counted_for_a_metric_that_needs_them():
    task = make_task(TaskArguments(task="captioning", metric="anls"))
    task.use_references(EXAMPLES)
    assert task.document_frequencies is None and task.accuracy("a dog", EXAMPLES[0]) == 1


def test_the_image_comes_with_the_request():
    task = make_task(TaskArguments(task="captioning"))
    example = {"id": "1", "image": Image.new("RGB", (2, 2)), "question": "Describe it.", "answer": " a dog "}
    assert [part["type"] for part in task.content(example)] == ["image", "text"]
    assert task.target(example) == "a dog" and task.postprocess(" a dog\nmore") == "a dog"
    with pytest.raises(ValueError, match="has no image"):
        task.content(example | {"image": None})


def test_a_request_may_leave_out_the_question_that_all_captions_answer():
    task = make_task(TaskArguments(task="captioning", question_template="Output:"))
    example = {"id": "1", "image": Image.new("RGB", (2, 2)), "question": "Describe it.", "answer": "a dog"}
    assert task.content(example)[1] == {"type": "text", "text": "Output:"}
