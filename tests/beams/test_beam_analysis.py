# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import json
import math
import re
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from leverplus_trl.beams.beam_analysis import analyze_queries, analyze_tables, can_matter, describe, write_analysis
from leverplus_trl.schema import BEAMS, LEDGER
from leverplus_trl.scripts.beams import finish


def query(name, probs, candidates, best, split="train"):
    """A query whose answer is one token long, so that `probs` ({prompt order: probability}) are its probabilities."""
    ledger = [
        {"demonstration_ids": list(ids), "answer_logprob": math.log(prob), "num_answer_tokens": 1, "accuracy": None}
        for ids, prob in probs.items()
    ]
    scores = [probs[ids] - probs[()] for ids in best]
    return {
        "query_id": name,
        "split": split,
        "candidate_ids": candidates,
        "demonstration_ids": [list(ids) for ids in best],
        "scores": scores,
        "step_scores": [[score] for score in scores],
        "zero_shot_score": probs[()],
        "ledger": ledger,
    }


@pytest.fixture
def rows():
    # Left insertion: ("b", "a") is b put before a. The beams of the first step were a and b.
    first = {(): 0.1, ("a",): 0.5, ("b",): 0.3, ("c",): 0.1, ("b", "a"): 0.8, ("c", "a"): 0.4}
    first |= {("a", "b"): 0.4, ("c", "b"): 0.2}
    second = {(): 0.2, ("a",): 0.6, ("b",): 0.3, ("c",): 0.3, ("b", "a"): 0.6, ("c", "a"): 0.5}
    second |= {("a", "b"): 0.595, ("c", "b"): 0.2}
    names = ["a", "b", "c"]
    return [
        query("q1", first, names, [("b", "a"), ("c", "a")]),
        query("q2", second, names, [("b", "a"), ("a", "b")]),
    ]


def test_what_choosing_is_worth_at_each_step(rows):
    found = analyze_queries(rows, "left", "prob")
    assert (found["num_queries"], found["helped"], found["hurt"]) == (2, 1.0, 0.0)
    assert found["zero_shot"] == pytest.approx(0.15)
    one, two = found["steps"]
    # q1: gains 0.4, 0.2, 0.0; q2: 0.4, 0.1, 0.1
    assert (one["shots"], one["mean"], one["best"], one["choice"]) == pytest.approx((1, 0.2, 0.4, 0.2))
    assert one["spread"] == pytest.approx((math.sqrt(0.08 / 3) + math.sqrt(0.06 / 3)) / 2, rel=1e-5)
    # Behind a: q1 0.7 and 0.3, q2 0.4 and 0.3. Behind b: q1 0.3 and 0.1, q2 0.395 and 0.0.
    assert two["choice"] == pytest.approx(((0.2 + 0.1) / 2 + (0.05 + 0.1975) / 2) / 2)
    positions = [(one["position"], one["mean"], one["num_queries"]) for one in found["beam_positions"]]
    assert positions == [pytest.approx((1, 0.55, 2)), pytest.approx((2, 0.3475, 2))]


def test_with_right_insertion_the_prefix_is_on_the_left(rows):
    two = analyze_queries(rows, "right", "prob")["steps"][1]
    # Sequences that share their first id: q1 b (0.8), c (0.4, 0.2), a (0.4); q2 b (0.6), c (0.5, 0.2), a (0.595).
    assert two["choice"] == pytest.approx((0.1 / 3 + 0.15 / 3) / 2)


def test_other_orders_of_the_same_set(rows):
    # Only {a, b} was scored in both orders: 0.8 and 0.4, then 0.6 and 0.595.
    order = analyze_queries(rows, "left", "prob")["order"]
    assert order == {"num_sets": 2, "difference": pytest.approx(0.2025), "noticeable": 0.5, "decisive": 0.5}
    for row in rows:
        row["ledger"] = [one for one in row["ledger"] if one["demonstration_ids"] != ["a", "b"]]
    assert analyze_queries(rows, "left", "prob")["order"] is None


def test_hubs_are_counted_where_they_were_offered(rows):
    hubs = analyze_queries(rows, "left", "prob")["hubs"]
    assert (hubs["num_offered"], hubs["num_chosen"]) == (3, 2)
    assert hubs["top"][0] == {"id": "a", "chosen": 2, "offered": 2, "share": 1.0}
    assert [one["id"] for one in hubs["top"]] == ["a", "b"]


def test_a_ranking_that_serves_every_query_is_found(rows):
    # a is the best for both: the other query's scores point at it, and give all that choosing can.
    found = analyze_queries(rows, "left", "prob")
    assert found["constant"] == {"gain": pytest.approx(0.2), "share": 1.0}
    assert can_matter(found).startswith("Choosing matters here, reading the query hardly does")
    # Each query has a candidate of its own: what is best for the other is no use.
    own = [
        query(str(i), {(): 0.1, ("a",): 0.1 + 0.5 * (i % 2), ("b",): 0.6 - 0.5 * (i % 2)}, ["a", "b"], [("a",)])
        for i in range(6)
    ]
    found = analyze_queries(own, "left", "prob")
    assert found["constant"]["share"] < 0.1 and can_matter(found).endswith(
        f"by {found['steps'][0]['best']:+.3f}, the average candidate by {found['steps'][0]['mean']:+.3f}."
    )


