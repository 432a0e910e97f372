# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import pytest

from leverplus_trl.evaluation.methods import method_label
from leverplus_trl.report.tables import (
    escape_markdown,
    findings,
    headline_shots,
    interval,
    markdown_table,
    notes,
    percent,
    prefixes_of,
    table_rows,
    terminal_table,
)


def row(method, shots, accuracy, low, high, difference=None, seed=0, collapsed=False, **further):
    return {
        "method": method,
        "scope": "none" if method == "zero_shot" else "pool" if method.endswith("_pool") else "candidates",
        "shots": shots,
        "seed": seed,
        "num_queries": 200,
        "selectors": ["selector"],
        "accuracy": accuracy,
        "ci_low": low,
        "ci_high": high,
        "diff_to_random": difference and difference[0],
        "diff_ci_low": difference and difference[1],
        "diff_ci_high": difference and difference[2],
        "collapsed": collapsed,
        "most_common_selection": 0.01,
        **further,
    }


def small_results(clear=True, **selector):
    best = {"shots": 2, "method": "selector", "baseline": "random", "difference": 0.7, "ci_low": 0.63, "ci_high": 0.77}
    best |= {"p_value": 1e-9, "p_holm": 1e-8, "significant": True}
    return {
        "metric": "exact_match",
        "num_queries": 200,
        "selectors": ["selector"],
        "interval": {
            "kind": "Clopper-Pearson",
            "difference": "score (Tango)",
            "test": "sign flips",
            "seeds": "two-way",
            "confidence": 0.95,
        },
        "rows": [
            row("zero_shot", 0, 0.02, 0.005, 0.04, collapsed=None),
            row("random", 1, 0.1, 0.06, 0.145),
            row("random", 2, 0.15, 0.1, 0.2),
            row("selector", 2, 0.85, 0.8, 0.9, (0.7, 0.63, 0.77), **selector),
        ],
        "best": [best | {"clear": clear}],
        "best_baselines": [best | {"baseline_accuracy": 0.15}],
    }


def test_further_selectors_are_compared_with_the_first():
    results = small_results()
    results["selectors"] = ["sft", "selector"]
    results["comparisons"] = [
        {"shots": 2, "method": "selector", "baseline": "sft", "difference": 0.05, "ci_low": -0.01, "ci_high": 0.11}
    ]
    assert "Against sft, in points: selector +5.0 [-1.0, +11.0]." in findings(results)[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [("selector", "With 2 shots the selector reaches 85.0%"), ("s", "With 2 shots s reaches 85.0%")],
)
def test_only_the_selector_has_an_article(name, said):
    results = small_results()
    results["selectors"] = [name]
    for found in (results["rows"][-1], results["best_baselines"][0]):
        found["method"] = name
    assert findings(results)[0].startswith(said)


@pytest.mark.parametrize("number", [3, 4])
def test_of_many_selectors_the_best_are_named(number):
    results = small_results()
    names = [f"v{place}" for place in range(number)]
    results["selectors"] = names
    best = results["best_baselines"][0]
    results["rows"] += [row("v0", 2, 0.3, 0.2, 0.4), *(row(name, 2, 0.5, 0.4, 0.6) for name in names[1:])]
    results["best_baselines"] = [best | {"method": name} for name in names]
    results["comparisons"] = [
        {"shots": 2, "method": name, "baseline": "v0", "difference": 0.2, "ci_low": 0.1, "ci_high": 0.3}
        for name in names[1:]
    ]
    said = findings(results)[0]
    if number == 3:
        assert "The selectors, with their paired differences to it in points: v0 30.0%, +70.0 [+63.0, +77.0];" in said
        assert "Against v0, in points: v1 +20.0 [+10.0, +30.0] and v2 " in said and "others" not in said
    else:
        assert "The best 3 of 4 selectors, with their paired differences to it in points: v1 50.0%, +70.0 [" in said
        assert "v0 30.0%" not in said and "(the tables show the others)" in said
        assert "Against v0, in points: v1 +20.0 [+10.0, +30.0], v2 " in said


