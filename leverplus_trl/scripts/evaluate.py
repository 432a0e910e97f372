# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Stage `evaluate`: a VLM answers test queries with what the selector, every baseline and the oracle choose."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset

from ..evaluation.evaluation import read_results, summarize, write_results
from ..evaluation.evaluation_arguments import EvaluationArguments
from ..evaluation.inference import Plan, answer_queries, read_predictions
from ..evaluation.methods import METHODS, ORACLE, SHUFFLED_SUFFIX, ZERO_SHOT, Choices, default_methods, reordered
from ..output_files import write_json
from ..provenance import dataset_hash, model_revision, overlap_sentence
from ..report.tables import findings, terminal_table
from ..retrieval import SamplerArguments, embed_examples, sample_candidates, usable_modalities
from ..rollouts.rollout_sources import SearchedBeams
from ..run_folder import RunFolder, read_record
from ..schema import PREDICTIONS
from ..selectors import DemonstrationSelector
from ..selectors.collapse import measure_collapse
from ..stage import Stage
from ..stage_arguments import ShardedStageArguments
from ..tables import read_table, table_provenance, table_split, write_tables
from ..tasks import NO_OVERLAP, DataArguments, Example, Overlap, TaskArguments, load_examples, make_task
from ..tasks.examples import first_queries
from ..tasks.images import undecoded
from ..vlms import VLM, Request, VLMArguments
from ..vlms.dry_run import Job, dry_run
from ..vlms.loading import prompt_differences
from . import parsers
from .inputs import read_searched


logger = logging.getLogger(__name__)

#: Written last: a folder that holds it is complete.
LAST_FILE = "results.json"
#: Kept beside the units' results: the collapse measures of the selectors.
COLLAPSE = "collapse.json"
#: Written when all tables are: what results are made from besides.
ANSWERED = "answered.json"

CARD = """\
Answers of a frozen VLM with the demonstrations of each method in the prompt.

`demonstration_ids` are in prompt order; `accuracy` is the task's metric in 0..1 (CIDEr: 0..10). `confidence` is how
sure the VLM is of its answer without demonstrations: exp(log-probability of its own prediction / its number of
tokens). It is null where there is nothing to score, and for every method but `zero_shot`."""
PROBES_CARD = """\
Answers of the VLM with the demonstrations of a method in another order. Compare `METHOD~shuffled` with METHOD in the
predictions of the same evaluation, at the same shots and seed."""

make_parser = partial(parsers.make_parser, "evaluate")


def main(
    stage_args: ShardedStageArguments,
    data_args: DataArguments,
    task_args: TaskArguments,
    vlm_args: VLMArguments,
    sampler_args: SamplerArguments,
    eval_args: EvaluationArguments,
) -> None:
    stage = Stage("evaluate", stage_args, data_args, task_args, vlm_args, (sampler_args, eval_args))
    most_queries, split = max(eval_args.num_queries or [0]), table_split(eval_args.eval_split)
    stage.load_data([eval_args.eval_split], most_queries, "eval_split")
    state, pool, queries, overlap = stage.state, stage.pool, stage.queries[split], stage.overlaps[split]
    if most_queries > len(queries):
        logger.warning("num_queries says %d; %r has %d.", most_queries, eval_args.eval_split, len(queries))
    stage.use_references(stage.queries)
    # In a dry run the beams may still have to be searched; then the oracle is counted at all shots.
    to_be_searched = stage_args.dry_run and not (Path(eval_args.beams or "") / "README.md").exists()
    made_by = table_provenance(eval_args.beams) if eval_args.beams and not to_be_searched else {"recipe": {}}
    fill_defaults(eval_args, sampler_args, pool, queries, made_by["recipe"])
    if stage_args.dry_run:
        shots = prompts_of_a_query(eval_args, made_by["recipe"].get("num_shots"))
        dry_run(job_to_estimate(queries, pool, shots, eval_args, stage_args.num_shards), vlm_args, stage.task)
        return
    facts, searched = stage.find_facts(), None
    if eval_args.beams:
        tables = eval_args.beams, "eval_split", [eval_args.eval_split]
        searched = read_searched(*tables, stage.queries, pool, made_by["recipe"], stage.overlaps)[split]
    facts |= {
        "query_hash": facts.pop("query_hashes")[split],
        "selector_commits": [model_revision(path) for paths in eval_args.selector_paths.values() for path in paths],
        "encoder_commit": sampler_args.encoder and model_revision(sampler_args.encoder, sampler_args.encoder_revision),
        "beams_hash": searched and {"beams": dataset_hash(searched.beams), "ledger": dataset_hash(searched.ledger)},
    }
    if ORACLE in eval_args.methods:
        check_oracle(eval_args.beams, made_by, {"recipe": stage.recipe, "facts": facts})
    run = stage.claim(eval_args.output_dir, facts)
    if run.is_complete(LAST_FILE):
        results = read_results(run.path / LAST_FILE)
        if state.is_main_process:
            show(results)
        return
    if (run.path / ANSWERED).exists():
        state.wait_for_everyone()  # until all have seen that there are no results
        if state.is_main_process:
            logger.info("All is answered: %s is made from the predictions.", LAST_FILE)
            write_summary(run, queries, pool)
        state.wait_for_everyone()
        return
    if searched:
        candidate_ids = [searched.candidate_ids(query_id) for query_id in queries["id"]]
    else:
        candidate_ids = sample_candidates(sampler_args, pool, queries, overlap.excluded)
    check_room(candidate_ids, eval_args)
    plan, collapse = make_plan(queries, pool, candidate_ids, sampler_args, eval_args, searched, overlap)
    most_shots = max(1, *(shots for _, shots, _ in plan))  # a VLM is checked by how it uses demonstrations
    vlm = stage.load_vlm(run, most_shots, max_new_tokens=task_args.max_new_tokens)
    if state.is_main_process:
        write_json(run.units / COLLAPSE, collapse)
    files = answer_queries(run, queries, pool, candidate_ids, plan, vlm, eval_args)
    stage.finish(run, vlm, partial(finish, run, files, queries, pool))


