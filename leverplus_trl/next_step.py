# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What comes after a stage: the command to type next."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from .launch import PREPARE, STAGES, stage_of
from .recipe import UsageError, read_recipe
from .recipe_parser import is_required
from .scripts.parsers import make_parser
from .tasks.data_arguments import DataArguments


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
