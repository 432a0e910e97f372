# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Reads recipes: YAML whose values keep the text that the file has, until the type of their key is known.

So `labels: [yes, no]` stays two texts, `learning_rate: 1e-4` is a number, and a repeated key is an error.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


_TAG = "tag:yaml.org,2002:"
#: YAML's kinds of plain scalars. Every other kind (dates, for instance) is text here.
_KINDS = {_TAG + kind: kind for kind in ("null", "bool", "int", "float")}
_OTHERS = tuple(_TAG + kind for kind in ("str", "timestamp", "value", "merge", "seq", "map"))


class UsageError(ValueError):
    """A mistake in a recipe or on the command line; the message says where, what was expected and what to do."""


@dataclass(frozen=True)
class Scalar:
    """A single value as it was written."""

    text: str
    kind: str = "text"  # as YAML reads it: "null", "bool", "int", "float" or "text"
    quoted: bool = False  # text because it was written in quotes
    typed: bool = False  # a word of the command line
    given: bool = False  # a value of Python that is no text

    def __str__(self) -> str:
        return repr(self.text) if self.quoted or not self.text else self.text


#: A value of a recipe: a [`Scalar`], a list of values, or a mapping of them.
Raw = Scalar | list | dict


@dataclass(frozen=True)
class Recipe:
    """The values of a recipe by key, as they were written, and for messages its path and each key's line."""

    path: str
    values: dict[str, Raw] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def place(self, key: str) -> str:
        return f"{self.path}, line {self.lines[key]}" if key in self.lines else self.path

    def text(self, key: str) -> str | None:
        """The text of a single value; `None` if it is null or missing."""
        value = self.values.get(key, Scalar("null", "null"))
        if not isinstance(value, Scalar):
            raise UsageError(f"{self.place(key)}: {key} is {shown(value)}; expected a single text.")
        return None if value.kind == "null" else value.text


def read_recipe(path: str | Path) -> Recipe:
    """Reads a recipe. Raises [`UsageError`] if there is no such file, or as [`parse_recipe`]."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"There is no recipe {str(path)!r}; name a YAML file.") from error
    except IsADirectoryError as error:
        raise UsageError(f"The recipe {str(path)!r} is a folder; name a YAML file.") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"The recipe {str(path)!r} can't be read as UTF-8 text: {error}.") from error
    return parse_recipe(text, str(path))


def parse_recipe(text: str, path: str) -> Recipe:
    """A recipe from its text. Raises [`UsageError`] if it is no YAML mapping, or repeats a key."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(f"{path}: a recipe must be a mapping of keys to values, whose first key is `stage`.")
        values = _value(node, path, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{path}, line {line}: the recipe is no valid YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: the recipe is no valid YAML: {' '.join(str(error).split())}.") from error
    return Recipe(path, values, {key.value: key.start_mark.line + 1 for key, _ in node.value})


def _value(node: yaml.Node, path: str, parents: tuple[yaml.Node, ...]) -> Raw:
    """The value of a node, whose `parents` an alias must not name again."""
    place = f"{path}, line {node.start_mark.line + 1}"
    if any(node is parent for parent in parents):
        raise UsageError(f"{place}: an alias (*) names a value that contains the alias; write the value out.")
    if node.tag not in _KINDS and node.tag not in _OTHERS:
        raise UsageError(f"{place}: the tag {node.tag.replace(_TAG, '!!')} has no meaning in a recipe; leave it out.")
    parents = (*parents, node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path, parents) for item in node.value]
    if isinstance(node, yaml.ScalarNode):
        return Scalar(node.value, _KINDS.get(node.tag, "text"), quoted=node.style is not None)
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError(f"{path}, line {line}: a key is a list or a mapping; expected text.")
        if key.value in lines:
            first = lines[key.value]
            raise UsageError(f"{path}, line {line}: the key {key.value!r} was set in line {first} already; keep one.")
        lines[key.value] = line
    yaml.SafeLoader("").flatten_mapping(node)  # `<<: *other`
    return {key.value: _value(value, path, parents) for key, value in node.value}


def raw(value: Any) -> Raw:
    """A value of Python as a recipe would say it."""
    if value is None:
        return Scalar("null", "null")
    if isinstance(value, dict):
        return {str(key): raw(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [raw(item) for item in value]
    if isinstance(value, bool):
        return Scalar(str(value).lower(), "bool", given=True)
    if isinstance(value, int):
        return Scalar(str(int(value)), "int", given=True)
    if isinstance(value, float):
        return Scalar(repr(float(value)), "float", given=True)
    return Scalar(str(value), quoted=isinstance(value, str), given=not isinstance(value, (str, Path)))


def shown(value: Raw) -> str:
    """A value as it was written, in at most 80 characters, for messages."""
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(map(shown, value)) + "]"
    else:
        text = str(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def named_folder(entry: str) -> tuple[str | None, str]:
    """
    Splits `NAME=FOLDER` into the name, if there is one, and the folder or hub id.

    A folder may have `=` in its own name: the text before the first `=` is a name only if it has no `/`, and if no
    folder has the whole name. Raises `ValueError` if both readings name a folder.
    """
    name, _, folder = entry.partition("=")
    whole, folder = os.path.expanduser(entry), os.path.expanduser(folder)
    if not name or not folder or set(name) & {"/", "\\"}:
        return None, whole
    if not os.path.exists(whole):
        return name, folder
    if os.path.exists(folder):
        raise ValueError(
            f"{entry!r} names the folder {entry!r}, or {folder!r} under the name {name!r}; both are there. Write "
            f"'./{entry}' for the first, or '{name}=./{folder}' for the second."
        )
    return None, whole
