# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Converts columns of any type to text, lists of text or images, or raises an error that names the column."""

import ast
import datetime
import decimal
import io
import math
import tokenize
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, Image, Json, List, Value, concatenate_datasets
from pyarrow import types

from ..provenance import json_hash
from ..text_files import number_text, read_json_cell
from .images import image_batches


TEXT, TEXTS = Value("string"), List(Value("string"))
#: The kind of each column. Another column becomes text if its type has several spellings, else it is not converted.
KINDS = {
    **dict.fromkeys(("id", "question", "answer"), "text"),
    **dict.fromkeys(("answers", "choices"), "texts"),
    "image": "image",
}
FEATURES = {"text": TEXT, "texts": TEXTS, "image": Image()}
#: Part of the cache key: after a change of this file, columns are converted again.
_CODE = json_hash(Path(__file__).read_text(encoding="utf-8"))


def convert_columns(dataset: Dataset, image_dir: str | None, split: str, rows: range | None = None) -> Dataset:
    """
    Converts the columns of an examples table to text, lists of text and images; raises `ValueError` if it can't.

    A number has the same spelling in every type (see [`~text_files.number_text`]), and a boolean is `true` or `false`.
    Dates and times are in ISO 8601; a column of time stamps that are all at midnight holds dates. A class label
    becomes its name. The label -1 (a hidden class), NaN and null are missing. A list of one image is the image. Image
    paths are relative to `image_dir`. Only `rows` are returned, but all rows decide whether a column holds dates.
    """
    only_dates = [name for name in dataset.column_names if _only_dates(dataset, name)]
    dataset = dataset if rows in (None, range(len(dataset))) else dataset.select(rows)
    kinds = {}
    for name, feature in dataset.features.items():
        kind = KINDS.get(name) or ("text" if _has_several_spellings(feature) else None)
        resolves_paths = kind == "image" and image_dir is not None
        if kind is not None and (feature != FEATURES[kind] or (resolves_paths and _lacks_bytes(dataset))):
            kinds[name] = kind
    if not kinds:
        return dataset
    options = {
        "kinds": kinds,
        "features": {name: dataset.features[name] for name in kinds},
        "only_dates": only_dates,
        "image_dir": image_dir,
        "split": split,
        "code": _CODE,
    }
    features = Features({name: FEATURES[kind] for name, kind in kinds.items()})
    table = dataset.select_columns(list(kinds)).with_format("arrow")
    table = table.map(_converted, batched=True, fn_kwargs=options, features=features, desc=f"Columns of {split}")
    rest = dataset.remove_columns(list(kinds))
    return joined([rest, table.with_format(None)][not rest.column_names :], axis=1)


def joined(tables: list[Dataset], axis: int) -> Dataset:
    """`concatenate_datasets` with a hash that is the same in every process, so that each uses the cache of another."""
    if len(tables) == 1:
        return tables[0]
    table = concatenate_datasets(tables, axis=axis)
    key = json_hash([axis, *(part._fingerprint for part in tables)])
    return Dataset(table.data, table.info, table.split, indices_table=table._indices, fingerprint=key)


def _converted(
    batch: pa.Table, kinds: dict, features: dict, only_dates: list[str], image_dir: str | None, split: str, code: str
) -> pa.Table:
    columns = {}
    for name, kind in kinds.items():
        array, where = batch[name].combine_chunks(), f"Column {name!r} of split {split!r}"
        if kind == "text":
            columns[name] = _text_array(array, features[name], where, name in only_dates)
        elif kind == "texts":
            lists = _lists_of_text(array, features[name], where, name in only_dates)
            columns[name] = pa.array(lists, pa.list_(pa.string()))
        else:
            columns[name] = _image_array(array, features[name], where, image_dir)
    return pa.table(columns)


def _has_several_spellings(feature: Any) -> bool:
    if not isinstance(feature, Value):
        return isinstance(feature, ClassLabel)
    kinds = (types.is_floating, types.is_decimal, types.is_date, types.is_time, types.is_timestamp, _is_text)
    return feature != TEXT and any(is_kind(feature.pa_type) for is_kind in kinds)


def _is_text(type: pa.DataType) -> bool:
    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def _is_list(type: pa.DataType) -> bool:
    return types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type)


def _lacks_bytes(dataset: Dataset) -> bool:
    for images in image_batches(dataset):
        if pc.any(pc.and_(pc.is_null(pc.struct_field(images, "bytes")), pc.is_valid(images))).as_py():
            return True
    return False


