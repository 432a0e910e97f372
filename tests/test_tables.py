# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import datasets
import pytest
from datasets import Dataset, Features, List, Value

from leverplus_trl.tables import load_split, read_table, splits_of, table_provenance, write_tables


FEATURES = Features({"query_id": Value("string"), "scores": List(Value("float64"))})


def write(folder, scores):
    table = Dataset.from_list([{"query_id": "q", "scores": scores}], features=FEATURES)
    write_tables(folder, {"beams": {"train": table, "test": table}}, "Beams: a title", "Text.", {"stage": "beams"})


def test_a_table_is_an_ordinary_dataset_folder(tmp_path):
    write(tmp_path / "t", [0.5])
    assert datasets.load_dataset(str(tmp_path / "t"), "beams", split="test")[0] == {"query_id": "q", "scores": [0.5]}
    assert read_table(str(tmp_path / "t"), "beams", "train", FEATURES).features == FEATURES
    assert splits_of(str(tmp_path / "t"), "beams") == ["train", "test"]
    assert table_provenance(str(tmp_path / "t")) == {"stage": "beams"}


def test_folders_of_the_same_name_are_never_mixed_up(tmp_path):
    """`datasets` caches a local folder by its last name and its card; the names of our files carry their content."""
    for number in (1, 2):
        write(tmp_path / str(number) / "same", [float(number)])
        found = datasets.load_dataset(str(tmp_path / str(number) / "same"), "beams", split="train")
        assert found["scores"][:] == [[float(number)]]


def test_a_table_written_again_leaves_nothing_of_the_old_one(tmp_path):
    for scores in ([1.0], [2.0]):
        write(tmp_path / "t", scores)
    assert len(list((tmp_path / "t" / "data").iterdir())) == 2  # train and test
    assert load_split(str(tmp_path / "t"), "beams", "test")["scores"][:] == [[2.0]]


def test_a_local_folder_is_read_as_it_is_now(tmp_path):
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: rows.parquet\n---\n"
    for number in (1, 2, 3):
        folder = tmp_path / ("other" if number == 3 else "one") / "rows"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(card)
        Dataset.from_dict({"n": [number] * number}).to_parquet(folder / "rows.parquet")
        assert load_split(str(folder), None, "train")["n"][:] == [number] * number


def test_provenance_may_hold_any_text(tmp_path):
    made_by = {"recipe": {"prompt": "a\n---\nb: c\n---\n"}}
    table = Dataset.from_list([{"query_id": "q", "scores": [1.0]}], features=FEATURES)
    write_tables(tmp_path, {"beams": {"train": table}}, "T", "Text.\n---\nMore.", made_by)
    assert table_provenance(str(tmp_path)) == made_by


def test_what_is_not_a_table_is_refused(tmp_path):
    write(tmp_path / "t", [0.5])
    with pytest.raises(ValueError, match="has no column 'rewards'"):
        read_table(str(tmp_path / "t"), "beams", "train", Features({"rewards": Value("float64")}))
    with pytest.raises(ValueError, match=r"Can't read the table 'beams' \(split 'validation'\)"):
        read_table(str(tmp_path / "t"), "beams", "validation", FEATURES)
    with pytest.raises(ValueError, match=r"has no README\.md"):
        table_provenance(str(tmp_path))
    (tmp_path / "README.md").write_text("# Nothing\n")
    with pytest.raises(ValueError, match="does not say what made its tables"):
        table_provenance(str(tmp_path))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_with_their_query(number, tmp_path):
    rows = [{"query_id": f"q{i}", "steps": [[0.5], [], [1.0, None]], "one": None} for i in range(5)]
    features = Features({"query_id": Value("string"), "steps": List(List(Value("float64"))), "one": Value("float64")})
    path = str(tmp_path / "t")
    write_tables(tmp_path / "t", {"beams": {"train": Dataset.from_list(rows, features=features)}}, "T", "t", {})
    assert read_table(path, "beams", "train", features).num_rows == 5
    for change, column in (({"steps": [None, [0.5, number]]}, "steps"), ({"one": number}, "one")):
        broken = Dataset.from_list([*rows[:3], rows[3] | change, rows[4]], features=features)
        write_tables(tmp_path / "t", {"beams": {"train": broken}}, "T", "t", {})
        with pytest.raises(ValueError, match=rf"holds .* in column '{column}' of 'q3'; expected finite numbers"):
            read_table(path, "beams", "train", features)
