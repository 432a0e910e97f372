# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Metrics side by side, nested test sets, corrections and regrets: what `results.json` says beyond an accuracy."""

import pytest
from evaluation.made_evaluations import ABOUT, answers, examples, table

from leverplus_trl.evaluation.evaluation import check_same_test_set, summarize
from leverplus_trl.metrics import all_metrics


CAPTIONS = [
    "a red cat sits on the old mat",
    "two dogs run over wet green grass",
    "a man rides a blue bicycle to work",
    "a plate of rice stands on the table",
    "the old train leaves a small station",
    "a child throws a ball over the fence",
]
IDS = [f"q{number}" for number in range(len(CAPTIONS))]
CAPTIONED = examples(
    [{"id": one, "answers": [text, text + " today"]} for one, text in zip(IDS, CAPTIONS, strict=True)]
)


def captioned(ids, **options):
    """What a run over these queries alone would have written."""
    known = {row["id"]: row for row in CAPTIONED}
    said = {
        "zero_shot": dict.fromkeys(ids, "a photo"),
        "random": {one: CAPTIONS[(IDS.index(one) + 1) % 6] for one in ids},
        "selector": {one: CAPTIONS[IDS.index(one)].rsplit(" ", IDS.index(one) % 3)[0] for one in ids},
    }
    runs = []
    for method, texts in said.items():
        scores = all_metrics(["cider"], list(texts), list(texts.values()), known)["cider"]
        shots = int(method != "zero_shot")
        chosen = {
            one: ((f"{method}-{one}",) * shots, texts[one], score) for one, score in zip(ids, scores, strict=True)
        }
        runs.append(answers(method, shots, chosen))
    about = ABOUT | {"metric": "cider", "task": "captioning"}
    return summarize(table(*runs), **about, queries=CAPTIONED, metrics=["cider", "token_f1"], **options)


def test_nested_prefixes_equal_separate_runs():
    together = captioned(IDS, num_queries=[5, 3, 6])
    assert [one["num_queries"] for one in together["prefixes"]] == [3, 5] and together["num_queries"] == 6
    for prefix in together["prefixes"]:
        alone = captioned(IDS[: prefix["num_queries"]])
        assert prefix == {key: alone[key] for key in prefix}
    # CIDEr weighs words by the test set: the same captions of the same queries are worth something else.
    shorter = {(one["method"]): one["accuracy"] for one in together["prefixes"][0]["rows"]}
    everything = captioned(IDS)["metrics"]["cider"]["rows"]
    assert {one["method"]: one["score"] for one in everything} == pytest.approx(
        {one["method"]: one["accuracy"] for one in together["rows"]}
    )
    assert shorter["selector"] > 0 and shorter != pytest.approx({o["method"]: o["accuracy"] for o in together["rows"]})


def test_metrics_that_apply_stand_side_by_side():
    queries = examples([{"id": "q0", "answer": "red"}, {"id": "q1", "answer": "two"}])
    run = {"q0": (("a",), "a red one", 0.0), "q1": (("b",), "two", 1.0)}
    again = {"q0": (("a",), "red", 1.0), "q1": (("b",), "two", 1.0)}
    zero_shot = answers("zero_shot", 0, {"q0": ((), "", 0.0), "q1": ((), "", 0.0)})
    names = ["vqa_accuracy", "cover_exact_match"]
    results = summarize(
        table(zero_shot, answers("selector", 1, run), answers("selector", 1, again, seed=1)),
        **ABOUT,
        queries=queries,
        metrics=names,
    )
    assert set(results["metrics"]) == {"exact_match", "cover_exact_match"}  # VQA accuracy needs several annotators
    scores = {
        name: {row["seed"]: row["score"] for row in found["rows"] if row["method"] == "selector"}
        for name, found in results["metrics"].items()
    }
    assert scores["exact_match"] == {0: 0.5, 1: 1.0, None: 0.75}
    assert scores["cover_exact_match"] == {0: 1.0, 1: 1.0, None: 1.0}