def test_no_more_than_the_best_are_compared_with_the_first_selector():
    results = small_results()
    names = ["v0", "v1", "v2", "v3", "v4"]
    results["selectors"] = names
    best = results["best_baselines"][0]
    results["rows"] += [row(name, 2, 0.9 - place / 10, 0.1, 0.9) for place, name in enumerate(names)]
    results["best_baselines"] = [best | {"method": name} for name in names]
    results["comparisons"] = [
        {"shots": 2, "method": name, "baseline": "v0", "difference": 0.0, "ci_low": 0.0, "ci_high": 0.0}
        for name in names[1:]
    ]
    assert "Against v0, in points: v1 0.0 [0.0, 0.0] and v2 0.0 [0.0, 0.0]. For" in findings(results)[0]


def test_captions_are_scored_in_points_of_their_metric(captions):
    said = findings(captions.results)[0]
    assert said.startswith("With 2 shots the selector reaches CIDEr 179.4 (95% interval ")
    assert "(whole pool), CIDEr 114.4. " in said and "For comparison: zero-shot CIDEr 33.1, random CIDEr 65.6" in said
    assert said.count("%") == 1  # the interval's
    assert notes(captions.results)[0].startswith("CIDEr (cider) times 100 over 20 queries, in brackets")
    assert not any("accuracy" in note for note in notes(captions.results))


def test_markdown_table_of_a_small_case():
    assert markdown_table(small_results()) == (
        "| method | 1 shot | vs best baseline | 2 shots | vs best baseline |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| zero-shot | 2.0 [0.5, 4.0] | – | 2.0 [0.5, 4.0] | – |\n"
        "| random | 10.0 [6.0, 14.5] | best baseline | 15.0 [10.0, 20.0] | best baseline |\n"
        "| selector | – | – | **85.0** [80.0, 90.0] | +70.0 [+63.0, +77.0], p < 0.001 |\n"
    )


def test_terminal_table_of_a_small_case():
    assert terminal_table(small_results()) == (
        "Accuracy in %, 200 queries, 95% intervals\n"
        "                    1 shot             2 shots\n"
        "zero-shot           2.0 [0.5, 4.0]     2.0 [0.5, 4.0]\n"
        "random              10.0 [6.0, 14.5]*  15.0 [10.0, 20.0]*\n"
        "selector                               85.0 [80.0, 90.0]\n"
        "  vs best baseline                     +70.0 [+63.0, +77.0]\n"
        "* best baseline\n"
    )


def test_nothing_is_bold_when_the_test_does_not_allow_it():
    assert "**" not in markdown_table(small_results(clear=False))


def test_a_collapsed_selector_is_called_so_everywhere():
    results = small_results(collapsed=True)
    assert "**85.0** [80.0, 90.0] (collapsed)" in markdown_table(results)
    assert any("selector has collapsed (shots: 2)" in note for note in notes(results))
    assert "But selector has collapsed" in findings(results)[0]
    assert "collapsed" not in markdown_table(small_results())


def test_intervals_without_width_are_explained():
    assert not any("without width" in note for note in notes(small_results()))
    results = small_results()
    results["rows"][1] |= {"accuracy": 0.0, "ci_low": 0.0, "ci_high": 0.0}
    assert any("without width" in note for note in notes(results))


def test_several_seeds_show_their_average():
    results = small_results()
    results["rows"] += [
        row("text_sim", 1, 0.2, 0.1, 0.3, seed=0),
        row("text_sim", 1, 0.4, 0.3, 0.5, seed=1),
        row("text_sim", 1, 0.3, 0.2, 0.4, seed=None),
    ]
    assert "| text similarity | 30.0 [20.0, 40.0] |" in markdown_table(results)
    (note,) = [note for note in notes(results) if note.startswith("Averages over seeds: text similarity.")]
    assert "about other seeds, too (two-way)" in note
    # Random draws and the selector's training have one seed each; what does not draw needs no other.
    assert any(note.startswith("One seed: random and selector.") for note in notes(results))


@pytest.mark.parametrize(
    ("difference", "p_value", "p_holm", "verdict"),
    [
        (0.7, 1e-9, 1e-8, "points [+63.0, +77.0], p < 0.001: selector is better."),
        (0.7, 0.06, 0.06, "points [+63.0, +77.0], p = 0.060: the two can't be told apart."),
        (-0.7, 0.01, 0.03, "points [+63.0, +77.0], p = 0.010: selector falls short of that heuristic."),
        (
            0.7,
            0.01,
            0.12,
            "p = 0.010: selector is better, but not after correction for all comparisons (p = 0.120).",
        ),
    ],
)
def test_the_headline_says_what_the_test_says(difference, p_value, p_holm, verdict):
    results = small_results()
    tested = {"p_value": p_value, "p_holm": p_holm, "significant": p_holm <= 0.05}
    results["best_baselines"][0] |= {"difference": difference, **tested}
    headline, further = findings(results)
    assert headline.startswith("With 2 shots the selector reaches 85.0% (95% interval 80.0 to 90.0) on 200 queries;")
    assert verdict in headline
    assert headline.endswith("For comparison: zero-shot 2.0% and random 15.0%.")
    assert further == "At 1 shot no trained selector was evaluated. For comparison: zero-shot 2.0% and random 10.0%."


