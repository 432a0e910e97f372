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
from ..retrieval import ExampleEmbeddings
from ..rollouts.rollout_reuse import provenance_of
from ..run_folder import RunFolder
from ..selectors import BaseSelectorConfig, BaseSelectorModel, SelectorProcessor
from ..selectors.encoder_lora import copy_encoder
from ..stage_arguments import StageArguments
from ..tables import read_table, table_split
from ..tasks import DataArguments, first_queries, load_examples, task_of_recipe
from ..trainer.base_selector_trainer import COMPLETE, BaseSelectorTrainer
from ..trainer.model_card import NOT_MEASURED
from .inputs import NamedEncoder, check_candidates, stored_split


logger = logging.getLogger(__name__)


class TrainingProgress(TrainerCallback):
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
    """Where queries that a recipe names by a split or slice are."""

    stored: str  #: the split of the table
    rows: str  #: the rows of the table, a split or a slice of it
    examples: str  #: the split, or slice, of the examples that `stored` was made of


@dataclass
class TrainingStage:
    """A stage that trains a selector on the table of an earlier stage: `table`, `"beams"` or `"rollouts"`, with the
    columns `features`. `own_args` name the table (by a key of that name), its splits and the encoder."""

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
        self.made_by = provenance_of(self.source, self.table, self.revision)
        self.splits: dict[str, TableSplit] = {}
        for key in ("train_split", "eval_split"):
            split = getattr(self.own_args, key)
            if split is not None:
                stored = stored_split(key, split, self.table, self.source, self.revision, key == "eval_split")
                # A slice may have a split of its own in the table, or be a slice of the table's split.
                whole = stored == table_split(split)
                self.splits[split] = TableSplit(stored, stored if whole else split, split if whole else stored)

    def load_data(self) -> None:
        """Loads the pool, and by split the rows of the table and the examples of their queries; raises `ValueError` if
        their content is not that of the table, or if a query is in both splits."""
        recipe, facts = self.made_by["recipe"], self.made_by["facts"]
        task, pool_split = task_of_recipe(recipe), self.data_args.pool_split
        self.pool = load_examples(self.data_args, pool_split, task)
        self.rows = {split: self.read(self.table, where.rows, self.features) for split, where in self.splits.items()}
        candidate_ids = (ids for rows in self.rows.values() for ids in rows["candidate_ids"])
        check_candidates(candidate_ids, self.pool, self.table, self.source, recipe)
        self.pool_hash = self._check_content(f"pool (split {pool_split!r})", facts.get("pool_hash"), self.pool)
        self.queries: dict[str, Dataset] = {}
        seen: dict[str, str] = {}
        for split, where in self.splits.items():
            self.queries[split] = load_examples(self.data_args, where.examples, task)
            first = first_queries(self.queries[split], recipe.get("num_queries"))
            recorded = facts.get("query_hashes", {}).get(where.stored)
            self._check_content(f"queries (split {where.examples!r})", recorded, first)
            for query_id in self.rows[split]["query_id"]:
                if seen.setdefault(query_id, split) != split:
                    raise ValueError(
                        f"The query {query_id!r} is in {seen[query_id]!r} and in {split!r}: what is measured on "
                        "queries that are learned from says nothing. Name splits, or slices, that share none."
                    )

    def _check_content(self, what: str, recorded: str | None, examples: Dataset) -> str:
        """The hash of the examples; ids such as row numbers fit any examples."""
        content = dataset_hash(examples)
        if recorded is None:
            logger.warning("The %s do not record the content of the %s, so it can't be compared.", self.table, what)
        elif recorded != content:
            raise ValueError(
                f"The {self.table} were made with other examples in the {what}: ids may be the same, content or "
                f"columns are not (hash {recorded} then, {content} now). Name the dataset, columns and splits of then."
            )
        return content

    def read(self, table: str, split: str, features: Features) -> Dataset:
        """A table of the earlier stage."""
        return read_table(self.source, table, split, features, self.revision)

    def claim(self, facts: dict[str, Any]) -> RunFolder | None:
        """Claims the output folder; returns `None` if it is complete, after pushing it if the recipe says so."""
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

    def make_datasets(
        self,
        kind: type[Dataset],
        encoder: NamedEncoder,
        config: BaseSelectorConfig,
        processor: SelectorProcessor,
        labels: Mapping[str, Any],
    ) -> tuple[dict[str, Dataset], ExampleEmbeddings]:
        """The datasets of the trainer, by split like `labels`, and the embeddings of the pool."""
        # Of query features, too: their statistics are those of the pool.
        pool = encoder.embed(self.pool, config.features)
        datasets = {}
        for split, rows in self.rows.items():
            queries = encoder.embed(self.queries[split], config.query_features)
            datasets[split] = kind(rows["query_id"], rows["candidate_ids"], queries, pool, processor, labels[split])
        return datasets, pool

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
        trainer = trainer_class(model, args, **data, callbacks=[TrainingProgress()])
        for callback in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(callback)
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint or last_checkpoint(Path(args.output_dir)))
        metrics = trainer.evaluate() if eval_split else {}
        trainer.save_state()
        trainer.create_model_card()
        trainer.save_model()  # last, since a folder with a config counts as complete
        logger.info("The selector is in %s.", Path(args.output_dir))
        logger.info("%s", verdict(metrics, eval_split, len(datasets[eval_split])) if eval_split else NOT_MEASURED)
        self.state.wait_for_everyone()


def plain_arguments(training_args: TrainingArguments) -> dict:
    """Training arguments as a recipe has them: without what differs between machines, processes and restarts."""
    passing = ("local_rank", "resume_from_checkpoint", "disable_tqdm", "logging_dir", "use_cpu", "ddp_backend")
    return {name: value for name, value in training_args.to_dict().items() if name not in passing}


def step_size(training_args: TrainingArguments) -> int:
    """Queries of one optimizer step, over all processes: a run must go on with as many as it began with."""
    return training_args.train_batch_size * training_args.gradient_accumulation_steps * training_args.world_size
