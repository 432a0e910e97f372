# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import io

import pytest
from evaluation.made_evaluations import ABOUT, answers, examples, picture, table
from PIL import Image
from retrieval.reference_pictures import chart, encoded, page, resized

from leverplus_trl.evaluation.evaluation import summarize
from leverplus_trl.evaluation.leakage import find_leaks, plain_text
from leverplus_trl.retrieval.near_duplicates import MEASURED


QUERIES = ("q0", "q1", "q2", "q3")


def alone(*accuracies):
    return answers("zero_shot", 0, {one: ((), "", value) for one, value in zip(QUERIES, accuracies, strict=False)})


def chose(method, selections, accuracies=(1.0,) * 4, predictions=("x",) * 4, seed=0):
    rows = zip(QUERIES, zip(selections, predictions, accuracies, strict=True), strict=True)
    return answers(method, len(selections[0]), dict(rows), seed)


def diagnose(*runs, **options):
    return summarize(table(*runs), **ABOUT, **options)["diagnostics"]


def row(found, method):
    return next(one for one in found["rows"] if one["method"] == method)


def test_entropy_is_0_of_a_constant_and_1_of_a_choice_spread_evenly():
    found = diagnose(
        alone(0, 0, 0, 0),
        chose("text_sim", [["a"]] * 4),
        chose("image_sim", [["a"], ["b"], ["c"], ["a"]]),
        chose("selector", [["a", "b"], ["b", "c"], ["c", "a"], ["b", "a"]]),
    )
    constant, spread, even = (row(found, name) for name in ("text_sim", "image_sim", "selector"))
    assert (constant["selection_entropy"], constant["repeated_share"], constant["most_common_share"]) == (
        0.0,
        1.0,
        1.0,
    )
    # Shares 1/2, 1/4, 1/4: 1.5 bits, of log2(3) that three candidates allow.
    assert spread["selection_entropy"] == pytest.approx(1.5 / 1.5849625)
    assert (spread["repeated_share"], spread["most_common_share"]) == (0.5, 0.5)
    # a 3, b 3, c 2 of 8 picks; every sequence is another.
    assert even["selection_entropy"] == pytest.approx(1.5612781 / 1.5849625) and even["repeated_share"] == 0.0


def test_a_constant_selector_is_said_to_have_collapsed():
    queries = [f"q{number}" for number in range(12)]
    zero_shot = answers("zero_shot", 0, dict.fromkeys(queries, ((), "", 0.0)))
    constant = answers("sft", 2, dict.fromkeys(queries, (("a", "b"), "x", 1.0)))
    results = summarize(table(zero_shot, constant), **ABOUT, selectors=["sft"])
    assert results["rows"][1]["collapsed"] is True
    assert any("sft has collapsed" in said for said in results["diagnostics"]["warnings"])


def test_methods_and_seeds_are_compared_selection_by_selection():
    first = [["a", "b"], ["b", "c"], ["c", "a"], ["a", "c"]]
    second = [["a", "b"], ["b", "c"], ["c", "a"], ["c", "a"]]
    found = diagnose(
        alone(0, 0, 0, 0),
        chose("text_sim", first),
        chose("image_sim", first),
        chose("random", [["b", "a"]] * 4),
        chose("selector", first, seed=0),
        chose("selector", second, seed=1),
    )
    shares = {tuple(one["methods"]): (one["share"], one["same"]) for one in found["overlaps"]}
    assert shares == {
        ("text_sim", "image_sim"): (1.0, True),
        ("text_sim", "selector"): (0.875, False),
        ("image_sim", "selector"): (0.875, False),
    }
    assert row(found, "selector")["identical_across_seeds"] == 0.75
    assert row(found, "random")["identical_across_seeds"] is None
    same = [said for said in found["warnings"] if "are the same" in said]
    assert len(same) == 1 and same[0].startswith("text similarity and image similarity are the same (shots: 2)")


def test_methods_are_the_same_if_their_seeds_select_the_same():
    first, second = [["a", "b"], ["b", "c"], ["c", "a"], ["a", "c"]], [["a", "b"]] * 4
    found = diagnose(
        alone(0, 0, 0, 0),
        *(chose(name, chosen, seed=seed) for name in ("v2", "twin") for seed, chosen in enumerate((first, second))),
        *(chose("swapped", chosen, seed=seed) for seed, chosen in enumerate((second, first))),
        *(chose("one", first, seed=seed) for seed in (0, 1)),
        chose("once", first),
    )
    same = {frozenset(one["methods"]) for one in found["overlaps"] if one["same"]}
    pairs = ("v2", "twin"), ("v2", "swapped"), ("twin", "swapped"), ("one", "once")
    assert same == set(map(frozenset, pairs))


