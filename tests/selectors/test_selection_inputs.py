# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What users give to `select`, in any type: it is read as in training, or refused in one sentence."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Value
from datasets import Image as ImageFeature
from PIL import Image
from saved_selector import CLIP, WORLD, save_selector

from leverplus_trl.retrieval.embeddings import embed_examples
from leverplus_trl.selectors import DemonstrationSelector, SelectorProcessor
from leverplus_trl.tasks import DataArguments, load_examples
from leverplus_trl.tasks.images import decode_image


@pytest.fixture(scope="module")
def pool():
    return load_examples(DataArguments(dataset=str(WORLD)), "pool[:30]")


@pytest.fixture(scope="module")
def folder(pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection")
    embedded = embed_examples(pool, CLIP, embeddings_dir=str(folder / "embeddings"))
    save_selector(folder / "selector", [embedded])
    return folder


def load(folder, pool, **values):
    arguments = {"pool": pool, "embeddings_dir": str(folder / "embeddings"), **values}
    return DemonstrationSelector.from_pretrained(str(folder / "selector"), **arguments)


@pytest.fixture(scope="module")
def selector(folder, pool):
    return load(folder, pool)


def picture(mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def test_an_image_is_the_same_however_it_is_given(selector, tmp_path):
    image, file = picture(), tmp_path / "q.png"
    file.write_bytes(encoded(image))
    given = [image, str(file), file, encoded(image), bytearray(encoded(image)), np.asarray(image)]
    given += [np.asarray(image)[:, ::-1][:, ::-1], {"bytes": encoded(image), "path": None}, {"path": str(file)}]
    given += [{"bytes": None, "path": str(file)}, {"bytes": encoded(image), "path": "gone.png"}, Image.open(file)]
    found = [selector.select("what is it ?", image=one) for one in given]
    assert len({(one.query["id"], *one.candidate_ids, *one.demonstration_ids, one.logprob) for one in found}) == 1
    assert all(np.array_equal(np.asarray(one.query["image"]), np.asarray(image)) for one in found)
    assert selector.select("what is it ?", picture(seed=1)).query["id"] != found[0].query["id"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_pixels_are_those_that_training_reads(selector, folder, mode, tmp_path):
    """A query in a dataset is decoded as in training; one that is given alone has the same log-probability."""
    image = picture("RGB").convert(mode) if mode != "LA" else picture("L").convert("LA")
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    row = {"id": "q", "image": image, "question": "what is it ?", "answer": "", "answers": []}
    table = Dataset.from_list([row])
    (expected,) = selector.select_batch(table)
    arrays = [np.asarray(image)] if mode in ("L", "RGBA") else []
    for one in (image, *arrays):
        found = selector.select("what is it ?", one, id="q")
        assert found.candidate_ids == expected.candidate_ids
        assert found.demonstration_ids == expected.demonstration_ids
        assert found.logprob == pytest.approx(expected.logprob, abs=1e-5)
        assert np.array_equal(np.asarray(decode_image(found.query["image"])), np.asarray(decode_image(image)))


def test_a_photo_is_upright_from_wherever_it_comes(selector, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image, file = picture(), tmp_path / "turned.png"
    image.save(file, exif=exif)
    upright = selector.select("what is it ?", image.rotate(-90, expand=True))
    for given in (file, file.read_bytes(), Image.open(file)):
        assert selector.select("what is it ?", given).query["id"] == upright.query["id"]


ARRAYS = [np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.float32), np.zeros((3, 8, 8), np.uint8), np.zeros(5, np.uint8)]
ARRAYS += [np.zeros((2, 4, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), np.full((4, 4), np.nan)]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nowhere.png", "is 'nowhere.png', where there is no file"),
        (Path("nowhere.png"), "where there is no file"),
        ("", "where there is no file"),
        (".", "where there is no file"),
        ("https://example.org/q.png", "is the URL 'https://example.org/q.png', and URLs are not fetched"),
        ("data:image/png;base64,iVBORw0KGgo=", "is the URL 'data:image/png;base64"),
        ("iVBORw0KGgo" * 5000, r"is '(iVBORw0KGgo)+\w*\.\.\.', where there is no file"),
        ({"bytes": None, "path": "http://x.org/a.png"}, "is the URL"),
        ({"bytes": None, "path": "gone.png"}, "where there is no file"),
        (b"no image", "can't be decoded"),
        (b"", "can't be decoded"),
        ({"bytes": None, "path": None}, r"is a dict with the keys \['bytes', 'path'\]; expected a PIL image"),
        ({"url": "x"}, r"is a dict with the keys \['url'\]"),
        (3, "is a int; expected a PIL image, the path of a file, its bytes, a dict"),
        (["q.png"], "is a list; expected"),
        (io.BytesIO(b""), "is a _io.BytesIO; expected"),
        (torch.zeros(3, 4, 4), "is a torch.Tensor; expected"),
        *((array, r"is an array of \w+ and shape \[.*\]; expected") for array in ARRAYS),
    ],
)
def test_other_images_are_refused_in_a_sentence(selector, image, message):
    with pytest.raises(ValueError, match=f"The query's image .*{message}") as caught:
        selector.select("what is it ?", image=image)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"question": None}, "question is None; expected a string"),
        ({"question": 3}, "question is 3"),
        ({"question": ["what is it ?"]}, "question is .*expected a string"),
        ({"question": b"what"}, "question is b'what'"),
        ({"id": 7}, "id is 7; expected a string"),
        ({"id": ""}, "id is ''; expected a string that is not empty"),
        ({"num_shots": 0}, "num_shots is 0"),
        ({"num_shots": -1}, "num_shots is -1"),
        ({"num_shots": 2.0}, "num_shots is 2.0, .*expected whole numbers"),
        ({"num_shots": True}, "num_shots is True"),
        ({"num_shots": "2"}, "num_shots is 2, .*expected whole numbers"),
        ({"num_shots": 31}, "num_shots is 31, but a query has only 12 candidates"),
        ({"num_candidates": 31}, "num_candidates is 31, but the pool holds 30"),
        ({"num_candidates": 2.5}, "num_candidates is 2.5; expected a whole number"),
        ({"sampler": "nearest"}, "Unknown sampler 'nearest'"),
        ({"strategy": "best"}, "strategy is 'best'"),
        ({"strategy": "sample", "temperature": float("nan")}, "temperature nan"),
        ({"strategy": "sample", "temperature": float("inf")}, "temperature inf"),
        ({"strategy": "beam", "num_beams": 0}, "num_beams 0"),
        (
            {"candidate_ids": ["pool-0001", "pool-9999"]},
            "candidate 'pool-9999' of the query 'query-.*' is not in the pool of 30",
        ),
        ({"candidate_ids": ["pool-0001", "pool-0002", "pool-0001"]}, "has the candidate 'pool-0001' more than once"),
        ({"candidate_ids": ["pool-0001"]}, "num_shots is 2, but a query has only 1 candidates"),
        ({"candidate_ids": []}, "num_shots is 2, but a query has only 0 candidates"),
        ({"candidate_ids": "pool-0001"}, "candidate_ids is pool-0001; expected a list of ids for each query"),
        ({"candidate_ids": [["pool-0001"], ["pool-0002"]]}, "candidates of 2 queries for 1 queries"),
        ({"candidate_ids": [1, 2]}, r"candidate_ids is \[1, 2\]; expected a list of ids"),
        ({"candidate_ids": 3}, "candidate_ids is 3; expected"),
    ],
)
def test_other_arguments_are_refused_in_a_sentence(selector, values, message):
    with pytest.raises(ValueError, match=message):
        selector.select(**{"question": "what is it ?", "image": picture(), **values})


