# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import json
import os

import pytest
from datasets import Dataset

from leverplus_trl.evaluation.evaluation import RESULT_KEYS, read_results, summarize, write_results
from leverplus_trl.evaluation.methods import method_rank, method_scope
from leverplus_trl.output_files import write_atomically
from leverplus_trl.schema import PREDICTIONS


ABOUT = {"name": "demo", "dataset": "world", "vlm": "tiny", "task": "vqa", "metric": "exact_match"}
QUERIES = ["q0", "q1", "q2", "q3"]


def rows_of(method, shots, accuracies, selections=None, seed=0, split="test", confidence=None):
    selections = selections or [[f"{method}-{query_id}-{shot}" for shot in range(shots)] for query_id in QUERIES]
    return [
        {
            "query_id": query_id,
            "split": split,
            "method": method,
            "shots": shots,
            "seed": seed,
            "candidate_ids": ["a", "b"],
            "demonstration_ids": chosen,
            "generation": " red",
            "prediction": "red",
            "accuracy": accuracy,
            "confidence": confidence,
        }
        for query_id, accuracy, chosen in zip(QUERIES, accuracies, selections, strict=False)
    ]


def table(*groups):
    return Dataset.from_list([row for group in groups for row in group], features=PREDICTIONS)


def thrice(rows):
    """The same for three times as many queries: a verdict of collapse needs ten."""
    return [row | {"query_id": f"{row['query_id']}-{time}"} for time in range(3) for row in rows]


ZERO_SHOT = rows_of("zero_shot", 0, [0.0, 0.0, 0.0, 1.0])
RANDOM = rows_of("random", 1, [0.0, 0.0, 1.0, 1.0])
TEXT = rows_of("text_sim", 1, [1.0, 0.0, 1.0, 1.0])
SELECTOR = rows_of("selector", 1, [1.0, 1.0, 1.0, 1.0])
ORACLE = rows_of("oracle", 1, [1.0, 1.0, 1.0, 1.0])
POOL = rows_of("text_sim_pool", 1, [0.0, 0.0, 0.0, 1.0])
RANDOM_POOL = rows_of("random_pool", 1, [0.0, 0.0, 0.0, 0.0])


def find(entries, **wanted):
    found = [entry for entry in entries if all(entry[key] == value for key, value in wanted.items())]
    assert len(found) == 1, f"{len(found)} entries for {wanted}"
    return found[0]


def test_rows_of_a_table_worked_by_hand():
    results = summarize(table(SELECTOR, RANDOM_POOL, POOL, ORACLE, TEXT, RANDOM, ZERO_SHOT), **ABOUT)
    assert [row["method"] for row in results["rows"]] == [
        "zero_shot",
        "random",
        "text_sim",
        "selector",
        "oracle",
        "random_pool",
        "text_sim_pool",
    ]
    zero_shot = find(results["rows"], method="zero_shot")
    assert (zero_shot["shots"], zero_shot["scope"], zero_shot["accuracy"]) == (0, "none", 0.25)
    assert zero_shot["diff_to_random"] is None and zero_shot["collapsed"] is None
    random = find(results["rows"], method="random")
    # Clopper and Pearson: 2 or more of 4 have a probability of 2.5% at 0.0676.
    assert (random["accuracy"], random["ci_low"], random["ci_high"]) == (
        0.5,
        pytest.approx(0.0676, abs=5e-5),
        pytest.approx(0.9324, abs=5e-5),
    )
    assert random["diff_to_random"] is None
    selector = find(results["rows"], method="selector")
    assert (selector["num_queries"], selector["seed"], selector["scope"]) == (4, 0, "candidates")
    assert (selector["accuracy"], selector["ci_high"]) == (1.0, 1.0)
    assert selector["ci_low"] == pytest.approx(0.025 ** (1 / 4), abs=1e-9)  # where 4 of 4 have a probability of 2.5%
    assert selector["diff_to_random"] == 0.5
    assert find(results["rows"], method="text_sim")["diff_to_random"] == 0.25
    # Pool methods are compared with random over the pool.
    pool = find(results["rows"], method="text_sim_pool")
    assert (pool["scope"], pool["diff_to_random"], pool["diff_p_value"]) == ("pool", 0.25, 1.0)
    assert {key: results[key] for key in ABOUT} == ABOUT
    assert (results["stage"], results["split"], results["num_queries"]) == ("evaluate", "test", 4)
    assert results["interval"] == {
        "kind": "Clopper-Pearson",
        "difference": "score (Tango)",
        "test": "sign flips",
        "num_resamples": 10_000,
        "confidence": 0.95,
        "seed": 0,
    }
    json.dumps(results, allow_nan=False)


