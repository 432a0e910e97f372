# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The help of a stage: its keys in groups, required ones first, each with its default."""

import dataclasses
import re
import shutil
import textwrap
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .fields import item_type, members


if TYPE_CHECKING:
    from .recipe_parser import RecipeParser


WIDTH = 119
_COLUMN = 37
_AFTER_SENTENCE = re.compile(r"(?<=[^.]\.)(?<!e\.g\.) ")
_WORDS = {bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT", dict: "MAPPING", list: "LIST"}


class Group(NamedTuple):
    """Fields under one heading."""

    title: str
    fields: Sequence[dataclasses.Field]


def format_help(parser: "RecipeParser", groups: Sequence[Group], everything: bool = False) -> str:
    """The help of a command: of each field the first sentence, or with `everything` the whole text."""
    required = [one for group in groups for one in group.fields if _default(one) is None]
    shown = [Group("Required", required)] if required else []
    shown += [Group(title, [one for one in fields if _default(one) is not None]) for title, fields in groups]
    lines = [f"usage: {parser.prog} --config RECIPE.yaml [--key value ...]", "", parser.description]
    for title, fields in shown:
        if fields:
            lines += ["", f"{title}:"]
        for one in fields:
            lines += _entry(one, parser.kinds[one.name], parser.limits[one.name], everything)
    more = "" if everything else " --help_all says more."
    lines += ["", f"Each key of the recipe is an option here. Defaults stand in [ ]; null is nothing.{more}"]
    return "\n".join(lines)


def _default(one: dataclasses.Field) -> str | None:
    """The default in words; `None` if there is none."""
    if one.default_factory is not dataclasses.MISSING:
        value = one.default_factory()
    elif one.default is dataclasses.MISSING:
        return None
    else:
        value = one.default
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _entry(one: dataclasses.Field, kind: Any, limits: Mapping[str, Any], everything: bool) -> list[str]:
    default, text = _default(one), str(limits.get("help", ""))
    text = text if everything else _AFTER_SENTENCE.split(text, maxsplit=1)[0]
    text += f" [{default}]" if default not in (None, "null") else ""
    width = max(min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns), _COLUMN + 40)
    head = f"  --{one.name} {_word(kind, limits)}"
    if len(head) >= _COLUMN and len(head) + 1 + len(text) <= width:
        return [f"{head} {text}"]
    first, *rest = textwrap.wrap(text.replace("%%", "%"), width - _COLUMN) or [""]
    lines = [f"{head:<{_COLUMN}}{first}"] if len(head) < _COLUMN else [head, " " * _COLUMN + first]
    return [*lines, *(" " * _COLUMN + line for line in rest)]


def _word(kind: Any, limits: Mapping[str, Any]) -> str:
    """What stands for the value of a field."""
    kinds = [one for one in members(kind) if one is not type(None)]
    item = item_type(kinds)
    if "choices" in limits and len("|".join(limits["choices"])) <= 24:
        word = "|".join(limits["choices"])
    else:
        plain = item if item is not None else kinds[0]
        word = _WORDS.get(typing.get_origin(plain) or plain, "TEXT")
    return f"{word} ..." if item is not None else word
