# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Stage `evaluate`: test queries are answered with what the selector, every baseline and the oracle choose.

```bash
leverplus evaluate --config recipes/demo/50_evaluate.yaml
```
"""

import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset

from ..evaluation.evaluation import read_results, summarize, write_results
from ..evaluation.evaluation_arguments import EvaluationArguments
from ..evaluation.inference import Plan, answer_queries, read_predictions
from ..evaluation.methods import (
    METHODS,
    ORACLE,
    RANDOM_METHODS,
    SELECTOR,
    SHUFFLED_SUFFIX,
    ZERO_SHOT,
    Choices,
    choose,
    default_methods,
    method_scope,
    reordered,
)
from ..output_files import write_json
from ..provenance import dataset_hash, model_revision, overlap_sentence
from ..report.tables import findings, terminal_table
from ..retrieval import SamplerArguments, embed_examples, sample_candidates, usable_modalities
from ..run_folder import RunFolder, read_record
from ..schema import BEAMS, LEDGER, PREDICTIONS
from ..selectors import DemonstrationSelection, DemonstrationSelector
from ..selectors.collapse import CollapseMeasures, measure_collapse
from ..stage import Stage
from ..stage_arguments import ShardedStageArguments
from ..stage_process import run_stage_here
from ..tables import holding_split, read_table, splits_of, table_provenance, table_split, write_tables
from ..tasks import NO_OVERLAP, DataArguments, Example, Overlap, TaskArguments, load_examples, make_task
from ..tasks.images import undecoded
from ..vlms import VLM, Request, VLMArguments
from ..vlms.dry_run import Job, dry_run
from ..vlms.loading import prompt_differences
from . import parsers


logger = logging.getLogger("leverplus_trl.scripts.evaluate")  # as a module that is run, __name__ is "__main__"

#: Written last: a folder that holds it is complete.
LAST_FILE = "results.json"
#: Kept beside the units' results: what choosing showed about the selectors.
COLLAPSE = "collapse.json"
#: Written when all tables are: what results are made from besides.
ANSWERED = "answered.json"

CARD = """\
What a frozen VLM answered, behind the demonstrations that each method chose.