def test_a_selector_without_heuristics_is_not_passed_over():
    results = small_results()
    results["rows"] = [row for row in results["rows"] if row["method"] != "random"]
    results["best_baselines"] = []
    assert findings(results) == [
        "With 2 shots no heuristic was evaluated beside the selectors: selector 85.0%. For comparison: zero-shot 2.0%."
    ]


def test_several_selectors_share_a_sentence():
    results = small_results()
    results["rows"].append(row("sft", 2, 0.7, 0.6, 0.8, collapsed=True))
    results["best_baselines"].append(
        results["best_baselines"][0] | {"method": "sft", "difference": 0.55, "ci_low": 0.5, "ci_high": 0.6}
    )
    assert findings(results)[0] == (
        "With 2 shots the best baseline, random, reaches 15.0% on 200 queries. The selectors, with their paired "
        "differences to it in points: selector 85.0%, +70.0 [+63.0, +77.0]; sft 70.0%, +55.0 [+50.0, +60.0] but "
        "collapsed. For comparison: zero-shot 2.0% and random 15.0%."
    )


def test_the_headline_is_where_the_oracle_stands(results):
    assert headline_shots(results) == 2
    results["rows"] = [one for one in results["rows"] if (one["method"], one["shots"]) != ("oracle", 2)]
    assert headline_shots(results) == 1


def test_rows_keep_the_order_and_scopes_of_the_evaluation(results):
    rows = table_rows(results)
    assert [one.method for one in rows][:2] == ["zero_shot", "random"] and rows[-1].method == "image_text_sim_pool"
    assert {one.scope for one in rows} == {"none", "candidates", "pool"}
    selector = next(one for one in rows if one.method == "selector")
    assert [cell["accuracy"] for cell in selector.cells] == [0.5, 0.95]
    assert selector.bold == [False, True]  # at 1 shot one query of 20 separates it from image+text similarity


def test_numbers_as_text():
    assert (percent(0.12345), percent(0.5, True), percent(-0.5, True), percent(-0.0001, True)) == (
        "12.3",
        "+50.0",
        "-50.0",
        "0.0",
    )
    assert interval(-0.02, 0.1, signed=True) == "[-2.0, +10.0]"
    assert method_label("image_text_sim_pool") == "image+text similarity (whole pool)"
    assert method_label("selector_beams") == "selector_beams"


def test_markdown_from_data_is_escaped():
    assert escape_markdown("a|b\n<i>`x`_*[y]") == r"a\|b &lt;i&gt;\`x\`\_\*\[y\]"


def test_the_difference_to_the_best_baseline_has_its_corrected_p():
    results = small_results()
    results["best_baselines"][0]["p_holm"] = 0.0412
    assert "+70.0 [+63.0, +77.0], p = 0.041 |" in markdown_table(results)
    assert any("(Holm)" in note for note in notes(results))


def test_without_selectors_the_best_baseline_is_marked_alone():
    results = small_results()
    results |= {"best_baselines": [], "selectors": [], "rows": results["rows"][:3]}
    assert "| random | 10.0 [6.0, 14.5] | best baseline | 15.0 [10.0, 20.0] | best baseline |" in markdown_table(
        results
    )
    assert not any("(Holm)" in note for note in notes(results))


def test_prefixes_are_read_as_results_of_their_own():
    results = small_results()
    assert prefixes_of(results) == [(200, results)]
    results["prefixes"] = [{"num_queries": 100, "rows": results["rows"][:3], "best": [], "best_baselines": []}]
    (size, part), (whole, last) = prefixes_of(results)
    assert (size, whole, last) == (100, 200, results)
    assert (part["num_queries"], len(part["rows"]), part["metric"]) == (100, 3, "exact_match")
