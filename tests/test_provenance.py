# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import datetime
import decimal

import pyarrow as pa
import pytest
from datasets import Array2D, Dataset, Features, Image, Value, concatenate_datasets

from leverplus_trl.provenance import ROWS, dataset_hash


def rows(count: int = 3 * ROWS + 7) -> Dataset:
    return Dataset.from_list(
        [
            {
                "id": f"q{row}",
                "question": None if row % 7 == 0 else "é" * (row % 5),
                "answers": ["a", None, "b" * row][: row % 4],
                "year": row if row % 3 else None,
                "share": row / 3,
                "seen": row % 2 == 0,
                "day": datetime.date(2020, 1, 1 + row % 28),
                "nested": {"x": row, "y": [1.5] * (row % 2)},
            }
            for row in range(count)
        ]
    )


def column(values: pa.Array) -> Dataset:
    return Dataset(pa.table({"a": values}))


def test_the_hash_does_not_depend_on_how_rows_are_stored():
    table = rows()
    expected = dataset_hash(table)
    assert dataset_hash(table.select(range(len(table)))) == expected
    assert (
        dataset_hash(concatenate_datasets([table.select(range(300)), table.select(range(300, len(table)))]))
        == expected
    )
    assert dataset_hash(table.flatten_indices().select_columns(table.column_names[::-1])) == expected
    large = [
        pa.field(one.name, pa.large_string() if one.type == pa.string() else one.type) for one in table.data.schema
    ]
    assert dataset_hash(Dataset(table.data.table.cast(pa.schema(large)))) == expected
    assert dataset_hash(column(pa.array([5, 1], pa.uint64()))) == dataset_hash(column(pa.array([5, 1], pa.int8())))
    assert dataset_hash(column(pa.array(["a", "b", "a"]).dictionary_encode().dictionary_decode())) == dataset_hash(
        column(pa.array(["a", "b", "a"], pa.large_string()))
    )


@pytest.mark.parametrize("name", ["id", "question", "answers", "year", "share", "seen", "day", "nested"])
def test_a_changed_value_changes_the_hash(name):
    table = rows(ROWS + 5)
    changed = table.to_list()
    changed[-1] = {**changed[-1], name: changed[-2][name]}
    assert changed[-1] != table[-1]
    other = Dataset.from_list(changed, features=table.features)
    assert dataset_hash(other) != dataset_hash(table)
    rest = [one for one in table.column_names if one != name]
    assert dataset_hash(other, rest) == dataset_hash(table, rest)


def test_what_looks_alike_has_hashes_of_its_own():
    arrays = [
        pa.array(["1", "23"]),
        pa.array(["12", "3"]),
        pa.array(["123", ""]),
        pa.array(["123", None]),
        pa.array([None, None], pa.string()),
        pa.array([1, 23]),
        pa.array([1.0, 23.0]),
        pa.array([True, False]),
        pa.array([[], ["1"]]),
        pa.array([None, ["1"]]),
        pa.array([["1"], []]),
    ]
    assert len({dataset_hash(column(values)) for values in arrays}) == len(arrays)


def test_every_type_that_a_dataset_may_hold_has_a_hash():
    grid = Features({"a": Array2D((2, 2), "float32")})
    tables = [
        column(pa.array([12120467241726599441, 1], pa.uint64())),  # as in the report apache/arrow#30652
        column(pa.array([b"\xff\xfe"], pa.large_binary())),
        column(pa.array([decimal.Decimal("1.50")])),
        column(pa.array([datetime.datetime(2020, 1, 1)])),
        Dataset.from_dict({"a": [[[1.0, 2.0], [3.0, 4.0]]]}, features=grid),
        Dataset.from_dict({"a": [[[1.0, 2.0], [3.0, 5.0]]]}, features=grid),
    ]
    assert len({dataset_hash(table) for table in tables}) == len(tables)
    same = [column(pa.array([b"\xff\xfe"], kind)) for kind in (pa.binary(), pa.large_binary(), pa.binary(2))]
    assert len({dataset_hash(table) for table in same}) == 1


def test_images_count_by_their_bytes_and_else_by_their_file(tmp_path):
    features = Features({"id": Value("string"), "image": Image()})

    def images(*values):
        entries = [{"id": str(row), "image": value} for row, value in enumerate(values)]
        return Dataset.from_list(entries, features=features)

    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    inside = images({"bytes": b"one", "path": None}, None)
    assert dataset_hash(inside) == dataset_hash(images({"bytes": b"one", "path": "elsewhere.png"}, None))
    assert dataset_hash(inside) != dataset_hash(images({"bytes": b"two", "path": None}, None))
    before = dataset_hash(images({"bytes": None, "path": str(file)}))
    file.write_bytes(b"longer")
    assert dataset_hash(images({"bytes": None, "path": str(file)})) != before
