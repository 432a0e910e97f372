# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from leverplus_trl.evaluation.runs import by_seed, read_runs
from leverplus_trl.report.comparison import (
    comparison_csv,
    comparison_lines,
    comparison_section,
    read_published,
    results_csv,
)
from leverplus_trl.report.evaluation_sections import shots_section
from leverplus_trl.report.sections import section_markdown


RECIPES = Path(__file__).parents[2] / "recipes"
QWEN = {"dataset": "data/okvqa", "vlm": "Qwen/Qwen2.5-VL-3B-Instruct"}


def changed(evaluation, label=None, **changes):
    return replace(evaluation, label=label, results=json.loads(json.dumps(evaluation.results)) | changes)


def with_sampler(evaluation, sampler, **changes):
    return changed(evaluation, f"sampler {sampler}", provenance={"recipe": {"sampler": sampler}}, **changes)


@pytest.fixture(scope="module")
def published():
    return read_published(RECIPES / "okvqa_qwen2.5_vl_3b" / "published.csv")


def test_published_figures_are_those_of_the_source(published):
    flamingo = read_published(RECIPES / "okvqa_flamingo_3b" / "published.csv")
    found = {(line.vlm, line.method, line.test_samples, line.sampler): line.cells for line in published.lines}
    found |= {(line.vlm, line.method, line.test_samples, line.sampler): line.cells for line in flamingo.lines}
    qwen, open_flamingo = "Qwen2.5-VL-3B-Instruct", "OpenFlamingo-3B"
    assert found[qwen, "v2", "300", "random"] == {1: 55.53, 2: 54.0, 3: 53.73, 4: 52.07}
    assert found[open_flamingo, "random", "full", "random"] == {1: 19.96, 2: 20.5, 3: 21.68, 4: 22.33}
    # The source gives Flamingo's v0 twice, with different values; Qwen's twice with the same.
    assert found[open_flamingo, "v0 (its section 3.2)", "300", "random"][1] == 25.87
    assert found[open_flamingo, "v0 (its section 3.3.1)", "300", "random"][1] == 21.96
    assert found[qwen, "v0", "300", "random"] == {1: 54.53, 2: 51.33, 3: 51.73, 4: 52.27}
    means = published.mean_by_shots()
    assert means[1] > means[4] and list(means) == [1, 2, 3, 4]


