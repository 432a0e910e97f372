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
IMAGE_STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})
#: Part of the cache key: after a change of this file, columns are converted again.
_CODE = json_hash(Path(__file__).read_text(encoding="utf-8"))


def convert_columns(dataset: Dataset, image_dir: str | None, split: str, rows: range | None = None) -> Dataset:
    """
    Converts the columns of an examples table to text, lists of text and images.

    A number has the same spelling in every type (see [`~text_files.number_text`]), and a boolean is `true` or `false`.
    Dates and times are in ISO 8601; a column of time stamps that are all at midnight holds dates. A class label
    becomes its name. The label -1 (a hidden class), NaN and null are missing. A list of one image is the image.

    Args:
        dataset (`Dataset`):
            A table with the column names of `schema.EXAMPLES`.
        image_dir (`str`, *optional*):
            Folder that image paths are relative to.
        split (`str`):
            Name of the split, for messages.
        rows (`range`, *optional*):
            Rows to convert and return. All rows decide whether a column holds dates.

    Raises:
        `ValueError`: a column or a cell can't be converted.
    """
    only_dates = [name for name in dataset.column_names if _only_dates(dataset, name)]
    dataset = dataset if rows in (None, range(len(dataset))) else dataset.select(rows)
    kinds = {}
    for name, feature in dataset.features.items():
        kind = KINDS.get(name) or ("text" if _has_several_spellings(feature) else None)
        if kind is not None and (feature != FEATURES[kind] or (kind == "image" and _lacks_bytes(dataset, image_dir))):
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
    table = dataset.select_columns(list(kinds)).with_format("arrow")
    converted = table.map(
        _converted,
        batched=True,
        fn_kwargs=options,
        features=Features({name: FEATURES[kind] for name, kind in kinds.items()}),
        desc=f"Columns of {split}",
    ).with_format(None)
    rest = dataset.remove_columns(list(kinds))
    return joined([rest, converted][not rest.column_names :], axis=1)


def joined(tables: list[Dataset], axis: int) -> Dataset:
    """`concatenate_datasets` with a hash that is the same in every process. The hash of `datasets`
    depends on how a table was loaded, so a second process would not use the cache of the first."""
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
            columns[name] = text_array(array, features[name], where, name in only_dates)
        elif kind == "texts":
            lists = _lists_of_text(array, features[name], where, name in only_dates)
            columns[name] = pa.array(lists, pa.list_(pa.string()))
        else:
            columns[name] = _image_array(array, features[name], where, image_dir)
    return pa.table(columns)


def _has_several_spellings(feature: Any) -> bool:
    """Whether a value of this type can be written as text in more than one way: 1990.0 or 1990, 1 or "red"."""
    if not isinstance(feature, Value):
        return isinstance(feature, ClassLabel)
    type = feature.pa_type
    return feature != TEXT and (
        _is_text(type) or types.is_floating(type) or types.is_decimal(type) or types.is_date(type)
        or types.is_time(type) or types.is_timestamp(type)
    )  # fmt: skip


def _is_text(type: pa.DataType) -> bool:
    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def _is_list(type: pa.DataType) -> bool:
    return types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type)


def _lacks_bytes(dataset: Dataset, image_dir: str | None) -> bool:
    """Whether `image_dir` applies to an image, which is then a path without bytes."""
    return image_dir is not None and any(
        pc.any(pc.and_(pc.is_null(pc.struct_field(images, "bytes")), pc.is_valid(images))).as_py()
        for images in image_batches(dataset)
    )


def _only_dates(dataset: Dataset, name: str) -> bool:
    feature = dataset.features[name]
    value = getattr(feature, "feature", feature)
    if not isinstance(value, Value) or not types.is_timestamp(value.pa_type):
        return False
    column = dataset.select_columns(name).with_format("arrow")[:][name]
    column = column if value is feature else pc.list_flatten(column)
    return pc.all(pc.equal(column, pc.floor_temporal(column, unit="day"))).as_py() is not False


