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

import base64
import hashlib
import io

import pytest
from datasets import concatenate_datasets
from PIL import Image, PngImagePlugin

from leverplus_trl.report.gallery import (
    THUMBNAIL,
    build_gallery,
    gallery_methods,
    gallery_query_ids,
    image_data_uri,
    verdict,
)


def decode(uri):
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_queries_are_the_first_by_hash():
    ids = [f"q{row}" for row in range(50)]
    shown = gallery_query_ids(reversed(ids * 2), 5)
    hashes = {query_id: hashlib.sha256(query_id.encode()).hexdigest() for query_id in ids}
    assert len(shown) == 5 and shown == sorted(shown, key=hashes.get)
    assert max(hashes[one] for one in shown) < min(hashes[one] for one in ids if one not in shown)
    assert gallery_query_ids(ids, 100) == sorted(ids, key=hashes.get)


def test_the_most_accurate_similarity_of_either_scope_is_shown(results):
    assert gallery_methods(results, 1) == ["selector", "image_text_sim", "random", "oracle"]
    assert gallery_methods(results, 2) == ["selector", "image_text_sim_pool", "random", "oracle"]


def test_entries_hold_what_the_tables_say(results, predictions, queries, pool):
    gallery = build_gallery(results, predictions, queries, pool, 12)
    assert (gallery["shots"], gallery["num_all"], len(gallery["queries"])) == (2, 20, 12)
    assert [query["id"] for query in gallery["queries"]] == gallery_query_ids([f"q{row}" for row in range(20)], 12)
    query = gallery["queries"][0]
    number = int(query["id"][1:])
    assert (query["question"], query["expected"]) == (f"question of q{number} ?", [f"answer of q{number}"])
    assert decode(query["image"]).getpixel((0, 0)) == (number, 0, 255)
    selector = query["methods"][0]
    first = (3 * number + len("selector")) % 40
    assert [one["answer"] for one in selector["demonstrations"]] == [
        f"answer of p{first}",
        f"answer of p{(first + 1) % 40}",
    ]
    assert decode(selector["demonstrations"][0]["image"]).getpixel((0, 0)) == (first, 0, 255)
    random = query["methods"][2]
    assert (random["label"], random["prediction"], random["verdict"]) == (
        ("random", "right", "right") if number < 5 else ("random", "off", "wrong")
    )


def test_the_first_seed_is_shown(results, predictions, queries, pool):
    def second_seed(row):
        return row | {"seed": 1, "prediction": "of seed 1"}

    doubled = concatenate_datasets([predictions.map(second_seed), predictions])
    gallery = build_gallery(results, doubled, queries, pool, 3)
    assert {entry["prediction"] for query in gallery["queries"] for entry in query["methods"]} <= {"right", "off"}


def test_examples_that_are_not_there_are_named(results, predictions, queries, pool):
    with pytest.raises(ValueError, match=r"demonstrations of the predictions are not among the 3 examples, e.g. \['p"):
        build_gallery(results, predictions, queries, pool.select(range(3)), 12)
    with pytest.raises(ValueError, match="queries of the predictions are not among the 40 examples"):
        build_gallery(results, predictions, pool, pool, 12)


def test_pictures_are_drawn_anew_and_small():
    wide = decode(image_data_uri(Image.new("RGB", (1000, 500), "red")))
    assert wide.size == (THUMBNAIL, THUMBNAIL // 2) and wide.getpixel((5, 5)) == (255, 0, 0)
    assert decode(image_data_uri(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    for mode in ("L", "P", "1", "CMYK", "LA"):
        assert decode(image_data_uri(Image.new(mode, (4, 4)))).mode == "RGB"
    assert image_data_uri(None) is None


def test_nothing_but_pixels_reaches_the_page():
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "<script>alert(1)</script>")
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, format="PNG", pnginfo=note)
    read = Image.open(out)
    assert read.info["Comment"]
    assert decode(image_data_uri(read)).info == {}


def test_partial_credit_has_its_own_verdict():
    assert [verdict(accuracy) for accuracy in (1.0, 0.3, 0.0)] == ["right", "partly right", "wrong"]
