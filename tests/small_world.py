# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A few examples of the embedded world as files of their own, to be damaged by tests, and the settings to search
them."""

from pathlib import Path

from datasets import Dataset
from paths import WORLD

from leverplus_trl.beams import BeamArguments
from leverplus_trl.retrieval import SamplerArguments
from leverplus_trl.stage_arguments import HubArguments, ShardedStageArguments
from leverplus_trl.tasks import DataArguments, TaskArguments
from leverplus_trl.vlms import VLMArguments


VLM = str(WORLD / "vlm")


def write_examples(folder: Path, splits: dict[str, Dataset]) -> dict[str, str]:
    """Writes parquet files and gives what `data_files` takes."""
    files = {}
    for name, table in splits.items():
        files[name] = str(folder / f"{name}.parquet")
        table.to_parquet(files[name])
    return files


def beam_arguments(data_files: dict[str, str], output_dir: Path, **changes) -> tuple:
    """Arguments of the beams stage for a small search; `changes` go to whichever dataclass has the field."""
    made = []
    defaults = {
        ShardedStageArguments: {"stage": "beams", "num_threads": 1},
        DataArguments: {"dataset": "parquet", "data_files": data_files, "pool_split": "pool"},
        TaskArguments: {"task": "vqa", "metric": "exact_match", "max_new_tokens": 4},
        VLMArguments: {"vlm": VLM, "max_batch_tokens": 1024},
        SamplerArguments: {"sampler": "random", "num_candidates": 6},
        BeamArguments: {
            "output_dir": str(output_dir),
            "query_splits": ["train", "test"],
            "num_shots": 2,
            "beam_size": 2,
            "unit_size": 2,
        },
        HubArguments: {},
    }
    for kind, values in defaults.items():
        own = {name: value for name, value in changes.items() if name in kind.__dataclass_fields__}
        made.append(kind(**{**values, **own}))
    unknown = set(changes) - {name for kind in defaults for name in kind.__dataclass_fields__}
    assert not unknown, unknown
    return tuple(made)