def text_array(array: pa.Array, feature: Any, where: str, only_dates: bool = False) -> pa.Array:
    """
    Converts an array of a column with this feature to text; with `only_dates`, time stamps become dates.

    Raises:
        `ValueError`: values that are no text, number, boolean, date or time. The message begins with `where`.
    """
    type = array.type
    if isinstance(feature, ClassLabel):
        return pa.array([_class_name(number, feature, where) for number in array.to_pylist()], pa.string())
    if isinstance(feature, Json):
        cells = [read_json_cell(cell) for cell in array.storage.to_pylist()]
        odd = next((cell for cell in cells if not isinstance(cell, str | None)), None)
        if odd is not None:
            raise _no_text(where, f"values such as {str(odd)[:60]}")
        return pa.array(cells, pa.string())
    if types.is_floating(type):
        values = array.to_numpy(zero_copy_only=False)
        return pa.array([_float_text(value, where) for value in values], pa.string())
    if types.is_decimal(type):
        return pa.array([value_text(value, where) for value in array.to_pylist()], pa.string())
    if types.is_boolean(type):
        return pc.if_else(array, "true", "false")
    if types.is_timestamp(type) and only_dates:
        return pc.strftime(array, format="%Y-%m-%d")
    if types.is_timestamp(type) or types.is_time(type):
        text = pc.replace_substring(array.cast(pa.string()), " ", "T", max_replacements=1)
        text = pc.replace_substring_regex(text, r"(\.\d*[1-9])0+", r"\1")
        return pc.replace_substring_regex(text, r"\.0+(Z|[+-]|$)", r"\1")
    if _is_text(type) or types.is_integer(type) or types.is_date(type) or types.is_null(type):
        return array.cast(pa.string())
    hint = f"convert it{', or map a column of lists to `answers`' if _is_list(type) else ''}"
    raise _no_text(where, f"values of the type {type}", hint)


def _no_text(where: str, what: str, hint: str = "convert it") -> ValueError:
    return ValueError(f"{where} holds {what}; expected text. Map another column, {hint}.")


def _class_name(number: int | None, feature: ClassLabel, where: str) -> str | None:
    if number is None or number == -1:  # GLUE and others hide the labels of a test set as -1
        return None
    if not 0 <= number < feature.num_classes:
        raise ValueError(f"{where} holds the label {number}, and there are {feature.num_classes} names of labels.")
    return feature.int2str(number)


def _float_text(value: np.floating | float, where: str) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise ValueError(f"{where} holds an infinite number. Fix it, or leave the row out.")
    return number_text(value)


def value_text(value: Any, where: str = "a value") -> str | None:
    """
    A value of an example as text, with the spelling of [`convert_columns`]; `None` for NaN.

    Raises:
        `ValueError`: the value is no text, number, boolean, date or time. The message begins with `where`.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return _float_text(value, where)
    if isinstance(value, int | np.integer | decimal.Decimal):
        return number_text(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise ValueError(f"{where} holds {str(value)[:60]} of the type {type(value).__name__}; expected text or a number.")


def _lists_of_text(array: pa.Array, feature: Any, where: str, only_dates: bool) -> list[list[str | None] | None]:
    """Converts lists of values, lists of objects with the key "answer", or cells that hold a list as text."""
    type = array.type
    if isinstance(feature, Json):
        return [_list_of_cell(read_json_cell(cell), where) for cell in array.storage.to_pylist()]
    if _is_text(type):
        return [None if cell is None or not cell.strip() else parse_list(cell, where) for cell in array.to_pylist()]
    if types.is_null(type):
        return [None] * len(array)
    if types.is_struct(type):  # older versions of `datasets` store a list of objects as an object of lists
        return _lists_of_text(_key(array, where), feature["answer"], where, only_dates)
    if not _is_list(type):
        raise ValueError(f"{where} holds values of the type {type}; expected lists of text.")
    values, inner = pc.list_flatten(array), feature.feature
    if types.is_struct(values.type):
        values, inner = _key(values, where), inner["answer"]
    texts = iter(text_array(values, inner, where, only_dates).to_pylist())
    lengths = pc.list_value_length(array).to_pylist()
    return [None if length is None else [next(texts) for _ in range(length)] for length in lengths]


def _key(array: pa.Array, where: str) -> pa.Array:
    """The values of the key "answer" of annotators' objects, as in VQAv2."""
    names = [array.type.field(place).name for place in range(array.type.num_fields)]
    if "answer" not in names:
        raise ValueError(
            f"{where} holds objects with the keys {', '.join(names)}, which has no key 'answer'. Expected lists of "
            "text, or of objects with the key 'answer'."
        )
    return pc.struct_field(array, "answer")


