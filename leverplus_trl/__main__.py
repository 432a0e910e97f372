# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
`python -m leverplus_trl RECIPE.yaml [RECIPE.yaml ...]` runs recipes in order, each in processes of its own.

Under `accelerate launch -m leverplus_trl RECIPE.yaml [--field value ...]` the one recipe runs in the processes that
are there already.
"""

import argparse
import importlib
import sys
import time

from .launch import COSTLY, PREPARE, launched_by_accelerate, read_recipe, run_stage


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m leverplus_trl", description="Run recipes in the order given.")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE.yaml")
    parser.add_argument("--dry_run", action="store_true", help="print what the costly stages would do, and stop")
    parser.add_argument(
        "--accelerate_config", help="launch every stage with it: a path, or a name in accelerate_configs/"
    )
    known, rest = parser.parse_known_args(args)
    try:
        recipes = [(path, read_recipe(path)) for path in known.recipes]  # all are read before the first one runs
    except ValueError as error:
        sys.exit(f"leverplus: {error}")
    extra = [*rest, *(["--dry_run"] if known.dry_run else [])]
    if rest and len(recipes) > 1:
        parser.error(f"{rest[0]} can't be given to several recipes at once; use `leverplus <stage> --config RECIPE`")
    if launched_by_accelerate():
        if len(recipes) > 1 or recipes[0][1]["stage"] == PREPARE:
            sys.exit("leverplus: under `accelerate launch` give one recipe, and not one of the stage `prepare`.")
        path, recipe = recipes[0]
        script = importlib.import_module(f"leverplus_trl.scripts.{recipe['stage']}")
        script.main(*script.make_parser().parse_args_and_config(["--config", path, *extra]))
        return
    for path, recipe in recipes:
        if known.dry_run and recipe["stage"] not in COSTLY:
            continue
        print(f"── {recipe['stage']}  {path}", flush=True)
        start = time.monotonic()
        status = run_stage(recipe["stage"], ["--config", path, *extra], recipe, known.accelerate_config)
        if status:
            sys.exit(f"leverplus: {path} failed with status {status}.")
        print(f"── {recipe['stage']} took {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
