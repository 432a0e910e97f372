# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The whole line on a few examples: beams -> sft -> evaluate -> report, each stage reading what the one before it
wrote."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from paths import ROOT, WORLD
from small_world import VLM, beam_arguments, write_examples

from leverplus_trl.evaluation.evaluation import read_results
from leverplus_trl.evaluation.inference import EvaluationArguments
from leverplus_trl.report.report_arguments import ReportArguments
from leverplus_trl.retrieval import SamplerArguments, sample_candidates
from leverplus_trl.schema import PREDICTIONS
from leverplus_trl.scripts import beams, evaluate, merge, report, sft
from leverplus_trl.stage_arguments import ShardedStageArguments, StageArguments
from leverplus_trl.tasks import DataArguments, TaskArguments, load_examples, make_task
from leverplus_trl.trainer import SelectorSFTConfig
from leverplus_trl.vlms import VLMArguments, load_vlm


SHOTS = [1, 2, 3]


@pytest.fixture(scope="module")
def line(world, embeddings_dir, tmp_path_factory):
    """Folder with the outputs of all stages, and the arguments of the evaluation."""
    folder = tmp_path_factory.mktemp("line")
    sizes = {"pool": 60, "train": 16, "validation": 8, "test": 12}
    files = write_examples(folder, {name: world[name].select(range(count)) for name, count in sizes.items()})
    data = DataArguments(dataset="parquet", data_files=files, pool_split="pool")
    encoder = {"encoder": str(WORLD / "clip"), "embeddings_dir": embeddings_dir}
    splits = ["train", "validation", "test"]
    beams.main(
        *beam_arguments(files, folder / "beams", sampler="mix", num_candidates=12, query_splits=splits, **encoder)
    )
    training = SelectorSFTConfig(
        output_dir=str(folder / "sft"), num_train_epochs=2, use_cpu=True, report_to="none", disable_tqdm=True
    )
    selector = sft.SFTArguments(beams=str(folder / "beams"), embeddings_dir=embeddings_dir, hidden_size=32)
    sft.main(StageArguments(stage="sft"), data, selector, training)
    arguments = (
        ShardedStageArguments(stage="evaluate"),
        data,
        TaskArguments(task="vqa", metric="exact_match", max_new_tokens=4),
        VLMArguments(vlm=VLM, max_batch_tokens=1024),
        SamplerArguments(sampler="mix", num_candidates=12, **encoder),
        EvaluationArguments(
            output_dir=str(folder / "evaluation"),
            selectors=[f"first={folder / 'sft'}", f"again={folder / 'sft'}", f"again={folder / 'sft'}"],
            beams=str(folder / "beams"),
            shots=SHOTS,
            num_queries=[5, 12],
            method_seeds=[0, 1],
            order_probes=7,
            unit_size=5,
        ),
    )
    evaluate.main(*arguments)
    paths = {"evaluation": str(folder / "evaluation"), "beams": str(folder / "beams")}
    report.main(StageArguments(stage="report"), data, ReportArguments(output_dir=str(folder / "report"), **paths))
    return folder, arguments


def test_every_method_answers_every_query_at_every_number_of_shots(line):
    folder, _ = line
    predictions = datasets.load_dataset(str(folder / "evaluation" / "predictions"), "predictions", split="test")
    assert predictions.features == PREDICTIONS
    answered = {(row["method"], row["shots"]) for row in predictions}
    over_all = {m for m, _ in answered} - {"zero_shot", "oracle"}
    assert over_all == {
        *("random", "text_sim", "image_sim", "image_text_sim", "mix", "first", "again"),
        *("random_pool", "text_sim_pool", "image_sim_pool", "image_text_sim_pool"),
    }
    expected = {(m, s) for m in over_all for s in SHOTS} | {("zero_shot", 0), ("oracle", 1), ("oracle", 2)}
    assert answered == expected
    twice = {key for key in expected if key[0] in ("again", "random", "mix", "random_pool")}  # two seeds
    assert len(predictions) == 12 * (len(expected) + len(twice))
    for row in predictions:
        assert len(row["demonstration_ids"]) == row["shots"]
        if not row["method"].endswith("_pool"):
            assert set(row["demonstration_ids"]) <= set(row["candidate_ids"])