def test_the_selector_is_compared_with_every_other_method_at_the_same_shots():
    shots_2 = [rows_of("random", 2, [0.0] * 4), rows_of("selector", 2, [1.0, 0.0, 0.0, 0.0])]
    results = summarize(table(ZERO_SHOT, RANDOM, TEXT, SELECTOR, ORACLE, POOL, *shots_2), **ABOUT)
    differences = {(c["shots"], c["baseline"]): c["difference"] for c in results["comparisons"]}
    assert differences == {
        (1, "zero_shot"): 0.75,
        (1, "random"): 0.5,
        (1, "text_sim"): 0.25,
        (1, "oracle"): 0.0,
        (1, "text_sim_pool"): 0.75,
        (2, "zero_shot"): 0.0,
        (2, "random"): 0.25,
    }
    best = find(results["best_baselines"], shots=1)
    assert (best["method"], best["baseline"], best["baseline_accuracy"]) == ("selector", "text_sim", 0.75)
    assert (best["difference"], best["p_value"], best["significant"]) == (0.25, 1.0, False)
    at_two = find(results["best_baselines"], shots=2)  # no demonstration helps as much as none
    assert (at_two["baseline"], at_two["baseline_accuracy"], at_two["difference"]) == ("zero_shot", 0.25, 0.0)


def test_a_pool_heuristic_can_be_the_best_heuristic():
    pool = rows_of("image_text_sim_pool", 1, [1.0] * 4)
    results = summarize(table(ZERO_SHOT, RANDOM, TEXT, pool, rows_of("selector", 1, [0.0] * 4)), **ABOUT)
    best = find(results["best_baselines"], shots=1)
    assert (best["baseline"], best["difference"], best["p_value"]) == ("image_text_sim_pool", -1.0, 0.125)


def test_the_best_is_clear_only_when_the_test_tells_it_from_every_other_method():
    results = summarize(table(ZERO_SHOT, RANDOM, TEXT, SELECTOR, ORACLE), **ABOUT)
    best = find(results["best"], shots=1)  # the oracle is as good, and does not compete
    assert (best["method"], best["baseline"], best["clear"]) == ("selector", "text_sim", False)
    # Four wins and no loss: 2 of 16 signs. The test decides, though the score interval leaves out 0.
    groups = rows_of("zero_shot", 0, [0.0] * 4), rows_of("random", 1, [0.0] * 4), SELECTOR
    best = find(summarize(table(*groups), **ABOUT)["best"], shots=1)
    assert (best["p_value"], best["clear"]) == (0.125, False) and best["ci_low"] > 0.0
    best = find(summarize(table(*map(thrice, groups)), **ABOUT)["best"], shots=1)
    assert (best["p_value"], best["clear"]) == (pytest.approx(2 / 2**12), True)
    # Demonstrations that hurt: zero-shot is the best of the column.
    results = summarize(table(rows_of("zero_shot", 0, [1.0] * 4), rows_of("random", 1, [0.0] * 4)), **ABOUT)
    assert find(results["best"], shots=1)["method"] == "zero_shot"


def test_a_constant_selector_is_called_collapsed():
    constant = thrice(rows_of("selector", 1, [1.0] * 4, [["a"], ["a"], ["a"], ["b"]]))
    half = thrice(rows_of("text_sim", 1, [1.0] * 4, [["a"], ["a"], ["c"], ["b"]]))
    rows = summarize(table(thrice(ZERO_SHOT), constant, half), **ABOUT)["rows"]
    selector = find(rows, method="selector")
    assert (selector["collapsed"], selector["most_common_selection"]) == (True, 0.75)
    assert find(rows, method="text_sim")["collapsed"] is False  # half is not more than half


