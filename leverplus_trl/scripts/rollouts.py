# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
Stage `rollouts`: the VLM answers each query behind sequences from many sources, and every answer is measured once.

```bash
leverplus rollouts --config recipes/demo/30_rollouts.yaml
```
"""

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from accelerate import PartialState
from datasets import Dataset

from ..beams.info_score import METRIC
from ..provenance import dataset_hash, encoder_commit, model_revision
from ..retrieval import SIMILARITIES, embed_examples, usable_modalities
from ..rollouts.rollout_arguments import RolloutArguments
from ..rollouts.rollout_generation import answer_unit, answer_weights, generate_rollouts
from ..rollouts.rollout_reuse import Known, ledger_is_ours, provenance_of, read_previous
from ..rollouts.rollout_sources import RolloutSources, SearchedBeams
from ..rollouts.rollout_table import describe, write_rollout_dataset
from ..run_folder import RunFolder
from ..schema import BEAMS, LEDGER
from ..selectors import BaseSelectorConfig, DemonstrationSelector, read_selector_config
from ..selectors.encoder_lora import copied_encoder
from ..stage import Stage
from ..stage_arguments import HubArguments, ShardedStageArguments
from ..stage_process import run_stage_here
from ..tables import holding_split, read_table, splits_of, table_split
from ..tasks import NO_OVERLAP, BaseTask, DataArguments, Example, Overlap, TaskArguments
from ..vlms import VLM, VLMArguments
from ..vlms.dry_run import Job, dry_run
from . import parsers


logger = logging.getLogger("leverplus_trl.scripts.rollouts")  # as a module that is run, __name__ is "__main__"

#: Written last: a folder that holds it is complete.
LAST_FILE = "README.md"


class NamedEncoder(NamedTuple):
    """An encoder, and what pins its weights."""

    name: str
    revision: str | None
    commit: str


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
    if rollout_args.num_shots is None:
        rollout_args.num_shots = made_by["recipe"]["num_shots"]
    check_splits(rollout_args)
    stage.load_data(rollout_args.query_splits, rollout_args.num_queries)
    stage.use_references(stage.examples)
    pool, queries, examples = stage.pool, stage.queries, stage.examples
    searched = read_searched(rollout_args, queries, pool, made_by, stage.overlaps)
    config = read_selector_config(rollout_args.selector) if rollout_args.selector else None
    if config is not None:
        rollout_args.check_room(config.stop)
    encoder = encoder_of(rollout_args, config, made_by["recipe"])
    if rollout_args.similarities is None:
        tables = (pool, *examples.values())
        usable = usable_modalities(encoder.name, encoder.revision, *tables) if encoder else ()
        rollout_args.similarities = ["image_text_sim"] if "image" in usable else ["text_sim"] if usable else []
        logger.info("similarities: %s.", ", ".join(rollout_args.similarities) or "none, without an encoder")
    counts = num_prompts(rollout_args, queries, stage.task, made_by["recipe"]["score"])
    announce(rollout_args, queries, counts, stage.state)
    if stage_args.dry_run:
        job = job_to_estimate(rollout_args, searched, queries, pool, counts, stage_args.num_shards)
        dry_run(job, vlm_args, stage.task)
        return
    facts = stage.find_facts() | stage.reference_facts()
    facts |= {
        "selector_commit": rollout_args.selector and model_revision(rollout_args.selector),
        "encoder_commit": encoder and encoder.commit,
        "beams_hash": {
            split: [dataset_hash(found.beams), dataset_hash(found.ledger)] for split, found in searched.items()
        },
        "score": made_by["recipe"]["score"],  # the scale of the table's zero-shot scores
        "insertion": made_by["recipe"]["insertion"],
    }
    recipe = stage.recipe
    previous = read_previous(rollout_args, recipe, facts, examples)
    facts["previous_hash"] = {split: dataset_hash(table) for split, table in previous.items()}
    run = stage.claim(rollout_args.output_dir, facts)
    if run.is_complete(LAST_FILE):
        stage.push(run)
        return
    reuse_ledger = ledger_is_ours(rollout_args, made_by, recipe, facts, examples)
    sources = make_sources(rollout_args, searched, queries, pool, config, encoder, made_by["recipe"])
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
    for split, found in summary.items():
        logger.info("%s", describe(found, split))
    logger.info("Rollouts are in %s, and what they say at a glance in summary.json there.", run.path)


def check_splits(rollout_args: RolloutArguments) -> None:
    """Raises `ValueError` if the beams lack one of the query splits."""
    known = splits_of(rollout_args.beams, "beams")
    for split in rollout_args.query_splits:
        if holding_split(split, known) not in known:
            raise ValueError(
                f"query_splits holds {split!r}, but the beams {rollout_args.beams!r} have the splits "
                f"{', '.join(known)}. Search that split with the stage `beams`, or name others."
            )


def read_searched(
    rollout_args: RolloutArguments,
    queries: dict[str, Dataset],
    pool: Dataset,
    made_by: dict,
    overlaps: Mapping[str, Overlap] | None = None,
) -> dict[str, SearchedBeams]:
    """
    Beams and ledger of the queries, by split.

    Raises:
        `ValueError`: a query without beams, beams of another pool, or sequences longer than there can be.
    """
    searched_shots = made_by["recipe"]["num_shots"]
    if rollout_args.num_beam_sequences and rollout_args.num_shots > searched_shots:
        raise ValueError(
            f"num_shots is {rollout_args.num_shots}, but the beams {rollout_args.beams!r} hold sequences of at most "
            f"{searched_shots}. Lower num_shots, search longer beams, or go without: `num_beam_sequences: 0`."
        )
    known, found = set(pool["id"]), {}
    searched_splits = splits_of(rollout_args.beams, "beams")
    named = {table_split(name): name for name in rollout_args.query_splits}
    for split, examples in queries.items():
        beams, ledger = (
            read_table(rollout_args.beams, config, holding_split(named[split], searched_splits), features)
            for config, features in (("beams", BEAMS), ("ledger", LEDGER))
        )
        searched = found[split] = SearchedBeams(beams, ledger, searched_shots, made_by["recipe"]["score"])
        absent = [query_id for query_id in examples["id"] if query_id not in searched]
        if absent:
            raise ValueError(
                f"{rollout_args.beams!r} holds no beams for {len(absent)} of {len(examples)} queries of {split!r}, "
                f"e.g. {absent[0]!r}. Search them, or lower `num_queries`."
            )
        candidates = {query_id: searched.candidate_ids(query_id) for query_id in examples["id"]}
        (overlaps or {}).get(split, NO_OVERLAP).check(candidates, rollout_args.beams)
        foreign = sorted({name for ids in candidates.values() for name in ids} - known)
        if foreign:
            raise ValueError(
                f"{rollout_args.beams!r} was searched in another pool: {foreign[0]!r} is not in this one "
                f"({len(foreign)} are missing). Name the dataset and pool_split that it was searched with: "
                f"{made_by['recipe'].get('dataset')!r}, {made_by['recipe'].get('pool_split')!r}."
            )
        short = [query_id for query_id, ids in candidates.items() if len(ids) < rollout_args.num_shots]
        if short:
            raise ValueError(
                f"num_shots is {rollout_args.num_shots}, but query {short[0]!r} has {len(candidates[short[0]])} "
                "candidates: a sequence can't be longer than the list it is chosen from. Lower num_shots."
            )
    return found


def encoder_of(
    rollout_args: RolloutArguments, config: BaseSelectorConfig | None, searched: dict
) -> NamedEncoder | None:
    """
    The encoder of the embeddings that selector and similarities compare: the recipe's, else the selector's, else the
    beams'; none if nothing is compared.

    Raises:
        `ValueError`: nobody names one, it is not to be found, or the selector was trained with another.
    """
    compared = bool(rollout_args.similarities != [] and rollout_args.num_similar)
    if config is None and not compared:
        return None
    if rollout_args.encoder:
        name, revision = rollout_args.encoder, rollout_args.encoder_revision
    elif config is not None and config.encoder:
        copied = copied_encoder(rollout_args.selector)
        name, revision = (copied, None) if copied else (config.encoder, config.encoder_revision)
    else:
        name, revision = searched.get("encoder"), searched.get("encoder_revision")
    if name is None and config is None and rollout_args.similarities is None:
        return None
    if name is None:
        raise ValueError(
            f"similarities is {rollout_args.similarities} and selector {rollout_args.selector!r}; these compare "
            "embeddings, and neither the recipe nor selector nor beams name an encoder. Set `encoder`, or take "
            "`num_similar: 0` and no selector."
        )
    commit = encoder_commit(name, revision)
    if config is not None and config.encoder_commit not in (None, commit):
        raise ValueError(
            f"The selector {rollout_args.selector!r} was trained on embeddings by {config.encoder!r} "
            f"({config.encoder_commit}), but the encoder is {name!r} ({commit}): to it, other embeddings mean "
            "nothing. Set `encoder` to where that one lies, or take a selector trained with this one."
        )
    return NamedEncoder(name, revision, commit)


def num_prompts(
    rollout_args: RolloutArguments, queries: dict[str, Dataset], task: BaseTask, score: str
) -> tuple[int, int]:
    """Prompts to score and to answer, if each query gets `num_rollouts` sequences and nothing is known yet."""
    scored, answered = 0, 0
    for examples in queries.values():
        # On the scale of the metric, the prompt without demonstrations is answered, too.
        answered += len(examples) * (rollout_args.num_rollouts + (score == METRIC))
        for row in examples.select_columns([name for name in examples.column_names if name != "image"]):
            scored += 1 + rollout_args.num_rollouts * len({task.target(row), *answer_weights(task, row)})
    return scored, answered


def announce(
    rollout_args: RolloutArguments, queries: dict[str, Dataset], counts: tuple[int, int], state: PartialState
) -> None:
    """Logs the most that the stage asks of the VLM: what is known already shows in the run itself."""
    logger.info(
        "%d queries (%s), up to %d sequences each of up to %d demonstrations: at most %s prompts to answer and %s "
        "answers to score, less what the ledger and earlier rollouts hold, on %d processes.",
        sum(map(len, queries.values())),
        ", ".join(f"{split} {len(examples)}" for split, examples in queries.items()),
        rollout_args.num_rollouts,
        rollout_args.num_shots,
        f"{counts[1]:,}",
        f"{counts[0]:,}",
        state.num_processes,
    )


def job_to_estimate(
    rollout_args: RolloutArguments,
    searched: dict[str, SearchedBeams],
    queries: dict[str, Dataset],
    pool: Dataset,
    counts: tuple[int, int],
    num_shards: int,
) -> Job:
    """Rollouts from the beams and at random, so that no selector need be asked and nothing embedded."""
    sources = RolloutSources(replace(rollout_args, selector=None, num_similar=0), searched)

    def work(split: str, asked: list[Example], by_id: Mapping[str, Example], vlm: VLM) -> None:
        proposals = sources.propose(split, [query["id"] for query in asked])
        answer_unit(asked, proposals, [Known()] * len(asked), by_id, vlm, searched[split].score)

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
    searched_recipe: dict,
) -> RolloutSources:
    """Loads the selector and embeds what it reads and what similarities compare."""
    if encoder is None:
        return RolloutSources(rollout_args, searched)
    kinds = rollout_args.similarities if rollout_args.num_similar else []
    compared = {modality for kind in kinds for modality in SIMILARITIES[kind]}
    size = searched_recipe.get("encoder_batch_size") or 64
    where = {"batch_size": size, "embeddings_dir": rollout_args.embeddings_dir}

    def embed(examples: Dataset, modalities: set[str]):
        return embed_examples(examples, encoder.name, encoder.revision, sorted(modalities), **where)

    selector = None
    if config is not None:
        selector = DemonstrationSelector.from_pretrained(
            rollout_args.selector,
            pool=pool,
            device=str(PartialState().device),
            encoder=encoder.name,
            encoder_revision=encoder.revision,
            sampler="random",  # candidates are those of the beams
            num_candidates=1,
            **where,
        )
    read = compared | set(config.query_features if config is not None else ())
    by_split = {split: embed(table, read) for split, table in queries.items()}
    own = selector and {split: selector.embed_queries(table) for split, table in queries.items()}
    of_pool = embed(pool, compared) if compared else None
    return RolloutSources(rollout_args, searched, selector, of_pool, by_split, own)


if __name__ == "__main__":
    sys.exit(run_stage_here("rollouts", sys.argv[1:]))