def test_accuracies_are_the_metric_of_the_predictions(line, world):
    folder, _ = line
    truth = dict(zip(world["test"]["id"], world["test"]["answer"], strict=True))
    predictions = datasets.load_dataset(str(folder / "evaluation" / "predictions"), "predictions", split="test")
    assert all(row["accuracy"] == (row["prediction"] == truth[row["query_id"]]) for row in predictions)
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    for row in results["rows"]:
        run = [p for p in predictions if (p["method"], p["shots"]) == (row["method"], row["shots"])]
        own = [p["accuracy"] for p in run if row["seed"] in (None, p["seed"])]
        assert len(own) == len(run) if row["seed"] is None else len(own) == 12
        assert row["accuracy"] == pytest.approx(sum(own) / len(own))
        assert 0.0 <= row["ci_low"] <= row["accuracy"] <= row["ci_high"] <= 1.0
    measured = {(one["method"], one["shots"], one["seed"]): one for one in results["collapse"]}
    runs = [("first", 0), ("again", 0), ("again", 1)]
    assert measured.keys() == {(name, shots, seed) for name, seed in runs for shots in SHOTS}
    assert all({"swap_change_share", "id_entropy", "collapsed"} <= one.keys() for one in measured.values())
    assert results["selectors"] == ["first", "again"]


def test_zero_shot_answers_have_the_confidence_that_one_plain_forward_gives(line, world):
    folder, arguments = line
    _, _, task_args, vlm_args, *_ = arguments
    predictions = datasets.load_dataset(str(folder / "evaluation" / "predictions"), "predictions", split="test")
    alone = [row for row in predictions if row["method"] == "zero_shot"]
    assert len(alone) == 12 and all(0.0 < row["confidence"] <= 1.0 for row in alone)
    assert all(row["confidence"] is None for row in predictions if row["method"] != "zero_shot")
    probes = datasets.load_dataset(str(folder / "evaluation" / "order_probes"), split="test")
    assert set(probes["confidence"]) == {None}

    vlm = load_vlm(vlm_args, make_task(task_args))
    query = world["test"][3]
    (row,) = (row for row in alone if row["query_id"] == query["id"])
    prompt = vlm.family.prompt.whole((), query)
    before, whole = (
        vlm.family.processor(text=[text], images=list(prompt.images), return_tensors="pt")
        for text in (prompt.text, prompt.text + row["prediction"])
    )
    start, ids = before["input_ids"].shape[1], whole["input_ids"][0]
    with torch.no_grad():
        logprobs = vlm.model(**whole).logits[0].log_softmax(-1)
    own = [logprobs[place - 1, ids[place]].item() for place in range(start, len(ids))]
    assert row["confidence"] == pytest.approx(math.exp(sum(own) / len(own)), rel=1e-3)

    found = json.loads((folder / "evaluation" / "results.json").read_text())["diagnostics"]["rows"]
    for one in found:
        assert one["gate_ci_low"] <= one["gate_gain"] <= min(one["gate_ci_high"], one["oracle_gate_gain"] + 1e-12)
        assert 0.0 <= one["gate_kept_share"] < 1.0


def test_the_first_queries_have_results_of_their_own(line, world):
    folder, _ = line
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    (prefix,) = results["prefixes"]
    assert (prefix["num_queries"], results["num_queries"]) == (5, 12)
    predictions = datasets.load_dataset(str(folder / "evaluation" / "predictions"), "predictions", split="test")
    first = set(world["test"]["id"][:5])
    own = [p["accuracy"] for p in predictions if p["method"] == "image_sim" and p["shots"] == 2]
    asked = [p["query_id"] for p in predictions if p["method"] == "image_sim" and p["shots"] == 2]
    row = next(row for row in prefix["rows"] if (row["method"], row["shots"]) == ("image_sim", 2))
    assert row["accuracy"] == pytest.approx(sum(a for a, one in zip(own, asked, strict=True) if one in first) / 5)
    assert {"exact_match", "cover_exact_match", "token_f1", "anls"} <= set(prefix["metrics"])


