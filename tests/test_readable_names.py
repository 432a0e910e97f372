# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import os
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, Features, Value

from leverplus_trl import tables
from leverplus_trl.recipe import named_folder
from leverplus_trl.tables import (
    load_split,
    read_table,
    readable_files,
    readable_folder,
    splits_of,
    table_provenance,
    write_tables,
)


NAMES = [
    *(
        "a [b] c",
        "[x",
        "[!a]",
        "a*b",
        "a?b",
        "lr=3e-4/run",
        "a,b",
        "a%20b",
        "a#b",
        "~",
        "~x",
        "ü漢字",
        "a::b",
        "$HOME",
    ),
    *("{a}", "a'b", 'a"b', "a\\b", "a;b&c", "x" * 250, ".hidden/run", "__run__", "-a", "a\nb", "hf:/x", "test/train"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def table(name):
    return Dataset.from_dict({"id": [name, "2"]})


@pytest.fixture
def written(tmp_path):
    """A folder of tables under each name, side by side: a pattern would match its neighbours, too."""
    for name in NAMES:
        tables = {"beams": {"train": table(name), "test": table(name)}}
        write_tables(tmp_path / name, tables, "Beams", "Text", {"stage": name})
    return tmp_path


def test_tables_are_read_from_folders_of_any_name(written, monkeypatch):
    monkeypatch.chdir(written)
    features = Features({"id": Value("string")})
    for name in NAMES:
        for spelling in (str(written / name), f"{written / name}/", f"./{name}", f"../{written.name}/{name}"):
            assert read_table(spelling, "beams", "train", features)["id"][:] == [name, "2"], spelling
        assert sorted(splits_of(str(written / name), "beams")) == ["test", "train"]
        assert table_provenance(str(written / name)) == {"stage": name}


def test_a_table_that_changed_is_read_anew_under_an_odd_name(tmp_path):
    folder = tmp_path / "[x]"
    for said in ("old", "new"):
        write_tables(folder, {"beams": {"train": table(said)}}, "Beams", "Text", {})
        assert load_split(str(folder), "beams", "train")["id"][0] == said
    (folder / "run.log").touch()  # no other state
    (folder / ".lock").touch()
    before = readable_folder(folder)
    (folder / "run.log").write_text("more")
    assert readable_folder(folder) == before


def test_the_home_directory_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tables(tmp_path / "run", {"beams": {"train": table("home")}}, "Beams", "Text", {"stage": "beams"})
    assert load_split("~/run", "beams", "train")["id"][0] == "home"
    assert splits_of("~/run", "beams") == ["train"] and table_provenance("~/run") == {"stage": "beams"}
    assert named_folder("sft=~/run") == ("sft", str(tmp_path / "run"))


def test_a_folder_without_a_card_is_read_under_an_odd_name(tmp_path):
    """As in huggingface/datasets#7468."""
    folder = tmp_path / "[D_DATA]" / "koch_test"
    folder.mkdir(parents=True)
    table("one").to_parquet(str(folder / "train.parquet"))
    assert load_split(str(folder), None, "train")["id"][:] == ["one", "2"]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_data_files_that_are_there_are_files_and_no_patterns(tmp_path, kind):
    for name in NAMES:
        file = tmp_path / f"{name[:200]}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "wb") as handle:
            (table(name).to_parquet if kind == "parquet" else table(name).to_csv)(handle)
        for data_files in (str(file), {"train": str(file)}, {"train": [str(file)]}):
            assert load_split(kind, None, "train", data_files=data_files)["id"][0] == name, data_files
    assert (
        len(
            load_split(
                "parquet" if kind == "parquet" else "csv", None, "train", data_files=str(tmp_path / f"a*b.{kind}")
            )
        )
        == 2
    )
    pattern = {"train": str(tmp_path / f"a[,#]b.{kind}")}
    assert readable_files(pattern) == pattern and len(load_split(kind, None, "train", data_files=pattern)) == 4


def test_where_links_are_not_allowed_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    write_tables(tmp_path / "[x]", {"beams": {"train": table("copied")}}, "Beams", "Text", {})
    assert load_split(str(tmp_path / "[x]"), "beams", "train")["id"][0] == "copied"


def test_processes_may_make_the_links_at_the_same_time(tmp_path, monkeypatch):
    write_tables(tmp_path / "[x]", {"beams": {"train": table("one")}}, "Beams", "Text", {})
    rename = os.rename

    def late(source, target):
        os.makedirs(Path(target) / "already")  # another process was faster
        rename(source, target)

    monkeypatch.setattr(tables.os, "rename", late)
    links = Path(readable_folder(tmp_path / "[x]"))
    assert [path.name for path in links.parent.iterdir()] == ["links"]


@pytest.mark.parametrize(
    "entry, expected",
    [
        ("outputs/lr=3e-4/run", (None, "outputs/lr=3e-4/run")),  # whether it is there or not
        ("./lr=3e-4/run", (None, "./lr=3e-4/run")),
        ("/data/lr=3e-4", (None, "/data/lr=3e-4")),
        ("..\\lr=3e-4", (None, "..\\lr=3e-4")),
        ("v2=outputs/lr=3e-4/run", ("v2", "outputs/lr=3e-4/run")),
        ("v2=/data/a=b=c/", ("v2", "/data/a=b=c/")),
        ("lr=3e-4/run", ("lr", "3e-4/run")),  # neither is there: as documented
        ("there=1/run", (None, "there=1/run")),
        ("there=1", (None, "there=1")),
        ("name=there=1/run", ("name", "there=1/run")),
        ("sft+grpo=user/model", ("sft+grpo", "user/model")),
        ("user/model", (None, "user/model")),
        ("=there", (None, "=there")),
        ("both=./2", ("both", "./2")),
        ("./both=2", (None, "./both=2")),
    ],
)
def test_names_and_folders_are_told_apart(tmp_path, monkeypatch, entry, expected):
    monkeypatch.chdir(tmp_path)
    for folder in ("there=1/run", "both=2", "2"):
        (tmp_path / folder).mkdir(parents=True)
    assert named_folder(entry) == expected


def test_a_name_and_folder_that_could_be_either_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("lr=3e-4/run", "3e-4/run"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"Write './lr=3e-4/run' for the first, or 'lr=./3e-4/run' for the second"):
        named_folder("lr=3e-4/run")
    assert named_folder("./lr=3e-4/run") == (None, "./lr=3e-4/run")
    assert named_folder("lr=./3e-4/run") == ("lr", "./3e-4/run")
