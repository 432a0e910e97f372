# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import os
import subprocess
import sys

import evaluate
import pytest

import leverplus_trl.metrics
from leverplus_trl.metrics import METRICS, all_metrics
from leverplus_trl.tasks import TASKS, TaskArguments, make_task


VQA = {"1": {"id": "1", "answers": ["red dog"] * 10}, "2": {"id": "2", "answers": ["two"] * 5 + ["2"] * 5}}
OPTIONS = {"answers": ["B"], "choices": ["a cat", "a dog"]}
#: A prediction and a reference for each metric, and the score.
EXAMPLES = {
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
    "gsm8k_strict": ("#### 5", ["so #### 5"], 1),
    "gsm8k_flexible": ("it is 5", ["so #### 5"], 1),
}
RESULTS = {"vqa_accuracy": "accuracy"}


@pytest.fixture
def offline_at_root(monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.chdir(os.path.join(os.path.dirname(__file__), "..", ".."))


@pytest.mark.parametrize("name", EXAMPLES)
def test_evaluate_loads_each_metric_offline(name, tmp_path, offline_at_root):
    metric = evaluate.load("leverplus_trl/metrics", name, cache_dir=str(tmp_path))
    prediction, reference, expected = EXAMPLES[name]
    # For CIDEr a second example, so that words have a weight; the first one's score is what is compared.
    predictions, references = ["", prediction], [reference, reference]
    if name == "cider":
        references = [["a cat"], reference]
    result = metric.compute(predictions=predictions, references=references)
    assert result["per_example"][1] == pytest.approx(expected)
    assert result[RESULTS.get(name, name)] == pytest.approx(sum(result["per_example"]) / 2)
    assert metric.description and "predictions" in metric.inputs_description
    unpublished = ("exact_match", "cover_exact_match", "accuracy", "option_accuracy")
    assert bool(metric.citation) == bool(metric.reference_urls) == (name not in unpublished)
    assert all(url in metric.citation for url in metric.reference_urls)


def test_every_metric_has_an_example():
    assert set(EXAMPLES) == set(METRICS)


def test_evaluate_names_the_metrics_if_it_is_given_none_of_them(tmp_path, offline_at_root):
    for name in (None, "bleu"):
        with pytest.raises(ValueError, match=r"no metric .*evaluate\.load\(PATH, NAME\).* exact_match, cover_exact"):
            evaluate.load("leverplus_trl/metrics", name, cache_dir=str(tmp_path))


def test_evaluate_loads_in_a_fresh_process_offline_from_any_folder(tmp_path):
    code = """\
import sys
import evaluate
metric = evaluate.load(sys.argv[1], "vqa_accuracy")
print(metric.compute(predictions=["two"], references=[["2"] * 2 + ["3"] * 8])["accuracy"])
metric = evaluate.load(f"{sys.argv[1]}/metrics.py", "mmbench_accuracy")
references = [{"answers": ["B"], "choices": ["a cat", "a dog"]}]
print(metric.compute(predictions=["B"], references=references)["per_example"])"""
    root = leverplus_trl.metrics.__path__[0]
    offline = {"HF_HOME": str(tmp_path / "hf"), "HF_EVALUATE_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    paths = os.pathsep.join([os.path.join(root, "..", ".."), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code, root],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | offline | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["0.6", "[1.0]"]


def test_options_of_metrics_that_have_some(tmp_path, offline_at_root, monkeypatch):
    for name, expected in (("gsm8k_strict", 0), ("gsm8k_flexible", 1)):
        gsm8k = evaluate.load("leverplus_trl/metrics", name, cache_dir=str(tmp_path))
        assert gsm8k.compute(predictions=["it is 5"], references=[["5"]])[name] == expected
    # In any working directory; without predictions there is no mean.
    monkeypatch.chdir(tmp_path)
    anls = evaluate.load(leverplus_trl.metrics.__path__[0], "anls", cache_dir=str(tmp_path))
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
