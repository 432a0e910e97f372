# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The arguments of every stage: cheap to import, and read before the stage's script is."""

from functools import partial
from importlib.metadata import version

from ..beams.beam_search import BeamArguments
from ..evaluation.evaluation_arguments import EvaluationArguments
from ..fields import keys_of
from ..recipe_parser import RecipeParser, TrainingArgumentsClass
from ..report.report_arguments import ReportArguments
from ..retrieval.sampler_arguments import SamplerArguments
from ..rollouts.rollout_arguments import RolloutArguments
from ..stage_arguments import HubArguments, ShardedStageArguments, StageArguments
from ..tasks.data_arguments import DataArguments
from ..tasks.task_arguments import TaskArguments
from ..trainer.training_fields import OfflineGRPOFields, SFTFields
from ..trainer.transformers_fields import VERSION, TransformersFields, fields_class, installed_fields
from ..vlms.vlm_arguments import VLMArguments
from .grpo_arguments import GRPOArguments
from .merge_arguments import MergeArguments
from .prepare_arguments import PrepareArguments
from .recipe_checks import check_recipe
from .sft_arguments import SFTArguments


def transformers_fields() -> type:
    """The fields of `transformers.TrainingArguments`, from the list if it is that of the installed version."""
    return TransformersFields if version("transformers") == VERSION else fields_class(installed_fields())


_OF_A_VLM = (DataArguments, TaskArguments, VLMArguments)
_SFT = TrainingArgumentsClass(SFTFields, transformers_fields, "leverplus_trl.trainer", "SelectorSFTConfig")
_GRPO = TrainingArgumentsClass(OfflineGRPOFields, transformers_fields, "leverplus_trl.trainer", "OfflineGRPOConfig")

#: For each stage what it does, and its arguments in the order in which its `main` takes them.
PARSERS = {
    "prepare": (
        "Make an examples table of a published dataset, from its official files or from the hub.",
        (StageArguments, PrepareArguments),
    ),
    "beams": (
        "Score ordered demonstrations with a frozen VLM; store the best sequences and the whole ledger.",
        (ShardedStageArguments, *_OF_A_VLM, SamplerArguments, BeamArguments, HubArguments),
    ),
    "sft": ("Train a selector on beams and ledger.", (StageArguments, DataArguments, SFTArguments, _SFT)),
    "rollouts": (
        "Answer each query after sequences from many sources with a frozen VLM; store every measure.",
        (ShardedStageArguments, *_OF_A_VLM, RolloutArguments, HubArguments),
    ),
    "grpo": (
        "Train a selector by reward on stored rollouts.",
        (StageArguments, DataArguments, GRPOArguments, _GRPO),
    ),
    "evaluate": (
        "Answer test queries with what the selector, every baseline and the oracle choose.",
        (ShardedStageArguments, *_OF_A_VLM, SamplerArguments, EvaluationArguments),
    ),
    "report": (
        "Tables, charts and one self-contained page from one evaluation or several.",
        (StageArguments, DataArguments, ReportArguments),
    ),
    "merge": ("Write the tables of a job whose shards (--num_shards) are all done.", (MergeArguments,)),
}


def make_parser(stage: str) -> RecipeParser:
    """The parser of a stage's recipe and command line."""
    description, kinds = PARSERS[stage]
    return RecipeParser(kinds, stage, description, stages_with, partial(check_recipe, stage))


def stages_with(key: str) -> str | None:
    """The stages that have a key, in words."""
    found = [
        stage
        for stage, (_, kinds) in PARSERS.items()
        for kind in kinds
        if key in {one.name for one in keys_of(getattr(kind, "own", kind))}
    ]
    return f"the stage{'s' * (len(found) > 1)} {' and '.join(found)}" if found else None
