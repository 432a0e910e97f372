# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Stage `rollouts`: the VLM answers each query after sequences from many sources, and every answer is measured."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset

from ..beams.info_score import METRIC
from ..provenance import dataset_hash, model_revision
from ..retrieval import SIMILARITIES, usable_modalities
from ..rollouts.rollout_arguments import RolloutArguments
from ..rollouts.rollout_generation import answer_unit, answer_weights, generate_rollouts
from ..rollouts.rollout_reuse import Known, ledger_is_ours, provenance_of, read_previous
from ..rollouts.rollout_sources import RolloutSources, SearchedBeams
from ..rollouts.rollout_table import describe, write_rollout_dataset
from ..run_folder import RunFolder
from ..selectors import BaseSelectorConfig, DemonstrationSelector, read_selector_config
from ..stage import Stage
from ..stage_arguments import HubArguments, ShardedStageArguments
from ..tasks import BaseTask, DataArguments, Example, TaskArguments
from ..vlms import VLM, VLMArguments
from ..vlms.dry_run import Job, dry_run
from . import parsers
from .inputs import NamedEncoder, find_encoder, read_searched, stored_split


logger = logging.getLogger(__name__)

#: Written last: a folder that holds it is complete.
LAST_FILE = "README.md"

make_parser = partial(parsers.make_parser, "rollouts")


def main(
    stage_args: ShardedStageArguments,
    data_args: DataArguments,
    task_args: TaskArguments,
    vlm_args: VLMArguments,
    rollout_args: RolloutArguments,
    hub_args: HubArguments,
) -> None:
    stage = Stage("rollouts", stage_args, data_args, task_args, vlm_args, (rollout_args,), hub_args)
    made_by = provenance_of(rollout_args.beams, "beams")
    search = made_by["recipe"]
    if rollout_args.num_shots is None:
        rollout_args.num_shots = search["num_shots"]
    for split in rollout_args.query_splits:
        stored_split("query_splits", split, "beams", rollout_args.beams)
    stage.load_data(rollout_args.query_splits, rollout_args.num_queries)
    stage.use_references(stage.examples)
    pool, queries, examples = stage.pool, stage.queries, stage.examples
    beams = rollout_args.beams, "query_splits", rollout_args.query_splits
    searched = read_searched(*beams, queries, pool, search, stage.overlaps)
    check_shots(rollout_args, searched, queries)
    config = read_selector_config(rollout_args.selector) if rollout_args.selector else None
    if config is not None:
        rollout_args.check_room(config.stop)
    encoder = encoder_of(rollout_args, config, search)
    if rollout_args.similarities is None:
        tables = (pool, *examples.values())
        usable = usable_modalities(encoder.name, encoder.revision, *tables) if encoder else ()
        rollout_args.similarities = ["image_text_sim"] if "image" in usable else ["text_sim"] if usable else []
        logger.info("similarities: %s.", ", ".join(rollout_args.similarities) or "none, without an encoder")
    counts = num_prompts(rollout_args, queries, stage.task, search["score"])
    if stage_args.dry_run:
        job = job_to_estimate(rollout_args, searched, queries, pool, counts, stage_args.num_shards)
        dry_run(job, vlm_args, stage.task)
        return
    facts = stage.find_facts() | stage.reference_facts()
    facts |= {
        "selector_commit": rollout_args.selector and model_revision(rollout_args.selector),
        "encoder_commit": encoder and encoder.commit,
        "beams_hash": {
            split: [dataset_hash(tables.beams), dataset_hash(tables.ledger)] for split, tables in searched.items()
        },
        "score": search["score"],  # the scale of the table's zero-shot scores
        "insertion": search["insertion"],
    }
    recipe = stage.recipe
    previous = read_previous(rollout_args, recipe, facts, examples)
    facts["previous_hash"] = {split: dataset_hash(table) for split, table in previous.items()}
    run = stage.claim(rollout_args.output_dir, facts)
    if run.is_complete(LAST_FILE):
        stage.push(run)
        return
    reuse_ledger = ledger_is_ours(rollout_args, made_by, recipe, facts, examples)
    sources = make_sources(rollout_args, searched, queries, pool, config, encoder)
    vlm = stage.load_vlm(run, rollout_args.num_shots, max_new_tokens=task_args.max_new_tokens)
    files = generate_rollouts(run, queries, pool, sources, vlm, facts["score"], reuse_ledger, previous)
    stage.finish(run, vlm, partial(finish, run, files))


def finish(run: RunFolder, files: dict[str, list[Path]]) -> None:
    """Writes table and summary from the results of all units, by split in query order."""
    summary, counts = write_rollout_dataset(run.path, files, run.provenance)
    logger.info(
        "%(sequences)d sequences: %(answered)d answered and %(scored)d answers scored by the VLM; %(from_ledger)d "
        "log-probabilities came from the ledger, and %(from_previous)d sequences from earlier rollouts.",
        counts,
    )
    for split, of_split in summary.items():
        logger.info("%s", describe(of_split, split))
    logger.info("Rollouts are in %s, and their summary in summary.json there.", run.path)