def test_collapse_is_of_one_run_and_a_swapped_query_only_adds_to_it():
    """Of three seeds one is constant at one shot, one does not read the query at two shots, one is sound."""
    varied = [["a"], ["b"], ["c"], ["d"]]
    constant = [["a"], ["a"], ["a"], ["b"]]
    groups = [
        thrice(rows_of("selector", shots, [1.0] * 4, constant if (seed, shots) == (0, 1) else varied, seed=seed))
        for seed in (0, 1, 2)
        for shots in (1, 2)
    ]
    measured = [
        {
            "method": "selector",
            "shots": shots,
            "seed": seed,
            "swap_change_share": 0.0 if seed == shots - 1 == 1 else 0.9,
        }
        for seed in (0, 1, 2)
        for shots in (1, 2)
    ]
    results = summarize(table(thrice(ZERO_SHOT), *groups), **ABOUT, collapse=measured)
    found = {(row["seed"], row["shots"]): row["collapsed"] for row in results["rows"] if row["method"] == "selector"}
    assert found == {
        (0, 1): True,
        (0, 2): False,
        (1, 1): False,
        (1, 2): True,
        (2, 1): False,
        (2, 2): False,
        (None, 1): True,
        (None, 2): True,  # one seed is enough
    }
    assert results["collapse"] == measured
    with pytest.raises(ValueError, match=r"no predictions, of \(method, shots, seed\) \('selector', 2, 0\)"):
        summarize(table(thrice(ZERO_SHOT), groups[0]), **ABOUT, collapse=measured[:2])


def test_two_selectors_compared_in_both_directions_are_one_test():
    first, second = (rows_of(name, 1, values) for name, values in (("v1", [1.0, 0.0, 0.0, 0.0]), ("v2", [1.0] * 4)))
    results = summarize(table(ZERO_SHOT, first, second), **ABOUT, selectors=["v1", "v2"])
    found = {(one["method"], one["baseline"]): one for one in results["comparisons"]}
    assert found.keys() == {("v1", "zero_shot"), ("v1", "v2"), ("v2", "zero_shot"), ("v2", "v1")}
    assert found["v1", "v2"]["p_value"] == found["v2", "v1"]["p_value"] == 0.25  # three differ: 2 of 8 signs
    assert found["v1", "v2"]["p_holm"] == found["v2", "v1"]["p_holm"] == 0.75  # the smallest of three, not of four
    assert found["v1", "v2"]["difference"] == -found["v2", "v1"]["difference"] == -0.75


def test_seeds_get_a_row_each_and_one_for_their_average():
    first = thrice(rows_of("selector", 1, [1.0, 0.0, 0.0, 0.0], [["a"]] * 4, seed=1))
    second = thrice(rows_of("selector", 1, [1.0, 1.0, 1.0, 0.0], seed=2))
    results = summarize(table(thrice(ZERO_SHOT), thrice(RANDOM), first, second), **ABOUT)
    rows = [row for row in results["rows"] if row["method"] == "selector"]
    assert [(row["seed"], row["accuracy"], row["collapsed"]) for row in rows] == [
        (1, 0.25, True),
        (2, 0.75, False),
        (None, 0.5, True),
    ]
    assert find(results["comparisons"], baseline="random")["difference"] == 0.0
    assert results["interval"]["seeds"] == "Agresti-Coull, effective counts; two-way variance of queries and seeds, t"
    # Seeds that are 50 points apart: t with little more than one degree of freedom.
    assert (rows[2]["ci_low"], rows[2]["ci_high"]) == (0.0, 1.0) and rows[0]["ci_high"] < 0.6


def test_every_comparison_knows_of_seeds():
    """Two seeds of three are better than random on two of ten queries, one is as good."""
    baseline = [float(number % 10 < 5) for number in range(200)]
    seeds = [[float(number % 10 < right) for number in range(200)] for right in (7, 7, 5)]

    def run(method, shots, accuracies, seed=0):
        (row,) = rows_of(method, shots, [0.0], seed=seed)
        return [row | {"query_id": f"q{number:03d}", "accuracy": one} for number, one in enumerate(accuracies)]

    groups = [run("zero_shot", 0, [0.0] * 200), run("random", 1, baseline)]
    selector = [run("selector", 1, values, seed) for seed, values in enumerate(seeds)]
    results = summarize(table(*groups, *selector), **ABOUT)
    single, average = (find(results["rows"], method="selector", seed=seed) for seed in (0, None))
    assert single["diff_p_value"] < 1e-6 and single["diff_ci_low"] > 0.1
    assert average["diff_to_random"] == pytest.approx(0.4 / 3) and average["diff_ci_low"] < 0.0
    compared = find(results["comparisons"], baseline="random")
    assert compared["p_value"] == average["diff_p_value"] > 0.05 and not compared["significant"]
    assert find(results["best"], shots=1)["clear"] is False
    assert find(results["best_baselines"], shots=1)["p_value"] == compared["p_value"]