def fill_defaults(
    eval_args: EvaluationArguments, sampler_args: SamplerArguments, pool: Dataset, queries: Dataset, searched: Mapping
) -> None:
    """Fills the fields whose defaults follow the data: the encoder is that of the beams' recipe (`searched`), the
    methods all possible."""
    if searched and not sampler_args.encoder:
        sampler_args.encoder, sampler_args.encoder_revision = searched["encoder"], searched["encoder_revision"]
    if eval_args.methods is None:
        encoder, revision = sampler_args.encoder, sampler_args.encoder_revision
        modalities = usable_modalities(encoder, revision, pool, queries) if encoder else ()
        eval_args.methods = default_methods(modalities, bool(eval_args.selectors), bool(eval_args.beams))
        logger.info("Methods: %s.", ", ".join(eval_args.methods))


def finish(
    run: RunFolder, files: dict[str, list[Path]], queries: Dataset | None = None, pool: Dataset | None = None
) -> None:
    """Writes predictions and results from those of all units, in query order; loads the examples if not given."""
    ((split, units),) = files.items()
    predictions, order_probes = read_predictions(units, run.units)
    write_tables(run.path / "predictions", {"predictions": {split: predictions}}, "Predictions", CARD, run.provenance)
    if len(order_probes):
        tables = {"order_probes": {split: order_probes}}
        write_tables(run.path / "order_probes", tables, "Order probes", PROBES_CARD, run.provenance)
    collapse = json.loads((units[0].parent / COLLAPSE).read_text(encoding="utf-8"))
    write_json(run.path / ANSWERED, {"collapse": collapse, "num_order_probes": len(order_probes)})
    write_summary(run, queries, pool)


