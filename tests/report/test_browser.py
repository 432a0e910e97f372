# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The page in a real browser, opened as a file. Needs Chromium with its driver: `apt-get install chromium
chromium-driver`."""

import json
import shutil
import time

import numpy as np
import pytest

from leverplus_trl.report.evaluation_sections import EFFECT, ENDS, SELECTED, diagnostics_section
from leverplus_trl.report.page import build_gallery, image_data_uri, render_page


webdriver = pytest.importorskip("selenium.webdriver", reason="the page is tested with selenium: pip install selenium")
from PIL import Image  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1280,1400",
)
EVIL = '<script>window.hacked = 1</script><img src="x" onerror="window.hacked = 1">'
LOAD_SECONDS = 3.0

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(browser, tmp_path, evaluation):
    def opened(gallery, evaluations=None, sections=()):
        path = tmp_path / "index.html"
        path.write_text(render_page(evaluations or [evaluation], sections, gallery), encoding="utf-8")
        browser.get_log("browser")
        browser.get(path.as_uri())
        return browser

    return opened


@pytest.fixture
def gallery(evaluation, queries, pool):
    return build_gallery([evaluation], queries, pool, 20)


def choose(browser, **settings):
    for name, label in settings.items():
        Select(browser.find_element(By.ID, f"filter-{name}")).select_by_visible_text(label)


def shown(browser):
    """Ids of the queries that the page shows, and the line that counts them."""
    notes = browser.find_elements(By.CSS_SELECTOR, "article.query .asked p:last-child")
    ids = [note.get_attribute("textContent").rpartition("id ")[2] for note in notes]
    return ids, browser.find_element(By.ID, "gallery-count").text


def test_the_page_loads_without_an_error_and_shows_queries_and_images(open_page, gallery):
    browser = open_page(gallery)
    assert browser.get_log("browser") == []
    ids, count = shown(browser)
    assert ids == [query["id"] for query in gallery["queries"]] and count == "20 of 20 queries (100.0%)"
    pictures = browser.find_elements(By.CSS_SELECTOR, "article.query:first-of-type img")
    assert len(pictures) == 1 + 4 * 2  # the query, and four methods with two demonstrations each
    browser.execute_script("document.getElementById('gallery').scrollIntoView()")
    drawn = "return arguments[0].complete && arguments[0].naturalWidth"
    WebDriverWait(browser, 5).until(lambda _: all(browser.execute_script(drawn, one) == 8 for one in pictures))


def test_filters_change_what_is_shown(open_page, gallery):
    browser = open_page(gallery)
    choose(browser, method="selector", shots="1", outcome="right")
    ids, count = shown(browser)
    assert set(ids) == {f"q{number}" for number in range(10)} and count == "10 of 20 queries (50.0%)"
    choose(browser, method="random")
    assert set(shown(browser)[0]) == {f"q{number}" for number in range(4)}
    choose(browser, method="selector", outcome="anything", baseline="image+text similarity", gain="better (gain)")
    assert set(shown(browser)[0]) == {"q9"}
    choose(browser, gain="any", order="largest gain first")
    assert shown(browser)[0][0] == "q9" and len(shown(browser)[0]) == 20
    browser.find_element(By.ID, "filter-search").send_keys("of q17 ?")
    assert shown(browser)[0] == ["q17"]
    assert browser.get_log("browser") == []


def marks(browser):
    return {one.text for one in browser.find_elements(By.CSS_SELECTOR, ".mark")}


def test_what_is_neither_right_nor_wrong_shows_its_score(open_page, gallery):
    place = next(place for place, one in enumerate(gallery["methods"]) if one["name"] == "selector")
    gallery["queries"][0]["answers"][f"{place}/2"][2] = 0.25
    browser = open_page(gallery)
    assert marks(browser) == {"✓ right", "✗ wrong", "◐ scored 25.0%"}
    choose(browser, method="selector", outcome="in between")
    assert shown(browser)[0] == [gallery["queries"][0]["id"]]


def test_captions_show_their_scores_and_are_not_filtered_by_right_and_wrong(open_page, captions, queries, pool):
    browser = open_page(build_gallery([captions], queries, pool, 20), [captions])
    assert marks(browser) == {"CIDEr 187.5", "CIDEr 25.0"}
    assert not browser.find_elements(By.ID, "filter-outcome")
    choose(browser, method="selector", shots="1", baseline="image+text similarity", gain="better (gain)")
    assert set(shown(browser)[0]) == {"q9"}
    assert browser.get_log("browser") == []


def test_tables_of_diagnostics_are_as_wide_as_the_page(open_page, gallery, evaluation):
    wide = dict.fromkeys([*SELECTED, *EFFECT], 0.999)
    wide |= dict.fromkeys([f"{ends}_{side}" for ends in ENDS.values() for side in ("low", "high")], -0.999)
    results = evaluation.results
    results["diagnostics"]["rows"] = [row | wide for row in results["diagnostics"]["rows"]]
    browser = open_page(gallery, sections=[diagnostics_section([evaluation])])
    tables = browser.find_elements(By.CSS_SELECTOR, "#diagnostics ~ .scroll")
    assert len(tables) >= 2 and not any(
        browser.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", one) for one in tables
    )


def test_every_method_can_be_shown(open_page, gallery):
    browser = open_page(gallery)
    card = "article.query:first-of-type .who"
    first = [one.text for one in browser.find_elements(By.CSS_SELECTOR, card)]
    assert first == ["selector", "image+text similarity (whole pool)", "random", "oracle", "zero-shot"]
    browser.find_element(By.ID, "filter-every").click()
    assert len(browser.find_elements(By.CSS_SELECTOR, card)) == 8


def test_beams_open(open_page, gallery):
    gallery["queries"][0]["beams"] = [[[0, 1], 0.5], [[1, 2], -0.25]]
    browser = open_page(gallery)
    beams = browser.find_element(By.CSS_SELECTOR, "details.beams")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", beams)
    beams.find_element(By.TAG_NAME, "summary").click()
    scores = WebDriverWait(browser, 5).until(lambda _: beams.find_elements(By.CSS_SELECTOR, ".score"))
    assert [one.text for one in scores] == ["+0.5000", "-0.2500"]


def test_nothing_from_the_data_runs(open_page, gallery, evaluation):
    query = gallery["queries"][0]
    query |= {"question": EVIL, "expected": [EVIL], "choices": [EVIL]}
    for demonstration in gallery["demonstrations"]:
        demonstration[1:] = [EVIL, EVIL]
    for answer in query["answers"].values():
        answer[1] = EVIL
    gallery["methods"][0]["name_shown"] = gallery["methods"][0]["label"] = EVIL
    evaluation.results.update({"vlm": EVIL, "dataset": EVIL, "provenance": {EVIL: EVIL}})
    browser = open_page(gallery)
    assert browser.find_element(By.CSS_SELECTOR, "p.question").text == EVIL
    assert EVIL in browser.find_element(By.CSS_SELECTOR, ".shown figcaption").get_attribute("textContent")
    assert EVIL in browser.find_element(By.CSS_SELECTOR, "p.about").text
    time.sleep(0.2)  # an image that can't be loaded says so a little later
    assert browser.execute_script("return window.hacked === undefined")
    assert browser.get_log("browser") == []


def test_a_script_that_slipped_in_would_not_run(open_page, gallery, browser):
    open_page(gallery)
    browser.execute_script(
        "const node = document.createElement('script');"
        "node.textContent = 'window.hacked = 1'; document.body.append(node);"
    )
    assert browser.execute_script("return window.hacked === undefined")
    assert "Content Security Policy" in json.dumps(browser.get_log("browser"))


def many(gallery, count):
    """A gallery of `count` queries, each with a photograph of its own."""
    rng = np.random.default_rng(0)
    images = [image_data_uri(Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8))) for _ in range(50)]
    # The same picture under many names: what is measured is the page, not the making of pictures.
    gallery["images"] += [f"{images[number % 50]}#{number}" for number in range(count)]
    first = len(gallery["images"]) - count
    template = gallery["queries"][0]
    gallery["queries"] = [
        template | {"id": f"many-{number}", "question": f"question {number} ?", "image": first + number}
        for number in range(count)
    ]
    return gallery | {"num_all": count}


def test_two_thousand_queries_load_quickly_and_stay_usable(open_page, gallery):
    large = many(gallery, 2000)
    start = time.perf_counter()
    browser = open_page(large)
    timing = "return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"  # 0 until it has ended
    loaded = WebDriverWait(browser, 5).until(lambda _: browser.execute_script(timing))
    assert loaded < LOAD_SECONDS, time.perf_counter() - start
    ids, count = shown(browser)
    assert len(ids) == 20 and count == "2,000 of 2,000 queries (100.0%)"
    browser.execute_script("document.getElementById('gallery-more').scrollIntoView()")
    WebDriverWait(browser, 5).until(lambda _: len(shown(browser)[0]) >= 40)
    begun = time.perf_counter()
    browser.find_element(By.ID, "filter-search").send_keys("many-1999")
    assert shown(browser)[0] == ["many-1999"] and time.perf_counter() - begun < LOAD_SECONDS
    assert browser.get_log("browser") == []