def test_results_do_not_depend_on_the_order_of_rows():
    groups = [ZERO_SHOT, RANDOM, TEXT, SELECTOR, POOL]
    forward = summarize(table(*groups), **ABOUT)
    backward = summarize(table(*(group[::-1] for group in groups[::-1])), **ABOUT)
    assert json.dumps(forward) == json.dumps(backward)


def test_result_sets_differ_by_their_queries():
    other = [row | {"query_id": row["query_id"] + "x"} for row in ZERO_SHOT]
    assert summarize(table(ZERO_SHOT), **ABOUT)["query_set"] != summarize(table(other), **ABOUT)["query_set"]


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (table(ZERO_SHOT).select([]), "empty: there is nothing to evaluate"),
        (table(ZERO_SHOT).remove_columns("accuracy"), r"lacks the columns \['accuracy'\]"),
        (table(ZERO_SHOT, RANDOM, RANDOM[:1]), "two rows for method 'random', shots 1, seed 0, query 'q0'"),
        (
            table(ZERO_SHOT, RANDOM[:3]),
            r"different queries: method 'random', shots 1, seed 0 lacks 1 of 4, e.g. \['q3'\]",
        ),
        (table(RANDOM), "no zero_shot rows"),
        (table(rows_of("zero_shot", 1, [0.0] * 4)), "zero_shot, and nothing else, has 0 shots"),
        (table(ZERO_SHOT, rows_of("random", 0, [0.0] * 4)), "zero_shot, and nothing else, has 0 shots"),
        (table(ZERO_SHOT, rows_of("random", 1, [0.0] * 4, split="train")), r"several splits, \['test', 'train'\]"),
        (table(rows_of("zero_shot", 0, [0.0, None, 0.0, 0.0])), "query 'q1' is None; expected a finite number"),
        (table(rows_of("zero_shot", 0, [float("nan")])), "is nan; expected a finite number"),
        (
            table(rows_of("zero_shot", 0, [0.0], confidence=1.5)),
            "query 'q0' is 1.5; expected a number in 0..1",
        ),
    ],
)
def test_bad_predictions_are_refused(predictions, message):
    with pytest.raises(ValueError, match=message):
        summarize(predictions, **ABOUT)


def test_scopes_and_order_of_methods():
    assert [method_scope(method) for method in ("zero_shot", "mix", "random_pool")] == ["none", "candidates", "pool"]
    assert sorted(["b", "oracle", "a", "zero_shot"], key=method_rank) == ["zero_shot", "a", "b", "oracle"]


def test_results_survive_writing_and_reading(tmp_path):
    results = summarize(table(ZERO_SHOT, RANDOM, SELECTOR), **ABOUT, provenance={"vlm_revision": "café"})
    path = tmp_path / "deep" / "results.json"
    write_results(results, path)
    assert read_results(path) == results and set(RESULT_KEYS) == results.keys()
    first = path.read_bytes()
    write_results(results, path)
    assert path.read_bytes() == first and os.listdir(path.parent) == ["results.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["results.json"]


def test_numbers_json_has_no_word_for_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results({"accuracy": float("nan")}, tmp_path / "results.json")
    assert os.listdir(tmp_path) == []


def test_unreadable_results_are_named(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(FileNotFoundError, match="run the evaluate stage first"):
        read_results(path)
    write_results(summarize(table(ZERO_SHOT), **ABOUT), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not whole JSON"):
        read_results(path)
    path.write_text('{"rows": []}')
    with pytest.raises(ValueError, match="it lacks"):
        read_results(path)