def test_what_demonstrations_do_beside_zero_shot():
    found = diagnose(alone(1.0, 0.5, 0.0, 1.0), chose("selector", [["a"]] * 4, (0.0, 1.0, 0.0, 0.6)))
    measures = row(found, "selector")
    assert (measures["hurt_share"], measures["helped_share"]) == (0.5, 0.25)
    assert measures["oracle_gate_gain"] == pytest.approx((1.0 + 0.4) / 4)


def test_answers_copied_from_demonstrations_are_counted():
    pool = examples([{"id": "a", "answer": "Red."}, {"id": "b", "answer": "blue"}, {"id": "c", "answer": "green"}])
    selections = [["a", "b"], ["b", "c"], ["c", "a"], ["a", "c"]]
    found = diagnose(
        alone(0, 0, 0, 0),
        chose("selector", selections, (1.0, 0.0, 0.5, 0.0), ("red", "BLUE", "blue", "yellow")),
        queries=examples([{"id": one} for one in QUERIES]),
        pool=pool,
    )
    measures = row(found, "selector")
    assert (measures["copied_share"], measures["copied_accuracy"], measures["other_accuracy"]) == (0.5, 0.5, 0.25)
    without = row(diagnose(alone(0, 0, 0, 0), chose("selector", selections)), "selector")
    assert without["copied_share"] is None and without["leaked"] is None


def test_a_leaked_test_set_is_found():
    stored = io.BytesIO()
    picture(2).resize((96, 96), Image.Resampling.BICUBIC).save(stored, "JPEG", quality=60)
    queries = examples([{"id": f"q{n}", "image": picture(n), "question": f"What is {n}?"} for n in range(4)])
    pool = examples(
        [
            {"id": "a", "image": picture(0), "question": "what is 0"},  # the same example
            {"id": "b", "image": picture(1), "question": "How many?"},  # the same image, asked something else
            {"id": "c", "image": {"bytes": stored.getvalue(), "path": None}, "question": "What is 2?"},  # a copy
            {"id": "d", "image": picture(9), "question": "What is 3?"},  # only the question
        ]
    )
    selections = [["a", "d"], ["b", "a"], ["c", "b"], ["d", "a"]]
    found = diagnose(alone(0, 0, 0, 0), chose("selector", selections), queries=queries, pool=pool)
    measures = row(found, "selector")
    assert (measures["same_image"], measures["near_duplicate_image"]) == (0.5, 0.25)
    assert (measures["same_question"], measures["leaked"]) == (0.75, 0.5)
    assert [(one["query_id"], one["demonstration_id"], one["kind"]) for one in found["leaks"]] == [
        ("q0", "a", "leaked"),
        ("q2", "c", "leaked"),
        ("q1", "b", "same_image"),
    ]
    assert any(said.startswith("2 queries") and "the test set is known" in said for said in found["warnings"])
    assert found["leak_verdict"] == (
        "Leaks: of 4 queries, 2 were shown the same question about the same or nearly the same image (or about none), "
        f"2 the same image, and 1 nearly the same image. The search for nearly the same images {MEASURED}."
    )
    assert diagnose(alone(0, 0, 0, 0), chose("selector", selections))["leak_verdict"] is None


def test_a_clean_test_set_is_not_accused():
    queries = examples([{"id": f"q{n}", "image": picture(n)} for n in range(4)])
    pool = examples([{"id": one, "image": picture(90 + n)} for n, one in enumerate("abc")])
    found = diagnose(alone(0, 0, 0, 0), chose("selector", [["a"], ["b"], ["c"], ["a"]]), queries=queries, pool=pool)
    assert found["leaks"] == [] and not any("queries were shown" in said for said in found["warnings"])
    assert row(found, "selector")["same_question"] == 0.0
    assert found["leak_verdict"].startswith("Leaks: of 4 queries, 0 were shown the same question")
    assert str(MEASURED) in found["leak_verdict"]


def test_copies_of_charts_are_found_and_pages_with_other_words_are_not():
    numbers = range(0, 24, 4)
    pictures = [make(number) for make in (chart, page) for number in numbers]
    queries = examples([{"id": f"q{n}", "image": one, "question": "What?"} for n, one in enumerate(pictures)])
    copies = [resized(encoded(one, "JPEG", quality=90), 0.75) for one in pictures]
    pool = examples([{"id": f"p{n}", "image": one, "question": "what"} for n, one in enumerate(copies)])
    found = find_leaks([(f"q{n}", f"p{m}") for n in range(12) for m in range(12)], queries, pool)
    known = {pair for pair, kinds in found.items() if "leaked" in kinds}
    assert known == {(f"q{n}", f"p{n}") for n in range(12)}
    assert all("near_duplicate_image" in found[pair] and "same_image" not in found[pair] for pair in known)