def write_summary(run: RunFolder, queries: Dataset | None = None, pool: Dataset | None = None) -> None:
    """Writes `results.json`, last of all, from the tables; loads the examples if not given. Raises `ValueError` if a
    table is missing."""
    # As it was recorded, with the values that were pinned when the VLM was loaded.
    run.provenance = read_record(run.path)
    recipe = run.provenance["recipe"]
    _, data_args, task_args, vlm_args, _, eval_args = make_parser().parse_dict(recipe, allow_extra_keys=True)
    answered = json.loads((run.path / ANSWERED).read_text(encoding="utf-8"))
    tables: dict[str, Dataset] = {}
    for name in ("predictions", "order_probes") if answered["num_order_probes"] else ("predictions",):
        if not (run.path / name / "README.md").exists():
            raise ValueError(
                f"{str(run.path)!r} holds {ANSWERED}, but no {name}: copy that folder back, or delete all of "
                f"{str(run.path)!r} to answer again."
            )
        tables[name] = read_table(str(run.path / name), name, table_split(eval_args.eval_split), PREDICTIONS)
    task = make_task(task_args)
    if queries is None or pool is None:
        splits = data_args.pool_split, eval_args.eval_split
        pool, queries = (load_examples(data_args, split, task) for split in splits)
        queries = first_queries(queries, max(eval_args.num_queries or [0]))
    labels = {"dataset": data_args.dataset, "vlm": vlm_args.vlm, "task": task_args.task, "metric": task.metric}
    results = summarize(
        tables["predictions"],
        name=Path(eval_args.output_dir).parent.name or eval_args.output_dir,
        **labels,
        provenance=run.provenance,
        collapse=answered["collapse"],
        # Not from the recipe: the meaning of `NAME=PATH` depends on folders that may not be here.
        selectors=list(dict.fromkeys(entry["method"] for entry in answered["collapse"])),
        queries=queries,
        pool=pool,
        metrics=task.metrics,
        num_queries=eval_args.num_queries or (),
        order_probes=tables.get("order_probes"),
    )
    diagnostics, overlaps = results["diagnostics"], run.provenance["facts"].get("overlap", {})
    diagnostics["warnings"] += [overlap_sentence(split, overlap) for split, overlap in overlaps.items()]
    write_results(results, run.path / LAST_FILE)
    for warning in diagnostics["warnings"]:
        logger.warning("%s", warning)
    if diagnostics["leak_verdict"]:
        logger.info("%s", diagnostics["leak_verdict"])
    shutil.rmtree(run.units, ignore_errors=True)
    show(results)
    logger.info("Results are in %s.", run.path / LAST_FILE)


def show(results: Mapping) -> None:
    """Prints the table; the verdict goes to the log, too."""
    print(terminal_table(results), flush=True)
    for verdict in findings(results)[:1]:
        logger.info("%s", verdict)


def prompts_of_a_query(eval_args: EvaluationArguments, searched_shots: int | None = None) -> list[int]:
    """The numbers of demonstrations in the prompts of a query, at most; the oracle has no more than the
    `searched_shots` of the beams, if they are known."""
    shots, count = sorted(set(eval_args.shots)), len(eval_args.selectors)
    for method in eval_args.methods:
        if METHODS[method].sampler:
            count += len(eval_args.method_seeds) if METHODS[method].is_random else 1
    of_oracle = [number for number in shots if searched_shots is None or number <= searched_shots]
    return [0, *(shots * count), *(of_oracle if ORACLE in eval_args.methods else ())]


def job_to_estimate(
    queries: Dataset, pool: Dataset, shots: list[int], eval_args: EvaluationArguments, num_shards: int
) -> Job:
    """Answers with random demonstrations in the prompt, so that no method need choose any."""
    identifiers = pool["id"]

    def work(split: str, examples: list[Example], by_id: Mapping[str, Example], vlm: VLM) -> None:
        rng, requests = np.random.default_rng(eval_args.method_seeds[0]), []
        for query in examples:
            for count in shots:
                rows = rng.choice(len(identifiers), size=count, replace=False)
                requests.append(Request(tuple(by_id[identifiers[row]] for row in rows), query))
        vlm.generate(requests)
        vlm.answer_logprobs([Request((), query) for query in examples])  # the VLM's confidence in zero-shot answers

    notes = ["Random demonstrations stood for what the methods choose, right answers for what zero-shot answers."]
    if eval_args.order_probes:
        notes.append(f"Order probes of up to {eval_args.order_probes} queries are not counted.")
    by_split, counts = {table_split(eval_args.eval_split): queries}, (len(queries), len(queries) * len(shots))
    logger.info(
        "%d queries x at most %d prompts each: %d answers; the zero-shot answer of each is scored, too.",
        *(len(queries), len(shots), counts[1]),
    )
    return Job(by_split, pool, eval_args.unit_size, work, *counts, num_shards, notes)


def check_oracle(beams: str, searched: Mapping, provenance: Mapping) -> None:
    """Raises `ValueError` if the oracle would choose by scores of other prompts than those that are answered."""
    different = prompt_differences(searched, provenance)
    if different:
        raise ValueError(
            f"The ledger of {beams!r} was scored with other prompts than this evaluation's ({different}), so its best "
            "sequences are no oracle here. Search beams with these prompts, or take 'oracle' out of `methods`."
        )


