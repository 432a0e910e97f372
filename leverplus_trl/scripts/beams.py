# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Stage `beams`: a frozen VLM scores ordered demonstrations; the best sequences and all scores are stored."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from datasets import Dataset

from ..beams import BeamArguments, generate_beams, num_scored_sequences, search_unit, write_beam_dataset
from ..beams.beam_analysis import describe, write_analysis
from ..beams.info_score import METRIC
from ..provenance import model_revision
from ..retrieval import CandidateSampler, SamplerArguments, sample_candidates
from ..run_folder import RunFolder
from ..stage import Stage
from ..stage_arguments import HubArguments, ShardedStageArguments
from ..tasks import DataArguments, Example, TaskArguments
from ..vlms import VLM, VLMArguments
from ..vlms.dry_run import Job, dry_run
from . import parsers


logger = logging.getLogger(__name__)

#: Written last: a folder that holds it is complete.
LAST_FILE = "README.md"

make_parser = partial(parsers.make_parser, "beams")


def main(
    stage_args: ShardedStageArguments,
    data_args: DataArguments,
    task_args: TaskArguments,
    vlm_args: VLMArguments,
    sampler_args: SamplerArguments,
    beam_args: BeamArguments,
    hub_args: HubArguments,
) -> None:
    stage = Stage("beams", stage_args, data_args, task_args, vlm_args, (sampler_args, beam_args), hub_args)
    stage.load_data(beam_args.query_splits, beam_args.num_queries)
    if beam_args.score == METRIC:  # over all examples: a trial on a few queries is on the scale of the whole job
        stage.use_references(stage.examples)
    else:  # later stages would refuse the metric, which this search does not use
        for split, examples in stage.queries.items():
            try:
                stage.task.check_metric(examples, split)
            except ValueError as error:
                logger.warning("Beams do not use the metric, but `rollouts` and `evaluate` will refuse it: %s", error)
    pool, queries = stage.pool, stage.queries
    job = job_to_estimate(queries, pool, sampler_args, beam_args, stage_args.num_shards)
    logger.info(
        "%d queries (%s), %d candidates each: %d scored prompts a query, %s in all%s, with up to %d demonstrations, "
        "on %d processes.",
        sum(map(len, queries.values())),
        ", ".join(f"{split} {len(examples)}" for split, examples in queries.items()),
        sampler_args.num_candidates,
        job.num_scored // sum(map(len, queries.values())),
        f"{job.num_scored:,}",
        ", each of which is also answered" if beam_args.score == METRIC else "",
        *(beam_args.num_shots, stage.state.num_processes),
    )
    if stage_args.dry_run:
        dry_run(job, vlm_args, stage.task)
        return
    facts = stage.find_facts() | stage.reference_facts()
    facts["encoder_commit"] = sampler_args.encoder and model_revision(
        sampler_args.encoder, sampler_args.encoder_revision
    )
    run = stage.claim(beam_args.output_dir, facts)
    if run.is_complete(LAST_FILE):
        stage.push(run)
        return
    candidate_ids = {
        split: sample_candidates(sampler_args, pool, examples, stage.overlaps[split].excluded)
        for split, examples in queries.items()
    }
    fewest = min(len(ids) for candidates in candidate_ids.values() for ids in candidates)
    if fewest < beam_args.num_shots:
        raise ValueError(
            f"num_shots is {beam_args.num_shots}, and a query has {fewest} candidates, since the pool holds the query "
            "itself or its copies. Lower num_shots, or take a larger pool."
        )
    new_tokens = task_args.max_new_tokens if beam_args.score == METRIC else 0
    vlm = stage.load_vlm(run, beam_args.num_shots, beam_args.preflight_seed, new_tokens)
    files = generate_beams(run, queries, candidate_ids, pool, vlm, beam_args)
    stage.finish(run, vlm, partial(finish, run, files))


def finish(run: RunFolder, files: dict[str, list[Path]]) -> None:
    """Writes the analysis, then the tables, from the results of all units, by split in query order."""
    recipe = run.provenance["recipe"]
    splits = write_analysis(run.path, files, recipe["insertion"], recipe["score"])["splits"]
    write_beam_dataset(run.path, files, run.provenance)
    logger.info("Beams and ledger are in %s.", run.path)
    logger.info("%s", describe(*next(iter(splits.items()))))  # analysis.json holds the other splits


def job_to_estimate(
    queries: dict[str, Dataset],
    pool: Dataset,
    sampler_args: SamplerArguments,
    beam_args: BeamArguments,
    num_shards: int,
) -> Job:
    """The search, with candidates drawn at random: similar candidates would have to be embedded first. The number of
    prompts is exact if every query has `num_candidates` candidates."""
    each = num_scored_sequences(sampler_args.num_candidates, beam_args.num_shots, beam_args.beam_size)
    count = each * sum(map(len, queries.values()))
    sampler = CandidateSampler(pool["id"], "random", sampler_args.num_candidates, sampler_args.sampler_seed)

    def work(split: str, examples: list[Example], by_id: Mapping[str, Example], vlm: VLM) -> None:
        search_unit(examples, sampler.sample([query["id"] for query in examples]), by_id, vlm, beam_args)

    notes = [f"Candidates were drawn at random, not by {sampler_args.sampler!r}."] * bool(sampler_args.modalities)
    answered = count if beam_args.score == METRIC else 0
    return Job(queries, pool, beam_args.unit_size, work, count, answered, num_shards, notes)


if __name__ == "__main__":
    parsers.run_script("beams")
