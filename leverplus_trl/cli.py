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

"""`leverplus <stage> --config RECIPE.yaml [--field value ...]`."""

import argparse
import sys

from .launch import MERGE, PREPARE, STAGES, read_recipe, run_stage


DESCRIPTION = """\
Teach a small model to choose demonstrations for a frozen vision-language model.

stages:
  prepare    make an examples table of a published dataset (or whatever the `script` of a recipe makes)
  beams      a VLM scores ordered demonstrations: beams and ledger
  sft        train a selector on them
  rollouts   the VLM answers behind sequences from many sources, each measured once
  grpo       train the selector further by rewards made of these measures
  evaluate   answer test queries with what the selector and every baseline choose
  report     tables, plots and a page from an evaluation

  merge      the tables of beams, rollouts or evaluate from the shards (--num_shards) of a job array: same --config, or
             --output_dir DIR [--shards DIR ...]

`leverplus <stage> --help` explains every field of a stage's recipe. `python -m leverplus_trl RECIPE ...` runs several
recipes in order.
"""


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="leverplus", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False
    )
    parser.add_argument("stage", nargs="?", choices=(PREPARE, *STAGES, MERGE))
    parser.add_argument("--config", help="the recipe")
    parser.add_argument("--accelerate_config", help="a path, or the name of a file in accelerate_configs/")
    parser.add_argument("-h", "--help", action="store_true")
    known, rest = parser.parse_known_args(args)
    if known.stage is None:
        parser.print_help()
        raise SystemExit(0 if known.help else 2)
    if known.help:
        raise SystemExit(run_stage(known.stage, ["--help"], {}))
    try:
        recipe = read_recipe(known.config) if known.config else {}
        if known.stage == MERGE:
            named = ["--output_dir", recipe["output_dir"]] if "output_dir" in recipe else []
            raise SystemExit(run_stage(MERGE, [*named, *rest], {}))
        if recipe and recipe["stage"] != known.stage:
            raise ValueError(f"{known.config!r} is a recipe for the stage {recipe['stage']!r}, not {known.stage!r}.")
        arguments = [*(["--config", known.config] if known.config else []), *rest]
        status = run_stage(known.stage, arguments, recipe, known.accelerate_config)
    except ValueError as error:
        sys.exit(f"leverplus: {error}")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
