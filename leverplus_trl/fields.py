# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Fields of argument dataclasses: their types, and the metadata that [`option`] writes:

- `help`: a description; `--help` prints its first sentence, `--help_all` and the docstring all of it;
- `min`, `max`, `above`, `below`: the range of a number, or of each number of a list;
- `choices`: the texts that are allowed;
- `blank`: whether a text may be white space alone;
- `not_empty`: whether a list needs an item; `unique`: whether its items must differ;
- `path`: `"folder"` or `"file"`, which an existing local path must be.

Values of recipes, of the command line and of Python go through the same checks.
"""

import dataclasses
import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .recipe import Raw, Scalar, named_folder, parse_recipe, raw, shown


_WHOLE = r"(0|[1-9][0-9]*(_[0-9]+)*)"
_INT = re.compile(rf"[-+]?{_WHOLE}")
_FLOAT = re.compile(rf"[-+]?({_WHOLE}(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_BOUNDS = {"min": "of at least", "above": "above", "max": "at most", "below": "below"}
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts", bool: "booleans"}
_NULL = type(None)
#: Whole numbers beyond this fit no tensor and no table.
_LARGEST = 2**63 - 1


def option(help: str, default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A field of an argument dataclass: its description, its default (none: it is required), and its limits."""
    metadata = {"help": help, **limits}
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def documented(arguments: type) -> type:
    """Adds the arguments of a dataclass to its docstring, from the help of its fields."""
    of_others = {
        field.name
        for base in arguments.__mro__
        if dataclasses.is_dataclass(base) and not base.__module__.startswith(__package__)
        for field in dataclasses.fields(base)
    }
    lines = []
    for field in keys_of(arguments):
        if field.name in of_others or "help" not in field.metadata:
            continue
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
        default = field.default_factory() if callable(field.default_factory) else field.default
        end = "" if default is dataclasses.MISSING else f", *optional*, defaults to `{default!r}`"
        lines += [f"    {field.name} (`{kind}`{end}):", f"        {field.metadata['help']}"]
    summary, raises, errors = inspect.cleandoc(arguments.__doc__ or "").partition("\nRaises:\n")
    arguments.__doc__ = "\n".join([summary.rstrip(), "", "Args:", *lines]) + ("\n" + raises + errors if raises else "")
    return arguments


@functools.cache
def types_of(arguments: type) -> dict[str, Any]:
    """The type of every field of a dataclass."""
    hints = typing.get_type_hints(arguments)
    return {field.name: hints[field.name] for field in dataclasses.fields(arguments)}


def keys_of(arguments: type) -> list[dataclasses.Field]:
    """The fields of a dataclass that a recipe may set."""
    return [field for field in dataclasses.fields(arguments) if field.init]


