# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The dataset of the embedded world: what its rows say, and that they are made the same every time."""

import sys
from pathlib import Path

import make_dataset
import numpy as np
import pytest
import world
from datasets import load_dataset

from leverplus_trl.recipe_parser import RecipeParser


ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes" / "concept_binding_models"


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    return load_dataset(str(ROOT / "data" / "concept_binding"), cache_dir=str(tmp_path_factory.mktemp("cache")))


def make(monkeypatch, output_dir, *flags):
    monkeypatch.setattr(sys, "argv", ["make_dataset.py", "--output_dir", str(output_dir), *map(str, flags)])
    make_dataset.main()
    return {path.relative_to(output_dir).as_posix(): path.read_bytes() for path in output_dir.rglob("*.*")}


def test_committed_rows_are_made_again(committed):
    # Rows, not bytes: the bytes of parquet and PNG files also depend on the versions of pyarrow, datasets and Pillow.
    for split, rows in committed.items():
        for index in {0, 1, 2, 3, len(rows) // 2, len(rows) - 1}:
            example, row = world.make_example(0, split, index), rows[index]
            np.testing.assert_array_equal(np.asarray(row["image"]), example.image)
            assert row["answers"] == [example.answer]
            for name in ("id", "question", "answer", "kind", "colour", "shape", "texture", "frame", "careless"):
                assert row[name] == getattr(example, name)


def test_committed_sizes_and_ids(committed):
    assert {split: len(rows) for split, rows in committed.items()} == {
        "pool": 1000, "train": 300, "validation": 100, "test": 300,
    }  # fmt: skip
    ids = [row_id for rows in committed.values() for row_id in rows["id"]]
    assert len(set(ids)) == len(ids) == 1700
    assert ids[1] == "pool-0001" and committed["test"]["id"][7] == "test-0007"
    size = sum(path.stat().st_size for path in (ROOT / "data" / "concept_binding" / "data").glob("*.parquet"))
    assert size < 5e6


def test_card_is_the_generated_one():
    folder = ROOT / "data" / "concept_binding" / "data"
    files = {split: next(folder.glob(f"{split}-*.parquet")).name for split in world.SPLITS}
    card = make_dataset.dataset_card(make_dataset.DatasetArguments(), files)
    assert (ROOT / "data" / "concept_binding" / "README.md").read_text() == card
    assert "{{" not in card


def test_queries_have_right_answers_and_a_third_of_the_pool_is_careless(committed):
    wrong = {split: [] for split in committed}
    for split, rows in committed.items():
        for row in rows.remove_columns("image"):
            right = world.right_answer(row["kind"], row["colour"], row["shape"])
            wrong[split].append(row["answer"] != right)
            if row["answer"] != right:  # every word is wrong, and a word of the same sort
                assert not set(row["answer"].split()) & set(right.split())
                sorts = [concept in world.SHAPES for concept in _concepts(right)]
                assert [concept in world.SHAPES for concept in _concepts(row["answer"])] == sorts
    assert not any(wrong["train"] + wrong["validation"] + wrong["test"])
    pool = committed["pool"].remove_columns("image")
    careless = np.array(pool["careless"])
    assert 0.28 < careless.mean() < 0.39
    assert 0.7 < np.array(wrong["pool"])[careless].mean() < 0.9
    assert not np.array(wrong["pool"])[~careless].any()
    assert set(np.array(pool["frame"])[careless]) == set(world.CARELESS_FRAMES)
    assert set(np.array(pool["frame"])[~careless]) == set(world.CAREFUL_FRAMES)
    assert set(committed["test"]["frame"]) == set(world.FRAMES)  # a query's frame says nothing


def _concepts(answer):
    meaning = {word: concept for concept, word in world.LEXICON.items()}
    return [meaning[word] for word in answer.split()]


def pools(files):
    return {name: content for name, content in files.items() if name.startswith("data/pool-")}


def test_same_arguments_give_the_same_bytes_and_splits_grow_at_their_end(tmp_path, monkeypatch):
    sizes = ("--pool", 3, "--validation", 1, "--test", 2)
    first = make(monkeypatch, tmp_path / "a", *sizes, "--train", 2)
    assert make(monkeypatch, tmp_path / "b", *sizes, "--train", 2) == first
    longer = make(monkeypatch, tmp_path / "c", *sizes, "--train", 4)
    assert pools(longer) == pools(first) and len(pools(first)) == 1
    load = lambda name: load_dataset(str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache"))  # noqa: E731
    short, long = load("a"), load("c")
    assert len(long) == 4
    for before, after in zip(short, long, strict=False):
        np.testing.assert_array_equal(np.asarray(before.pop("image")), np.asarray(after.pop("image")))
        assert before == after
    other = make(monkeypatch, tmp_path / "d", *sizes, "--train", 2, "--seed", 1)
    assert pools(other) != pools(first)


def test_pictures_show_what_they_say():
    rng = np.random.default_rng(0)
    red = world.render("red", "square", "plain", "dark", rng).astype(int)
    centre = red[4:-4, 4:-4]
    is_red = (centre[..., 0] - centre[..., 2] > 110) & (centre[..., 0] - centre[..., 1] > 110)
    assert 150 < is_red.sum() < 1200  # the square, and nothing but the square, is red
    border = np.concatenate([red[0], red[-1], red[:, 0], red[:, -1]])
    assert border.max() < 100
    light = world.render("red", "square", "plain", "light", rng)
    assert np.concatenate([light[0], light[-1]]).min() > 160
    dashed = world.render("red", "square", "plain", "dashed", rng)[0, :, 0]
    assert (dashed > 160).any() and (dashed < 100).any()


def test_bad_input(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="Unknown split 'training'"):
        world.make_example(0, "training", 0)
    with pytest.raises(ValueError, match="`test` has size 0: expected 1 or more"):
        make_dataset.DatasetArguments(test=0)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((RECIPES / "00_dataset.yaml").read_text() + "pol: 3\n")
    with pytest.raises(ValueError, match="pol"):
        RecipeParser([make_dataset.DatasetArguments]).parse_args_and_config(["--config", str(recipe)])


def test_recipe_holds_the_defaults():
    (args,) = RecipeParser([make_dataset.DatasetArguments]).parse_args_and_config(
        ["--config", str(RECIPES / "00_dataset.yaml")]
    )
    assert args == make_dataset.DatasetArguments(script="data/concept_binding/make_dataset.py")
