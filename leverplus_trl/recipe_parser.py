# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Makes the argument dataclasses of a stage from a recipe and the command line, and prints their help.

Everything is checked before anything heavy is imported. The behaviour is that of `trl.TrlParser`: the recipe sets
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
from typing import Any

from .fields import convert, item_type, keys_of, members, types_of
from .recipe import Raw, Recipe, Scalar, UsageError, raw, read_recipe


#: Place of the values of a command line, for messages.
COMMAND_LINE = "command line"
_WIDTH, _COLUMN = 119, 37  # of the help; _COLUMN is where its texts begin
_AFTER_SENTENCE = re.compile(r"(?<=[^.]\.)(?<!e\.g\.) ")
_WORDS = {bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT", dict: "MAPPING", list: "LIST"}


@dataclasses.dataclass(frozen=True)
class TrainingArgumentsClass:
    """A subclass of `transformers.TrainingArguments` that is imported when it is made, since that takes seconds."""

    own: type  # dataclass of the fields that the project adds or changes, with a method `check`
    all: Callable[[], type]  # gives a dataclass of all fields of `transformers.TrainingArguments`
    module: str
    name: str

    def load(self) -> type:
        return getattr(importlib.import_module(self.module), self.name)


class RecipeParser:
    """
    Reads the arguments of a stage.

    `dataclass_types` are argument dataclasses and [`TrainingArgumentsClass`]es, in the order in which they are
    returned. With a `stage`, recipes of others are refused. `elsewhere(key)` names the other stages that have a key.
    `together` raises `ValueError` for values that exclude each other; it takes all arguments by name.
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
                for field in keys_of(part):
                    self.limits[field.name] = {**self.limits.get(field.name, {}), **field.metadata}
                    self.fields[field.name] = field

    def parse_args_and_config(self, words: Sequence[str] | None = None) -> tuple[Any, ...]:
        """
        The arguments from a command line, by default that of the process, `--config RECIPE.yaml` included.

        Raises [`UsageError`] for a key that is unknown, repeated or missing, and a value of another type or range.
        """
        return self._parse(*self.read(list(sys.argv[1:] if words is None else words)))

    def parse_dict(self, values: Mapping[str, Any], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """The same from a mapping of Python values."""
        known = {key: raw(value) for key, value in values.items() if not allow_extra_keys or key in self.fields}
        return self._parse(Recipe("the given values", known), {})

    def _parse(self, recipe: Recipe, typed: Mapping[str, list[str]]) -> tuple[Any, ...]:
        return self._make(recipe, typed, self.check(recipe, typed), TrainingArgumentsClass.load)

    def read(self, words: Sequence[str]) -> tuple[Recipe, dict[str, list[str]]]:
        """The recipe and the words of each option of a command line, unchecked; `--help` prints the help and exits."""
        typed = read_words(words)
        if "help" in typed or "help_all" in typed:
            print(self.format_help("help_all" in typed))
            raise SystemExit(0)
        files = typed.pop("config", None)
        if files is not None and len(files) != 1:
            raise UsageError(f"--config has {len(files)} values; expected one recipe: --config RECIPE.yaml.")
        recipe = read_recipe(files[0]) if files else Recipe(COMMAND_LINE)
        if self.stage and "stage" in recipe.values and recipe.text("stage") != self.stage:
            raise UsageError(
                f"{recipe.place('stage')}: the recipe says `stage: {recipe.text('stage') or 'null'}`; expected "
                f"{self.stage}. Run it with its own stage, or with `python -m leverplus_trl RECIPE.yaml`."
            )
        set_environment(recipe)
        return recipe, typed

    def check(self, recipe: Recipe, typed: Mapping[str, list[str]]) -> dict[str, Any]:
        """The converted values of all keys that are set, checked together, too; makes nothing heavy."""
        values = self.convert(recipe, typed)
        made = self._make(recipe, typed, values, lambda kind: kind.own)
        with _placed(recipe, typed):
            self.together({name: value for args in made for name, value in vars(args).items()})
        return values

    def convert(self, recipe: Recipe, typed: Mapping[str, list[str]]) -> dict[str, Any]:
        """The values of all keys that are set, by the type of their fields; those of the command line win."""
        given = {key: value for key, value in recipe.values.items() if key != "env"}
        for key in (*given, *typed):
            if key not in self.fields:
                place = recipe.place(key) if key in given else COMMAND_LINE
                raise UsageError(f"{place}: unknown key {key}: {self._remedy(key)}")
        values = {}
        with _placed(recipe, typed):
            for key in dict.fromkeys((*given, *typed)):
                value = self._typed(key, typed[key]) if key in typed else given[key]
                values[key] = convert(key, value, self.kinds[key], self.limits[key])
        missing = [name for name, field in self.fields.items() if is_required(field) and name not in values]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise UsageError(
                f"{recipe.path}: {', '.join(missing)} {verb} missing. Set {missing[0]} in the recipe or on the "
                f"command line; `{self.prog} --help` explains it."
            )
        return values

    def _remedy(self, key: str) -> str:
        other = self.elsewhere(key)
        if other:
            return f"it is a key of {other}."
        near = difflib.get_close_matches(key, [*self.fields, "env"], 1, 0.6)
        return f"did you mean {near[0]}?" if near else f"`{self.prog} --help` lists all keys."

    def _typed(self, key: str, words: list[str]) -> Raw:
        """The words after an option, as a recipe would say them."""
        kinds = members(self.kinds[key])
        if words == ["null"] and type(None) in kinds:
            return Scalar("null", "null")
        if item_type(kinds) is not None and (len(words) != 1 or str not in kinds):
            return [Scalar(word, typed=True) for word in words]
        if not words and bool in kinds:
            return Scalar("true", typed=True)
        if len(words) != 1:
            given = f"the values {' '.join(words)}" if words else "no value"
            raise UsageError(f"{COMMAND_LINE}: --{key} has {given}; expected one.")
        return Scalar(words[0], typed=True)

    def _make(
        self, recipe: Recipe, typed: Mapping, values: dict, load: Callable[[TrainingArgumentsClass], type]
    ) -> tuple[Any, ...]:
        made = []
        for kind in self.dataclass_types:
            heavy = isinstance(kind, TrainingArgumentsClass)
            with _placed(recipe, typed):
                chosen = load(kind) if heavy else kind
                names = {field.name for field in keys_of(chosen)}
                made.append(chosen(**{name: value for name, value in values.items() if name in names}))
                if heavy and chosen is kind.own:
                    made[-1].check()
        return tuple(made)

    def format_help(self, everything: bool = False) -> str:
        """The help: the first sentence on each field of this project, or all texts of all fields."""
        groups = self._groups(everything)
        required = [field for _, fields in groups for field in fields if is_required(field)]
        groups = [(title, [field for field in fields if not is_required(field)]) for title, fields in groups]
        lines = [f"usage: {self.prog} --config RECIPE.yaml [--key value ...]", "", self.description]
        for title, fields in (("Required", required), *groups):
            lines += ["", f"{title}:"] if fields else []
            for field in fields:
                lines += _help_of(field, self.kinds[field.name], self.limits[field.name], everything)
        more = "" if everything else " --help_all says more."
        lines += ["", f"Each key of the recipe is an option here. Defaults are in [ ]; null is nothing.{more}"]
        return "\n".join(lines)

    def _groups(self, everything: bool) -> list[tuple[str, list[dataclasses.Field]]]:
        """Headings and fields: of a dataclass by the base that adds them, those of every stage last."""
        groups = []
        for kind in (*self.dataclass_types[1:], self.dataclass_types[0]):
            if not isinstance(kind, TrainingArgumentsClass):
                for part in filter(dataclasses.is_dataclass, kind.__mro__):
                    added = vars(part).get("__annotations__", ())
                    groups.append((_heading(part), [field for field in keys_of(kind) if field.name in added]))
                continue
            own, inherited = keys_of(kind.own), {field.name for field in keys_of(kind.all())}
            groups.append((_heading(kind.own), [field for field in own if field.name not in inherited]))
            changed = [field for field in own if field.name in inherited and not field.metadata.get("hidden")]
            groups.append(("Training (of transformers.TrainingArguments; all: --help_all)", changed))
            if everything:
                rest = inherited - {field.name for field in own}
                loaded = [field for field in keys_of(kind.load()) if field.name in rest]
                groups.append(("Training (all others of transformers.TrainingArguments)", loaded))
        return groups


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
        raise UsageError(f"{COMMAND_LINE if key in typed else recipe.place(key)}: {error}") from error


def read_words(words: Sequence[str]) -> dict[str, list[str]]:
    """
    The options of a command line and the words that follow each.

    Raises [`UsageError`] for words before the first option, and an option that is given twice.
    """
    options: dict[str, list[str]] = {}
    name = None
    for word in words:
        if word == "-h":
            word = "--help"
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name in options:
                raise UsageError(f"{COMMAND_LINE}: --{name} is given twice; keep one.")
            options[name] = [value] if equals else []
        elif name is None:
            raise UsageError(f"{COMMAND_LINE}: {word!r} follows no option; expected `--key value`.")
        else:
            options[name].append(word)
    return options


def set_environment(recipe: Recipe) -> None:
    """Sets the environment variables that a recipe names under `env`."""
    named = recipe.values.get("env", {})
    if not isinstance(named, dict) or not all(isinstance(value, Scalar) for value in named.values()):
        raise UsageError(f"{recipe.place('env')}: env must be a mapping of environment variables to texts.")
    os.environ |= {name: value.text for name, value in named.items()}


def is_required(field: dataclasses.Field) -> bool:
    """Whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _heading(kind: type) -> str:
    """The beginning of the docstring of a class, up to a colon or full stop."""
    return re.split(r"[:.]", (kind.__doc__ or kind.__name__).strip(), maxsplit=1)[0]


def _help_of(field: dataclasses.Field, kind: Any, limits: Mapping[str, Any], everything: bool) -> list[str]:
    """The lines on a field: its name, the kind of its value, its text and its default."""
    text = str(limits.get("help", ""))
    text = text if everything else _AFTER_SENTENCE.split(text, maxsplit=1)[0]
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if isinstance(default, list):
        default = ", ".join(map(str, default)) or "none"
    elif isinstance(default, bool):
        default = str(default).lower()
    if not is_required(field) and default is not None:
        text += f" [{default}]"
    kinds = [member for member in members(kind) if member is not type(None)]
    item = item_type(kinds)
    plain = kinds[0] if item is None else item
    word = "|".join(limits.get("choices", ()))
    if not 0 < len(word) <= 24:
        word = _WORDS.get(typing.get_origin(plain) or plain, "TEXT")
    head = f"  --{field.name} {word}" + (" ..." if item is not None else "")
    width = max(min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns), _COLUMN + 40)
    if len(head) >= _COLUMN and len(head) + 1 + len(text) <= width:
        return [f"{head} {text}"]
    first, *rest = textwrap.wrap(text.replace("%%", "%"), width - _COLUMN) or [""]
    lines = [f"{head:<{_COLUMN}}{first}"] if len(head) < _COLUMN else [head, " " * _COLUMN + first]
    return [*lines, *(" " * _COLUMN + line for line in rest)]
