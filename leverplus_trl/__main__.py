# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
`python -m leverplus_trl RECIPE.yaml [RECIPE.yaml ...]` runs recipes in order, each in processes of its own.

Under `accelerate launch -m leverplus_trl RECIPE.yaml [--key value ...]` the recipe runs in the processes of that
launch.
"""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial

from .cli import run_checked
from .launch import COSTLY, PREPARE, guarded, run_stage_here, stage_of
from .recipe import UsageError, read_recipe
from .scripts.parsers import make_parser


USAGE = """\
usage: python -m leverplus_trl RECIPE.yaml [RECIPE.yaml ...] [--dry_run] [--accelerate_config NAME]

Run recipes in the order given. With one recipe, every key of its stage may follow: --key value.

  --dry_run                  say what each stage would do and cost, and stop
  --accelerate_config NAME   launch every stage with it: a path, or a name in accelerate_configs/
  --quiet, --verbose         say less or more; --traceback: say where an error came from
"""
#: Options that make sense for all stages at once.
SHARED = ("--dry_run", "--accelerate_config", "--quiet", "--verbose", "--traceback")


def main(words: Sequence[str] | None = None) -> None:
    words = list(sys.argv[1:] if words is None else words)
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ
    work = run_in_these_processes if is_launched else run
    raise SystemExit(guarded(partial(work, words), "--traceback" in words))


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The recipes of a command line, and the options after them."""
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    paths, options = list(words[:first]), list(words[first:])
    while options and options[-1].endswith((".yaml", ".yml")) and options[-2:-1] != ["--accelerate_config"]:
        paths.append(options.pop())  # `--dry_run RECIPE.yaml`
    return paths, options


def run(words: Sequence[str]) -> int:
    """Checks all recipes, then runs them; returns the exit status of the first that fails."""
    paths, options = split_words(words)
    if not paths or "--help" in options or "-h" in options:
        print(USAGE, end="")
        return 0 if options else 2
    own = [option for option in options if option.startswith("--") and option.partition("=")[0] not in SHARED]
    if own and len(paths) > 1:
        raise UsageError(f"{own[0]} was given to several recipes at once; use `leverplus <stage> --config RECIPE`.")
    recipes = {path: read_recipe(path) for path in paths}
    stages = {path: stage_of(recipe) for path, recipe in recipes.items()}
    for path, recipe in recipes.items():  # all of them, before the first runs
        if not recipe.text("script"):
            parser = make_parser(stages[path])
            parser.check(*parser.read(["--config", path, *options]))
    for path in paths:
        stage = stages[path]
        print(f"── {stage}  {path}", flush=True)
        start = time.monotonic()
        if "--dry_run" in options and stage not in COSTLY:
            print(f"The recipe is valid; {stage} would write {recipes[path].text('output_dir')}.", flush=True)
            continue
        status = run_checked(stage, ["--config", path, *options])
        if status:
            return status
        print(f"── {stage} took {time.monotonic() - start:.0f} s", flush=True)
    return 0


def run_in_these_processes(words: Sequence[str]) -> int:
    """Runs one recipe in the processes that `accelerate launch` started."""
    paths, options = split_words(words)
    if len(paths) != 1:
        raise UsageError(f"{len(paths)} recipes were given; under `accelerate launch` give one.")
    stage = stage_of(read_recipe(paths[0]))
    if stage == PREPARE:
        raise UsageError("`prepare` takes one process: run it without `accelerate launch`.")
    return run_stage_here(stage, ["--config", paths[0], *options])


if __name__ == "__main__":
    main()
