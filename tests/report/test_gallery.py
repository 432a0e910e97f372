# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import base64
import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets
from PIL import Image, PngImagePlugin

from leverplus_trl.report.page import (
    THUMBNAIL,
    build_gallery,
    gallery_methods,
    gallery_query_ids,
    image_data_uri,
)


def decode(uri):
    kind, _, data = uri.partition(",")
    assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def pixel(gallery, number):
    return decode(gallery["images"][number]).getpixel((0, 0))


def answers(gallery, query, method, shots):
    """The answer of a method: demonstrations as they are in the gallery, prediction, accuracy."""
    names = [one["name"] for one in gallery["methods"]]
    places, prediction, accuracy = query["answers"][f"{names.index(method)}/{shots}"]
    return [gallery["demonstrations"][place] for place in places], prediction, accuracy


def test_queries_are_the_first_by_hash():
    ids = [f"q{row}" for row in range(50)]
    shown = gallery_query_ids(reversed(ids * 2), 5)
    hashes = {query_id: hashlib.sha256(query_id.encode()).hexdigest() for query_id in ids}
    assert len(shown) == 5 and shown == sorted(shown, key=hashes.get)
    assert max(hashes[one] for one in shown) < min(hashes[one] for one in ids if one not in shown)
    assert gallery_query_ids(ids, 100) == sorted(ids, key=hashes.get)


def test_the_most_accurate_similarity_of_either_scope_is_shown_first(results):
    assert gallery_methods(results, 1) == ["selector", "image_text_sim", "random", "oracle", "zero_shot"]
    assert gallery_methods(results, 2) == ["selector", "image_text_sim_pool", "random", "oracle", "zero_shot"]


def test_entries_hold_what_the_tables_say(evaluation, queries, pool):
    gallery = build_gallery([evaluation], queries, pool, 12)
    assert (gallery["shots"], gallery["headline_shots"], gallery["num_all"]) == ([1, 2], 2, 20)
    assert gallery["metric"] == {"title": "accuracy", "in_percent": True}
    assert [query["id"] for query in gallery["queries"]] == gallery_query_ids([f"q{row}" for row in range(20)], 12)
    assert [one["name"] for one in gallery["methods"] if one["first"]] == gallery_methods(evaluation.results, 2)
    assert [one["name"] for one in gallery["methods"] if one["selector"]] == ["selector"]
    query = gallery["queries"][0]
    number = int(query["id"][1:])
    assert (query["question"], query["expected"]) == (f"question of q{number} ?", [f"answer of q{number}"])
    assert pixel(gallery, query["image"]) == (number, 0, 255)
    first = (3 * number + len("selector")) % 40
    demonstrations, prediction, accuracy = answers(gallery, query, "selector", 2)
    assert [one[2] for one in demonstrations] == [f"answer of p{first}", f"answer of p{(first + 1) % 40}"]
    assert pixel(gallery, demonstrations[0][0]) == (first, 0, 255)
    assert (prediction, accuracy) == (("right", 1.0) if number < 19 else ("off", 0.0))
    assert answers(gallery, query, "zero_shot", 0) == ([], *(("right", 1.0) if number < 1 else ("off", 0.0)))


def test_every_image_is_there_once(evaluation, queries, pool):
    gallery = build_gallery([evaluation], queries, pool, 20)
    # Pictures of q<i> and p<i> are the same.
    numbers = {query["image"] for query in gallery["queries"]} | {one[0] for one in gallery["demonstrations"]}
    assert len(gallery["images"]) == len(set(gallery["images"])) == len(numbers) <= 40


def test_beams_of_the_queries_are_shown(evaluation, queries, pool):
    beams = Dataset.from_dict(
        {
            "query_id": ["q3", "q4", "q3"],
            "split": ["test", "test", "train"],
            "demonstration_ids": [[["p7", "p8"], ["p9", "p7"]], [["p1", "p2"]], [["p30", "p31"]]],
            "scores": [[0.5, 0.25], [-0.125], [0.9]],
        }
    )
    gallery = build_gallery([evaluation], queries, pool, 20, beams)
    by_id = {query["id"]: query["beams"] for query in gallery["queries"]}
    said = [[[gallery["demonstrations"][place][2] for place in places], score] for places, score in by_id["q3"]]
    assert said == [[["answer of p7", "answer of p8"], 0.5], [["answer of p9", "answer of p7"], 0.25]]
    assert by_id["q4"][0][1] == -0.125 and by_id["q5"] == []


def test_the_first_seed_is_shown(evaluation, predictions, queries, pool):
    def second_seed(row):
        return row | {"seed": 1, "prediction": "of seed 1"}

    doubled = concatenate_datasets([predictions.map(second_seed), predictions])
    gallery = build_gallery([replace(evaluation, predictions=doubled)], queries, pool, 3)
    assert {one[1] for query in gallery["queries"] for one in query["answers"].values()} == {"right", "off"}


def test_methods_of_several_evaluations_are_told_apart(evaluation, queries, pool):
    both = [replace(evaluation, label=label) for label in ("near", "far")]
    gallery = build_gallery(both, queries, pool, 2)
    labels = [one["label"] for one in gallery["methods"]]
    assert len(labels) == len(set(labels)) == 16 and labels[0] == "near: selector" and "far: oracle" in labels
    assert len(gallery["queries"][0]["answers"]) == 30


def test_examples_that_are_not_there_are_named(evaluation, queries, pool):
    with pytest.raises(ValueError, match=r"in the predictions are not among the 3 examples of the pool, e.g. \['p"):
        build_gallery([evaluation], queries, pool.select(range(3)), 12)
    with pytest.raises(ValueError, match="in the predictions are not among the 40 examples of the queries"):
        build_gallery([evaluation], pool, pool, 12)


def test_pictures_are_drawn_anew_and_small():
    wide = decode(image_data_uri(Image.new("RGB", (1000, 500), "red")))
    assert wide.size == (THUMBNAIL, THUMBNAIL // 2) and wide.getpixel((5, 5)) == (255, 0, 0)
    assert decode(image_data_uri(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    for mode in ("L", "P", "1", "CMYK", "LA"):
        assert decode(image_data_uri(Image.new(mode, (4, 4)))).mode == "RGB"
    assert image_data_uri(None) is None


def test_a_photograph_is_kept_as_jpeg():
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    uri = image_data_uri(Image.fromarray(noise))
    assert uri.startswith("data:image/jpeg;base64,") and decode(uri).size == (120, 90)


def test_nothing_but_pixels_reaches_the_page():
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "<script>alert(1)</script>")
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, format="PNG", pnginfo=note)
    read = Image.open(out)
    assert read.info["Comment"]
    assert decode(image_data_uri(read)).info == {}
