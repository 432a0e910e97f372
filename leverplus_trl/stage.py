# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What every stage that asks a VLM does first and last: data, provenance, folder, VLM and pushing of tables."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datasets import Dataset, concatenate_datasets

from .hub import check_writable
from .launch import start_stage
from .provenance import dataset_hash, model_revision
from .run_folder import RunFolder
from .stage_arguments import HubArguments, ShardedStageArguments
from .tables import push_tables, table_split
from .tasks import (
    DataArguments,
    Overlap,
    TaskArguments,
    check_disjoint,
    check_distinct,
    check_overlap,
    first_queries,
    load_examples,
    make_task,
    overlap_facts,
)
from .vlms import TransformersVLM, VLMArguments, load_processor, load_vlm, preflight, prompt_hash
from .vlms.decoding import model_settings


logger = logging.getLogger(__name__)


@dataclass
class Stage:
    """
    A stage that asks a VLM, on this process.

    `own_args` are the arguments of this stage alone. Raises `ValueError` for a recipe of another stage, and shards
    without a fixed memory budget.
    """

    name: str
    stage_args: ShardedStageArguments
    data_args: DataArguments
    task_args: TaskArguments
    vlm_args: VLMArguments
    own_args: Sequence[Any]
    hub_args: HubArguments | None = None

    def __post_init__(self):
        self.state = start_stage(self.stage_args, self.name)
        self.stage_args.check_memory(self.vlm_args.memory_mb, self.state.device.type)
        self.task = make_task(self.task_args)
        # By split of the tables: all examples, and those that are queries.
        self.examples: dict[str, Dataset] = {}
        self.queries: dict[str, Dataset] = {}
        self.overlaps: dict[str, Overlap] = {}

    def load_data(self, splits: Sequence[str], num_queries: int | None, key: str = "query_splits") -> None:
        """Loads the pool and the first `num_queries` of each split that the recipe names under `key`, and checks them
        against each other."""
        pool_split, known = self.data_args.pool_split, {}
        self.pool = load_examples(self.data_args, pool_split, self.task)
        self.task.check_examples(self.pool, pool_split)
        for split in splits:
            examples, name = load_examples(self.data_args, split, self.task, key), table_split(split)
            self.task.check_examples(examples, split)
            check_disjoint(self.pool, examples, pool_split, split)
            check_distinct(known, examples, split)
            known[split] = self.examples[name] = examples
            self.queries[name] = first_queries(examples, num_queries)
            self.overlaps[name] = check_overlap(self.pool, self.queries[name], self.task, self.data_args, split)

    def use_references(self, examples: dict[str, Dataset]) -> None:
        """Hands the task the answers that a metric counts over, and checks that it can score every query."""
        self.task.use_references(*examples.values())
        for split, table in self.queries.items():
            self.task.check_metric(table, split)

    @property
    def recipe(self) -> dict[str, Any]:
        """All arguments by name."""
        recipe: dict[str, Any] = {}
        for args in (self.stage_args, self.data_args, self.task_args, self.vlm_args, *self.own_args):
            recipe |= asdict(args)
        return recipe | (asdict(self.hub_args) if self.hub_args else {})

    def find_facts(self) -> dict[str, Any]:
        """The facts that the output depends on besides the recipe. First checks that tables can be pushed."""
        if self._pushes():
            check_writable(self.hub_args.push_to_hub, "dataset", self.hub_args.hub_private_repo)
        self.processor = load_processor(self.vlm_args)
        facts = {
            "pool_hash": dataset_hash(self.pool),
            "query_hashes": {split: dataset_hash(table) for split, table in self.queries.items()},
            "vlm_commit": model_revision(self.vlm_args.vlm, self.vlm_args.vlm_revision),
            "prompt_hash": prompt_hash(self.vlm_args, self.task, self.processor),
            **overlap_facts(self.overlaps),
        }
        if self.vlm_args.generation_config == "model":
            facts["model_generation_config"] = model_settings(self.vlm_args)
        return facts

    def reference_facts(self) -> dict[str, Any]:
        """The hashes of the answers that a metric counts over, if it does."""
        if not self.task.document_frequencies:
            return {}
        hashes = {split: dataset_hash(table, ["answers"]) for split, table in self.examples.items()}
        return {"reference_hashes": hashes}

    def claim(self, output_dir: str, facts: dict[str, Any]) -> RunFolder:
        """Claims the output folder."""
        return RunFolder(output_dir, self.name, self.recipe, facts, self.stage_args.shard)

    def load_vlm(self, run: RunFolder, num_shots: int, seed: int = 0, max_new_tokens: int = 0) -> TransformersVLM:
        """Loads the VLM, with the memory budget of the run, and checks it with [`preflight`]."""
        vlm = load_vlm(self.vlm_args, self.task, self.processor)
        vlm.set_memory(run.pin("memory_mb", vlm.memory_mb))
        every_query = concatenate_datasets(list(self.queries.values()))
        report = preflight(vlm, self.pool, every_query, num_shots, seed, max_new_tokens)
        logger.info("Preflight passed: %s.", report)
        return vlm

    def finish(self, run: RunFolder, vlm: TransformersVLM, write: Callable[[], None]) -> None:
        """Writes the tables, unless shards have to be merged first, and pushes them."""
        vlm.report_whole_prompts()
        if run.waits_for_merge():
            return
        if self.state.is_main_process:
            write()
        self.push(run)
        self.state.wait_for_everyone()

    def push(self, run: RunFolder) -> None:
        """Pushes complete tables, if the recipe says so."""
        if self._pushes():
            push_tables(run.path, self.hub_args.push_to_hub, self.hub_args.hub_private_repo)

    def _pushes(self) -> bool:
        is_named = self.hub_args is not None and self.hub_args.push_to_hub is not None
        return is_named and self.state.is_main_process and not self.stage_args.shard.is_part