def test_a_file_that_holds_no_published_figures_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"published is '.*absent\.csv', and that file can't be read"):
        read_published(tmp_path / "absent.csv")
    head = "vlm,method,test_samples,sampler,shots,accuracy\n"
    for text, message in (
        (head, "expected a first line `# SOURCE`"),
        ("# Source.\nvlm,accuracy\na,1\n", "it has the columns vlm, accuracy"),
        (f"# Source.\n{head}vlm,v2,300,mix,one,50\n", "shots and accuracy must be numbers"),
    ):
        (tmp_path / "published.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_published(tmp_path / "published.csv")


def test_published_figures_stand_beside_ones_own(evaluation, published):
    assert comparison_section([evaluation]) is None
    section = comparison_section([changed(evaluation, **QWEN)], published)
    titles = [title for title, _ in section.tables[0].groups]
    assert section.title == "Beside the published figures"
    assert titles[0] == "Qwen2.5-VL-3B-Instruct, 20 test samples" and titles[-1].endswith("all test samples")
    rows = [row for _, found in section.tables[0].groups for row in found]
    of_others = [row for row in rows if row.kind == "published"]
    assert len(of_others) == 1 + 3 * 4 * 4 and all("(published)" in row.cells[0] for row in of_others)
    assert not any(row.bold for row in of_others) and any(row.bold for row in rows)
    assert ["v2 (published)", "random", "55.53", "54.00", "53.73", "52.07"] in [list(row.cells) for row in of_others]
    assert "were not measured here" in section_markdown(section)


def test_several_samplers_stand_in_one_table(evaluation):
    one, other = with_sampler(evaluation, "random"), with_sampler(evaluation, "mix")
    for row in other.results["rows"]:
        row["accuracy"] -= 0.01 * (row["method"] in ("selector", "random_pool"))
    found = {(line.method, line.sampler): line for line in comparison_lines([one, other])}
    assert found["selector", "random"].cells[2]["accuracy"] == 0.95
    assert found["selector", "mix"].cells[2]["accuracy"] == 0.94
    # What both say alike stands there once, what only their evaluation tells apart is named by it.
    assert ("zero-shot", "–") in found and ("random (whole pool) (sampler mix)", "–") in found
    assert found["selector", "mix"].bold == {2} and found["selector", "mix"].kind == "selector"


def test_a_row_that_two_evaluations_share_stands_there_once(evaluation):
    two = [with_sampler(evaluation, "mix"), with_sampler(evaluation, "random")]
    for row in two[1].results["rows"]:  # what the whole of the other table decides
        row |= {"diff_p_holm": 0.5, "regret": 0.1}
    lines = [line for line in comparison_lines(two) if line.method == "random (whole pool)"]
    assert len(lines) == 1 and lines[0].sampler == "–"
    for row in two[1].results["rows"]:
        row["accuracy"] += 0.01
    assert len([line for line in comparison_lines(two) if line.method.startswith("random (whole pool)")]) == 2


def test_prefixes_have_groups_of_their_own(evaluation):
    results = evaluation.results
    part = {"num_queries": 10, "rows": json.loads(json.dumps(results["rows"])), "best": [], "best_baselines": []}
    for row in part["rows"]:
        row["accuracy"] = 0.5
    section = comparison_section([changed(evaluation, prefixes=[part])])
    groups = section.tables[0].groups
    assert [title for title, _ in groups] == ["tiny VLM, 10 test samples", "tiny VLM, 20 test samples"]
    assert all(cell.startswith(("50.0", "–")) for row in groups[0][1] for cell in row.cells[2:])


def test_csv_tells_published_from_measured(evaluation, published):
    rows = list(csv.DictReader(io.StringIO(comparison_csv([changed(evaluation, **QWEN)], published))))
    mine = next(row for row in rows if row["method"] == "selector" and row["shots"] == "2")
    assert (mine["source"], mine["accuracy"], mine["best"], mine["test_samples"]) == ("here", "0.95", "True", "20")
    theirs = [row for row in rows if row["source"] == "published"]
    assert len(theirs) == 4 * (1 + 3 * 4 * 4) and {row["ci_low"] for row in theirs} == {""}
    assert {"0.5553"} == {
        row["accuracy"]
        for row in theirs
        if (row["method"], row["test_samples"], row["sampler"], row["shots"])
        == ("v2 (published)", "300", "random", "1")
    }


def test_csv_holds_every_row(evaluation):
    read = list(csv.DictReader(io.StringIO(results_csv([evaluation]))))
    assert len(read) == len(evaluation.results["rows"]) == 15
    selector = next(one for one in read if one["method"] == "selector" and one["shots"] == "2")
    assert (selector["accuracy"], selector["scope"], selector["num_queries"]) == ("0.95", "candidates", "20")
    assert {one["evaluation"] for one in read} == {"demo"}


def test_captions_are_headed_by_their_metric(captions):
    for text in (results_csv([captions]), comparison_csv([captions])):
        rows = list(csv.DictReader(io.StringIO(text)))
        mine = next(row for row in rows if row["method"] == "selector" and row["shots"] == "2")
        assert float(mine["cider"]) == pytest.approx(1.79375) and "accuracy" not in mine
    both = [with_sampler(captions, "random"), with_sampler(captions, "mix")]
    assert comparison_section(both).tables[0].caption.startswith("CIDEr times 100, by VLM,")
    section = shots_section([captions])
    assert section.charts[0].title == "CIDEr by number of shots" and "accuracy" not in section.charts[0].description
    assert section.tables[0].caption == "CIDEr times 100, with the number of shots in brackets."


def test_more_shots_are_compared_query_by_query(evaluation):
    by_query = by_seed({key: run.accuracies for key, run in read_runs(evaluation.predictions).items()})
    assert by_query["selector", 2]["q12"] == [1.0] and by_query["selector", 1]["q12"] == [0.0]
    section = shots_section([evaluation])
    rows = {row.cells[0]: list(row.cells[1:]) for row in section.tables[0].groups[0][1]}
    assert rows["selector"][:2] == ["50.0 (1)", "95.0 (2)"] and rows["selector"][2].startswith("+45.0 [")
    assert rows["selector"][2].endswith("p = 0.004")  # nine more: 2 / 2^9
    assert rows["selector"][3:] == ["help", "95.0 (2)"]
    assert rows["random"][3] == "can't tell" and "zero-shot" not in rows
    assert section.charts[0].file_name == "accuracy_by_shots.png" and section.paragraphs == []


def test_shots_beside_the_published_mean(evaluation, published):
    (text,) = shots_section([changed(evaluation, **QWEN)], published).paragraphs
    assert text.startswith("The mean of the published cells with a selector: 58.2 at 1,")
    assert "not measured here" in text


@pytest.mark.parametrize("best", [True, False])
def test_bold_only_where_the_test_allows(evaluation, best):
    one = changed(evaluation, best=[{**found, "clear": best} for found in evaluation.results["best"]])
    assert any(line.bold for line in comparison_lines([one])) == best
