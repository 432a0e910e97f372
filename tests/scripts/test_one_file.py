# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A dataset of one file without ids: cut by slices or into parts, it goes through the stages, and no query is offered
itself or, unless that is allowed, a copy of itself."""

import json
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, concatenate_datasets
from small_world import VLM, beam_arguments

from leverplus_trl.evaluation.evaluation_arguments import EvaluationArguments
from leverplus_trl.retrieval import SamplerArguments
from leverplus_trl.rollouts.rollout_arguments import RolloutArguments
from leverplus_trl.scripts import beams, evaluate, rollouts, sft
from leverplus_trl.stage_arguments import HubArguments, ShardedStageArguments, StageArguments
from leverplus_trl.tasks import DataArguments, TaskArguments, load_examples
from leverplus_trl.tasks.images import undecoded
from leverplus_trl.trainer import SelectorSFTConfig
from leverplus_trl.vlms import VLMArguments


SLICES = {"pool": "train[:60%]", "train": "train[60%:80%]", "validation": "train[80%:90%]", "test": "train[90%:]"}
TABLES = ("train_60pct_to_80pct", "train_80pct_to_90pct", "train_90pct_to_end")
PARTS = {"pool": 0.6, "train": 0.2, "validation": 0.1, "test": 0.1}
TASK = {"task": "vqa", "metric": "exact_match", "max_new_tokens": 4}


def stage_arguments(folder: Path, data: DataArguments, name: str, query_splits: list[str], eval_split: str):
    """Arguments of rollouts and of an evaluation that read the beams of the folder."""
    common = TaskArguments(**TASK), VLMArguments(vlm=VLM, max_batch_tokens=1024)
    rolled = RolloutArguments(
        output_dir=str(folder / f"rollouts-{name}"),
        beams=str(folder / "beams"),
        query_splits=query_splits,
        num_rollouts=4,
        num_beam_sequences=1,
        similarities=[],
        num_similar=0,
    )
    compared = EvaluationArguments(
        output_dir=str(folder / f"evaluation-{name}"),
        beams=str(folder / "beams"),
        eval_split=eval_split,
        shots=[2],
        methods=["random", "random_pool", "oracle"],
    )
    sharded = [ShardedStageArguments(stage=stage, num_threads=1) for stage in ("rollouts", "evaluate")]
    return (sharded[0], data, *common, rolled, HubArguments()), (
        sharded[1],
        data,
        *common,
        SamplerArguments(),
        compared,
    )


def demonstrations(row: dict) -> set[str]:
    ids = row["demonstration_ids"]
    return {name for one in ids for name in ([one] if isinstance(one, str) else one)} | set(row["candidate_ids"])


@pytest.mark.parametrize("way", ["slices", "parts"])
def test_the_stages_take_slices_and_parts(way, world, embeddings_dir, tmp_path):
    file = tmp_path / "all.parquet"
    world["pool"].select(range(60)).remove_columns("id").to_parquet(file)
    names = SLICES if way == "slices" else dict(zip(PARTS, PARTS, strict=True))
    data = DataArguments(
        "parquet", data_files=str(file), pool_split=names["pool"], split=PARTS if way == "parts" else None
    )
    encoder = {"encoder": "data/concept_binding/clip", "embeddings_dir": embeddings_dir}
    asked = [names["train"], names["validation"], names["test"]]
    made = {"query_splits": asked, "pool_split": data.pool_split, "split": data.split, "num_candidates": 5}
    beams.main(*beam_arguments(str(file), tmp_path / "beams", **made, **encoder))
    training = SelectorSFTConfig(output_dir=str(tmp_path / "sft"), num_train_epochs=1, use_cpu=True, report_to="none")
    learned = sft.SFTArguments(
        beams=str(tmp_path / "beams"),
        embeddings_dir=embeddings_dir,
        hidden_size=32,
        train_split=names["train"],
        eval_split=names["validation"],
    )
    sft.main(StageArguments(stage="sft"), data, learned, training)
    rolled, compared = stage_arguments(tmp_path, data, "one", [names["train"]], names["test"])
    rollouts.main(*rolled)
    evaluate.main(*compared)
    tables = dict(zip(("train", "validation", "test"), TABLES if way == "slices" else list(PARTS)[1:], strict=True))
    outputs = {
        "beams": ("beams", tables.values()),
        "rollouts-one": ("rollouts", [tables["train"]]),
        "evaluation-one/predictions": ("predictions", [tables["test"]]),
    }
    pool = set(load_examples(data, data.pool_split)["id"])
    for folder, (config, splits) in outputs.items():
        found = datasets.load_dataset(str(tmp_path / folder), config)
        assert list(found) == list(splits)
        for part, split in tables.items():
            if split not in found:
                continue
            queries = set(load_examples(data, names[part])["id"])
            assert set(found[split]["query_id"]) == queries and not queries & pool
            assert all(demonstrations(row) <= pool for row in found[split])


@pytest.fixture
def copies(world, tmp_path):
    """A pool of 12 that holds copies of two of the four queries, under other ids."""
    queries, pool = undecoded(world["test"].select(range(4))), undecoded(world["pool"].select(range(9)))
    rows = [{**queries[place], "id": f"copy{number}"} for number, place in enumerate((0, 0, 2))]
    splits = {"pool": concatenate_datasets([pool, Dataset.from_list(rows, features=pool.features)]), "test": queries}
    files = {name: str(tmp_path / f"{name}.parquet") for name in splits}
    for name, table in splits.items():
        table.to_parquet(files[name])
    return files, queries["id"][:]


def test_copies_are_offered_only_where_that_is_allowed(copies, tmp_path):
    files, query_ids = copies
    forbidden = {query_ids[0]: {"copy0", "copy1"}, query_ids[2]: {"copy2"}}

    def search(mode):
        made = {"query_splits": ["test"], "num_candidates": 12, "on_overlap": mode}
        beams.main(*beam_arguments(files, tmp_path / "beams", **made))

    def stages(mode):
        data = DataArguments("parquet", data_files=files, pool_split="pool", on_overlap=mode)
        return stage_arguments(tmp_path, data, mode, ["test"], "test")

    with pytest.raises(
        ValueError, match=f"2 of 4 queries of split 'test' are in the pool.*e.g. {query_ids[0]!r} as 'copy0'"
    ):
        search("raise")
    assert not (tmp_path / "beams").exists()
    search("allow")
    for arguments, main in zip(stages("exclude"), (rollouts.main, evaluate.main), strict=True):
        with pytest.raises(ValueError, match=f"offers the query {query_ids[0]!r} the candidate 'copy0'"):
            main(*arguments)
    for arguments, main in zip(stages("raise"), (rollouts.main, evaluate.main), strict=True):
        with pytest.raises(ValueError, match="are in the pool"):
            main(*arguments)
    evaluate.main(*stages("allow")[1])
    results = json.loads((tmp_path / "evaluation-allow" / "results.json").read_text())
    said = "2 queries of split 'test' are in the pool under another id"
    assert any(said in warning and "on_overlap: allow" in warning for warning in results["diagnostics"]["warnings"])
    assert said in (tmp_path / "beams" / "README.md").read_text()
    overlap = {"on_overlap": "allow", "queries": 2, "pool_examples": 3}
    assert results["provenance"]["facts"]["overlap"] == {"test": overlap}
    offered = datasets.load_dataset(str(tmp_path / "beams"), "beams", split="test")
    assert any(demonstrations(row) & forbidden.get(row["query_id"], set()) for row in offered)
    beams.main(
        *beam_arguments(files, tmp_path / "excluded", query_splits=["test"], num_candidates=12, on_overlap="exclude")
    )
    (tmp_path / "beams").rename(tmp_path / "allowed")
    (tmp_path / "excluded").rename(tmp_path / "beams")
    for arguments, main in zip(stages("exclude"), (rollouts.main, evaluate.main), strict=True):
        main(*arguments)
    for folder, config in {
        "beams": "beams",
        "rollouts-exclude": "rollouts",
        "evaluation-exclude/predictions": "predictions",
    }.items():
        for row in datasets.load_dataset(str(tmp_path / folder), config, split="test"):
            own = forbidden.get(row["query_id"], set())
            assert not demonstrations(row) & own and len(row["candidate_ids"]) == 12 - len(own)