def _list_of_cell(cell: Any, where: str) -> list[str | None] | None:
    if isinstance(cell, str):
        return parse_list(cell, where)
    if cell is not None and not isinstance(cell, list):
        raise ValueError(f"{where} holds {str(cell)[:60]}; expected lists of text.")
    texts = []
    for item in cell or []:
        if isinstance(item, dict) and "answer" not in item:
            raise ValueError(f"{where} holds {str(item)[:60]}, which has no key 'answer'.")
        texts.append(item["answer"] if isinstance(item, dict) else item)
    odd = next((text for text in texts if not isinstance(text, str | None)), None)
    if odd is not None:
        raise ValueError(f"{where} holds a list with {str(odd)[:60]} in it; expected lists of text.")
    return None if cell is None else texts


def parse_list(text: str, where: str) -> list[str | None]:
    """Parses a list in JSON or Python notation; raises `ValueError` for other text, such as NumPy's lists without
    commas."""
    try:
        cell = read_json_cell(text)
    except ValueError:
        cell = _python_list(text, where)
    if not isinstance(cell, list):
        hint = " Map a column with one answer in each cell to `answer`." if "'answers'" in where else ""
        raise ValueError(
            f'{where} holds the text {text[:60]!r}; expected a list, written such as ["red", "blue"].{hint}'
        )
    return _list_of_cell(cell, where)


def _python_list(text: str, where: str) -> list | None:
    try:
        cell = ast.literal_eval(text.strip())
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline)]
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    if (tokenize.STRING, tokenize.STRING) in pairwise(kinds):
        return None  # Python joins the texts of ['red' 'blue']
    if not isinstance(cell, list | tuple):
        return None
    return [item if isinstance(item, dict | list) else value_text(item, where) for item in cell]


def _image_array(array: pa.Array, feature: Any, where: str, image_dir: str | None) -> pa.Array:
    """Converts images to the storage of `datasets`: `{"bytes", "path"}`."""
    type = array.type
    if isinstance(feature, Json):
        cells = [_single_image(cell, where) for cell in map(read_json_cell, array.storage.to_pylist())]
        array = pa.array([cell.get("path") if isinstance(cell, dict) else cell for cell in cells], pa.string())
        type = array.type
    if _is_list(type):
        lengths = pc.list_value_length(array).to_pylist()
        most = max((length or 0 for length in lengths), default=0)
        if most > 1:
            raise ValueError(
                f"{where} holds lists of up to {most} images; expected a single image. Map another column."
            )
        values, place = pc.list_flatten(array), iter(range(len(array)))
        taken = pa.array([next(place) if length else None for length in lengths], pa.int64())
        return _image_array(values.take(taken), feature.feature, where, image_dir)
    none = pa.nulls(len(array))
    if _is_text(type):
        contents, paths = none, array
    elif types.is_binary(type) or types.is_large_binary(type):
        contents, paths = array, none
    elif types.is_struct(type) and {"bytes", "path"} & {field.name for field in type}:
        names = {field.name for field in type}
        contents, paths = (pc.struct_field(array, name) if name in names else none for name in ("bytes", "path"))
    elif types.is_null(type):
        contents, paths = none, none
    else:
        raise ValueError(
            f"{where} holds values of the type {type}; expected images: paths, bytes, or objects with bytes and path."
        )
    contents = contents.cast(pa.binary())
    resolved = [
        path if has_bytes else _image_path(path, image_dir)
        for path, has_bytes in zip(paths.cast(pa.string()).to_pylist(), pc.is_valid(contents).to_pylist(), strict=True)
    ]
    paths = pa.array(resolved, pa.string())
    missing = pc.and_(pc.is_null(contents), pc.is_null(paths))
    return pa.StructArray.from_arrays([contents, paths], fields=list(IMAGE_STRUCT), mask=missing)


def _image_path(path: str | None, image_dir: str | None) -> str | None:
    if path is None or not path.strip():
        return None
    return path if image_dir is None or "://" in path else str(Path(image_dir, path))


def _single_image(cell: Any, where: str) -> Any:
    if isinstance(cell, list) and len(cell) > 1:
        raise ValueError(f"{where} holds a list of {len(cell)} images; expected a single image. Map another column.")
    cell = (cell[0] if cell else None) if isinstance(cell, list) else cell
    if isinstance(cell, dict) and any(cell.values()) and not isinstance(cell.get("path"), str):
        raise ValueError(f"{where} holds {str(cell)[:60]}; expected paths of images.")
    return cell