def check_room(candidate_ids: list[list[str]], eval_args: EvaluationArguments) -> None:
    """Raises `ValueError` if a query has fewer candidates than the most shots."""
    fewest, most = min(map(len, candidate_ids)), max(eval_args.shots)
    if fewest < most and any(METHODS[method].scope == "candidates" for method in eval_args.methods):
        raise ValueError(
            f"shots holds {most}, but a query has {fewest} candidates. Lower shots, or "
            + ("search beams with more (num_candidates)." if eval_args.beams else "take a larger pool.")
        )


def make_plan(
    queries: Dataset,
    pool: Dataset,
    candidate_ids: list[list[str]],
    sampler_args: SamplerArguments,
    eval_args: EvaluationArguments,
    searched: SearchedBeams | None,
    overlap: Overlap = NO_OVERLAP,
) -> tuple[Plan, list[dict]]:
    """What each method puts into each prompt, and the collapse measures of the selectors' runs."""
    pool, queries = undecoded(pool), undecoded(queries)  # images would be decoded for each choice
    choices = Choices(list(queries["id"]), candidate_ids, list(pool["id"]), excluded=overlap.excluded)
    if searched:
        choices.ledger, choices.score = searched.ledger, searched.score
    modalities = sorted({modality for method in eval_args.methods for modality in METHODS[method].modalities})
    if modalities:
        if not sampler_args.encoder:
            comparing = sorted({METHODS[name].sampler for name in eval_args.methods if METHODS[name].modalities})
            methods = ", ".join(comparing)
            raise ValueError(f"The methods {methods} compare embeddings: set `encoder`, or leave them out.")
        encoder = sampler_args.encoder, sampler_args.encoder_revision, modalities
        where = {"batch_size": sampler_args.encoder_batch_size, "embeddings_dir": sampler_args.embeddings_dir}
        choices.pool, choices.queries = (embed_examples(table, *encoder, **where) for table in (pool, queries))
    first_seed = eval_args.method_seeds[0]  # also that of methods that do not draw at random
    plan: dict[tuple[str, int, int], list[list[str] | None]] = {(ZERO_SHOT, 0, first_seed): [[] for _ in queries]}
    collapse: list[dict] = []
    for method, row in METHODS.items():
        if method in eval_args.methods and row.needs == "selectors":
            collapse = plan_selectors(plan, queries, pool, candidate_ids, sampler_args, eval_args)
        elif method in eval_args.methods and row.choose is not None:
            longest = searched.num_shots if method == ORACLE else max(eval_args.shots)
            for shots in (shots for shots in sorted(eval_args.shots) if shots <= longest):
                for seed in eval_args.method_seeds if row.is_random else [first_seed]:
                    plan[method, shots, seed] = row.choose(choices, shots, seed)
    most = max(shots for _, shots, _ in plan)
    keys = [key for key in plan if key[1] == most]
    # Order probes are of each selector, or else of the first method.
    probed = [next(key for key in keys if key[0] == name) for name in eval_args.selector_paths] or keys[:1]
    for method, shots, seed in probed if most > 1 else ():
        plan[method + SHUFFLED_SUFFIX, shots, seed] = reordered(
            choices.query_ids, plan[method, shots, seed], eval_args.order_probes, first_seed
        )
    return plan, collapse


def plan_selectors(
    plan: dict[tuple[str, int, int], list],
    queries: Dataset,
    pool: Dataset,
    candidate_ids: list[list[str]],
    sampler_args: SamplerArguments,
    eval_args: EvaluationArguments,
) -> list[dict]:
    """Adds the choices of each selector to the plan, by name, shots and run. Returns the collapse measures, which
    compare them with its choices for the next query among the same candidates."""
    next_queries = queries.select([(row + 1) % len(queries) for row in range(len(queries))])
    collapse = []
    for name, paths in eval_args.selector_paths.items():
        for number, path in enumerate(paths):
            where = {"pool": pool, "embeddings_dir": sampler_args.embeddings_dir}
            selector = DemonstrationSelector.from_pretrained(path, **where)
            for shots in sorted(eval_args.shots):
                own, swapped = (
                    selector.select_batch(examples, num_shots=shots, candidate_ids=candidate_ids)
                    for examples in (queries, next_queries)
                )
                ids, swapped_ids = ([row.demonstration_ids for row in chosen] for chosen in (own, swapped))
                plan[name, shots, number] = ids
                measures = measure_collapse(ids, [row.demonstration_positions for row in own], swapped_ids)
                collapse.append({"method": name, "shots": shots, "seed": number} | asdict(measures))
    return collapse


if __name__ == "__main__":
    parsers.run_script("evaluate")
