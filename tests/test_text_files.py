# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import gzip
import os

import pytest
from datasets import Json, List, Value
from PIL import Image

from leverplus_trl.tables import load_split


def read(tmp_path, text, kind="csv", name=None, **options):
    file = tmp_path / (name or f"rows.{kind}")
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_split(kind, None, "train", data_files={"train": str(file)}, **options)


def test_a_cell_of_a_csv_file_is_the_text_that_it_holds(tmp_path):
    words = ["None", "NA", "n/a", "null", "nan", "007", "1.50", "1e5", "True", "2019-01-01", "1,000", " a ", 'say "x"']
    text = "word,gap\n" + "".join('"{}",\n'.format(word.replace('"', '""')) for word in words)
    table = read(tmp_path, text)
    assert table["word"][:] == words and table["gap"][:] == [None] * len(words)
    assert table.features == {"word": Value("string"), "gap": Value("string")}


@pytest.mark.parametrize(
    "text",
    [
        "q;a\nwhat, then;né\n",
        "q\ta\nwhat, then\tné\n",
        "q|a\nwhat, then|né\n",
        'q,a\r\n"what, then",né\r\n\r\n',
        '\ufeffq,a\n"what, then",né\n',
        'q,a\n"what, then",né\n'.encode("utf-16"),
        b"\xfe\xff" + 'q,a\n"what, then",né\n'.encode("utf-16-be"),
    ],
)
def test_separators_line_ends_and_byte_order_marks(tmp_path, text):
    assert read(tmp_path, text)[:] == {"q": ["what, then"], "a": ["né"]}


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("rows.csv", '"a, b";"c, d"\n1;2\n', ["a, b", "c, d"]),
        ("rows.csv", 'id;"name, ""first"", last"\n1;2\n', ["id", 'name, "first", last']),
        ("rows.csv", '\n"a\n, b"|c\n1|2\n', ["a\n, b", "c"]),
        ("rows.csv", '"a; b"\nx\n', ["a; b"]),
        ("rows.csv", 'height 5",a\n1,2\n', ['height 5"', "a"]),
        ("rows.tsv", "a, b\tc\n1\t2\n", ["a, b", "c"]),
        ("rows.tsv", "a, b; c\nx, y\n", ["a, b; c"]),
    ],
)
def test_the_separator_is_guessed_outside_of_quotes_and_that_of_tsv_is_a_tab(tmp_path, name, text, columns):
    assert read(tmp_path, text, "csv", name).column_names == columns


def test_compressed_files_several_files_and_an_index_that_pandas_wrote(tmp_path):
    with gzip.open(tmp_path / "a.csv.gz", "wt") as handle:
        handle.write(',q\n0,"two\nlines"\n')
    (tmp_path / "b.csv").write_text(",q\n1,one\n")
    files = [str(tmp_path / name) for name in ("a.csv.gz", "b.csv")]
    table = load_split("csv", None, "train", data_files={"train": files})
    assert table[:] == {"Unnamed: 0": ["0", "1"], "q": ["two\nlines", "one"]}
    (tmp_path / "b.csv").write_text("p\n1\n")
    with pytest.raises(ValueError, match=r"b.csv' has \['p'\]; files of one split need the same columns"):
        load_split("csv", None, "train", data_files={"train": files})


def test_numbers_booleans_and_dates_of_a_json_file_are_text(tmp_path):
    lines = ['{"a": 3}', '{"a": 2.50}', '{"a": true}', '{"a": null}', '{"a": "2019-01-01"}', '{"a": 1990.0}']
    lines += [
        '{"a": 1e3}',
        '{"a": 3.00}',
        '{"a": -0.0}',
        '{"a": NaN}',
        '{"b": [1, "x", null]}',
        '{"a": 12345678901234567890, "b": []}',
    ]
    table = read(tmp_path, "\n".join(lines), "json")
    expected = ["3", "2.5", "true", None, "2019-01-01", "1990", "1000", "3", "0", None, None, "12345678901234567890"]
    assert table["a"][:] == expected and table.features["a"] == Value("string")
    assert table["b"][:] == [None] * 10 + [["1", "x", None], []] and table.features["b"] == List(Value("string"))


def test_a_type_that_changes_late_in_a_long_json_file(tmp_path):
    """https://github.com/huggingface/datasets/issues/7222"""
    lines = ['{"a": null, "b": 1, "c": "x"}'] * 3000 + ['{"a": "red", "b": "two", "c": ["y", {"z": 1}]}']
    table = read(tmp_path, "\n".join(lines), "json")
    assert table[-1] == {"a": "red", "b": "two", "c": ["y", {"z": "1"}]}
    assert table[0] == {"a": None, "b": "1", "c": "x"} and table.features["c"] == Json()


@pytest.mark.parametrize("indent", [None, 1])
def test_one_list_of_objects(tmp_path, indent):
    text = '[{"a": "x"},\n{"a": 1}]' if indent else '[{"a": "x"}, {"a": 1}]\n'
    assert read(tmp_path, text, "json")["a"][:] == ["x", "1"]