def test_selectors_are_also_asked_in_another_order(line):
    folder, _ = line
    tables = {
        name: datasets.load_dataset(str(folder / "evaluation" / name), split="test")
        for name in ("predictions", "order_probes")
    }
    assert not any("~" in method for method in tables["predictions"]["method"])
    chosen = {
        (row["method"], row["seed"], row["query_id"]): row["demonstration_ids"]
        for row in tables["predictions"]
        if row["shots"] == 3
    }
    probes = list(tables["order_probes"])
    assert len(probes) == 2 * 7 and {row["method"] for row in probes} == {"first~shuffled", "again~shuffled"}
    for row in probes:
        original = chosen[row["method"].removesuffix("~shuffled"), row["seed"], row["query_id"]]
        assert sorted(row["demonstration_ids"]) == sorted(original) and row["demonstration_ids"] != original
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    assert [(one["method"], one["num_probes"]) for one in results["diagnostics"]["order"]] == [
        ("first", 7),
        ("again", 7),
    ]


def test_the_same_selector_twice_is_said_to_be_the_same(line):
    folder, _ = line
    found = json.loads((folder / "evaluation" / "results.json").read_text())["diagnostics"]
    assert any(said.startswith("again and first are the same (shots: 1, 2, 3)") for said in found["warnings"])
    assert all(row["leaked"] == 0.0 for row in found["rows"])
    (selector,) = (row for row in found["rows"] if (row["method"], row["shots"]) == ("again", 2))
    assert selector["identical_across_seeds"] == 1.0 and 0.0 <= selector["selection_entropy"] <= 1.0


@pytest.mark.parametrize(
    "changes",
    [{"shots": [1]}, {"methods": ["random"], "order_probes": 0}, {"methods": ["zero_shot"]}],
    ids=["one shot", "no probes", "zero-shot alone"],
)
def test_evaluations_without_order_probes(line, tmp_path, changes):
    _, (*others, eval_args) = line
    values = {"methods": ["random", "oracle"], "selectors": [], "num_queries": [3], "unit_size": 2} | changes
    eval_args = replace(eval_args, output_dir=str(tmp_path / "evaluation"), **values)
    evaluate.main(*others, eval_args)
    results = read_results(tmp_path / "evaluation" / "results.json")
    assert {row["method"] for row in results["rows"]} == {"zero_shot", *eval_args.methods}
    assert results["num_queries"] == 3 and results["diagnostics"]["order"] == []
    assert not (tmp_path / "evaluation" / "order_probes").exists()


def test_candidates_are_those_of_the_beams(line):
    folder, _ = line
    beams_table = datasets.load_dataset(str(folder / "beams"), "beams", split="test")
    searched = dict(zip(beams_table["query_id"], beams_table["candidate_ids"], strict=True))
    predictions = datasets.load_dataset(str(folder / "evaluation" / "predictions"), "predictions", split="test")
    assert all(row["candidate_ids"] == searched[row["query_id"]] for row in predictions)


def test_the_report_shows_the_numbers(line):
    folder, _ = line
    page = (folder / "report" / "index.html").read_text()
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    best = next(row for row in results["rows"] if (row["method"], row["shots"]) == ("oracle", 2))
    assert f"{100 * best['accuracy']:.1f}" in page and "data:image/png;base64," in page
    assert "gate by confidence" in page and "gate by confidence" in (folder / "report" / "report.md").read_text()
    assert (folder / "report" / "report.md").exists() and (folder / "report" / "accuracy_by_shots.png").exists()