def test_candidates_that_nobody_shares_say_nothing_about_a_ranking():
    alone = [
        query(str(i), {(): 0.1, (f"a{i}",): 0.5, (f"b{i}",): 0.2}, [f"a{i}", f"b{i}"], [(f"a{i}",)]) for i in (1, 2)
    ]
    found = analyze_queries(alone, "left", "prob")
    assert found["constant"] is None and "one ranking" not in describe("train", found)


def test_scores_that_hardly_differ_are_called_so():
    flat = [query(str(i), {(): 0.3, ("a",): 0.3000001, ("b",): 0.3}, ["a", "b"], [("a",)]) for i in range(3)]
    found = analyze_queries(flat, "left", "prob")
    assert found["steps"][0]["choice"] == pytest.approx(5e-8, rel=1e-3)
    assert can_matter(found).startswith("Choosing can hardly matter here")


def test_the_summary_is_a_table_of_the_numbers_and_a_verdict(rows):
    title, *table, verdict = describe("train", analyze_queries(rows, "left", "prob")).splitlines()
    assert title.startswith("Beams of 'train', 2 queries: probabilities")
    values = dict(line.strip().split("  ", 1) for line in table)
    values = {label: value.strip() for label, value in values.items()}
    assert values["without demonstrations"] == "0.150"
    assert values["1 demonstration: average candidate"] == "+0.200"
    assert values["1 demonstration: best candidate"] == "+0.400"
    assert values["change by another order of the same set"] == "0.203 on average"
    assert values["most frequent candidate"] == "a, in 100.0% of the best sequences"
    assert verdict == can_matter(analyze_queries(rows, "left", "prob"))


def test_the_file_says_the_same_as_the_tables(rows, tmp_path):
    files = []
    for number, row in enumerate(rows):
        files.append(tmp_path / f"{number}.parquet")
        pq.write_table(pa.Table.from_pylist([row]), files[-1])
    found = write_analysis(tmp_path, {"train": files}, "left", "prob")
    assert json.loads((tmp_path / "analysis.json").read_text()) == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.parquet", "1.parquet", "analysis.json"]
    ledger = [{"query_id": row["query_id"], "split": "train", **entry} for row in rows for entry in row["ledger"]]
    beams = Dataset.from_list([{name: row[name] for name in BEAMS} for row in rows], features=BEAMS)
    assert analyze_tables(beams, Dataset.from_list(ledger, features=LEDGER), "left", "prob") == found


def test_the_stage_ends_with_the_analysis(rows, tmp_path, caplog):
    (tmp_path / "units").mkdir()
    file = tmp_path / "units" / "train-000000.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    run = SimpleNamespace(path=tmp_path, provenance={"recipe": {"insertion": "left", "score": "prob"}})
    with caplog.at_level("INFO", "leverplus_trl.scripts.beams"):
        finish(run, {"train": [file]})
    analysis = json.loads((tmp_path / "analysis.json").read_text())
    assert analysis == {"insertion": "left", "splits": {"train": analyze_queries(rows, "left", "prob")}}
    assert describe("train", analysis["splits"]["train"]) in caplog.messages
    assert (tmp_path / "README.md").exists() and not (tmp_path / "units").exists()


def by_metric(rows):
    """The same queries, searched by a metric: what was the probability p is now worth 10 p - 1, at least 0."""
    for row in rows:
        for entry in row["ledger"]:
            entry["accuracy"] = max(0.0, 10 * math.exp(entry["answer_logprob"]) - 1)
    return rows


def test_beams_searched_by_the_metric_are_analysed_on_its_scale(rows):
    found = analyze_queries(by_metric(rows), "left", "metric")
    assert found["scale"] == "metric" and found["zero_shot"] == pytest.approx(0.5)
    one, _ = found["steps"]
    # q1: gains 4, 2, 0; q2: 4, 1, 1
    assert (one["mean"], one["best"], one["choice"]) == pytest.approx((2.0, 4.0, 2.0))
    assert found["constant"] == {"gain": pytest.approx(2.0), "share": 1.0}
    # {a, b}: 7 and 3, then 5 and 4.95; all of these are worth something
    assert found["order"] == {"num_sets": 2, "difference": pytest.approx(2.025), "noticeable": 1.0, "decisive": 0.0}
    for entry in rows[0]["ledger"]:
        if entry["demonstration_ids"] == ["a", "b"]:
            entry["accuracy"] = 0.0
    order = analyze_queries(rows, "left", "metric")["order"]
    assert (order["difference"], order["decisive"]) == pytest.approx(((7 + 0.05) / 2, 0.5))


def test_the_paragraph_speaks_of_the_metric(rows):
    text = describe("train", analyze_queries(by_metric(rows), "left", "metric"))
    assert "values of the task's metric" in text and re.search(r"without demonstrations +0\.500\n", text)
    assert re.search(r"change by another order of the same set +2\.025 on average\n", text)
    assert "probability" not in text
    same = [query(str(i), {(): 0.3, ("a",): 0.3, ("b",): 0.3}, ["a", "b"], [("a",)]) for i in range(3)]
    assert "the metric of the generated answer stays the same" in can_matter(
        analyze_queries(by_metric(same), "left", "metric")
    )


def test_without_accuracies_there_is_no_analysis_by_the_metric(rows):
    with pytest.raises(ValueError, match="Search beams with `score: metric`"):
        analyze_queries(rows, "left", "metric")
    for score in ("prob", "logprob"):
        assert analyze_queries(rows, "left", score)["scale"] == "prob"


def test_no_queries_are_refused():
    with pytest.raises(ValueError, match="no queries to analyse"):
        analyze_queries([], "left", "prob")