def test_the_candidates_of_a_query_are_a_list(selector):
    names = ["pool-0004", "pool-0001", "pool-0002"]
    found = selector.select("what is it ?", picture(), candidate_ids=names)
    assert found.candidate_ids == names and set(found.demonstration_ids) < set(names)
    assert (
        selector.select("what is it ?", picture(), candidate_ids=[names]).demonstration_ids == found.demonstration_ids
    )


def test_pools_and_queries_are_checked(folder, selector, pool):
    rows = list(pool.remove_columns("image"))
    plain = pool.remove_columns("image")
    for given, message in {
        "an empty one": (pool.select([]), "The pool is empty"),
        "a list": (rows, r"pool is a list; expected a datasets.Dataset: `Dataset.from_list\(rows\)` makes one"),
        "splits": (DatasetDict(pool=pool), "pool is a DatasetDict; .*it has the splits 'pool': name one of them"),
        "none": (None, "pool is a NoneType"),
        "no ids": (pool.remove_columns("id"), "pool has no column 'id', only image, question"),
        "no question": (pool.rename_column("question", "text"), "pool has no column 'question'.*rename_column"),
        "no image": (plain, "pool has no column 'image'"),
        "numbers": (
            pool.remove_columns("id").add_column("id", list(range(30))),
            "id of row 0 of pool is 0; expected a string .*cast_column",
        ),
        "a gap": (
            pool.remove_columns("id").add_column("id", [None, *pool["id"][1:]]),
            "id of row 0 of pool is None",
        ),
        "twice": (pool.select([*range(20), 3]), "id 'pool-0003' comes more than once"),
        "few": (pool.select(range(5)), "num_candidates is 12, but the pool holds 5"),
    }.values():
        with pytest.raises(ValueError, match=message):
            load(folder, given)
    with pytest.raises(ValueError, match="queries is a list"):
        selector.select_batch(rows)
    with pytest.raises(ValueError, match="queries has no column 'image'"):
        selector.select_batch(plain)
    assert selector.select_batch(pool.select([])) == []
    assert pool.cast_column("id", Value("string")).features["id"] == Value("string")