def test_texts_without_images_leak_by_what_they_ask():
    queries = examples([{"id": "q", "question": "A fine film."}])
    pool = examples([{"id": "a", "question": "a fine film"}, {"id": "b", "question": "a bad film"}])
    assert find_leaks([("q", "a"), ("q", "b")], queries, pool) == {("q", "a"): ("same_question", "leaked")}
    options = [["ice", "steam"], ["milk", "stone"]]
    asked, shown = (
        examples([{"id": one, "question": "Which is solid?"}]).add_column("choices", [choices])
        for one, choices in zip(("q", "a"), options, strict=True)
    )
    assert find_leaks([("q", "a")], asked, shown) == {}
    selections = [["a"], ["a"], ["b"], ["a"]]
    asked = examples([{"id": one} for one in QUERIES])
    verdict = diagnose(alone(0, 0, 0, 0), chose("selector", selections), queries=asked, pool=pool)["leak_verdict"]
    assert verdict.startswith("Leaks: of 4 queries, 0") and "search for nearly the same images" not in verdict


def test_flat_images_of_other_colours_are_different():
    queries = examples([{"id": "q", "image": Image.new("RGB", (9, 9), "red")}])
    pool = examples([{"id": "a", "image": Image.new("RGB", (9, 9), "blue")}, {"id": "b"}])
    assert find_leaks([("q", "a"), ("q", "b")], queries, pool) == {}
    brighter = examples([{"id": "a", "image": Image.new("RGB", (50, 50), (254, 1, 2))}])
    assert find_leaks([("q", "a")], queries, brighter) == {("q", "a"): ("near_duplicate_image",)}


def test_demonstrations_that_no_pool_has_are_refused():
    pool = examples([{"id": "a"}])
    runs = table(alone(0, 0, 0, 0), chose("selector", [["a"], ["z"], ["a"], ["a"]]))
    with pytest.raises(ValueError, match=r"1 of the ids .* not among the 1 examples of the pool, e.g. \['z'\]"):
        summarize(runs, **ABOUT, queries=examples([{"id": one} for one in QUERIES]), pool=pool)


def test_shuffled_demonstrations_show_what_order_does():
    selections = [["a", "b"], ["b", "c"], ["c", "a"], ["a", "c"]]
    base = chose("sft", selections, (1.0, 1.0, 1.0, 0.0), ("x", "y", "z", "w"))
    swapped = chose("sft~shuffled", [ids[::-1] for ids in selections], (0.0, 0.0, 0.0, 1.0), ("n", "n", "n", "w"))
    found = diagnose(alone(0, 0, 0, 0), base, order_probes=table(swapped[:3]))
    (probe,) = found["order"]
    assert (probe["method"], probe["shots"], probe["num_probes"]) == ("sft", 2, 3)
    assert (probe["changed_share"], probe["accuracy"], probe["shuffled_accuracy"]) == (1.0, 1.0, 0.0)
    assert (probe["difference"], probe["p_value"], probe["significant"]) == (-1.0, 0.25, False)
    assert not any("Order counts" in said for said in found["warnings"])  # three queries say little
    twice = [[row | {"query_id": row["query_id"] + tail} for tail in "xy" for row in rows] for rows in (base, swapped)]
    zero_shot = [row | {"query_id": row["query_id"] + tail} for tail in "xy" for row in alone(0, 0, 0, 0)]
    probes = table([row for row in twice[1] if row["accuracy"] == 0.0])
    found = diagnose(zero_shot, twice[0], order_probes=probes)
    assert (found["order"][0]["p_value"], found["order"][0]["significant"]) == (0.03125, True)
    assert any("Order counts" in said and "-100.0 points on 6 queries" in said for said in found["warnings"])
    stranger = [one | {"method": "grpo~shuffled"} for one in swapped]
    with pytest.raises(ValueError, match=r"'grpo~shuffled' .* has no answers to be compared with"):
        diagnose(alone(0, 0, 0, 0), base, order_probes=table(stranger))


def test_texts_are_compared_without_case_and_punctuation():
    assert plain_text("  What's THIS?\n") == plain_text("what s this") == "what s this"
    assert plain_text("?!") == "?!" and plain_text("Ünïcode_x") == "ünïcode x"
    assert plain_text("cafe\u0301?") == plain_text("caf\u00e9")
    assert plain_text("\u0915\u0940") != plain_text("\u0915\u093e")  # Hindi "of", for two genders
