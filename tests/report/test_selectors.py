# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""What the report says of trained selectors: paired differences, corrected, and each seed by itself."""

from pathlib import Path

import pytest
from datasets import Dataset

from leverplus_trl.evaluation.evaluation import summarize
from leverplus_trl.report.evaluation_sections import selectors_section
from leverplus_trl.report.evaluations import Evaluation
from leverplus_trl.report.sections import section_markdown
from leverplus_trl.schema import PREDICTIONS


ABOUT = {"name": "demo", "dataset": "world", "vlm": "tiny VLM", "task": "vqa", "metric": "exact_match"}
#: right answers of 40 queries, one number a seed
RIGHT = {"zero_shot": [2], "random": [6, 10], "text_sim": [12], "v2": [36, 34, 38], "v1": [30]}


def evaluated(right, selectors):
    rows = [
        {
            "query_id": f"q{query}",
            "split": "test",
            "method": method,
            "shots": 0 if method == "zero_shot" else 2,
            "seed": seed,
            "candidate_ids": [],
            "demonstration_ids": [] if method == "zero_shot" else [f"p{query}", f"p{len(method) + seed}"],
            "generation": "",
            "prediction": "",
            "accuracy": float(query < count),
            "confidence": None,
        }
        for method, seeds in right.items()
        for seed, count in enumerate(seeds)
        for query in range(40)
    ]
    predictions = Dataset.from_list(rows, features=PREDICTIONS)
    return Evaluation(None, Path("e"), summarize(predictions, **ABOUT, selectors=selectors), predictions)


@pytest.fixture(scope="module")
def section():
    return selectors_section([evaluated(RIGHT, ["v2", "v1"])])


def cells(section, caption):
    (table,) = (table for table in section.tables if table.caption.startswith(caption))
    return {row.cells[0]: list(row.cells[1:]) for _, rows in table.groups for row in rows}


def test_selectors_are_paired_with_what_they_have_to_beat(section):
    best = cells(section, "Against the best baseline")
    assert list(best) == ["v2", "v1"]
    assert best["v2"][0].startswith("+60.0 [")
    assert list(section.tables[0].head) == ["method", "2 shots (text similarity 30.0)"]
    assert cells(section, "Against zero-shot")["v1"][0].startswith("+70.0 [")
    assert cells(section, "Against v2") == {"v1": [cells(section, "Against v2")["v1"][0]]}
    assert cells(section, "Against v2")["v1"][0].startswith("-15.0 [")


def test_p_values_are_the_corrected_ones():
    one = evaluated(RIGHT | {"v3": [36]}, ["v2", "v1", "v3"])
    section = selectors_section([one])
    (found,) = (each for each in one.results["comparisons"] if (each["method"], each["baseline"]) == ("v1", "v2"))
    assert found["p_holm"] > found["p_value"]
    assert f"p = {found['p_holm']:.3f}" in cells(section, "Against v2")["v1"][0]
    # Each of three selectors with three other methods, and with one another: once, whichever stands first.
    assert "all 12 comparisons" in section.notes[0] and len(one.results["comparisons"]) == 15


def test_each_seed_stands_by_itself(section):
    assert cells(section, "Each seed by itself") == {"random": ["15.0 / 25.0"], "v2": ["90.0 / 85.0 / 95.0"]}
    assert "| v2 | 90.0 / 85.0 / 95.0 |" in section_markdown(section)


def test_captions_are_not_called_accurate(captions):
    text = section_markdown(selectors_section([captions]))
    assert (
        "Differences in points of CIDEr, paired query by query and averaged over seeds" in text
        and "accuracy" not in text
    )


def test_without_selectors_there_is_nothing_to_say():
    assert selectors_section([evaluated({"zero_shot": [2], "random": [6, 10], "text_sim": [12]}, [])]) is None
