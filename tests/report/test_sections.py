# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import io
import json

import numpy as np
import pytest
from PIL import Image

from leverplus_trl.beams.beam_analysis import NOTICEABLE, analyze_queries
from leverplus_trl.evaluation.evaluation import summarize
from leverplus_trl.report.evaluation_sections import diagnostics_section, metrics_section
from leverplus_trl.report.evaluations import Evaluation
from leverplus_trl.report.sections import section_markdown
from leverplus_trl.report.training import (
    beams_section,
    describe_training,
    plot_training,
    read_analysis,
    read_history,
    training_section,
)


HISTORY = [
    {"step": 10, "loss": 2.0, "learning_rate": 0.1, "epoch": 0.5},
    {"step": 10, "eval_loss": 1.5, "eval_runtime": 3.0},
    {"step": 20, "loss": 1.0, "kl": 0.02, "epoch": 1.0},
    {"step": 20, "eval_loss": 0.75},
]


def write_state(folder, state):
    folder.mkdir(exist_ok=True)
    (folder / "trainer_state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    return folder


def test_training_curves_are_drawn_from_the_log(tmp_path):
    folder = write_state(tmp_path / "sft", {"log_history": HISTORY})
    history = read_history(folder)
    section = training_section({"mine": folder})
    assert section.charts[0].png == plot_training(history)
    assert describe_training(history) == "20 steps. On held-out queries: loss 1.5 → 0.75."
    changed = [{**entry, "loss": 1.7} if "loss" in entry else entry for entry in history]
    assert plot_training(changed) != plot_training(history)
    image = np.asarray(Image.open(io.BytesIO(plot_training(history))).convert("RGB"))
    assert (image == (0xD5, 0x5E, 0x00)).all(-1).any() and (image == (0x00, 0x72, 0xB2)).all(-1).any()
    assert training_section({}) is None


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ('{"log_history": [{"st', r"is not a whole state of a trainer \(JSONDecodeError"),
        ({"global_step": 3}, r"is not a whole state of a trainer \(KeyError"),
        ({"log_history": [{"step": 1, "learning_rate": 0.1}]}, "logged nothing that could be drawn"),
    ],
)
def test_damaged_logs_are_named(tmp_path, state, message):
    folder = write_state(tmp_path / "sft", state)
    with pytest.raises(ValueError, match=message):
        read_history(folder)
    with pytest.raises(ValueError, match=r"has no trainer_state\.json"):
        read_history(tmp_path)


def searched(query_id, gains):
    """A query of two candidates that alone raise the answer's probability of 0.1 by `gains`."""
    ledger = [([], 0.1), (["a"], 0.1 + gains[0]), (["b"], 0.1 + gains[1])]
    return {
        "query_id": query_id,
        "candidate_ids": ["a", "b"],
        "demonstration_ids": [["a"]],
        "scores": [gains[0]],
        "ledger": [
            {"demonstration_ids": ids, "answer_logprob": float(np.log(prob)), "num_answer_tokens": 1, "accuracy": None}
            for ids, prob in ledger
        ],
    }


def test_the_analysis_of_the_beams_is_shown(beams):
    split = analyze_queries([searched("q1", (0.5, 0.1)), searched("q2", (0.4, 0.2))], "left", "prob")
    section = beams_section(beams, {"splits": {"train": split}})
    text = section_markdown(section)
    assert "train: Choosing matters here" in text and "train: 2 queries" in text
    assert "](score_by_beam_position.png)" in text
    assert "| 1 | +0.300 | +0.450 | 0.150 | 0.150 |" in text
    assert "| a | 2 | 2 | 100.0% |" in text and "| train | – | – | – | – | 100% |" in text
    assert str(NOTICEABLE) in section.notes[0]


def test_an_analysis_by_the_metric_is_shown_as_such(beams):
    rows = [searched("q1", (0.5, 0.1)), searched("q2", (0.4, 0.2))]
    for entry in (entry for row in rows for entry in row["ledger"]):
        entry["accuracy"] = 3 * float(len(entry["demonstration_ids"]))
    section = beams_section(beams, {"splits": {"train": analyze_queries(rows, "left", "metric")}})
    text = section_markdown(section)
    assert "| 1 | +3.000 | +3.000 | 0.000 | 0.000 |" in text
    assert "the metric of the generated answer stays the same" in text
    assert section.notes[0].startswith("All numbers but the chart's are values of the task's metric")
    assert "probabilit" not in text


def test_a_damaged_analysis_is_named(tmp_path, beams):
    (tmp_path / "analysis.json").write_text('{"splits"')
    with pytest.raises(ValueError, match=r"analysis\.json is not whole JSON .*delete it, and it is made anew"):
        read_analysis(str(tmp_path), beams)


@pytest.fixture
def diagnosed(predictions, queries, pool):
    def chosen(row):
        ids = ["p0", "p1"][: row["shots"]] if row["method"] == "selector" else row["demonstration_ids"]
        return row | {"candidate_ids": list(pool["id"]), "demonstration_ids": ids}

    constant = predictions.map(chosen)
    results = summarize(
        constant,
        name="demo",
        dataset="world",
        vlm="tiny VLM",
        task="vqa",
        metric="exact_match",
        queries=queries,
        pool=pool,
    )
    return Evaluation(None, "evaluation", results, constant)


