# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""`leverplus <stage> --config RECIPE.yaml [--key value ...]`."""

import difflib
import sys
from collections.abc import Sequence

from . import __version__
from .launch import MERGE, PREPARE, STAGES, run_stage, stage_of
from .next_step import next_step
from .recipe import UsageError, read_recipe
from .recipe_parser import read_words, set_environment
from .scripts.parsers import make_parser
from .stage_process import guarded


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
        from .environment import describe

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


if __name__ == "__main__":
    main()