def test_predictions_and_examples_must_belong_together():
    zero_shot = answers("zero_shot", 0, {"q0": ((), "red", 1.0), "q9": ((), "red", 1.0)})
    queries = examples([{"id": "q0", "answer": "red"}, {"id": "q1", "answer": "red"}])
    with pytest.raises(ValueError, match=r"1 of the ids in the .* 2 examples of the queries, e.g. \['q9'\]"):
        summarize(table(zero_shot), **ABOUT, queries=queries)
    with pytest.raises(ValueError, match=r"'q0': .* 'red' was recorded with an accuracy of 1.0 and exact_match now"):
        changed = examples([{"id": "q0", "answer": "blue"}, {"id": "q9", "answer": "red"}])
        summarize(table(zero_shot), **ABOUT, queries=changed, metrics=["token_f1"])
    with pytest.raises(ValueError, match="give `queries`"):
        summarize(table(zero_shot), **ABOUT, num_queries=[1])


def test_the_table_is_corrected_for_its_size():
    ids = [f"q{number}" for number in range(40)]

    def run(method, right):
        return answers(method, int(method != "zero_shot"), {o: ((), "", float(n < right)) for n, o in enumerate(ids)})

    results = summarize(table(*map(run, ("zero_shot", "random", "text_sim", "selector"), (2, 4, 6, 30))), **ABOUT)
    found = {one["baseline"]: one for one in results["comparisons"]}
    smallest, largest = sorted(found.values(), key=lambda one: one["p_value"])[0], found["text_sim"]
    assert smallest["p_holm"] == pytest.approx(min(1.0, 3 * smallest["p_value"]))
    assert all(one["p_holm"] >= one["p_value"] for one in found.values()) and largest["significant"]
    shown = {row["method"]: (row["diff_p_value"], row["diff_p_holm"]) for row in results["rows"]}
    assert shown["random"] == shown["zero_shot"] == (None, None)
    # Two of 40 more are right: signs of two differences agree by chance half of the time.
    assert shown["text_sim"][0] == pytest.approx(0.5, abs=0.03) and shown["text_sim"][1] == shown["text_sim"][0]
    assert shown["selector"][1] == pytest.approx(2 * shown["selector"][0])


def test_regret_is_what_the_oracle_has_more():
    def run(method, shots, *right):
        return answers(method, shots, {f"q{n}": ((), "", value) for n, value in enumerate(right)})

    results = summarize(
        table(
            run("zero_shot", 0, 0.0, 0.0),
            run("selector", 1, 1.0, 0.0),
            run("oracle", 1, 1.0, 1.0),
            run("selector", 2, 0.0, 0.0),
        ),
        **ABOUT,
    )
    regrets = {(row["method"], row["shots"]): row["regret"] for row in results["rows"]}
    assert regrets == {("zero_shot", 0): None, ("selector", 1): 0.5, ("oracle", 1): None, ("selector", 2): None}


def test_results_of_different_test_sets_do_not_stand_in_one_table():
    def results(number, answer):
        ids = [f"q{n}" for n in range(number)]
        queries = examples([{"id": one, "answer": answer} for one in ids])
        return summarize(table(answers("zero_shot", 0, dict.fromkeys(ids, ((), "", 0.0)))), **ABOUT, queries=queries)

    two, three, other = results(2, "red"), results(3, "red"), results(2, "blue")
    check_same_test_set({"a": two, "b": two})
    with pytest.raises(ValueError, match=rf"query ids.*a: {two['query_set']} \(2 queries\); b: {three['query_set']}"):
        check_same_test_set({"a": two, "b": three})
    with pytest.raises(ValueError, match=rf"ids, questions and answers.*b: {other['test_set']}"):
        check_same_test_set({"a": two, "b": other})
    with pytest.raises(ValueError, match=r"different metrics.*b: cider"):
        check_same_test_set({"a": two, "b": two | {"metric": "cider"}})