def _only_dates(dataset: Dataset, name: str) -> bool:
    feature = dataset.features[name]
    value = getattr(feature, "feature", feature)
    if not isinstance(value, Value) or not types.is_timestamp(value.pa_type):
        return False
    column = dataset.select_columns(name).with_format("arrow")[:][name]
    column = column if value is feature else pc.list_flatten(column)
    return pc.all(pc.equal(column, pc.floor_temporal(column, unit="day"))).as_py() is not False


def _text_array(array: pa.Array, feature: Any, where: str, only_dates: bool) -> pa.Array:
    type = array.type
    what, hint = f"values of the type {type}", ", or map a column of lists to `answers`" if _is_list(type) else ""
    if isinstance(feature, ClassLabel):
        numbers = array.to_pylist()  # GLUE and others hide the labels of a test set as -1
        odd = next((number for number in numbers if not -1 <= (number or 0) < feature.num_classes), None)
        if odd is not None:
            raise ValueError(f"{where} holds the label {odd}, and there are {feature.num_classes} names of labels.")
        names = [None if number in (None, -1) else feature.int2str(number) for number in numbers]
        return pa.array(names, pa.string())
    if isinstance(feature, Json):
        cells = [read_json_cell(cell) for cell in array.storage.to_pylist()]
        odd = next((cell for cell in cells if not isinstance(cell, str | None)), None)
        if odd is None:
            return pa.array(cells, pa.string())
        what = f"values such as {str(odd)[:60]}"
    elif types.is_floating(type) or types.is_decimal(type) or types.is_boolean(type):
        values = array.to_numpy(zero_copy_only=False)  # keeps the precision of a float
        return pa.array([value_text(value, where) for value in values], pa.string())
    elif types.is_timestamp(type) and only_dates:
        return pc.strftime(array, format="%Y-%m-%d")
    elif types.is_timestamp(type) or types.is_time(type):
        text = pc.replace_substring(array.cast(pa.string()), " ", "T", max_replacements=1)
        text = pc.replace_substring_regex(text, r"(\.\d*[1-9])0+", r"\1")
        return pc.replace_substring_regex(text, r"\.0+(Z|[+-]|$)", r"\1")
    elif _is_text(type) or types.is_integer(type) or types.is_date(type) or types.is_null(type):
        return array.cast(pa.string())
    raise ValueError(f"{where} holds {what}; expected text. Map another column, convert it{hint}.")


def value_text(value: Any, where: str = "a value") -> str | None:
    """A value as text, spelled as by [`convert_columns`]; `None` for NaN. Raises `ValueError` with `where` if it is no
    text, number, boolean, date or time."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if not isinstance(value, float | np.floating | int | np.integer | decimal.Decimal):
        kind = type(value).__name__
        raise ValueError(f"{where} holds {str(value)[:60]} of the type {kind}; expected text or a number.")
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise ValueError(f"{where} holds an infinite number. Fix it, or leave the row out.")
    return number_text(value)


def _lists_of_text(array: pa.Array, feature: Any, where: str, only_dates: bool) -> list[list[str | None] | None]:
    type = array.type
    if isinstance(feature, Json):
        return [_list_of_cell(read_json_cell(cell), where) for cell in array.storage.to_pylist()]
    if _is_text(type):
        return [None if cell is None or not cell.strip() else parse_list(cell, where) for cell in array.to_pylist()]
    if types.is_null(type):
        return [None] * len(array)
    if types.is_struct(type):  # older versions of `datasets` store a list of objects as an object of lists
        return _lists_of_text(_answers(array, where), feature["answer"], where, only_dates)
    if not _is_list(type):
        raise ValueError(f"{where} holds values of the type {type}; expected lists of text.")
    values, inner = pc.list_flatten(array), feature.feature
    if types.is_struct(values.type):
        values, inner = _answers(values, where), inner["answer"]
    texts = iter(_text_array(values, inner, where, only_dates).to_pylist())
    lengths = pc.list_value_length(array).to_pylist()
    return [None if length is None else [next(texts) for _ in range(length)] for length in lengths]


def _answers(array: pa.Array, where: str) -> pa.Array:
    names = [field.name for field in array.type]
    if "answer" not in names:
        message = f"{where} holds objects with the keys {', '.join(names)}, which has no key 'answer'. Expected lists"
        raise ValueError(f"{message} of text, or of objects with the key 'answer'.")
    return pc.struct_field(array, "answer")


def _list_of_cell(cell: Any, where: str) -> list[str | None] | None:
    if isinstance(cell, str):
        return parse_list(cell, where)
    if cell is None:
        return None
    if not isinstance(cell, list):
        raise ValueError(f"{where} holds {str(cell)[:60]}; expected lists of text.")
    texts = []
    for item in cell:
        if isinstance(item, dict) and "answer" not in item:
            raise ValueError(f"{where} holds {str(item)[:60]}, which has no key 'answer'.")
        text = item["answer"] if isinstance(item, dict) else item
        if not isinstance(text, str | None):
            raise ValueError(f"{where} holds a list with {str(text)[:60]} in it; expected lists of text.")
        texts.append(text)
    return texts


def parse_list(text: str, where: str) -> list[str | None]:
    """Parses a list in JSON or Python notation; raises `ValueError` for other text, as NumPy's ['red' 'blue']."""
    try:
        cell = read_json_cell(text)
    except ValueError:
        cell = _python_list(text, where)
    if not isinstance(cell, list):
        hint = " Map a column with one answer in each cell to `answer`." if "'answers'" in where else ""
        message = f"{where} holds the text {text[:60]!r}; expected a list"
        raise ValueError(f'{message}, written such as ["red", "blue"].{hint}')
    return _list_of_cell(cell, where)


