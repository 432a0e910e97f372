# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""`leverplus <stage> --config RECIPE.yaml [--key value ...]`."""

import difflib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from . import __version__
from .launch import MERGE, PREPARE, STAGES, guarded, run_stage, stage_of
from .recipe import UsageError, read_recipe
from .recipe_parser import is_required, read_words, set_environment
from .scripts.parsers import make_parser
from .tasks.arguments import DataArguments


DESCRIPTION = """\
usage: leverplus <stage> --config RECIPE.yaml [--key value ...]

Teach a small model to choose demonstrations for a frozen vision-language model.

Stages:
  prepare    make an examples table of a published dataset (or what the `script` of a recipe makes)
  beams      a VLM scores ordered demonstrations: beams and ledger
  sft        train a selector on them
  rollouts   the VLM answers after sequences from many sources, each measured once
  grpo       train the selector further by rewards made of these measures
  evaluate   answer test queries with what the selector and every baseline choose
  report     tables, plots and a page from an evaluation

Other commands:
  merge      the tables of beams, rollouts or evaluate from the shards (--num_shards) of a job array: same --config, or
             --output_dir DIR [--shards DIR ...]
  env        versions and devices, for a bug report

`leverplus <stage> --help` lists the keys of a stage's recipe. `leverplus --version` prints the version.
`python -m leverplus_trl RECIPE ...` runs several recipes in order.
"""
COMMANDS = (PREPARE, *STAGES, MERGE, "env")
#: The stage after each, and its key that takes the output of the one before.
FOLLOWING = {
    PREPARE: ("beams", "dataset"),
    "beams": ("sft", "beams"),
    "sft": ("evaluate", "selectors"),
    "rollouts": ("grpo", "rollouts"),
    "grpo": ("evaluate", "selectors"),
    "evaluate": ("report", "evaluation"),
}
#: Keys that mean the same in every stage: those of the data.
_SHARED = tuple(field.name for field in fields(DataArguments))


def main(words: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if words is None else words)
    raise SystemExit(guarded(partial(run, words), "--traceback" in words))


def run(words: Sequence[str]) -> int:
    """Runs a command line and returns the exit status."""
    if not words or words[0] in ("-h", "--help"):
        print(DESCRIPTION, end="")
        return 0 if words else 2
    command, *rest = words
    if command == "--version":
        print(f"leverplus_trl {__version__}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}."
        raise UsageError(f"unknown command {command}: {hint}")
    if command == "env":
        from .provenance import describe_machine

        print(describe_machine())
        return 0
    if command == MERGE:
        return run_merge(rest)
    return run_checked(command, rest, say_next=True)


def run_checked(stage: str, words: Sequence[str], say_next: bool = False) -> int:
    """Checks the recipe and the command line of a stage, then runs it in processes of its own; on success it can print
    the next command."""
    typed = read_words(words)
    path = (typed.get("config") or [None])[0]
    if path and typed.keys().isdisjoint(("help", "help_all")):
        recipe = read_recipe(path)
        if stage_of(recipe) != stage:
            raise UsageError(f"{recipe.place('stage')}: this recipe is for the stage {stage_of(recipe)}, not {stage}.")
        if stage == PREPARE and recipe.text("script"):
            set_environment(recipe)
            return run_stage(recipe.text("script"), words)
    parser = make_parser(stage)
    values = parser.check(*parser.read(words))
    status = run_stage(stage, words, values.get("accelerate_config"))
    silent = any(values.get(key) for key in ("dry_run", "quiet")) or values.get("num_shards", 1) > 1
    if say_next and not status and not silent:
        print(f"Next: {next_step(stage, path, values)}")
    return status


def run_merge(words: Sequence[str]) -> int:
    """Merges the shards in `--output_dir`, or of the recipe of `--config`."""
    parser = make_parser(MERGE)
    if "--config" in words:
        place = words.index("--config")
        recipe = read_recipe(words[place + 1]) if len(words) > place + 1 else None
        if recipe is None or not recipe.text("output_dir"):
            raise UsageError("--config must be followed by the recipe of the shards, with an output_dir.")
        own = [] if "--output_dir" in words else ["--output_dir", recipe.text("output_dir")]
        words = [*own, *words[:place], *words[place + 2 :]]
    parser.check(*parser.read(words))
    return run_stage(MERGE, words)


def next_step(stage: str, recipe: str | None, values: Mapping[str, Any]) -> str:
    """
    The command that follows a finished stage, with words in capitals for what the user has to fill in; after the last
    stage, the page to open.

    `recipe` is the path of its recipe: a recipe with a higher number in the same folder comes next. `values` are those
    of the recipe and the command line.
    """
    output = str(values["output_dir"])
    if stage == "report":
        return f"open {Path(output, 'index.html')} in a browser"
    numbered = recipe and _recipe_after(Path(recipe))
    if numbered:
        return shlex.join(["leverplus", *numbered])
    following, takes = FOLLOWING[stage]
    chosen = {key: value for key, value in values.items() if key in _SHARED and value is not None}
    chosen |= {takes: output, "output_dir": f"{output}_{following}"}
    if following == "sft" and "validation" not in (values.get("query_splits") or ["train"]):
        chosen["eval_split"] = None
    needed = make_parser(following).fields.items()
    chosen |= {key: key.upper() for key, field in needed if is_required(field) and key not in chosen}
    words = ["leverplus", following]
    for key, value in chosen.items():
        if isinstance(value, dict):
            value = json.dumps(value, ensure_ascii=False)
        items = value if isinstance(value, list) else ["null" if value is None else value]
        words += [f"--{key}", *map(str, items)]
    return shlex.join(words)


def _recipe_after(recipe: Path) -> list[str] | None:
    """`[stage, "--config", path]` of the next numbered recipe in the folder of a numbered recipe."""
    own = recipe.name.partition("_")[0]
    numbers = {file: file.name.partition("_")[0] for file in recipe.parent.glob("[0-9]*_*.yaml")}
    later = [file for file, number in numbers.items() if number.isdigit() and own.isdigit() and int(number) > int(own)]
    if not later:
        return None
    following = min(later, key=lambda file: (int(numbers[file]), file.name))
    try:
        stage = stage_of(read_recipe(following))
    except UsageError:
        return None
    return [stage, "--config", str(following)] if stage in STAGES else None


if __name__ == "__main__":
    main()