def test_a_selector_is_loaded_and_used_as_the_card_says(line, tmp_path):
    """The snippet of the README in a fresh process, with this test's VLM, selector and folder of embeddings."""
    folder, _ = line
    script = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.M | re.S)[1]
    for theirs, ours in {
        '"data/concept_binding/vlm"': repr(VLM),
        '"data/concept_binding"': repr(str(WORLD)),
        '"outputs/demo/sft"': repr(str(folder / "sft")),
        'examples["pool"])': f'examples["pool"], embeddings_dir={str(tmp_path)!r})',
        "vlm.generate([Request(*selection.request)])": 'print("SAYS", *vlm.generate([Request(*selection.request)]))',
    }.items():
        assert script.count(theirs) == 1
        script = script.replace(theirs, ours)
    script += 'print("IDS", *selection.demonstration_ids)'
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = {words[0]: words[1:] for words in map(str.split, done.stdout.splitlines())}
    assert len(said["IDS"]) == 2 and all(identifier.startswith("pool-") for identifier in said["IDS"])
    assert len(said["SAYS"]) in (1, 2)


def test_a_finished_evaluation_is_not_run_again_and_another_is_refused(line, monkeypatch):
    _, arguments = line
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))
    units = Path(arguments[-1].output_dir) / "units"
    units.mkdir()  # of a process that was killed behind the results
    evaluate.main(*arguments)
    assert not units.exists()
    monkeypatch.setattr(arguments[-1], "method_seeds", [1])
    with pytest.raises(ValueError, match=r"another recipe \(method_seeds: \[0, 1\] there, \[1\] here\)"):
        evaluate.main(*arguments)


def test_a_dry_run_knows_how_long_the_beams_are_once_they_are_there(line, tmp_path, monkeypatch, caplog):
    folder, (stage_args, *others, eval_args) = line
    monkeypatch.setattr(stage_args, "dry_run", True)
    monkeypatch.setattr(eval_args, "output_dir", str(tmp_path / "dry"))
    answers = len(datasets.load_dataset(str(folder / "evaluation" / "predictions"), "predictions", split="test"))
    for beams_there, expected in ((True, answers), (False, answers + 12)):  # the oracle at 3 shots, too
        if not beams_there:
            monkeypatch.setattr(eval_args, "beams", str(tmp_path / "nothing"))
        with caplog.at_level("INFO", logger="leverplus_trl"):
            caplog.clear()
            evaluate.main(stage_args, *others, eval_args)
        assert f": {expected} answers;" in caplog.text and not (tmp_path / "dry").exists()
        assert re.search(rf"prompts to score +12\n  prompts to answer +{expected}\n", caplog.text)


def test_results_that_were_deleted_are_made_anew_from_the_predictions(line, monkeypatch):
    folder, arguments = line
    file = folder / "evaluation" / "results.json"
    before = file.read_bytes()
    monkeypatch.setattr("leverplus_trl.stage.load_vlm", lambda *_: pytest.fail("the VLM was loaded"))
    file.unlink()
    evaluate.main(*arguments)
    assert file.read_bytes() == before
    # As merge does it, which asks for no recipe and no machine of the same kind, nor for the selectors' folders.
    monkeypatch.chdir("/")
    file.unlink()
    (folder / "evaluation" / "units").mkdir()  # of a process that was killed behind the tables
    merge.main(merge.MergeArguments(output_dir=str(folder / "evaluation")))
    assert file.read_bytes() == before and not (folder / "evaluation" / "units").exists()
    (folder / "evaluation" / "order_probes" / "README.md").rename(folder / "probes.md")
    file.unlink()
    try:
        with pytest.raises(ValueError, match=r"holds answered.json, but no order_probes: copy that folder back"):
            evaluate.main(*arguments)
    finally:
        (folder / "probes.md").rename(folder / "evaluation" / "order_probes" / "README.md")
        file.write_bytes(before)


