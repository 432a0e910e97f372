# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import os

import evaluate
import pytest

import leverplus_trl.metrics
from leverplus_trl.metrics import METRICS, all_metrics
from leverplus_trl.tasks import TASKS, TaskArguments, make_task


VQA = {"1": {"id": "1", "answers": ["red dog"] * 10}, "2": {"id": "2", "answers": ["two"] * 5 + ["2"] * 5}}
OPTIONS = {"answers": ["B"], "choices": ["a cat", "a dog"]}
#: A prediction and a reference of each folder, and the score.
FOLDERS = {
    "exact_match": ("Dog", ["dog"], 1),
    "cover_exact_match": ("a dog", ["dog"], 1),
    "token_f1": ("big dog", ["dog"], 2 / 3),
    "accuracy": ("dog", ["dog"], 1),
    "vqa_accuracy": ("dog", ["dog"] * 2 + ["cat"] * 8, 0.6),
    "vqa_accuracy_normalized": ("A dog", ["dog"] * 10, 1),
    "okvqa_accuracy": ("surfing", ["surf"] * 10, 1),
    "anls": ("ab", ["ax"], 0.5),
    "cider": ("a dog", ["a dog"], 5),
    "option_accuracy": ("(B)", OPTIONS, 1),
    "scienceqa_accuracy": ("none", OPTIONS, 0.5),
    "mmbench_accuracy": ("a dog", OPTIONS, 1),
    "gsm8k_accuracy": ("#### 5", ["so #### 5"], 1),
}
RESULTS = {"vqa_accuracy": "accuracy"}


@pytest.mark.parametrize("name", FOLDERS)
def test_evaluate_loads_each_folder_offline(name, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.chdir(os.path.join(os.path.dirname(__file__), "..", ".."))
    metric = evaluate.load(f"leverplus_trl/metrics/{name}", cache_dir=str(tmp_path))
    prediction, reference, expected = FOLDERS[name]
    # For CIDEr a second example, so that words have a weight; the first one's score is what is compared.
    predictions, references = ["", prediction], [reference, reference]
    if name == "cider":
        references = [["a cat"], reference]
    result = metric.compute(predictions=predictions, references=references)
    assert result["per_example"][1] == pytest.approx(expected)
    assert result[RESULTS.get(name, name)] == pytest.approx(sum(result["per_example"]) / 2)
    assert metric.description and "predictions" in metric.inputs_description


def test_every_folder_is_known():
    root = os.path.join(os.path.dirname(__file__), "..", "..", "leverplus_trl", "metrics")
    folders = {entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("__")}
    assert folders == set(FOLDERS)


def test_options_of_metrics_that_have_some(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.chdir(os.path.join(os.path.dirname(__file__), "..", ".."))
    gsm8k = evaluate.load("leverplus_trl/metrics/gsm8k_accuracy", cache_dir=str(tmp_path))
    assert gsm8k.compute(predictions=["it is 5"], references=[["5"]])["gsm8k_accuracy"] == 0
    assert gsm8k.compute(predictions=["it is 5"], references=[["5"]], flexible=True)["gsm8k_accuracy"] == 1
    # Wherever one stands, and without predictions there is no mean.
    monkeypatch.chdir(tmp_path)
    anls = evaluate.load(f"{leverplus_trl.metrics.__path__[0]}/anls", cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="There are no predictions"):
        anls.compute(predictions=[], references=[])
    assert anls.compute(predictions=["ab"], references=[["ax"]], threshold=0.6)["anls"] == 0


def test_variants_side_by_side():
    task = make_task(TaskArguments(task="vqa"))
    found = all_metrics(task.metrics, ["1", "2", "1"], ["A red dogs", "two", "red dog"], VQA)
    assert set(found) == set(task.metrics)
    assert found["vqa_accuracy"] == [0, 1, 1]
    assert found["vqa_accuracy_normalized"] == [0, 1, 1]
    assert found["okvqa_accuracy"] == [0, 1, 1]
    assert found["token_f1"] == pytest.approx([1 / 2, 1, 1]) and found["exact_match"] == [0, 1, 1]
    assert all_metrics(task.metrics, ["1"], ["red dogs"], VQA)["okvqa_accuracy"] == [1]


def test_what_does_not_apply_is_left_out():
    few = {"1": {"answers": ["x"]}, "2": {"answers": ["x"] * 10}}
    names = make_task(TaskArguments(task="vqa")).metrics
    assert set(all_metrics(names, ["1", "2"], ["x", "x"], few)) == set(names) - {
        "vqa_accuracy",
        "vqa_accuracy_normalized",
        "okvqa_accuracy",
    }
    assert set(all_metrics(names, ["2"], ["x"], few)) == set(names)  # only what is answered counts
    assert all_metrics(["mmbench_accuracy"], ["1"], ["x"], few) == {}  # no choices


def test_document_frequencies_are_those_of_the_answered():
    captions = {"1": {"answers": ["a dog"]}, "2": {"answers": ["a cat"]}, "3": {"answers": ["a cow"]}}
    assert all_metrics(["cider"], ["1", "2"], ["a dog", ""], captions) == {"cider": pytest.approx([5, 0])}
    # one query answered by two methods is one document
    assert all_metrics(["cider"], ["1", "2", "1"], ["a dog", "", "a dog"], captions)["cider"][2] == pytest.approx(5)


def test_bad_input():
    with pytest.raises(ValueError, match=r"1 of the ids .* not among the 2 examples, e\.g\. \['9'\]"):
        all_metrics(["anls"], ["1", "9"], ["x", "y"], VQA)
    with pytest.raises(ValueError, match="Unknown metric 'bleu'"):
        all_metrics(["bleu"], ["1"], ["x"], VQA)
    with pytest.raises(ValueError, match="no predictions"):
        all_metrics(["anls"], [], [], VQA)


def test_every_task_names_metrics_there_are():
    for task in TASKS.values():
        assert task.default_metric in task.metrics and set(task.metrics) <= set(METRICS)