def check_shots(
    rollout_args: RolloutArguments, searched: dict[str, SearchedBeams], queries: dict[str, Dataset]
) -> None:
    """Raises `ValueError` if sequences are to be longer than the beams, or than the candidates of a query."""
    num_shots = rollout_args.num_shots
    for split, beams in searched.items():
        if rollout_args.num_beam_sequences and num_shots > beams.num_shots:
            raise ValueError(
                f"num_shots is {num_shots}, but the beams {rollout_args.beams!r} hold sequences of at most "
                f"{beams.num_shots}. Lower num_shots, search longer beams, or go without: `num_beam_sequences: 0`."
            )
        for query_id in queries[split]["id"]:
            num_candidates = len(beams.candidate_ids(query_id))
            if num_candidates < num_shots:
                raise ValueError(
                    f"num_shots is {num_shots}, but query {query_id!r} has {num_candidates} candidates: a sequence "
                    "can't be longer than the list it is chosen from. Lower num_shots."
                )


def encoder_of(
    rollout_args: RolloutArguments, config: BaseSelectorConfig | None, search: Mapping
) -> NamedEncoder | None:
    """
    The encoder of the embeddings that selector and similarities compare; `None` if nothing is compared. Raises
    `ValueError` if they need an encoder, and neither recipe nor selector nor search names it.
    """
    if config is None and (rollout_args.similarities == [] or not rollout_args.num_similar):
        return None
    encoder = find_encoder(rollout_args, config, search, search.get("encoder_batch_size") or 64)
    if encoder is None and (config is not None or rollout_args.similarities is not None):
        raise ValueError(
            f"similarities is {rollout_args.similarities} and selector {rollout_args.selector!r}; these compare "
            "embeddings, and neither the recipe nor selector nor beams name an encoder. Set `encoder`, or take "
            "`num_similar: 0` and no selector."
        )
    return encoder


def num_prompts(
    rollout_args: RolloutArguments, queries: dict[str, Dataset], task: BaseTask, score: str
) -> tuple[int, int]:
    """Logs and returns the prompts to score and to answer, if each query gets `num_rollouts` sequences and nothing is
    known yet."""
    scored, answered = 0, 0
    for examples in queries.values():
        # On the scale of the metric, the prompt without demonstrations is answered, too.
        answered += len(examples) * (rollout_args.num_rollouts + (score == METRIC))
        for row in examples.select_columns([name for name in examples.column_names if name != "image"]):
            scored += 1 + rollout_args.num_rollouts * len({task.target(row), *answer_weights(task, row)})
    logger.info(
        "%d queries (%s), up to %d sequences each of up to %d demonstrations: at most %s prompts to answer and %s "
        "answers to score, less what the ledger and earlier rollouts hold, on %d processes.",
        sum(map(len, queries.values())),
        ", ".join(f"{split} {len(of_split)}" for split, of_split in queries.items()),
        *(rollout_args.num_rollouts, rollout_args.num_shots, f"{answered:,}", f"{scored:,}"),
        PartialState().num_processes,
    )
    return scored, answered


def job_to_estimate(
    rollout_args: RolloutArguments,
    searched: dict[str, SearchedBeams],
    queries: dict[str, Dataset],
    pool: Dataset,
    counts: tuple[int, int],
    num_shards: int,
) -> Job:
    """Rollouts from the beams and at random, so that no selector is loaded and nothing embedded."""
    sources = RolloutSources(replace(rollout_args, selector=None, num_similar=0), searched)

    def work(split: str, examples: list[Example], by_id: Mapping[str, Example], vlm: VLM) -> None:
        proposals = sources.propose(split, [query["id"] for query in examples])
        answer_unit(examples, proposals, [Known()] * len(examples), by_id, vlm, searched[split].score)

    notes = [
        "Random sequences stood for those of the selector and of similarities, and nothing was taken from the ledger "
        "or from earlier rollouts."
    ]
    return Job(queries, pool, rollout_args.unit_size, work, *counts, num_shards, notes)


def make_sources(
    rollout_args: RolloutArguments,
    searched: dict[str, SearchedBeams],
    queries: dict[str, Dataset],
    pool: Dataset,
    config: BaseSelectorConfig | None,
    encoder: NamedEncoder | None,
) -> RolloutSources:
    """Loads the selector and embeds what it reads and what similarities compare."""
    if encoder is None:
        return RolloutSources(rollout_args, searched)
    kinds = rollout_args.similarities if rollout_args.num_similar else []
    compared = {modality for kind in kinds for modality in SIMILARITIES[kind]}
    selector = own_embeddings = None
    if config is not None:
        selector = DemonstrationSelector.from_pretrained(
            rollout_args.selector,
            pool=pool,
            device=str(PartialState().device),
            encoder=encoder.name,
            encoder_revision=encoder.revision,
            sampler="random",  # candidates are those of the beams
            num_candidates=1,
            batch_size=encoder.batch_size,
            embeddings_dir=encoder.embeddings_dir,
        )
    modalities = sorted(compared | set(config.query_features if config is not None else ()))
    query_embeddings = {split: encoder.embed(table, modalities) for split, table in queries.items()}
    if selector:
        own_embeddings = {split: selector.embed_queries(table) for split, table in queries.items()}
    pool_embeddings = encoder.embed(pool, sorted(compared)) if compared else None
    return RolloutSources(rollout_args, searched, selector, pool_embeddings, query_embeddings, own_embeddings)


if __name__ == "__main__":
    parsers.run_script("rollouts")