def test_no_image_is_decoded_for_what_selectors_choose(line, monkeypatch):
    _, (_, data, _, _, sampler_args, eval_args) = line
    pool, queries = (load_examples(data, split) for split in ("pool", "test"))
    eval_args = replace(eval_args, methods=["selector"], order_probes=0)
    candidate_ids = sample_candidates(sampler_args, pool, queries)
    monkeypatch.setattr(datasets.Image, "decode_example", lambda *_, **__: pytest.fail("an image was decoded"))
    plan, collapse = evaluate.make_plan(queries, pool, candidate_ids, sampler_args, eval_args, None)
    assert len(collapse) == 3 * len(SHOTS) and plan["again", 1, 1] == plan["first", 1, 0]


def test_half_written_results_are_named(line):
    folder, arguments = line
    file = folder / "evaluation" / "results.json"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(ValueError, match=r"results.json is not whole JSON .* delete it and run `leverplus merge"):
            evaluate.main(*arguments)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"methods": ["best"]}, "methods is 'best'; expected one of zero_shot"),
        ({"shots": [0]}, "shots is 0; expected a whole number of at least 1"),
        ({"methods": ["selector"]}, "set `selectors`"),
        ({"methods": ["selector"], "selectors": ["mix=x"]}, "A selector can't be called 'mix'"),
        ({"methods": ["oracle"]}, "`methods` holds 'oracle': set `beams`"),
        ({"methods": ["random"], "unit_size": 0}, "unit_size is 0; expected a whole number of at least 1"),
        (
            {"methods": ["random"], "num_queries": [100, 0]},
            "Item 2 of num_queries is 0; expected a whole number",
        ),
        ({"methods": ["random"], "method_seeds": [1, 1]}, r"method_seeds is \[1, 1\], which names something twice"),
        ({"methods": ["random"], "order_probes": -1}, "order_probes is -1; expected a whole number of at least 0"),
        ({"methods": ["selector"], "selectors": ["a~shuffled=x"]}, "A selector can't be called 'a~shuffled'"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EvaluationArguments(output_dir="x", **arguments)


def test_selectors_have_a_name_and_a_path_that_may_have_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    entries = ["v2_pooled=lr=0.1/sft", "lr=0.1", "hub/one", "v2_pooled=hub/two"]
    found = EvaluationArguments(output_dir="x", methods=["selector"], selectors=entries).selector_paths
    assert found == {"v2_pooled": ["lr=0.1/sft", "hub/two"], "selector": ["lr=0.1", "hub/one"]}


def test_selectors_that_no_method_asks_for_are_left_out_and_said(caplog):
    found = EvaluationArguments(output_dir="x", methods=["random"], selectors=["v2=a"])
    assert found.selectors == [] and "no selector is evaluated" in caplog.text


def test_one_number_of_queries_is_a_list_of_one():
    assert EvaluationArguments(output_dir="x", methods=["random"], num_queries=100).num_queries == [100]


def test_an_oracle_of_other_prompts_is_refused():
    here = {"recipe": {"vlm": "v", "prompt_date": "2024-07-26"}, "facts": {"prompt_hash": "one"}}
    there = {"recipe": {"vlm": "v", "prompt_date": "2024-07-27"}, "facts": {"prompt_hash": "two"}}
    evaluate.check_oracle("searched", there | {"facts": here["facts"]}, here)  # a template that writes no date
    message = (
        r"ledger of 'searched' was scored with other prompts .*prompt_hash: 'two' there, 'one' here; prompt_date: "
        r"'2024-07-27' there, '2024-07-26' here\), .*take 'oracle' out of `methods`"
    )
    with pytest.raises(ValueError, match=message):
        evaluate.check_oracle("searched", there, here)
    with pytest.raises(ValueError, match="prompt_hash: None there, 'one' here"):
        evaluate.check_oracle("searched", {"recipe": here["recipe"], "facts": {}}, here)