def members(kind: Any) -> tuple[Any, ...]:
    """The types that a union allows; a single type is a union of one."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def item_type(kinds: Iterable[Any]) -> Any | None:
    """The type of the items of the list among some types; `None` if there is no list."""
    lists = [kind for kind in kinds if (typing.get_origin(kind) or kind) is list]
    return (typing.get_args(lists[0]) or (str,))[0] if lists else None


def convert(name: str, value: Raw, kind: Any, limits: Mapping[str, Any]) -> Any:
    """
    A value of a recipe as the type of its field.

    Raises `ValueError` for another type, or a value that the metadata of the field (`limits`) does not allow.
    """
    kinds = members(kind)
    expected = describe(kind, limits)
    if isinstance(value, Scalar) and value.kind == "null":
        if _NULL not in kinds and Any not in kinds:
            raise ValueError(f"{name} is null; expected {expected}.")
        return None
    if isinstance(value, list):
        return _convert_list(name, value, kinds, expected, limits)
    mappings = [kind for kind in kinds if kind in (dict, Any) or typing.get_origin(kind) is dict]
    if mappings and isinstance(value, Scalar) and value.typed and value.text.startswith("{"):
        value = parse_recipe(value.text, name).values
    if isinstance(value, dict):
        if not mappings:
            raise ValueError(f"{name} is the mapping {shown(value)}; expected {expected}.")
        of_values = (typing.get_args(mappings[0]) or (str, Any))[1]
        of_each = {key: limit for key, limit in limits.items() if key in ("path", "min")}
        return {
            key: convert(f"{name}[{key!r}]", _as_text(item, of_values), of_values, of_each)
            for key, item in value.items()
        }
    if value.text in limits.get("choices", ()):
        value = _as_text(value, str)
    converted = _convert_scalar(value, kinds, limits)
    if converted is None:
        raise ValueError(f"{name} is {value if value.text else 'empty'}; expected {expected}.{_hint(value, kinds)}")
    _check_limits(name, converted, value.text, limits)
    return converted


def _convert_list(name: str, value: list, kinds: tuple, expected: str, limits: Mapping[str, Any]) -> list:
    of_items = Any if Any in kinds else item_type(kinds)
    if of_items is None:
        raise ValueError(f"{name} is the list {shown(value)}; expected {expected}.")
    items = []
    for number, item in enumerate(value, 1):
        if not isinstance(item, Scalar) and of_items is not Any:
            raise ValueError(f"Item {number} of {name} is {shown(item)}; expected {describe(of_items, limits)}.")
        items.append(convert(f"Item {number} of {name}", _as_text(item, of_items), of_items, limits))
    if limits.get("not_empty") and not items:
        raise ValueError(f"{name} is an empty list; expected {expected}, and at least one item in it.")
    if limits.get("unique") and len(set(items)) < len(items):
        raise ValueError(f"{name} is {shown(value)}, which names something twice; expected different items.")
    return items


def _as_text(value: Raw, kind: Any) -> Raw:
    """Inside a list or a mapping of texts `yes` is a text, too: a label, or the name of a column."""
    is_word = isinstance(value, Scalar) and value.kind == "bool" and not value.given
    return Scalar(value.text) if kind is str and is_word else value


def _convert_scalar(value: Scalar, kinds: tuple, limits: Mapping[str, Any]) -> Any:
    """The value as the first of the types that it fits; `None` if it fits none."""
    is_boolean = value.kind == "bool" and not value.quoted
    if bool in kinds and (value.typed or is_boolean) and value.text.lower() in _BOOLEANS:
        return _BOOLEANS[value.text.lower()]
    number = _read_number(value, kinds)
    if number is not None:
        return number
    if str in kinds and not value.given and (value.typed or not is_boolean):
        if limits.get("blank") and value.text.isspace():
            return value.text
        if value.text.strip() and "\0" not in value.text:
            return value.text
    if Any in kinds:
        number = _read_number(value, (int, float))
        plain = value.text if number is None else number
        return yaml.safe_load(value.text) if value.kind == "bool" else plain
    return None


def _read_number(value: Scalar, kinds: tuple) -> int | float | None:
    if value.quoted:
        return None
    if int in kinds and _INT.fullmatch(value.text) and len(value.text) <= 20:
        return int(value.text)
    if float in kinds and _FLOAT.fullmatch(value.text) and math.isfinite(float(value.text)):
        return float(value.text)
    return None


def _hint(value: Scalar, kinds: tuple) -> str:
    """The correction of a value that fits none of the types."""
    if item_type(kinds) is not None:
        return f" Write [{value}]."
    if str in kinds:
        if value.kind == "bool":
            null = ", or null for nothing" if _NULL in kinds else ""
            return f' YAML reads {value} as a boolean: write "{value}" for the text{null}.'
        return "" if value.text.strip() else " Leave the key out instead."
    if value.quoted:
        is_boolean = value.text.lower() in _BOOLEANS.keys() - {"0", "1"}
        fits = _read_number(Scalar(value.text), kinds) is not None or (bool in kinds and is_boolean)
        return " Leave out the quotes." if fits else ""
    if int not in kinds:
        return ""
    number = _read_number(value, (float,))
    if number is not None:
        return f" Write {int(number)}." if number.is_integer() and str(int(number)) != value.text else ""
    if value.kind == "int" and len(value.text) <= 20:
        meant = yaml.safe_load(value.text)
        return f" YAML reads {value} as {meant}: write a plain decimal number." if isinstance(meant, int) else ""
    return ""


def _check_limits(name: str, value: Any, written: str, limits: Mapping[str, Any]) -> None:
    if "choices" in limits and value not in limits["choices"]:
        raise ValueError(f"{name} is {value!r}; expected {describe(type(value), limits)}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        too_low = value < limits.get("min", -_LARGEST) or value <= limits.get("above", -math.inf)
        too_high = value > limits.get("max", _LARGEST) or value >= limits.get("below", math.inf)
        if too_low or too_high:
            raise ValueError(f"{name} is {written}; expected {describe(type(value), limits)}.")
    if "path" in limits and isinstance(value, str):
        path = Path(named_folder(value)[1]).expanduser()
        if limits["path"] == "folder" and path.is_file():
            raise ValueError(f"{name} is {value!r}, which is a file; expected a folder. Name the folder.")
        if limits["path"] == "file" and path.is_dir():
            raise ValueError(f"{name} is {value!r}, which is a folder; expected a file. Name the file in it.")


def check_fields(arguments: Any, kind: type | None = None) -> None:
    """
    Raises `ValueError` if a field of a dataclass, or only of its base `kind`, has a value that its type or its limits
    do not allow.
    """
    kinds = types_of(kind or type(arguments))
    for field in dataclasses.fields(kind or arguments):
        convert(field.name, raw(getattr(arguments, field.name)), kinds[field.name], field.metadata)


def describe(kind: Any, limits: Mapping[str, Any]) -> str:
    """The values that a field allows, in words."""
    words = dict.fromkeys(_words(member, limits) for member in members(kind) if member is not _NULL)
    return " or ".join(words) + (", or null" if _NULL in members(kind) else "")


def _words(kind: Any, limits: Mapping[str, Any]) -> str:
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    choices = ", ".join(limits.get("choices", ()))
    bounds = "".join(f" and {words} {limits[key]}" for key, words in _BOUNDS.items() if key in limits)
    bounds = bounds.removeprefix(" and")
    if bounds.startswith(" at most"):
        bounds = f" of{bounds}"
    if origin is list:
        plural = _PLURALS.get((arguments or (str,))[0], "values")
        return f"a list of {choices or plural + bounds}"
    if choices:
        return f"one of {choices}"
    if origin is dict:
        return "a mapping" + (f" from names to {_PLURALS.get(arguments[1], 'values')}" if arguments else "")
    return _NAMES.get(kind, "a value") + (bounds if kind in (int, float) else "")
