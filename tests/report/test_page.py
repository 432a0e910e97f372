# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from leverplus_trl.report.gallery import build_gallery
from leverplus_trl.report.page import Chart, render_markdown, render_page
from leverplus_trl.report.tables import average_rows, interval, percent


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
def charts():
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, format="PNG")
    return [Chart("accuracy_by_shots.png", out.getvalue(), "Accuracy by shots", "The <lines> rise.")]


@pytest.fixture
def gallery(results, predictions, queries, pool):
    return build_gallery(results, predictions, queries, pool, 12)


def test_the_page_holds_the_numbers_of_the_table(results, charts, gallery):
    page = Page(render_page(results, charts, gallery))
    for row in average_rows(results).values():
        number = f"{percent(row['accuracy'])} {interval(row['ci_low'], row['ci_high'])}"
        assert any(" ".join(cell.split()).startswith(number) for cell in page.cells), number
        if row["diff_to_random"] is not None:
            difference = percent(row["diff_to_random"], signed=True)
            assert difference + " " + interval(row["diff_ci_low"], row["diff_ci_high"], signed=True) in page.text
    assert "With 2 shots the selector reaches 95.0%" in page.text
    assert "image+text similarity (whole pool), 55.0%" in page.text
    assert "abc123" in page.text and "tiny VLM answers 20 queries (test) of world" in page.text


def test_the_page_needs_nothing_but_itself(results, charts, gallery):
    text = render_page(results, charts, gallery)
    page = Page(text)
    for _, attrs in page.tags:
        for name in LOADING & attrs.keys():
            assert attrs[name].startswith("data:image/png;base64,"), attrs[name][:60]
        assert not any(name.startswith("on") for name in attrs)
    assert not {"script", "link", "iframe", "object", "embed", "base", "svg"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_of_every_query_and_demonstration_are_there(results, charts, gallery):
    pictures = Page(render_page(results, charts, gallery)).all("img")
    assert len(pictures) == 1 + 12 * (1 + 4 * 2)  # a chart; 12 queries with 4 methods of 2 demonstrations
    assert all(attrs["alt"] for attrs in pictures)


def test_right_and_wrong_are_told_by_more_than_colour(results, charts, gallery):
    page = Page(render_page(results, charts, gallery))
    verdicts = [entry["verdict"] for query in gallery["queries"] for entry in query["methods"]]
    assert page.text.count("✓ right") == verdicts.count("right") > 0
    assert page.text.count("✗ wrong") == verdicts.count("wrong") > 0
    gallery["queries"][0]["methods"][0] |= {"accuracy": 0.3, "verdict": "partly right"}
    assert "◐ partly right, 30.0%" in Page(render_page(results, charts, gallery)).text


def test_markup_in_data_shows_as_text(results, charts, gallery):
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    query = gallery["queries"][0]
    query |= {"question": evil, "expected": [evil], "id": evil}
    query["methods"][0] |= {"prediction": evil, "label": evil}
    query["methods"][0]["demonstrations"][0] |= {"question": evil, "answer": evil}
    results |= {"vlm": evil, "dataset": evil, "task": evil, "provenance": {evil: evil}, "collapse": {evil: evil}}
    results["rows"][-1]["method"] = evil
    text = render_page(results, charts, gallery, title=evil)
    page = Page(text)
    assert not page.all("script")
    assert all(attrs["src"].startswith("data:") for attrs in page.all("img"))
    assert text.count("<script") == 0 and page.text.count('<script>alert("x")</script>') >= 10


def test_a_collapsed_selector_is_marked(results, charts, gallery):
    assert not any("collapsed" in cell for cell in Page(render_page(results, charts, gallery)).cells)
    for row in results["rows"]:
        row["collapsed"] = row["method"] == "selector"
    page = Page(render_page(results, charts, gallery))
    assert sum("collapsed" in cell for cell in page.cells) == 2  # at 1 and at 2 shots
    assert "But selector has collapsed" in page.text


def test_examples_without_images_and_empty_answers(results, charts, gallery):
    query = gallery["queries"][0]
    query["image"] = None
    query["methods"][0] |= {"prediction": "", "demonstrations": []}
    text = Page(render_page(results, charts, gallery)).text
    assert "no image" in text and "(nothing)" in text and "no demonstrations" in text


def test_the_page_says_how_queries_were_chosen(results, charts, gallery):
    text = Page(render_page(results, charts, gallery)).text
    assert "these are the first 12 of 20 query ids in the order of their SHA-256 hashes" in text
    assert "SHA-256" not in render_page(results, charts, gallery | {"queries": []})


def test_the_same_input_gives_the_same_page(results, charts, gallery):
    assert render_page(results, charts, gallery) == render_page(results, charts, gallery)


def test_markdown_holds_table_charts_and_provenance(results, charts):
    text = render_markdown(results, charts, title="Which | helps")
    assert text.startswith("# Which \\| helps\n\n**With 2 shots the selector reaches 95.0%")
    assert "| selector | 50.0 " in text and "![The &lt;lines&gt; rise.](accuracy_by_shots.png)" in text
    assert '      "vlm_revision": "abc123"' in text
    assert "- **oracle**: The best sequence" in text and "- **… (whole pool)**" in text