def test_a_pool_of_other_content_under_the_same_ids_is_embedded_anew(folder, selector, pool):
    """Embeddings are named by what they were made of, and never served for another picture."""
    rows, order = list(pool.cast_column("image", ImageFeature(decode=False))), [1, 0, *range(2, 30)]
    rows = [{**row, "image": rows[other]["image"]} for row, other in zip(rows, order, strict=True)]
    swapped = Dataset.from_list(rows).cast(pool.features)
    found = load(folder, swapped)
    assert found.pool_embeddings.ids == selector.pool_embeddings.ids
    np.testing.assert_allclose(found.pool_embeddings.image[:2], selector.pool_embeddings.image[[1, 0]], atol=1e-5)
    assert load(folder, pool.with_format("numpy")).select_batch(pool.select([0]))[0].demonstrations[0]["id"]


def test_a_selector_that_is_no_whole_one_is_refused(folder, pool, tmp_path):
    def broken(change):
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        shutil.copytree(folder / "selector", tmp_path / "s")
        change(tmp_path / "s")
        return DemonstrationSelector.from_pretrained(tmp_path / "s", pool)

    def pickled(path):
        (path / "model.safetensors").unlink()
        (path / "pytorch_model.bin").write_bytes(pickle.dumps({}))

    def unknown(path):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))

    with pytest.raises(ValueError, match=r"has pickled weights \(pytorch_model.bin\) and no safetensors"):
        broken(pickled)
    with pytest.raises(ValueError, match=r"trained on \['image', 'text'\] of a query .*names \['text'\] and"):
        broken(lambda path: SelectorProcessor(["text"], ["text"]).save_pretrained(path))
    with pytest.raises(ValueError, match="is a 'clip' model, not a selector"):
        broken(unknown)
    with pytest.raises(
        ValueError, match=r"is a folder without config.json; it holds model.safetensors.* of a selector"
    ):
        broken(lambda path: (path / "config.json").unlink())