def test_metadata_of_an_image_folder_is_text(tmp_path):
    (tmp_path / "train" / "sub").mkdir(parents=True)
    for name in ("1.png", "sub/2.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / "train" / name)
    (tmp_path / "train" / "metadata.csv").write_text("file_name,a\n1.png,NA\nsub/2.png,007\n")
    table = load_split("imagefolder", None, "train", data_files={"train": str(tmp_path / "train" / "**")})
    assert table["a"][:] == ["NA", "007"]
    assert table["image"][:] == [str(tmp_path / "train" / name) for name in ("1.png", "sub/2.png")]


def test_a_dataset_card_may_name_the_separator_and_other_options(tmp_path):
    (tmp_path / "a.csv").write_text("first line\nq;a\nwhat, then;NA\n")
    card = "---\nconfigs:\n- config_name: x\n  data_files:\n  - split: train\n    path: a.csv\n{}---\n"
    (tmp_path / "README.md").write_text(card.format("  sep: ;\n  skiprows: 1\n"))
    assert load_split(str(tmp_path), "x", "train")[:] == {"q": ["what, then"], "a": ["NA"]}


def test_a_file_that_was_changed_is_read_again(tmp_path):
    assert read(tmp_path, "a\n1\n")["a"][:] == ["1"]
    assert read(tmp_path, "a\n22\n")["a"][:] == ["22"]


BAD_FILES = {
    "latin-1": (
        "csv",
        "a\ncafé\n".encode("latin-1"),
        "is not text in UTF-8: it holds the byte 0xe9. Save it as UTF-8",
    ),
    "latin-1 json": ("json", '{"a": "café"}'.encode("latin-1"), "is not text in UTF-8: it holds the byte 0xe9"),
    "UTF-32": ("csv", "a\nx\n".encode("utf-32"), "is not a text file: it holds zero bytes"),
    "binary": ("csv", b"PAR1\0\0\0" + bytes(range(256)), "is not a text file"),
    "empty": ("csv", b"", "is empty. Expected a line with the names"),
    "an empty cell alone": ("csv", b'""\n', "is empty. Expected a line with the names"),
    "empty json": ("json", b"\n", "is empty. Expected an object on each line"),
    "header": ("csv", "a,b\n", "holds no rows"),
    "no records": ("json", "[]", "holds no rows"),
    "short": ("csv", "a,b\n1,2\n3\n4\n", r"Line 3 of .* has 1 cells and the header has 2 \(a, b\). Put a text"),
    "long": ("csv", "a,b\nwhat, then,red\n", "Line 2 of .* has 3 cells and the header has 2"),
    "quotes": ("csv", 'a,b\n"x"y,2\n', "Line 2 of .* is not CSV"),
    "open quote": ("csv", 'a,b\n"x,2\n3,4\n', "Line 3 of .* is not CSV: unexpected end of data"),
    "twice": ("csv", "a,a\n1,2\n", "names the column 'a' twice. Rename"),
    "no object": ("json", '["a", "b"]', r"Record 0 \(counted from 0\) of .* is 'a'. Expected an object on each line"),
    "lists": ("json", "[[1], [2]]", "is a list. Expected an object"),
    "scalars": ("json", "1\n2\n", "Line 1 of .* is '1'"),
    "cut off": ("json", '{"a": 1}\n{"a": "x', "Line 2 of .* is not JSON: Unterminated string"),
    "cut off list": ("json", '[{"a": 1},', "can't be read as JSON: Expecting value"),
    "single quotes": ("json", "{'a': 1}", "can't be read as JSON: Expecting property name"),
    "infinite": ("json", '{"a": 1}\n{"a": Infinity}', "Line 2 of .* Infinity is no number"),
    "key twice": ("json", '{"a": 1}\n{"a": 1, "a": 2}', "Line 2 of .* the key 'a' appears twice in an object"),
    "exponent": ("json", '{"a": 1}\n{"a": 1e99999999999999999999}', "Line 2 of .* the number 1e9+ is out of range"),
    "surrogate": ("json", '{"a": "\\ud83d"}', "Line 1 of .* holds half of a surrogate pair"),
    "deep": ("json", '{"a": ' + "[" * 99999 + "]" * 99999 + "}", "nested too deeply"),
}


@pytest.mark.parametrize("case", list(BAD_FILES))
def test_a_file_that_cannot_be_read_is_named_with_the_line(tmp_path, case):
    kind, text, message = BAD_FILES[case]
    with pytest.raises(ValueError, match=message) as raised:
        read(tmp_path, text, kind)
    assert f"{tmp_path}{os.sep}rows.{kind}" in str(raised.value)


def test_splits_that_have_no_file_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match="there is no file of the split 'test'; there are files of train"):
        load_split("csv", None, "test", data_files={"train": str(tmp_path / "a.csv")})
