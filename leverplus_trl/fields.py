# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
What a field of an argument dataclass allows: its type, and in its metadata, which [`option`] writes,

- `help`: what it is; the first sentence is in `--help`, all of it in `--help_all` and in the docstring;
- `min`, `max`, `above`, `below`: the range of a number, or of each number of a list;
- `choices`: the texts that are allowed;
- `blank`: whether a text may be white space alone;
- `not_empty`: whether a list needs an item; `unique`: whether its items must differ;
- `path`: what a local path must not be the opposite of, `"folder"` or `"file"`.

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
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
#: Whole numbers beyond this fit no tensor and no table.
_LARGEST = 2**63 - 1


def option(help: str, default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A field of an argument dataclass: what it is, its default (none: it is required), and what it allows."""
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata={"help": help, **limits})
    return dataclasses.field(default=default, metadata={"help": help, **limits})


def documented(arguments: type) -> type:
    """Adds the arguments of a dataclass to its docstring, from the help of its fields."""
    of_others = {
        one.name
        for base in arguments.__mro__
        if dataclasses.is_dataclass(base) and not base.__module__.startswith(__package__)
        for one in dataclasses.fields(base)
    }
    lines = []
    for one in keys_of(arguments):
        if one.name in of_others or "help" not in one.metadata:
            continue
        kind = one.type if isinstance(one.type, str) else getattr(one.type, "__name__", str(one.type))
        default = one.default_factory() if callable(one.default_factory) else one.default
        end = "" if default is dataclasses.MISSING else f", *optional*, defaults to `{default!r}`"
        lines += [f"    {one.name} (`{kind}`{end}):", f"        {one.metadata['help']}"]
    summary, raises, errors = inspect.cleandoc(arguments.__doc__ or "").partition("\nRaises:\n")
    arguments.__doc__ = "\n".join([summary.rstrip(), "", "Args:", *lines]) + ("\n" + raises + errors if raises else "")
    return arguments


@functools.cache
def types_of(arguments: type) -> dict[str, Any]:
    """The type of every field of a dataclass."""
    hints = typing.get_type_hints(arguments)
    return {one.name: hints[one.name] for one in dataclasses.fields(arguments)}


def keys_of(arguments: type) -> list[dataclasses.Field]:
    """The fields of a dataclass that a recipe may set."""
    return [one for one in dataclasses.fields(arguments) if one.init]


def members(kind: Any) -> tuple[Any, ...]:
    """The types that a union allows; a single type is a union of one."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def item_type(kinds: Iterable[Any]) -> Any | None:
    """The type of the items of the list that is one of some types; `None` if there is no list."""
    lists = [one for one in kinds if (typing.get_origin(one) or one) is list]
    return (typing.get_args(lists[0]) or (str,))[0] if lists else None


def convert(name: str, value: Raw, kind: Any, limits: Mapping[str, Any]) -> Any:
    """
    A value of a recipe as the type of its field.

    Raises:
        `ValueError`: another type, or a value that the metadata of the field (`limits`) does not allow.
    """
    kinds = members(kind)
    expected = describe(kind, limits)
    if isinstance(value, Scalar) and value.typed and value.text == "null" and type(None) in kinds:
        value = Scalar("null", "null")
    if isinstance(value, Scalar) and value.kind == "null":
        if type(None) not in kinds and Any not in kinds:
            raise ValueError(f"{name} is null; expected {expected}.")
        return None
    if isinstance(value, dict):
        return _convert_mapping(name, value, kinds, expected, limits)
    if isinstance(value, list):
        return _convert_list(name, value, kind, expected, limits)
    if value.text in limits.get("choices", ()):
        value = _as_text(value, str)
    found = _convert_scalar(name, value, kinds, expected, limits)
    _check_limits(name, found, value.text, limits)
    return found


def _convert_mapping(name: str, value: dict, kinds: tuple, expected: str, limits: Mapping[str, Any]) -> dict:
    mappings = [one for one in kinds if one in (dict, Any) or typing.get_origin(one) is dict]
    if not mappings:
        raise ValueError(f"{name} is the mapping {shown(value)}; expected {expected}.")
    of_values = (typing.get_args(mappings[0]) or (str, Any))[1]
    of_each = {key: limit for key, limit in limits.items() if key in ("path", "min")}
    return {
        key: convert(f"{name}[{key!r}]", _as_text(one, of_values), of_values, of_each) for key, one in value.items()
    }


def _convert_list(name: str, value: list, kind: Any, expected: str, limits: Mapping[str, Any]) -> list:
    of_items = Any if Any in members(kind) else item_type(members(kind))
    if of_items is None:
        raise ValueError(f"{name} is the list {shown(value)}; expected {expected}.")
    found = []
    for number, item in enumerate(value, 1):
        if not isinstance(item, Scalar) and of_items is not Any:
            raise ValueError(f"Item {number} of {name} is {shown(item)}; expected {describe(of_items, limits)}.")
        found.append(convert(f"Item {number} of {name}", _as_text(item, of_items), of_items, limits))
    if limits.get("not_empty") and not found:
        raise ValueError(f"{name} is an empty list; expected {expected}, and at least one item in it.")
    if limits.get("unique") and len(set(found)) < len(found):
        raise ValueError(f"{name} is {shown(value)}, which names something twice; expected different items.")
    return found


def _as_text(value: Raw, kind: Any) -> Raw:
    """Inside a list or a mapping of texts `yes` is a text, too: a label, or the name of a column."""
    is_word = isinstance(value, Scalar) and value.kind == "bool" and not value.given
    return Scalar(value.text) if kind is str and is_word else value


def _convert_scalar(name: str, value: Scalar, kinds: tuple, expected: str, limits: Mapping[str, Any]) -> Any:
    takes_mapping = any(one is dict or typing.get_origin(one) is dict for one in kinds)
    if takes_mapping and value.typed and value.text.startswith("{"):
        return _convert_mapping(name, parse_recipe(value.text, name).values, kinds, expected, limits)
    for kind in (bool, int, float, str, Any):
        if kind in kinds and (found := _READ[kind](value)) is not None:
            return found
    if limits.get("blank") and value.text.isspace():
        return value.text
    raise ValueError(f"{name} is {value if value.text else 'empty'}; expected {expected}.{_hint(value, kinds)}")


def _hint(value: Scalar, kinds: tuple) -> str:
    """What to write instead."""
    plain = Scalar(value.text)
    if item_type(kinds) is not None:
        return f" Write [{value}]."
    if str in kinds:
        if value.kind == "bool":
            null = ", or null for nothing" if type(None) in kinds else ""
            return f' YAML reads {value} as a boolean: write "{value}" for the text{null}.'
        return " Leave the key out instead." if not value.text.strip() else ""
    if value.quoted:
        fits = any(_READ[kind](plain) is not None for kind in kinds if kind in (int, float))
        fits |= bool in kinds and value.text.lower() in (*_TRUE[:3], *_FALSE[:3])
        return " Leave out the quotes." if fits else ""
    if int in kinds and (number := _read_float(plain)) is not None:
        return f" Write {int(number)}." if number.is_integer() and str(int(number)) != value.text else ""
    if (
        int in kinds
        and value.kind == "int"
        and len(value.text) <= 20
        and isinstance(meant := yaml.safe_load(value.text), int)
    ):
        return f" YAML reads {value} as {meant}: write a plain decimal number."
    return ""


def _read_bool(value: Scalar) -> bool | None:
    if value.typed or (value.kind == "bool" and not value.quoted):
        text = value.text.lower()
        return True if text in _TRUE else False if text in _FALSE else None
    return None


def _read_int(value: Scalar) -> int | None:
    is_int = not value.quoted and _INT.fullmatch(value.text) and len(value.text) <= 20
    return int(value.text) if is_int else None


def _read_float(value: Scalar) -> float | None:
    if value.quoted or not _FLOAT.fullmatch(value.text):
        return None
    found = float(value.text)
    return found if math.isfinite(found) else None


def _read_text(value: Scalar) -> str | None:
    is_boolean = value.kind == "bool" and not value.quoted and not value.typed
    return None if is_boolean or value.given or not value.text.strip() or "\0" in value.text else value.text


def _read_any(value: Scalar) -> Any:
    number = _read_int(value)
    number = _read_float(value) if number is None else number
    return yaml.safe_load(value.text) if value.kind == "bool" else value.text if number is None else number


_READ = {bool: _read_bool, int: _read_int, float: _read_float, str: _read_text, Any: _read_any}


def _check_limits(name: str, value: Any, written: str, limits: Mapping[str, Any]) -> None:
    expected = functools.partial(describe, type(value), limits)
    if "choices" in limits and value not in limits["choices"]:
        raise ValueError(f"{name} is {value!r}; expected {expected()}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        too_low = value < limits.get("min", -_LARGEST) or value <= limits.get("above", -math.inf)
        too_high = value > limits.get("max", _LARGEST) or value >= limits.get("below", math.inf)
        if too_low or too_high:
            raise ValueError(f"{name} is {written}; expected {expected()}.")
    if "path" in limits and isinstance(value, str):
        _check_path(name, value, limits["path"])


def _check_path(name: str, value: str, kind: str) -> None:
    """What is there must be of the right kind; whether it is there is asked by whoever reads it."""
    path = Path(named_folder(value)[1]).expanduser()
    if kind == "folder" and path.is_file():
        raise ValueError(f"{name} is {value!r}, which is a file; expected a folder. Name the folder.")
    if kind == "file" and path.is_dir():
        raise ValueError(f"{name} is {value!r}, which is a folder; expected a file. Name the file in it.")


def check_fields(arguments: Any, kind: type | None = None) -> None:
    """
    Raises `ValueError` if a field of a dataclass, however it was made, has another type than it says or is out of
    range; with `kind` only the fields of that base are looked at.
    """
    kinds = types_of(kind or type(arguments))
    for one in dataclasses.fields(kind or arguments):
        convert(one.name, raw(getattr(arguments, one.name)), kinds[one.name], one.metadata)


def describe(kind: Any, limits: Mapping[str, Any]) -> str:
    """What a field expects, in words."""
    if "choices" in limits:
        choices = f"one of {', '.join(limits['choices'])}"
        words = [
            f"a list of {choices[7:]}" if one is list or typing.get_origin(one) is list else choices
            for one in members(kind)
            if one is not type(None)
        ]
    else:
        words = [_words(one, limits) for one in members(kind) if one is not type(None)]
    null = ", or null" if type(None) in members(kind) else ""
    return " or ".join(dict.fromkeys(words)) + null


def _words(kind: Any, limits: Mapping[str, Any]) -> str:
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is list:
        return f"a list of {_PLURALS.get((arguments or (str,))[0], 'values')}{_range(limits)}"
    if origin is dict:
        return "a mapping" + (f" from names to {_PLURALS.get(arguments[1], 'values')}" if arguments else "")
    if kind in (int, float):
        return {int: "a whole number", float: "a number"}[kind] + _range(limits)
    return {bool: "true or false", str: "text"}.get(kind, "a value")


_PLURALS = {int: "whole numbers", float: "numbers", str: "texts", bool: "booleans"}


def _range(limits: Mapping[str, Any]) -> str:
    low = (
        f" of at least {limits['min']}"
        if "min" in limits
        else f" above {limits['above']}"
        if "above" in limits
        else ""
    )
    high = f"at most {limits['max']}" if "max" in limits else f"below {limits['below']}" if "below" in limits else ""
    return f"{low} and {high}" if low and high else f" of {high}" if "max" in limits else f" {high}" if high else low
