# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""`leverplus <stage> --config RECIPE.yaml [--key value ...]`."""

import difflib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from . import __version__
from .launch import MERGE, PREPARE, STAGES, run_stage, stage_of
from .recipe import UsageError, read_recipe
from .recipe_parser import is_required, read_words, set_environment
from .scripts.parsers import make_parser
from .stage_process import guarded
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


def main(words: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if words is None else words)
    status = [0]
    failed = guarded(lambda: status.append(run(words)), "--traceback" in words)
    raise SystemExit(failed or status[-1])


def run(words: Sequence[str]) -> int:
    """Does what a command line says and returns the exit status."""
    if not words or words[0] in ("-h", "--help"):
        print(DESCRIPTION, end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"leverplus_trl {__version__}")
        return 0
    command, *rest = words
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}."
        raise UsageError(f"unknown command {command}: {hint}")
    if command == "env":
        from .provenance import describe

        print(describe())
        return 0
    if command == MERGE:
        return run_merge(rest)
    return run_checked(command, rest, say_next=True)


def run_checked(stage: str, words: Sequence[str], say_next: bool = False) -> int:
    """Checks the recipe and the command line of a stage, then runs it in processes of its own; on success it can print
    the next command."""
    typed = read_words(words)
    if typed.keys().isdisjoint(("help", "help_all")) and typed.get("config"):
        recipe = read_recipe(typed["config"][0])
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
        print(f"Next: {next_step(stage, (typed.get('config') or [None])[0], values)}")
    return status


def run_merge(words: Sequence[str]) -> int:
    """Merges what `--output_dir` names, or the recipe of `--config`."""
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


#: The stage after each, and its key that takes the output of the one before.
FOLLOWING = {
    PREPARE: ("beams", "dataset"),
    "beams": ("sft", "beams"),
    "sft": ("evaluate", "selectors"),
    "rollouts": ("grpo", "rollouts"),
    "grpo": ("evaluate", "selectors"),
    "evaluate": ("report", "evaluation"),
}
#: Keys that every stage means alike: those of the data.
_SHARED = tuple(one.name for one in fields(DataArguments))


def next_step(stage: str, recipe: str | None, values: Mapping[str, Any]) -> str:
    """
    The command that follows a finished stage.

    Args:
        stage (`str`):
            The stage.
        recipe (`str`, *optional*):
            Path of its recipe. If a recipe with a higher number lies beside it, that recipe comes next.
        values (`Mapping[str, Any]`):
            What the recipe and the command line set.

    Returns:
        `str`: a command line, or what to look at after the last stage. What the user has to fill in is in capitals.
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
    chosen |= {key: key.upper() for key, one in needed if is_required(one) and key not in chosen}
    return shlex.join(
        ["leverplus", following, *(word for key, value in chosen.items() for word in _words(key, value))]
    )


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


def _words(key: str, value: Any) -> list[str]:
    """An option as it is typed."""
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    if isinstance(value, dict):
        return [f"--{key}", json.dumps(value, ensure_ascii=False)]
    return [f"--{key}", "null" if value is None else str(value)]


if __name__ == "__main__":
    main()