`demonstration_ids` stand in prompt order; `accuracy` is the task's metric in 0..1 (CIDEr: 0..10). `confidence` is how
sure the VLM is of what it answers without demonstrations: exp(log-probability of its own prediction / its number of
tokens). It is null where there is nothing to score, and for every method but `zero_shot`."""
PROBES_CARD = """\
What the VLM answered behind demonstrations that a method chose, put in another order. `METHOD~shuffled` is to be held
against METHOD in the predictions of the same evaluation, at the same shots and seed."""


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
    wanted, split = max(eval_args.num_queries or [0]), table_split(eval_args.eval_split)
    stage.load_data([eval_args.eval_split], wanted, "eval_split")
    state, pool = stage.state, stage.pool
    queries, overlap = stage.queries[split], stage.overlaps[split]
    if wanted > len(queries):
        logger.warning("num_queries says %d; %r has %d.", wanted, eval_args.eval_split, len(queries))
    stage.use_references(stage.queries)
    # In a dry run the beams may still have to be searched; then the oracle is counted at all shots.
    to_be_searched = stage_args.dry_run and not (Path(eval_args.beams or "") / "README.md").exists()
    beams_provenance = table_provenance(eval_args.beams) if eval_args.beams and not to_be_searched else None
    fill_defaults(eval_args, sampler_args, pool, queries, beams_provenance)
    if stage_args.dry_run:
        shots = prompts_of_a_query(eval_args, beams_provenance and beams_provenance["recipe"]["num_shots"])
        count = len(shots)
        logger.info(
            "%d queries x at most %d prompts each: %d answers; the zero-shot answer of each is scored, too.",
            *(len(queries), count, count * len(queries)),
        )
        dry_run(job_to_estimate(queries, pool, shots, eval_args, stage_args.num_shards), vlm_args, stage.task)
        return
    facts = stage.find_facts()
    facts |= {
        "query_hash": facts.pop("query_hashes")[split],
        "selector_commits": [model_revision(path) for paths in eval_args.selector_paths.values() for path in paths],
        "encoder_commit": sampler_args.encoder and model_revision(sampler_args.encoder, sampler_args.encoder_revision),
        "beams_hash": eval_args.beams and beams_hash(eval_args.beams, eval_args.eval_split),
    }
    if ORACLE in eval_args.methods:
        check_oracle(eval_args.beams, beams_provenance, {"recipe": stage.recipe, "facts": facts})
    run = stage.claim(eval_args.output_dir, facts)
    if run.is_complete(LAST_FILE):
        results = read_results(run.path / LAST_FILE)
        if state.is_main_process:
            say_results(results)
        return
    if (run.path / ANSWERED).exists():
        state.wait_for_everyone()  # until all have seen that there are no results
        if state.is_main_process:
            summarize_again(run, queries, pool)
        state.wait_for_everyone()
        return
    candidate_ids = candidates_of(queries, pool, sampler_args, eval_args, overlap)
    check_room(candidate_ids, eval_args)
    plan, collapse = make_plan(queries, pool, candidate_ids, sampler_args, eval_args, beams_provenance, overlap)
    most_shots = max(1, *(shots for _, shots, _ in plan))  # a VLM is checked by how it uses demonstrations
    vlm = stage.load_vlm(run, most_shots, max_new_tokens=task_args.max_new_tokens)
    if state.is_main_process:
        write_json(run.units / COLLAPSE, collapse)
    files = answer_queries(run, queries, pool, candidate_ids, plan, vlm, eval_args)
    stage.finish(run, vlm, partial(finish, run, files, queries, pool))


def fill_defaults(
    eval_args: EvaluationArguments,
    sampler_args: SamplerArguments,
    pool: Dataset,
    queries: Dataset,
    beams_provenance: dict | None,
) -> None:
    """Fills the fields whose defaults follow the data: the encoder is that of the beams, the methods all possible."""
    if beams_provenance and not sampler_args.encoder:
        searched = beams_provenance["recipe"]
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
    split = table_split(run.provenance["recipe"]["eval_split"])
    units = files[split]
    predictions, order_probes = read_predictions(units, run.units)
    tables = {"predictions": {split: predictions}}
    write_tables(run.path / "predictions", tables, "Predictions", CARD, run.provenance)
    if len(order_probes):
        tables = {"order_probes": {split: order_probes}}
        write_tables(run.path / "order_probes", tables, "Order probes", PROBES_CARD, run.provenance)
    collapse = json.loads((units[0].parent / COLLAPSE).read_text(encoding="utf-8"))
    write_json(run.path / ANSWERED, {"collapse": collapse, "num_order_probes": len(order_probes)})
    write_summary(run, predictions, order_probes, collapse, queries, pool)


def summarize_again(run: RunFolder, queries: Dataset | None = None, pool: Dataset | None = None) -> None:
    """
    Writes results that are not there from tables that are; loads the examples if not given.

    Raises:
        `ValueError`: the tables are not there.
    """
    logger.info("All is answered: %s is made from the predictions.", LAST_FILE)
    # As it was recorded, with the values that were pinned when the VLM was loaded.
    run.provenance = read_record(run.path)
    split = table_split(run.provenance["recipe"]["eval_split"])
    answered = json.loads((run.path / ANSWERED).read_text(encoding="utf-8"))
    names = ["predictions", "order_probes"] if answered["num_order_probes"] else ["predictions"]
    absent = [name for name in names if not (run.path / name / "README.md").exists()]
    if absent:
        raise ValueError(
            f"{str(run.path)!r} holds {ANSWERED}, but no {absent[0]}: copy that folder back, or delete all of "
            f"{str(run.path)!r} to answer again."
        )
    tables = [read_table(str(run.path / name), name, split, PREDICTIONS) for name in names]
    write_summary(run, tables[0], tables[1] if len(tables) > 1 else None, answered["collapse"], queries, pool)


def write_summary(
    run: RunFolder,
    predictions: Dataset,
    order_probes: Dataset | None,
    collapse: list[dict],
    queries: Dataset | None,
    pool: Dataset | None,
) -> None:
    """Writes `results.json`, last of all; loads the examples if not given."""
    recipe = run.provenance["recipe"]
    _, data_args, task_args, vlm_args, _, eval_args = make_parser().parse_dict(recipe, allow_extra_keys=True)
    task = make_task(task_args)
    if queries is None or pool is None:
        splits = data_args.pool_split, eval_args.eval_split
        pool, queries = (load_examples(data_args, split, task) for split in splits)
    results = summarize(
        predictions,
        name=Path(eval_args.output_dir).parent.name or eval_args.output_dir,
        dataset=data_args.dataset,
        vlm=vlm_args.vlm,
        task=task_args.task,
        metric=task.metric,
        provenance=run.provenance,
        collapse=collapse,
        # Not from the recipe: what `NAME=PATH` means may hang on folders that are not here.
        selectors=list(dict.fromkeys(one["method"] for one in collapse)),
        queries=queries,
        pool=pool,
        metrics=task.metrics,
        num_queries=eval_args.num_queries or (),
        order_probes=order_probes,
    )
    overlap = run.provenance["facts"].get("overlap", {})
    results["diagnostics"]["warnings"] += [overlap_sentence(split, found) for split, found in overlap.items()]
    write_results(results, run.path / LAST_FILE)
    for warning in results["diagnostics"]["warnings"]:
        logger.warning("%s", warning)
    if results["diagnostics"]["leak_verdict"]:
        logger.info("%s", results["diagnostics"]["leak_verdict"])
    shutil.rmtree(run.units, ignore_errors=True)
    say_results(results)
    logger.info("Results are in %s.", run.path / LAST_FILE)


def say_results(results: Mapping) -> None:
    """Prints the table; the verdict goes to the log, too."""
    print(terminal_table(results), flush=True)
    for verdict in findings(results)[:1]:
        logger.info("%s", verdict)


def prompts_of_a_query(eval_args: EvaluationArguments, searched_shots: int | None = None) -> list[int]:
    """Demonstrations in each prompt that a query is answered behind, at most; `searched_shots` are those of the beams,
    where they are known, and the oracle has no more."""
    choosing = [method for method in eval_args.methods if method not in (ZERO_SHOT, SELECTOR, ORACLE)]
    count = sum(len(eval_args.method_seeds) if method in RANDOM_METHODS else 1 for method in choosing)
    count += len(eval_args.selectors)
    asked = sorted(set(eval_args.shots))
    of_oracle = [shots for shots in asked if searched_shots is None or shots <= searched_shots]
    return [0, *(shots for _ in range(count) for shots in asked), *(of_oracle if ORACLE in eval_args.methods else ())]


def job_to_estimate(
    queries: Dataset, pool: Dataset, shots: list[int], eval_args: EvaluationArguments, num_shards: int
) -> Job:
    """Answers behind random demonstrations, so that no method need choose any."""
    identifiers = pool["id"]

    def work(split: str, asked: list[Example], by_id: Mapping[str, Example], vlm: VLM) -> None:
        rng, requests = np.random.default_rng(eval_args.method_seeds[0]), []
        for query in asked:
            for count in shots:
                rows = rng.choice(len(identifiers), size=count, replace=False)
                requests.append(Request(tuple(by_id[identifiers[row]] for row in rows), query))
        vlm.generate(requests)
        vlm.answer_logprobs([Request((), query) for query in asked])  # the VLM's confidence in zero-shot answers

    notes = ["Random demonstrations stood for what the methods choose, right answers for what zero-shot answers."]
    if eval_args.order_probes:
        notes.append(f"Order probes of up to {eval_args.order_probes} queries are not counted.")
    asked, counts = {table_split(eval_args.eval_split): queries}, (len(queries), len(queries) * len(shots))
    return Job(asked, pool, eval_args.unit_size, work, *counts, num_shards, notes)


def beams_hash(beams: str, split: str) -> dict[str, str]:
    """Content of the two tables that an evaluation reads."""
    split = holding_split(split, splits_of(beams, "beams"))
    features = {"beams": BEAMS, "ledger": LEDGER}
    return {config: dataset_hash(read_table(beams, config, split, features[config])) for config in features}


def check_oracle(beams: str, searched: Mapping, provenance: Mapping) -> None:
    """Raises `ValueError` if the oracle would choose by scores of other prompts than those that are answered."""
    different = prompt_differences(searched, provenance)
    if different:
        raise ValueError(
            f"The ledger of {beams!r} was scored with other prompts than this evaluation's ({different}), so its best "
            "sequences are no oracle here. Search beams with these prompts, or take 'oracle' out of `methods`."
        )


def candidates_of(
    queries: Dataset,
    pool: Dataset,
    sampler_args: SamplerArguments,
    eval_args: EvaluationArguments,
    overlap: Overlap = NO_OVERLAP,
) -> list[list[str]]:
    """
    The K candidates of each query: those its beams were searched in, or else those the sampler draws.

    Raises:
        `ValueError`: a query that has no beams, or beams that were searched in another pool, or among candidates that
            are excluded here.
    """
    if not eval_args.beams:
        return sample_candidates(sampler_args, pool, queries, overlap.excluded)
    split = holding_split(eval_args.eval_split, splits_of(eval_args.beams, "beams"))
    beams = read_table(eval_args.beams, "beams", split, BEAMS)
    found = dict(zip(beams["query_id"], beams["candidate_ids"], strict=True))
    absent = [identifier for identifier in queries["id"] if identifier not in found]
    if absent:
        raise ValueError(
            f"{eval_args.beams!r} holds no beams for {len(absent)} of {len(queries)} queries, e.g. {absent[0]!r}. "
            "Search them, lower `num_queries`, or leave `beams` out (candidates are then sampled, without an oracle)."
        )
    known = set(pool["id"])
    foreign = sorted({i for identifier in queries["id"] for i in found[identifier]} - known)
    if foreign:
        raise ValueError(f"{eval_args.beams!r} was searched in another pool: {foreign[0]!r} is not in this one.")
    overlap.check({identifier: found[identifier] for identifier in queries["id"]}, eval_args.beams)
    return [found[identifier] for identifier in queries["id"]]


def check_room(candidate_ids: list[list[str]], eval_args: EvaluationArguments) -> None:
    """Raises `ValueError` if a query has fewer candidates than the most shots."""
    fewest, most = min(map(len, candidate_ids)), max(eval_args.shots)
    if fewest < most and any(method_scope(method) == "candidates" for method in eval_args.methods):
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
    beams_provenance: dict | None,
    overlap: Overlap = NO_OVERLAP,
) -> tuple[Plan, list[dict]]:
    """What each method puts into each prompt, and the collapse measures of the selectors' runs."""
    # Only ids are wanted of what is chosen: no image is decoded for it.
    pool, queries = undecoded(pool), undecoded(queries)
    seed = eval_args.method_seeds[0]  # of what does not draw at random, too
    plan: dict[tuple[str, int, int], Sequence[list[str] | None]] = {(ZERO_SHOT, 0, seed): [[] for _ in queries]}
    collapse, asked = [], sorted(set(eval_args.shots))
    choices = make_choices(queries, pool, candidate_ids, sampler_args, eval_args.methods)
    choices.excluded = overlap.excluded
    if ORACLE in eval_args.methods:
        split = holding_split(eval_args.eval_split, splits_of(eval_args.beams, "ledger"))
        choices.ledger = read_table(eval_args.beams, "ledger", split, LEDGER)
        choices.score = beams_provenance["recipe"]["score"]
    for method, row in METHODS.items():
        if method not in eval_args.methods:
            continue
        if method == SELECTOR:
            chosen, collapse = plan_selectors(queries, pool, candidate_ids, sampler_args, eval_args, asked)
            plan |= chosen
        elif row.choose is not None:
            longest = beams_provenance["recipe"]["num_shots"] if row.needs == "beams" else max(asked)
            plan |= {
                (method, shots, one): choose(method, choices, shots, one)
                for shots in asked
                for one in (eval_args.method_seeds if row.is_random else [seed])
                if shots <= longest
            }
    return plan | plan_order_probes(plan, queries, eval_args), collapse