def _python_list(text: str, where: str) -> list | None:
    try:
        cell = ast.literal_eval(text.strip())
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline)]
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    # Python joins the texts of ['red' 'blue'].
    if not isinstance(cell, list | tuple) or (tokenize.STRING, tokenize.STRING) in pairwise(kinds):
        return None
    return [item if isinstance(item, dict | list) else value_text(item, where) for item in cell]


def _image_array(array: pa.Array, feature: Any, where: str, image_dir: str | None) -> pa.Array:
    if isinstance(feature, Json):
        cells = [_image_of_cell(read_json_cell(cell), where) for cell in array.storage.to_pylist()]
        array = pa.array(cells, pa.string())
    type, none = array.type, pa.nulls(len(array))
    if _is_list(type):
        lengths = pc.list_value_length(array).to_pylist()
        most = max((length or 0 for length in lengths), default=0)
        if most > 1:
            message = f"{where} holds lists of up to {most} images"
            raise ValueError(f"{message}; expected a single image. Map another column.")
        values, place = pc.list_flatten(array), iter(range(len(array)))
        taken = pa.array([next(place) if length else None for length in lengths], pa.int64())
        return _image_array(values.take(taken), feature.feature, where, image_dir)
    names = {field.name for field in type} if types.is_struct(type) else set()
    if _is_text(type):
        contents, paths = none, array
    elif types.is_binary(type) or types.is_large_binary(type):
        contents, paths = array, none
    elif types.is_null(type) or {"bytes", "path"} & names:
        contents, paths = (pc.struct_field(array, name) if name in names else none for name in ("bytes", "path"))
    else:
        expected = "expected images: paths, bytes, or objects with bytes and path"
        raise ValueError(f"{where} holds values of the type {type}; {expected}.")
    contents, resolved = contents.cast(pa.binary()), []
    for path, has_bytes in zip(paths.cast(pa.string()).to_pylist(), pc.is_valid(contents).to_pylist(), strict=True):
        if not has_bytes:
            path = path if path and path.strip() else None
            if path and image_dir is not None and "://" not in path:
                path = str(Path(image_dir, path))
        resolved.append(path)
    paths = pa.array(resolved, pa.string())
    missing = pc.and_(pc.is_null(contents), pc.is_null(paths))
    fields = [pa.field("bytes", pa.binary()), pa.field("path", pa.string())]
    return pa.StructArray.from_arrays([contents, paths], fields=fields, mask=missing)


def _image_of_cell(cell: Any, where: str) -> str | None:
    if isinstance(cell, list) and len(cell) > 1:
        raise ValueError(f"{where} holds a list of {len(cell)} images; expected a single image. Map another column.")
    if isinstance(cell, list):
        cell = cell[0] if cell else None
    if not isinstance(cell, dict):
        return cell
    if any(cell.values()) and not isinstance(cell.get("path"), str):
        raise ValueError(f"{where} holds {str(cell)[:60]}; expected paths of images.")
    return cell.get("path")
