# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import datetime
import io
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Json, LargeList, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from leverplus_trl.tasks import DataArguments, load_examples
from leverplus_trl.tasks.columns import convert_columns, parse_list, value_text
from leverplus_trl.tasks.examples import to_examples
from leverplus_trl.text_files import number_text


STAMPS = [datetime.datetime(2019, 1, 1), None, datetime.datetime(2020, 2, 3)]
LABEL = ClassLabel(names=["no", "yes"])

TEXT_COLUMNS = {
    "string": (pa.array(["red", None]), ["red", None]),
    "large_string": (pa.array(["red", None], pa.large_string()), ["red", None]),
    "string_view": (pa.array(["red", None], pa.string_view()), ["red", None]),
    "null": (pa.nulls(2), [None, None]),
    "integers": (pa.array([3, None, -1], pa.int16()), ["3", None, "-1"]),
    "unsigned": (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
    "booleans": (pa.array([True, None, False]), ["true", None, "false"]),
    "whole floats": (pa.array([1990.0, None, -0.0]), ["1990", None, "0"]),
    "floats": (pa.array([3.0, 2.5, float("nan"), 1e22, 0.1]), ["3", "2.5", None, "1" + "0" * 22, "0.1"]),
    "float32": (pa.array([0.1, 3.0], pa.float32()), ["0.1", "3"]),
    "float16": (pa.array(np.array([0.1, 3.0], np.float16)), ["0.1", "3"]),
    "decimals": (pa.array([Decimal("1.50"), Decimal("3.00"), Decimal("1000.00"), None]), ["1.5", "3", "1000", None]),
    "wide decimals": (pa.array([Decimal(10) ** 41, Decimal("-0.5")], pa.decimal256(60, 2)), ["1e+41", "-0.5"]),
    "dates": (pa.array([datetime.date(2019, 1, 1), None]), ["2019-01-01", None]),
    "dates of pandas": (pa.array(pd.to_datetime(["2019-01-01", None])), ["2019-01-01", None]),
    "times": (pa.array([datetime.time(10, 30), datetime.time(1, 2, 3, 500)]), ["10:30:00", "01:02:03.0005"]),
    "midnights": (pa.array(STAMPS, pa.timestamp("ns")), ["2019-01-01", None, "2020-02-03"]),
    "stamps": (
        pa.array([datetime.datetime(2019, 1, 1), datetime.datetime(2019, 1, 1, 10, 30, 15, 250000)]),
        ["2019-01-01T00:00:00", "2019-01-01T10:30:15.25"],
    ),
    "zone": (pa.array([datetime.datetime(2019, 1, 1, 10)], pa.timestamp("us", "UTC")), ["2019-01-01T10:00:00Z"]),
}


@pytest.mark.parametrize("kind", list(TEXT_COLUMNS))
@pytest.mark.parametrize("name", ["answer", "hint"])
def test_a_column_of_any_type_becomes_text_once(kind, name):
    column, expected = TEXT_COLUMNS[kind]
    table = Dataset(pa.table({name: column}))
    converted = convert_columns(table, None, "train")[name][:]
    # A column that is no part of every examples table keeps a type that has one spelling only.
    assert [value_text(value) for value in converted] == expected
    if name == "answer":
        assert converted == expected


def test_class_labels_become_their_names_and_hidden_ones_are_missing():
    features = Features(question=Value("string"), answer=LABEL, hint=LABEL, answers=List(LABEL))
    columns = {"question": ["a", "b", "c"], "answer": [1, -1, None], "hint": [0, 1, None]}
    table = Dataset.from_dict(columns | {"answers": [[1], [0, 0, -1], None]}, features=features)
    converted = convert_columns(table, None, "train")
    assert converted["answer"][:] == ["yes", None, None] and converted["hint"][:] == ["no", "yes", None]
    assert converted["answers"][:] == [["yes"], ["no", "no", None], None]
    odd = Dataset(pa.table({"answer": [7]}, Features(answer=LABEL).arrow_schema))
    with pytest.raises(ValueError, match="'answer' of split 'train' holds the label 7, and there are 2 names"):
        convert_columns(odd, None, "train")


LISTS = {
    "text": (pa.array([["a", "b"], None, []]), None),
    "large": (pa.array([["a", "b"], None, []], pa.large_list(pa.large_string())), LargeList(Value("large_string"))),
    "objects": (pa.array([[{"answer": "a", "id": 1}, {"answer": "b", "id": 2}], None, []]), None),
    "object of lists": (pa.array([{"answer": ["a", "b"]}, None, {"answer": []}]), None),
    "as JSON": (pa.array(['["a", "b"]', None, "[]"]), None),
    "as Python": (pa.array(["['a', 'b']", "", "()"]), None),
    "fixed": (pa.array([["a", "b"]] * 3, pa.list_(pa.string(), 2)), None),
}


@pytest.mark.parametrize("kind", list(LISTS))
def test_a_column_of_answers_becomes_lists_of_text(kind):
    column, feature = LISTS[kind]
    table = Dataset(pa.table({"answers": column}))
    assert feature is None or table.features["answers"] == feature
    expected = [["a", "b"]] * 3 if kind == "fixed" else [["a", "b"], None, []]
    assert convert_columns(table, None, "train")["answers"][:] == expected


def test_numbers_in_lists_are_spelled_as_numbers_in_columns():
    table = Dataset.from_dict({"answers": [[3.0, 2.5]], "choices": [[True, False]]})
    assert convert_columns(table, None, "train")[0] == {"answers": ["3", "2.5"], "choices": ["true", "false"]}
    assert parse_list("[3, 2.50, true, 1e3]", "") == ["3", "2.5", "true", "1000"]
    assert parse_list("(3.0, 2.50, True, None, 1e3)", "") == ["3", "2.5", "true", None, "1000"]


NUMBERS = {
    "3": ["3", "3.0", "3.00", "+3", "30e-1", 3, 3.0, np.float16(3), np.int8(3), Decimal("3.00")],
    "3.5": ["3.5", "3.50", "35e-1", 3.5, np.float32(3.5), Decimal("3.500")],
    "1000": ["1e3", "1E+3", "1000.0", 1e3, Decimal("1e3")],
    "0": ["0", "-0", "-0.0", "0e9", -0.0],
    "0.00001": ["1e-5", 1e-5, Decimal("0.000010")],
    "12345678901234567890123456789012345678901234567891": [12345678901234567890123456789012345678901234567891],
    "1" + "0" * 40: ["1e40", 1e40, 10**40],
    "-1.5e+60": ["-1.5e60", -1.5e60, -15 * 10**59],
    "1.5e-300": ["15e-301", 1.5e-300],
}


@pytest.mark.parametrize("text", list(NUMBERS))
def test_a_number_has_one_spelling_whatever_it_comes_as(text):
    assert {number_text(number) for number in NUMBERS[text]} == {text}
    assert {value_text(number) for number in NUMBERS[text] if not isinstance(number, str)} <= {text}


def test_lists_of_dates_are_spelled_as_dates():
    table = Dataset(pa.table({"answer": STAMPS, "answers": [[one] if one else [] for one in STAMPS]}))
    converted = convert_columns(table, None, "train")
    assert converted["answer"][:] == ["2019-01-01", None, "2020-02-03"]
    assert converted["answers"][:] == [["2019-01-01"], [], ["2020-02-03"]]


def test_rows_are_spelled_as_in_the_whole_column_and_others_need_not_be_convertible():
    stamps = [datetime.datetime(2019, 1, 1), datetime.datetime(2019, 1, 1, 10)]
    table = Dataset(pa.table({"hint": stamps, "answers": ["[1]", "no list"]}))
    assert convert_columns(table, None, "train", range(1))[:] == {"hint": ["2019-01-01T00:00:00"], "answers": [["1"]]}


@pytest.mark.parametrize(
    "text",
    ["red", "a|b", "['a' 'b']", "[a, b]", "{'a': 1}", "3", "[", "['a', ['b']]", "[f'x']", "[b'a']", "(1e999,)"],
)
def test_text_that_is_no_list_is_refused_by_the_column_name(text):
    with pytest.raises(ValueError, match="Column 'answers' of split 'train' holds "):
        convert_columns(Dataset.from_dict({"answers": [text]}), None, "train")


def test_columns_of_json_are_read_by_cell():
    features = Features(answer=Json(), answers=Json(), meta=Json())
    rows = {"answer": ["red", 3, None], "answers": [["a"], [{"answer": 2}], None], "meta": [{"x": 1}, "y", None]}
    converted = convert_columns(Dataset.from_dict(rows, features=features), None, "train")
    assert converted["answer"][:] == ["red", "3", None] and converted["answers"][:] == [["a"], ["2"], None]
    assert converted["meta"][:] == rows["meta"]


REFUSED = {
    "list": (
        [["a"]],
        "holds values of the type list.*expected text. Map another column, .* or map a column of lists to `answers`",
    ),
    "object": ([{"a": 1}], r"holds values of the type struct.*expected text. Map another column, convert it\.$"),
    "bytes": ([b"x"], "holds values of the type binary"),
    "duration": ([datetime.timedelta(1)], "holds values of the type duration"),
    "infinite": ([float("inf")], "holds an infinite number"),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_is_no_text_is_refused_by_the_column_name(kind):
    values, message = REFUSED[kind]
    with pytest.raises(ValueError, match=f"Column 'answer' of split 'train' {message}"):
        convert_columns(Dataset(pa.table({"answer": values})), None, "train")
    if kind == "list":
        with pytest.raises(ValueError, match="Column 'question' of split 'train' holds"):
            convert_columns(Dataset(pa.table({"question": values})), None, "train")


@pytest.fixture
def picture(tmp_path):
    image = Image.new("RGB", (3, 2), "red")
    image.save(tmp_path / "a.png")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return tmp_path, buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["string", "large", "view", "list", "object", "json", "bytes", "large bytes", "image"]
)
def test_an_image_column_of_any_type_honours_its_folder(picture, kind):
    folder, content = picture
    column = {
        "string": pa.array(["a.png", None]),
        "large": pa.array(["a.png", ""], pa.large_string()),
        "view": pa.array(["a.png", " "], pa.string_view()),
        "list": pa.array([["a.png"], []]),
        "object": pa.array(
            [{"bytes": None, "path": "a.png"}, None], pa.struct([("bytes", "binary"), ("path", "string")])
        ),
        "bytes": pa.array([content, None]),
        "large bytes": pa.array([content, None], pa.large_binary()),
        "json": pa.array(["a.png", None]),
        "image": pa.array(["a.png", None]),
    }[kind]
    table = Dataset(pa.table({"question": ["q", "r"], "answer": ["a", "b"], "image": column}))
    if kind in ("json", "image"):
        feature = Json() if kind == "json" else ImageFeature()
        table = Dataset.from_dict(
            {**table[:], "image": [{"path": "a.png"}, None]}, Features(table.features | {"image": feature})
        )
    first, second = to_examples(table, DataArguments("memory", image_dir=str(folder)), "train")
    assert first["image"].size == (3, 2) and second["image"] is None


def test_lists_of_images_and_numbers_are_refused_by_the_column_name():
    for values, message in (
        ([["a.png", "b.png"]], "holds lists of up to 2 images; expected a single image"),
        ([3], "holds values of the type int64; expected images"),
    ):
        with pytest.raises(ValueError, match=f"Column 'image' of split 'train' {message}"):
            convert_columns(Dataset.from_dict({"image": values}), None, "train")


def test_images_that_are_stored_are_not_copied():
    table = Dataset.from_dict({"image": [Image.new("RGB", (2, 2))]}, Features(image=ImageFeature()))
    assert convert_columns(table, None, "train") is table


def test_objects_that_are_no_images_are_refused_by_the_column_name(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"question": "q", "answer": "a", "image": {"src": "x.png"}}\n' * 2)
    with pytest.raises(ValueError, match=r"image.* holds \{'src': 'x.png'\}; expected paths of images"):
        load_examples(DataArguments(dataset="json", data_files={"train": str(file)}), "train")


def test_a_text_that_python_can_not_build_is_no_list(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("question,answers\nq,\"{['a']: 1}\"\n")
    with pytest.raises(ValueError, match="expected a list"):
        load_examples(DataArguments(dataset="csv", data_files={"train": str(file)}), "train")