def plan_selectors(
    queries: Dataset,
    pool: Dataset,
    candidate_ids: list[list[str]],
    sampler_args: SamplerArguments,
    eval_args: EvaluationArguments,
    asked: list[int],
) -> tuple[Plan, list[dict]]:
    """What each selector puts into each prompt, by name, shots and run, and the collapse measures of these runs."""
    plan, collapse = {}, []
    for name, paths in eval_args.selector_paths.items():
        for number, path in enumerate(paths):
            selector = DemonstrationSelector.from_pretrained(
                path, pool=pool, embeddings_dir=sampler_args.embeddings_dir
            )
            for shots in asked:
                found = selector.select_batch(queries, num_shots=shots, candidate_ids=candidate_ids)
                plan[name, shots, number] = [selection.demonstration_ids for selection in found]
                measures = selector_collapse(selector, queries, candidate_ids, shots, found)
                collapse.append({"method": name, "shots": shots, "seed": number} | asdict(measures))
    return plan, collapse


def plan_order_probes(plan: Plan, queries: Dataset, eval_args: EvaluationArguments) -> Plan:
    """What each selector chose (without one: the first method) at the most shots, in another order."""
    most = max(shots for _, shots, _ in plan)
    keys = [key for key in plan if key[1] == most]
    wanted = [next(key for key in keys if key[0] == name) for name in eval_args.selector_paths] or keys[:1]
    if most < 2:
        return {}
    return {
        (method + SHUFFLED_SUFFIX, shots, seed): reordered(
            queries["id"], plan[method, shots, seed], eval_args.order_probes, eval_args.method_seeds[0]
        )
        for method, shots, seed in wanted
    }