def test_diagnostics_are_shown_with_their_warnings(diagnosed):
    section = diagnostics_section([diagnosed])
    assert any("selector has collapsed" in text for text in section.warnings)
    assert section.notes[-1] == diagnosed.results["diagnostics"]["leak_verdict"] and "Leaks: of" in section.notes[-1]
    assert [table.caption for table in section.tables[:2]] == ["What is selected.", "What that does to the answers."]
    rows: dict[tuple, dict] = {}
    for table in section.tables[:2]:
        assert list(table.head[:3]) in (["method", "shots", "leaked"], ["method", "shots", "regret"])
        for row in (row for _, found in table.groups for row in found):
            rows.setdefault(tuple(row.cells[:2]), {}).update(zip(table.head, row.cells, strict=True))
    assert rows["selector", "1"]["selection entropy"] == "0.0"
    assert rows["selector", "2"]["selection shared with another query"] == "100.0"
    # The oracle is right for all 20.
    assert rows["selector", "2"]["regret"].startswith("+5.0 [")
    # 19 of 20 are right with it, 1 without; nobody is hurt.
    assert (rows["selector", "2"]["helped"], rows["selector", "2"]["hurt"]) == ("90.0", "0.0")


def test_the_gate_stands_beside_the_one_that_knows(evaluation):
    (found,) = (
        row for row in evaluation.results["diagnostics"]["rows"] if (row["method"], row["shots"]) == ("random_pool", 1)
    )
    found |= {"gate_gain": 0.0125, "gate_ci_low": -0.01, "gate_ci_high": 0.03, "gate_kept_share": 0.25}
    section = diagnostics_section([evaluation])
    table = section.tables[1]
    head = list(table.head)
    place = head.index("gate that knows")
    assert head[place + 1 : place + 3] == ["gate by confidence", "kept by it"]
    assert not any("gate ci" in name for name in head)
    cells = next(row.cells for _, rows in table.groups for row in rows if row.cells[0] == "random (whole pool)")
    assert list(cells[place + 1 : place + 3]) == ["+1.2 [-1.0, +3.0]", "25.0"]
    text = section_markdown(section)
    assert "| gate that knows | gate by confidence | kept by it |" in text
    assert "learned from other queries than those it is applied to" in text
    for row in evaluation.results["diagnostics"]["rows"]:
        row |= dict.fromkeys(("gate_gain", "gate_ci_low", "gate_ci_high", "gate_kept_share"))
    assert "gate by confidence" not in diagnostics_section([evaluation]).tables[1].head


def test_methods_that_are_the_same_are_named_so(predictions):
    def copied(row):
        number = int(row["query_id"][1:])
        return row | {"demonstration_ids": [f"p{(number + shot) % 40}" for shot in range(row["shots"])]}

    same = predictions.map(lambda row: copied(row) if row["method"] in ("selector", "text_sim") else row)
    about = {"name": "demo", "dataset": "world", "vlm": "tiny VLM", "task": "vqa", "metric": "exact_match"}
    section = diagnostics_section([Evaluation("mine", "evaluation", summarize(same, **about), same)])
    assert any(text.startswith("mine: ") and "are the same (shots: 1, 2)" in text for text in section.warnings)
    cells = [row.cells for table in section.tables for _, found in table.groups for row in found]
    assert ["text similarity = selector", "2", "always: they are the same method"] in [list(one) for one in cells]


def test_evaluations_without_diagnostics_or_other_metrics_have_no_such_section(evaluation):
    evaluation.results.pop("diagnostics", None)
    evaluation.results.pop("metrics", None)
    assert diagnostics_section([evaluation]) is None and metrics_section([evaluation]) is None


def test_other_metrics_stand_side_by_side(evaluation):
    rows = [
        {"method": row["method"], "shots": row["shots"], "seed": 0, "score": 0.25, "ci_low": 0.2, "ci_high": 0.3}
        for row in evaluation.results["rows"]
    ]
    evaluation.results["metrics"] = {"exact_match": {"rows": rows}, "token_f1": {"rows": rows[1:]}}
    (table,) = metrics_section([evaluation]).tables
    assert list(table.head) == ["method", "shots", "exact_match (in the tables)", "token_f1"]
    cells = [list(row.cells) for row in table.groups[0][1]]
    assert cells[0] == ["zero-shot", "0", "25.0 [20.0, 30.0]", "–"] and cells[1][3] == "25.0 [20.0, 30.0]"


def test_diagnostics_of_captions_speak_of_their_metric(captions):
    found = captions.results["diagnostics"]
    for row in found["rows"]:
        row |= {"copied_share": 0.5, "copied_accuracy": 1.25, "other_accuracy": 0.5}
    probe = {"method": "selector", "shots": 2, "num_probes": 20, "changed_share": 0.5, "accuracy": 1.25}
    found["order"] = [
        probe | {"shuffled_accuracy": 1.0, "difference": -0.25, "ci_low": -0.5, "ci_high": 0.0, "p_value": 0.0625}
    ]
    section = diagnostics_section([captions])
    assert list(section.tables[1].head[-3:]) == ["copied answers", "CIDEr if copied", "CIDEr if not"]
    assert section.tables[2].caption == "The same demonstrations in another order, shares in %, CIDEr times 100."
    text = section_markdown(section)
    assert "Shares are in %; CIDEr, and points of it, times 100." in text
    assert "accuracy" not in text and "right" not in text


def test_scores_that_are_not_in_percent_are_said_to_be_so(captions):
    rows = [
        {"method": row["method"], "shots": row["shots"], "seed": 0, "score": 0.25, "ci_low": 0.2, "ci_high": 0.3}
        for row in captions.results["rows"]
    ]
    captions.results["metrics"] = {"cider": {"rows": rows}, "token_f1": {"rows": rows}}
    (table,) = metrics_section([captions]).tables
    assert table.caption == "Scores in % (cider: times 100), with 95% intervals."
