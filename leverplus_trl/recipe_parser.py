# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Makes the argument dataclasses of a stage from a recipe and the command line.

All of it is checked before anything heavy is imported. The behaviour is that of `trl.TrlParser`: the recipe sets
values, `--key value` overrides them, and `env:` of a recipe sets environment variables.
"""

import contextlib
import dataclasses
import difflib
import importlib
import os
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .fields import convert, item_type, keys_of, members, types_of
from .recipe import Raw, Recipe, Scalar, UsageError, raw, read_recipe


#: Where the values of a command line stand, for messages.
COMMAND_LINE = "command line"


class Group(NamedTuple):
    """Fields under one heading."""

    title: str
    fields: Sequence[dataclasses.Field]


@dataclasses.dataclass(frozen=True)
class TrainingArgumentsClass:
    """A subclass of `transformers.TrainingArguments` that is imported when it is made, since that takes seconds."""

    own: type  # dataclass of the fields that the project adds or changes, with a method `check`
    all: Callable[[], type]  # gives a dataclass of all fields of `transformers.TrainingArguments`
    module: str  # where the class is
    name: str

    def load(self) -> type:
        return getattr(importlib.import_module(self.module), self.name)


class RecipeParser:
    """
    Reads the arguments of a stage.

    Args:
        dataclass_types (`Iterable[type]`):
            Argument dataclasses and [`TrainingArgumentsClass`]es, in the order in which they are returned.
        stage (`str`, *optional*):
            The stage, for the help and to refuse the recipes of others.
        description (`str`, *optional*, defaults to `""`):
            What it does, for the help.
        elsewhere (`Callable[[str], str | None]`, *optional*):
            Says which other stages have a key.
        together (`Callable[[Mapping[str, Any]], None]`, *optional*):
            Raises `ValueError` for values that exclude each other; takes all arguments by name.
    """

    def __init__(
        self,
        dataclass_types: Iterable[type | TrainingArgumentsClass],
        stage: str | None = None,
        description: str = "",
        elsewhere: Callable[[str], str | None] = lambda key: None,
        together: Callable[[Mapping[str, Any]], None] = lambda values: None,
    ):
        self.dataclass_types = tuple(dataclass_types)
        self.stage, self.description, self.elsewhere, self.together = stage, description, elsewhere, together
        self.prog = f"leverplus {stage}" if stage else Path(sys.argv[0]).name
        self.kinds: dict[str, Any] = {}
        self.fields: dict[str, dataclasses.Field] = {}
        self.limits: dict[str, Mapping[str, Any]] = {}
        for kind in self.dataclass_types:
            for part in (kind.all(), kind.own) if isinstance(kind, TrainingArgumentsClass) else (kind,):
                self.kinds |= types_of(part)
                for one in keys_of(part):
                    self.limits[one.name] = {**self.limits.get(one.name, {}), **one.metadata}
                    self.fields[one.name] = one

    def parse_args_and_config(self, words: Sequence[str] | None = None) -> tuple[Any, ...]:
        """
        The arguments from a command line, by default that of the process, `--config RECIPE.yaml` included.

        Raises:
            [`UsageError`]: a key that is unknown or set twice, a value of another type or out of range, or one that
                is missing.
        """
        recipe, typed = self.read(list(sys.argv[1:] if words is None else words))
        return self.make(recipe, typed)

    def parse_dict(self, values: Mapping[str, Any], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """The same from a mapping of Python values."""
        known = {key: raw(value) for key, value in values.items() if not allow_extra_keys or key in self.fields}
        return self.make(Recipe("the given values", known), {})

    def read(self, words: Sequence[str]) -> tuple[Recipe, dict[str, list[str]]]:
        """The recipe and the words of each option of a command line, unchecked; prints the help if it is asked for."""
        typed = read_words(words)
        if "help" in typed or "help_all" in typed:
            print(self.format_help("help_all" in typed))
            raise SystemExit(0)
        files = typed.pop("config", None)
        if files is not None and len(files) != 1:
            raise UsageError(f"--config has {len(files)} values; expected one recipe: --config RECIPE.yaml.")
        recipe = read_recipe(files[0]) if files else Recipe(COMMAND_LINE)
        self._check_stage(recipe)
        set_environment(recipe)
        return recipe, typed

    def check(self, recipe: Recipe, typed: Mapping[str, list[str]]) -> dict[str, Any]:
        """The converted values of all keys that are set; checks them together, too, and makes nothing heavy."""
        values = self.convert(recipe, typed)
        made = self._make(recipe, typed, values, lambda kind: kind.own)
        with _placed(recipe, typed):
            self.together({name: value for args in made for name, value in vars(args).items()})
        return values

    def make(self, recipe: Recipe, typed: Mapping[str, list[str]]) -> tuple[Any, ...]:
        """The arguments."""
        values = self.check(recipe, typed)
        return self._make(recipe, typed, values, TrainingArgumentsClass.load)

    def convert(self, recipe: Recipe, typed: Mapping[str, list[str]]) -> dict[str, Any]:
        """The values of all keys that are set, by the type of their fields; those of the command line win."""
        given = {key: value for key, value in recipe.values.items() if key != "env"}
        for place, keys in ((recipe.place, given), (lambda key: COMMAND_LINE, typed)):
            unknown = next((key for key in keys if key not in self.fields), None)
            if unknown is not None:
                raise UsageError(f"{place(unknown)}: {self._unknown(unknown)}")
        values = {}
        for key in dict.fromkeys((*given, *typed)):
            try:
                value = self._typed(key, typed[key]) if key in typed else given[key]
                values[key] = convert(key, value, self.kinds[key], self.limits[key])
            except UsageError:
                raise
            except ValueError as error:
                raise UsageError(f"{COMMAND_LINE if key in typed else recipe.place(key)}: {error}") from error
        missing = [name for name, one in self.fields.items() if is_required(one) and name not in values]
        if missing:
            named = ", ".join(missing)
            verb = "is" if len(missing) == 1 else "are"
            raise UsageError(
                f"{recipe.path}: {named} {verb} missing. Set {missing[0]} in the recipe or on the command "
                f"line; `{self.prog} --help` explains it."
            )
        return values

    def format_help(self, everything: bool = False) -> str:
        """The help: the fields of this project in groups, with `everything` those of transformers, too."""
        return format_help(self, self._groups(everything), everything)

    def _groups(self, everything: bool) -> list[Group]:
        groups = []
        for kind in self.dataclass_types:
            if not isinstance(kind, TrainingArgumentsClass):
                groups += by_class(kind)
                continue
            inherited = {one.name for one in keys_of(kind.all())}
            own = keys_of(kind.own)
            groups.append(Group(heading(kind.own), [one for one in own if one.name not in inherited]))
            changed = [one for one in own if one.name in inherited and not one.metadata.get("hidden")]
            groups.append(Group("Training (of transformers.TrainingArguments; all: --help_all)", changed))
            if everything:
                rest = inherited - {one.name for one in own}
                loaded = [one for one in keys_of(kind.load()) if one.name in rest]
                groups.append(Group("Training (all others of transformers.TrainingArguments)", loaded))
        every = len(by_class(self.dataclass_types[0]))  # what every stage has comes last
        return [*groups[every:], *groups[:every]]

    def _check_stage(self, recipe: Recipe) -> None:
        if self.stage and "stage" in recipe.values and recipe.text("stage") != self.stage:
            raise UsageError(
                f"{recipe.place('stage')}: the recipe says `stage: {recipe.text('stage') or 'null'}`; expected "
                f"{self.stage}. Run it with its own stage, or with `python -m leverplus_trl RECIPE.yaml`."
            )

    def _typed(self, key: str, words: list[str]) -> Raw:
        """The words that follow an option, as a recipe would say them."""
        kinds = members(self.kinds[key])
        if words == ["null"] and type(None) in kinds:
            return Scalar("null", "null")
        if item_type(kinds) is not None and (len(words) != 1 or str not in kinds):
            return [Scalar(word, typed=True) for word in words]
        if not words and bool in kinds:
            return Scalar("true", typed=True)
        if len(words) != 1:
            found = f"the values {' '.join(words)}" if words else "no value"
            raise UsageError(f"{COMMAND_LINE}: --{key} has {found}; expected one.")
        return Scalar(words[0], typed=True)

    def _unknown(self, key: str) -> str:
        other = self.elsewhere(key)
        if other:
            return f"unknown key {key}: it is a key of {other}."
        near = difflib.get_close_matches(key, [*self.fields, "env"], 1, 0.6)
        return f"unknown key {key}: " + (
            f"did you mean {near[0]}?" if near else f"`{self.prog} --help` lists all keys."
        )

    def _make(
        self, recipe: Recipe, typed: Mapping, values: dict, load: Callable[[TrainingArgumentsClass], type]
    ) -> tuple[Any, ...]:
        made = []
        for kind in self.dataclass_types:
            heavy = isinstance(kind, TrainingArgumentsClass)
            with _placed(recipe, typed):
                chosen = load(kind) if heavy else kind
                names = {one.name for one in keys_of(chosen)}
                made.append(chosen(**{name: value for name, value in values.items() if name in names}))
                if heavy and chosen is kind.own:
                    made[-1].check()
        return tuple(made)


@contextlib.contextmanager
def _placed(recipe: Recipe, typed: Mapping) -> Iterator[None]:
    """Turns an error into a [`UsageError`] that says where the first key it names was set."""
    try:
        yield
    except UsageError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        named = (word for word in re.findall(r"\w+", str(error)) if word in typed or word in recipe.lines)
        key = next(named, "")
        place = COMMAND_LINE if key in typed else recipe.place(key)
        raise UsageError(f"{place}: {error}") from error


def read_words(words: Sequence[str]) -> dict[str, list[str]]:
    """
    The options of a command line and the words that follow each.

    Raises:
        [`UsageError`]: words before the first option, or an option that is given twice.
    """
    found: dict[str, list[str]] = {}
    name = None
    for word in words:
        if word == "-h":
            word = "--help"
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name in found:
                raise UsageError(f"{COMMAND_LINE}: --{name} is given twice; keep one.")
            found[name] = [value] if equals else []
        elif name is None:
            raise UsageError(f"{COMMAND_LINE}: {word!r} follows no option; expected `--key value`.")
        else:
            found[name].append(word)
    return found


def set_environment(recipe: Recipe) -> None:
    """Sets the environment variables that a recipe names under `env`."""
    named = recipe.values.get("env", {})
    if not isinstance(named, dict) or not all(isinstance(value, Scalar) for value in named.values()):
        raise UsageError(f"{recipe.place('env')}: env must be a mapping of environment variables to texts.")
    os.environ |= {name: value.text for name, value in named.items()}


def is_required(one: dataclasses.Field) -> bool:
    """Whether a field has no default."""
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING


def heading(kind: type) -> str:
    """What the docstring of a class begins with, up to a colon or full stop."""
    return re.split(r"[:.]", (kind.__doc__ or kind.__name__).strip(), maxsplit=1)[0]


def by_class(kind: type) -> list[Group]:
    """The fields of a dataclass by the class of its line that adds them."""
    groups = [
        Group(heading(one), [f for f in keys_of(kind) if f.name in vars(one).get("__annotations__", ())])
        for one in kind.__mro__
        if dataclasses.is_dataclass(one)
    ]
    return [group for group in groups if group.fields]


WIDTH = 119
_COLUMN = 37
_AFTER_SENTENCE = re.compile(r"(?<=[^.]\.)(?<!e\.g\.) ")
_WORDS = {bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT", dict: "MAPPING", list: "LIST"}


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