def make_choices(
    queries: Dataset, pool: Dataset, candidate_ids: list[list[str]], sampler_args: SamplerArguments, methods: list[str]
) -> Choices:
    """Embeds what the given methods compare, and nothing else."""
    rows = [METHODS[method] for method in methods]
    modalities = tuple(sorted({modality for row in rows for modality in row.modalities}))
    choices = Choices(list(queries["id"]), candidate_ids, list(pool["id"]))
    if not modalities:
        return choices
    if not sampler_args.encoder:
        comparing = sorted({row.sampler for row in rows if row.modalities})
        raise ValueError(f"The methods {', '.join(comparing)} compare embeddings: set `encoder`, or leave them out.")
    choices.pool, choices.queries = (
        embed_examples(
            examples,
            sampler_args.encoder,
            revision=sampler_args.encoder_revision,
            modalities=modalities,
            batch_size=sampler_args.encoder_batch_size,
            embeddings_dir=sampler_args.embeddings_dir,
        )
        for examples in (pool, queries)
    )
    return choices


def selector_collapse(
    selector: DemonstrationSelector,
    queries: Dataset,
    candidate_ids: list[list[str]],
    num_shots: int,
    own: Sequence[DemonstrationSelection],
) -> CollapseMeasures:
    """Does the selector read the query? Its own choices beside those that it makes for the next query among the same
    candidates."""
    others = queries.select([(row + 1) % len(queries) for row in range(len(queries))])
    swapped = selector.select_batch(others, num_shots=num_shots, candidate_ids=candidate_ids)
    return measure_collapse(
        [selection.demonstration_ids for selection in own],
        [selection.demonstration_positions for selection in own],
        [selection.demonstration_ids for selection in swapped],
    )


if __name__ == "__main__":
    sys.exit(run_stage_here("evaluate", sys.argv[1:]))
