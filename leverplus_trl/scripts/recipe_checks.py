# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What the keys of a recipe must be to each other where they belong to different groups of arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evaluation.methods import METHODS
from ..recipe import named_folder


#: Keys that name what a stage reads; `output_dir` must be none of these folders, since `overwrite` empties it.
INPUTS = ("dataset", "vlm", "encoder", "beams", "selector", "rollouts", "previous_rollouts", "root", "image_root")
#: Those that are a name and no folder: of a published dataset, of a preset.
NAMES = (("prepare", "dataset"), ("sft", "selector"))
INPUT_LISTS = ("selectors", "evaluation", "training")


def check_recipe(stage: str, values: Mapping[str, Any]) -> None:
    """
    Raises `ValueError` for values that exclude each other.

    Args:
        stage (`str`):
            The stage.
        values (`Mapping[str, Any]`):
            All its arguments by name, defaults included.
    """
    _check_output(stage, values)
    _check_splits(values)
    for name, revision in values.items():
        of = name.removesuffix("_revision")
        if of != name and revision is not None and of in values and values[of] is None:
            raise ValueError(f"{name} is {revision!r}, but {of} is not set; set it, or leave {name} out.")
    if stage == "beams" and values["num_shots"] > values["num_candidates"]:
        raise ValueError(
            f"num_shots is {values['num_shots']}, but each query has {values['num_candidates']} candidates "
            "(num_candidates); lower num_shots or raise num_candidates."
        )
    if stage == "evaluate" and not values["beams"]:
        _check_methods(values)


def _check_output(stage: str, values: Mapping[str, Any]) -> None:
    inputs = [name for name in INPUTS if (stage, name) not in NAMES]
    named = [(name, values[name]) for name in inputs if isinstance(values.get(name), str)]
    named += [(name, named_folder(one)[1]) for name in INPUT_LISTS for one in values.get(name) or ()]
    for name, path in named:
        if Path(path).expanduser().resolve() == Path(values["output_dir"]).expanduser().resolve():
            raise ValueError(
                f"output_dir is {values['output_dir']!r}, which {name} names, too: the stage would write into what it "
                "reads. Name another output_dir."
            )


def _check_splits(values: Mapping[str, Any]) -> None:
    if "train_split" in values and values["train_split"] == values["eval_split"]:
        raise ValueError(
            f"eval_split is {values['eval_split']!r}, as train_split is: what is measured on queries that are learned "
            "from says nothing. Name another split, or null for none."
        )
    if not values.get("split") or "train_split" in values:  # these are splits of a table
        return
    for name in ("pool_split", "query_splits", "eval_split"):
        named = values.get(name) or ()
        for split in [named] if isinstance(named, str) else named:
            for part in split.split("+"):
                if part.split("[")[0].strip() not in values["split"]:
                    raise ValueError(
                        f"{name} names {split!r}, but split makes the parts {', '.join(values['split'])}; name one of "
                        "these."
                    )


def _check_methods(values: Mapping[str, Any]) -> None:
    """Without beams, candidates and encoder are those of the recipe."""
    methods, most = values["methods"], max(values["shots"])
    from_candidates = methods is None or any(METHODS[method].scope == "candidates" for method in methods)
    if from_candidates and most > values["num_candidates"]:
        raise ValueError(
            f"shots holds {most}, but each query has {values['num_candidates']} candidates (num_candidates); lower "
            "shots or raise num_candidates."
        )
    comparing = [name for name in methods or () if METHODS[name].modalities]
    if comparing and not values["encoder"]:
        raise ValueError(
            f"methods holds {comparing[0]!r}, which compares embeddings, but encoder is not set; set encoder, or take "
            f"{comparing[0]!r} out of methods."
        )
