# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What the stages that train a selector share."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, Features
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy

from ..hub import check_run_writable, push_run
from ..launch import start_stage
from ..log import Progress, doing
from ..provenance import dataset_hash
from ..run_folder import RunFolder
from ..selectors import BaseSelectorModel
from ..selectors.encoder_lora import copy_encoder
from ..stage_arguments import StageArguments
from ..tables import holding_split, read_table, splits_of, table_provenance, table_split
from ..tasks import DataArguments, first_queries, load_examples, task_of_recipe
from ..trainer.base_selector_trainer import COMPLETE, BaseSelectorTrainer
from ..trainer.model_card import NOT_MEASURED


logger = logging.getLogger("leverplus_trl.scripts.training")


class ToldProgress(TrainerCallback):
    """Shows how far training is, and sends what the trainer logs to the run's log."""

    def on_train_begin(self, args, state, control, **kwargs):
        shown = state.is_world_process_zero
        self.progress = Progress(logger, "Training", state.max_steps, "step", state.global_step, shown=shown)

    def on_step_end(self, args, state, control, **kwargs):
        self.progress.update(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        self.progress.close()

    def on_log(self, args, state, control, logs=None, **kwargs):
        logger.info("Step %d of %d: %s", state.global_step, state.max_steps, logs, extra={"in_log_alone": True})


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole: the trainer's state is what is written last into one."""
    whole = [state.parent for state in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/trainer_state.json")]
    return str(max(whole, key=lambda checkpoint: int(checkpoint.name.split("-")[1]))) if whole else None


class TableSplit(NamedTuple):
    """
    Where queries that a recipe names by a split or slice are.

    Args:
        stored (`str`):
            The split of the table.
        rows (`str`):
            Those of its rows that are meant, as `datasets` reads them.
        examples (`str`):
            The split, or slice, of the examples that the table's split was made of.
    """

    stored: str
    rows: str
    examples: str


@dataclass
class TrainingStage:
    """
    A stage that trains a selector on the table of an earlier stage, on this process.

    Args:
        name (`str`):
            The stage.
        table (`str`):
            `"beams"` or `"rollouts"`; also the key of `own_args` that names it.
        features (`Features`):
            Columns of that table.
        stage_args, data_args, own_args, training_args:
            Arguments of the stage; `own_args` name table, splits and encoder.

    Raises:
        `ValueError`: a recipe of another stage, or a table that is not there or lacks a split.
    """

    name: str
    table: str
    features: Features
    stage_args: StageArguments
    data_args: DataArguments
    own_args: Any
    training_args: TrainingArguments

    def __post_init__(self):
        self.state = start_stage(self.stage_args, self.name)
        self.source = getattr(self.own_args, self.table)
        self.revision = getattr(self.own_args, f"{self.table}_revision")
        self.made_by = table_provenance(self.source, self.revision)
        if self.made_by.get("stage") != self.table:
            raise ValueError(
                f"{self.source!r} was written by the stage {self.made_by.get('stage')!r}; `{self.table}` must name "
                f"what the stage `{self.table}` writes."
            )
        named = {"train_split": self.own_args.train_split, "eval_split": self.own_args.eval_split}
        self.splits = find_splits(self.table, self.source, self.revision, named)

    def load_data(self) -> None:
        """Loads the pool, and by split the table and the examples of its queries; checks that they fit."""
        task = task_of_recipe(self.made_by["recipe"])
        self.pool = load_examples(self.data_args, self.data_args.pool_split, task)
        self.rows = {split: self.read(self.table, where.rows, self.features) for split, where in self.splits.items()}
        check_pool(self.table, self.rows, self.pool, self.data_args.pool_split, self.made_by)
        self.queries = {
            split: load_examples(self.data_args, where.examples, task) for split, where in self.splits.items()
        }
        check_queries(self.table, self.rows, self.queries, self.splits, self.made_by)
        self.pool_hash = dataset_hash(self.pool)

    def read(self, table: str, split: str, features: Features) -> Dataset:
        """A table of the earlier stage."""
        return read_table(self.source, table, split, features, self.revision)

    def claim(self, facts: dict[str, Any]) -> RunFolder | None:
        """Claims the output folder; returns `None` if it is complete, after pushing it if that is asked for."""
        args = self.training_args
        pushes = args.push_to_hub and self.state.is_main_process
        if pushes:
            check_run_writable(args)
        if self.own_args.eval_split is None:  # the last weights are kept
            args.eval_strategy, args.eval_on_start, args.load_best_model_at_end = IntervalStrategy.NO, False, False
        recipe = asdict(self.stage_args) | asdict(self.data_args) | asdict(self.own_args) | plain_arguments(args)
        facts |= {
            "pool_hash": self.pool_hash,
            "query_hashes": {split: dataset_hash(examples) for split, examples in self.queries.items()},
            f"{self.table}_hash": {split: dataset_hash(rows) for split, rows in self.rows.items()},
            "queries_per_step": step_size(args),
        }
        run = RunFolder(args.output_dir, self.name, recipe, facts)
        if not run.is_complete(COMPLETE):
            return run
        if pushes:
            push_run(args)
        return None

    def copy_encoder(self, name: str, revision: str | None, run: RunFolder) -> None:
        """Copies the encoder into the output folder."""
        if self.state.is_main_process:
            copy_encoder(name, revision, run.path)
        self.state.wait_for_everyone()

    @doing("training the selector")
    def train(
        self,
        trainer_class: type[BaseSelectorTrainer],
        model: BaseSelectorModel,
        datasets: Mapping[str, Dataset],
        verdict: Callable[[dict[str, float], str, int], str],
    ) -> None:
        """Trains, from the last checkpoint if there is one, saves the selector with its card, and logs the verdict on
        the metrics of the evaluation split."""
        args, eval_split = self.training_args, self.own_args.eval_split
        data = {"train_dataset": datasets[self.own_args.train_split], "eval_dataset": datasets.get(eval_split)}
        trainer = trainer_class(model, args, **data, callbacks=[ToldProgress()])
        for callback in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(callback)
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint or last_checkpoint(Path(args.output_dir)))
        metrics = trainer.evaluate() if eval_split else {}
        trainer.save_state()
        trainer.create_model_card()
        trainer.save_model()  # last, since a folder with a config counts as complete
        logger.info("The selector is in %s.", Path(args.output_dir))
        found = verdict(metrics, eval_split, len(datasets[eval_split])) if eval_split else NOT_MEASURED
        logger.info("%s", found)
        self.state.wait_for_everyone()


def plain_arguments(training_args: TrainingArguments) -> dict:
    """Training arguments as they stand in a recipe: without what differs between machines, processes and restarts."""
    passing = ("local_rank", "resume_from_checkpoint", "disable_tqdm", "logging_dir", "use_cpu", "ddp_backend")
    return {name: value for name, value in training_args.to_dict().items() if name not in passing}


def step_size(training_args: TrainingArguments) -> int:
    """Queries of one optimizer step, over all processes: a run must go on with as many as it began with."""
    return training_args.train_batch_size * training_args.gradient_accumulation_steps * training_args.world_size


def find_splits(
    table: str, path_or_id: str, revision: str | None, splits: dict[str, str | None]
) -> dict[str, TableSplit]:
    """
    Where the splits or slices that are asked for, by recipe key, are in a table: a slice has a split of its own in a
    table that was made of this slice, else it is a slice of the table's split.

    Raises:
        `ValueError`: the table lacks a split.
    """
    known, found = splits_of(path_or_id, table, revision), {}
    for name, split in splits.items():
        if split is None:
            continue
        stored = holding_split(split, known)
        if stored not in known:
            raise ValueError(
                f"{name} is {split!r}, but the {table} {path_or_id!r} hold the splits {', '.join(known)}. Make those "
                f"of that split with the stage `{table}` (`query_splits`), or name "
                f"another{' (null for none)' * (name == 'eval_split')}."
            )
        whole = stored == table_split(split)
        found[split] = TableSplit(stored, stored if whole else split, split if whole else stored)
    return found


def check_pool(table: str, by_split: dict[str, Dataset], pool: Dataset, pool_split: str, made_by: dict) -> None:
    """
    Raises `ValueError` if a candidate is not in the pool, or the pool's content is another than the table was made
    with: ids such as row numbers fit any pool.
    """
    known = set(pool["id"])
    for split, rows in by_split.items():
        missing = sorted({name for ids in rows["candidate_ids"] for name in ids} - known)
        if missing:
            raise ValueError(
                f"The candidate {missing[0]!r} of the {table} (split {split!r}) is not in the pool (split "
                f"{pool_split!r}, {len(pool)} examples); {len(missing)} are missing. Name the dataset and pool_split "
                f"that the {table} were made with: {made_by['recipe'].get('dataset')!r}, "
                f"{made_by['recipe'].get('pool_split')!r}."
            )
    _check_content(table, f"pool (split {pool_split!r})", made_by["facts"].get("pool_hash"), pool)


def check_queries(
    table: str,
    by_split: dict[str, Dataset],
    queries: dict[str, Dataset],
    splits: dict[str, TableSplit],
    made_by: dict,
) -> None:
    """
    Raises `ValueError` if the content of the queries is another than the table was made with, or if a query that is
    held out is learned from, too. `by_split` holds the table's rows, `queries` all examples of these splits.
    """
    seen: dict[str, str] = {}
    for split, rows in by_split.items():
        asked = first_queries(queries[split], made_by["recipe"].get("num_queries"))
        recorded = made_by["facts"].get("query_hashes", {}).get(splits[split].stored)
        _check_content(table, f"queries (split {splits[split].examples!r})", recorded, asked)
        for query_id in rows["query_id"]:
            if seen.setdefault(query_id, split) != split:
                raise ValueError(
                    f"The query {query_id!r} is in {seen[query_id]!r} and in {split!r}: what is measured on queries "
                    "that are learned from says nothing. Name splits, or slices, that share none."
                )


def _check_content(table: str, what: str, recorded: str | None, examples: Dataset) -> None:
    found = dataset_hash(examples)
    if recorded is None:
        logger.warning("The %s do not record the content of the %s, so it can't be compared.", table, what)
    elif recorded != found:
        raise ValueError(
            f"The {table} were made with other examples in the {what}: ids may be the same, content or columns are "
            f"not (hash {recorded} then, {found} now). Name the dataset, columns and splits of then."
        )
