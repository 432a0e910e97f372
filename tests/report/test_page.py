# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from leverplus_trl.report.page import _marked, build_gallery, render_markdown, render_page, script_json
from leverplus_trl.report.sections import Chart, Row, Section, Table
from leverplus_trl.report.tables import average_rows, interval, percent, small_p


VOID = {"meta", "img", "br", "link", "input", "hr"}
LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href", "formaction"}


class Page(HTMLParser):
    """Parses a page, checks that its tags close in order, and keeps what the tests ask about."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.cells = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.cells[-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture
def sections():
    out = io.BytesIO()
    Image.new("RGB", (320, 160)).save(out, format="PNG")
    chart = Chart("accuracy_by_shots.png", out.getvalue(), "Accuracy by shots", "The <lines> rise.")
    rows = [Row(["sft", "50.0 [40.0, 60.0] collapsed"], "selector", frozenset({1})), Row(["v0", "54.5"], "published")]
    table = Table("A small table.", ["method", "1 shot"], [("some group", rows)])
    return [Section("Shots", "shots", ["A text."], [chart], [table], ["Small print."], ["Look out."])]


@pytest.fixture
def gallery(evaluation, queries, pool):
    return build_gallery([evaluation], queries, pool, 12)


def scripts(text):
    """`{attributes: content}` of the scripts of a page."""
    return dict(re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL))


def test_the_page_holds_the_numbers_of_the_table(evaluation, sections, gallery):
    page = Page(render_page([evaluation], sections, gallery))
    for row in average_rows(evaluation.results).values():
        number = f"{percent(row['accuracy'])} {interval(row['ci_low'], row['ci_high'])}"
        assert any(" ".join(cell.split()).startswith(number) for cell in page.cells), number
    assert evaluation.results["best_baselines"]
    for best in evaluation.results["best_baselines"]:
        points = f"{percent(best['difference'], True)} {interval(best['ci_low'], best['ci_high'], True)}"
        assert f"{points}, {small_p(best['p_holm'])}" in page.text
    assert sum(cell.endswith("best baseline") for cell in page.cells) == len(evaluation.results["best_baselines"])
    assert "With 2 shots the selector reaches 95.0%" in page.text
    assert "image+text similarity (whole pool), 55.0%" in page.text
    assert "abc123" in page.text and "tiny VLM answers 20 queries (test) of world" in page.text


def test_the_page_needs_nothing_but_itself(evaluation, sections, gallery):
    text = render_page([evaluation], sections, gallery)
    page = Page(text)
    for _, attrs in page.tags:
        for name in LOADING & attrs.keys():
            assert attrs[name].startswith(("data:image/png;base64,", "#")), attrs[name][:60]
        assert not any(name.startswith("on") for name in attrs)
    assert not {"link", "iframe", "object", "embed", "base", "svg"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?://", text)


def test_one_script_may_run_and_the_policy_names_its_hash(evaluation, sections, gallery):
    text = render_page([evaluation], sections, gallery)
    policy = next(attrs["content"] for attrs in Page(text).all("meta") if "http-equiv" in attrs)
    kinds = [attrs.get("type") for attrs in Page(text).all("script")]
    assert kinds.count(None) == 1 and set(kinds) == {None, "application/json"}
    digest = base64.b64encode(hashlib.sha256(scripts(text)[""].encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_the_gallery_is_data_with_its_images_in_blocks(evaluation, sections, gallery):
    gallery["images"] = [f"data:{number}" for number in range(450)]
    found = {
        attrs: json.loads(text)
        for attrs, text in scripts(render_page([evaluation], sections, gallery)).items()
        if "json" in attrs
    }
    blocks = [found[f' type="application/json" id="images-{number}"'] for number in range(3)]
    assert [len(block) for block in blocks] == [200, 200, 50] and [*blocks[0], *blocks[1], *blocks[2]] == gallery[
        "images"
    ]
    data = found[' type="application/json" id="gallery-data"']
    assert data["queries"] == gallery["queries"] and "images" not in data and data["images_per_block"] == 200


def test_markup_in_data_shows_as_text(evaluation, sections, gallery):
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)><!--'
    results = evaluation.results
    query = gallery["queries"][0]
    query |= {"question": evil, "expected": [evil], "id": evil}
    gallery["methods"][0]["label"] = gallery["demonstrations"][0][1] = evil
    results |= {"vlm": evil, "dataset": evil, "task": evil, "provenance": {evil: evil}, "collapse": {evil: evil}}
    results["rows"][-1]["method"] = evil
    sections.append(
        Section(evil, "more", [evil], [], [Table(evil, [evil], [(evil, [Row([evil, f"{evil} [1]{evil}"])])])])
    )
    text = render_page([replace(evaluation, label=evil)], sections, gallery, title=evil)
    page = Page(text)
    assert len(page.all("script")) == 3 == text.count("<script")
    assert "<img src=x" not in text and "<!--" not in text and "onerror=alert(1)>" not in text
    assert page.text.count('<script>alert("x")</script>') >= 10
    data = json.loads(scripts(text)[' type="application/json" id="gallery-data"'])
    assert data["queries"][0]["question"] == evil


def test_json_for_a_script_holds_no_tag_and_reads_back():
    value = {"a</script>": ["<!--", "&amp;", "\u2028\u2029", "ü"]}
    text = str(script_json(value))
    assert not set("<>&\u2028\u2029") & set(text) and json.loads(text) == value


def test_a_collapsed_selector_is_marked(evaluation, gallery):
    assert not any("collapsed" in cell for cell in Page(render_page([evaluation], [], gallery)).cells)
    for row in evaluation.results["rows"]:
        row["collapsed"] = row["method"] == "selector"
    page = Page(render_page([evaluation], [], gallery))
    assert sum("collapsed" in cell for cell in page.cells) == 2  # at 1 and at 2 shots
    assert "But selector has collapsed" in page.text


def test_sections_hold_warnings_texts_charts_and_tables(evaluation, sections, gallery):
    text = render_page([evaluation], sections, gallery)
    page = Page(text)
    for piece in ("Look out.", "A text.", "Small print.", "A small table.", "some group", "The <lines> rise."):
        assert piece in page.text
    assert '<strong>50.0 <span class="span">[40.0, 60.0]</span> <span class="tag">collapsed</span></strong>' in text
    assert '<tr class="published">' in text and '<a href="#shots">Shots</a>' in text
    assert page.all("img")[0]["width"] == "192"  # 320 pixels at 160 to the inch


def test_the_page_says_how_queries_were_chosen(evaluation, gallery):
    text = Page(render_page([evaluation], [], gallery)).text
    assert "these are the first 12 of 20 query ids, in the order of their SHA-256 hashes" in text
    bare = render_page([evaluation], [], gallery | {"queries": []})
    assert "SHA-256" not in bare and "<script" not in bare


def test_a_page_of_captions_speaks_of_their_metric(captions, evaluation, queries, pool, gallery):
    text = render_page([captions], [], build_gallery([captions], queries, pool, 12))
    page = Page(text)
    assert '<h2 id="accuracy">CIDEr</h2>' in text and '<a href="#accuracy">CIDEr</a>' in text
    assert "CIDEr times 100 with its 95% interval; in the line below" in page.text
    assert "ccuracy in %" not in text and "accuracy" not in page.text.partition("Where this comes from")[0]
    # Nothing is right or wrong, so nothing can be filtered by it.
    assert 'id="filter-outcome"' not in text and "CIDEr calls no answer right or wrong" in page.text
    assert render_markdown([captions], []).count("## CIDEr") == 1
    usual = render_page([evaluation], [], gallery)
    assert 'id="filter-outcome"' in usual and "right or wrong" not in Page(usual).text


def test_the_same_input_gives_the_same_page(evaluation, sections, gallery):
    assert render_page([evaluation], sections, gallery) == render_page([evaluation], sections, gallery)


def test_several_evaluations_have_a_table_each(evaluation, gallery):
    both = [replace(evaluation, label="near"), replace(evaluation, label="far")]
    page = Page(render_page(both, [], gallery))
    assert len(page.all("table")) == 2
    assert "near: tiny VLM answers" in page.text and "far: With 2 shots the selector" in page.text


def test_markdown_holds_table_charts_and_provenance(evaluation, sections):
    text = render_markdown([evaluation], sections, title="Which | helps")
    assert text.startswith("# Which \\| helps\n\n") and "**With 2 shots the selector reaches 95.0%" in text
    assert "| selector | 50.0 " in text and "![The &lt;lines&gt; rise.](accuracy_by_shots.png)" in text
    assert "| sft | **50.0 \\[40.0, 60.0\\] collapsed** |" in text and "**Warning:** Look out." in text
    assert '      "vlm_revision": "abc123"' in text
    assert "- **oracle**: The best sequence" in text and "- **… (whole pool)**" in text


def test_intervals_and_p_values_are_small_print():
    assert _marked("+1.5 [-2.0, +3.0], p < 0.001") == '+1.5 <span class="span">[-2.0, +3.0], p &lt; 0.001</span>'
    assert _marked("1.5 [1.0, 2.0] collapsed").endswith('<span class="tag">collapsed</span>')
    assert _marked("<b>") == "&lt;b&gt;"
