# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The arguments of every stage and how they fit together: cheap to import, and read before the stage's script is."""

import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from ..beams.beam_search import BeamArguments
from ..evaluation.evaluation_arguments import EvaluationArguments
from ..evaluation.methods import METHODS
from ..fields import keys_of
from ..launch import run_stage_here
from ..recipe import named_folder
from ..recipe_parser import RecipeParser, TrainingArgumentsClass
from ..report.report_arguments import ReportArguments
from ..retrieval.sampler_arguments import SamplerArguments
from ..rollouts.rollout_arguments import RolloutArguments
from ..stage_arguments import HubArguments, ShardedStageArguments, StageArguments
from ..tasks.arguments import DataArguments, TaskArguments
from ..trainer.training_fields import OfflineGRPOFields, SFTFields
from ..trainer.transformers_fields import VERSION, TransformersFields, fields_class, installed_fields
from ..vlms.vlm_arguments import VLMArguments
from .arguments import GRPOArguments, MergeArguments, PrepareArguments, SFTArguments


#: Keys that name what a stage reads; `output_dir` must be none of these folders, since `overwrite` empties it.
INPUTS = ("dataset", "vlm", "encoder", "beams", "selector", "rollouts", "previous_rollouts", "root", "image_root")
INPUT_LISTS = ("selectors", "evaluation", "training")
#: Those that are a name and no folder: of a published dataset, of a preset.
NAMES = (("prepare", "dataset"), ("sft", "selector"))


def transformers_fields() -> type:
    """The fields of `transformers.TrainingArguments`, from the list if it is that of the installed version."""
    return TransformersFields if version("transformers") == VERSION else fields_class(installed_fields())


_OF_A_VLM = (DataArguments, TaskArguments, VLMArguments)
_SFT = TrainingArgumentsClass(SFTFields, transformers_fields, "leverplus_trl.trainer", "SelectorSFTConfig")
_GRPO = TrainingArgumentsClass(OfflineGRPOFields, transformers_fields, "leverplus_trl.trainer", "OfflineGRPOConfig")

#: For each stage what it does, and its arguments in the order in which its `main` takes them.
PARSERS = {
    "prepare": ("Make an examples table of a published dataset.", (StageArguments, PrepareArguments)),
    "beams": (
        "Score ordered demonstrations with a frozen VLM; store the best sequences and the whole ledger.",
        (ShardedStageArguments, *_OF_A_VLM, SamplerArguments, BeamArguments, HubArguments),
    ),
    "sft": ("Train a selector on beams and ledger.", (StageArguments, DataArguments, SFTArguments, _SFT)),
    "rollouts": (
        "Answer each query after sequences from many sources with a frozen VLM; store every measure.",
        (ShardedStageArguments, *_OF_A_VLM, RolloutArguments, HubArguments),
    ),
    "grpo": ("Train a selector by reward on rollouts.", (StageArguments, DataArguments, GRPOArguments, _GRPO)),
    "evaluate": (
        "Answer test queries with what the selector, every baseline and the oracle choose.",
        (ShardedStageArguments, *_OF_A_VLM, SamplerArguments, EvaluationArguments),
    ),
    "report": ("Tables, charts and a page of evaluations.", (StageArguments, DataArguments, ReportArguments)),
    "merge": ("Write the tables of a job whose shards (--num_shards) are all done.", (MergeArguments,)),
}


def run_script(stage: str) -> NoReturn:
    """Runs a stage with the words of this process's command line."""
    sys.exit(run_stage_here(stage, sys.argv[1:]))


def make_parser(stage: str) -> RecipeParser:
    """The parser of a stage's recipe and command line."""
    description, kinds = PARSERS[stage]
    return RecipeParser(kinds, stage, description, stages_with, partial(check_recipe, stage))


def stages_with(key: str) -> str | None:
    """The stages that have a key, in words."""
    stages = [
        stage
        for stage, (_, kinds) in PARSERS.items()
        if any(key == field.name for kind in kinds for field in keys_of(getattr(kind, "own", kind)))
    ]
    return f"the stage{'s' * (len(stages) > 1)} {' and '.join(stages)}" if stages else None


def check_recipe(stage: str, values: Mapping[str, Any]) -> None:
    """Raises `ValueError` if arguments of a stage (`values`: all by name) that are in different classes don't fit."""
    folders = [(name, values[name]) for name in INPUTS if isinstance(values.get(name), str)]
    folders += [(name, named_folder(entry)[1]) for name in INPUT_LISTS for entry in values.get(name) or ()]
    for name, path in folders:
        same = Path(path).expanduser().resolve() == Path(values["output_dir"]).expanduser().resolve()
        if same and (stage, name) not in NAMES:
            raise ValueError(
                f"output_dir is {values['output_dir']!r}, which {name} names, too: the stage would write into what it "
                "reads. Name another output_dir."
            )
    _check_splits(values)
    for name, revision in values.items():
        of = name.removesuffix("_revision")
        if of != name and revision is not None and of in values and values[of] is None:
            raise ValueError(f"{name} is {revision!r}, but {of} is not set; set it, or leave {name} out.")
    if stage == "beams":
        _check_candidates("num_shots is", values["num_shots"], values["num_candidates"], "num_shots")
    if stage == "evaluate" and not values["beams"]:  # else candidates and encoder are those of the beams
        methods = values["methods"]
        if methods is None or any(METHODS[method].scope == "candidates" for method in methods):
            _check_candidates("shots holds", max(values["shots"]), values["num_candidates"], "shots")
        comparing = [name for name in methods or () if METHODS[name].modalities]
        if comparing and not values["encoder"]:
            raise ValueError(
                f"methods holds {comparing[0]!r}, which compares embeddings, but encoder is not set; set encoder, or "
                f"take {comparing[0]!r} out of methods."
            )


def _check_candidates(start: str, shots: int, num_candidates: int, key: str) -> None:
    if shots > num_candidates:
        raise ValueError(
            f"{start} {shots}, but each query has {num_candidates} candidates (num_candidates); lower {key} or raise "
            "num_candidates."
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
            if any(part.split("[")[0].strip() not in values["split"] for part in split.split("+")):
                raise ValueError(
                    f"{name} names {split!r}, but split makes the parts {', '.join(values['split'])}; name one of "
                    "these."
                )
