# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Answering: every query with what every method chose for it, in units any process may take."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..beams.info_score import ScoredPrompt, answer_score
from ..output_files import UNFINISHED
from ..run_folder import RunFolder
from ..schema import PREDICTIONS
from ..tables import table_split
from ..tasks import Example
from ..tasks.images import undecoded
from ..vlms import BaseVLM, Request
from ..work_units import join_units, run_units, units_of
from .evaluation_arguments import EvaluationArguments
from .methods import SHUFFLED_SUFFIX, ZERO_SHOT


logger = logging.getLogger(__name__)


#: `{(method, shots, seed): demonstration ids of each query, in prompt order}`; `None` for a query that is not asked.
Plan = Mapping[tuple[str, int, int], Sequence[list[str] | None]]


def answer_queries(
    run: RunFolder,
    queries: Dataset,
    pool: Dataset,
    candidate_ids: list[list[str]],
    plan: Plan,
    vlm: BaseVLM,
    args: EvaluationArguments,
) -> dict[str, list[Path]]:
    """
    Answers every query once with each method's demonstrations.

    Args:
        run ([`RunFolder`]):
            Keeps the results of the units.
        queries (`Dataset`):
            Examples to ask.
        pool (`Dataset`):
            Examples to demonstrate with.
        candidate_ids (`list[list[str]]`):
            What the methods chose from.
        plan (`Mapping`):
            What they chose: `{(method, shots, seed): demonstration ids of each query}`.
        vlm ([`BaseVLM`]):
            Answers.
        args ([`EvaluationArguments`]):
            Split and unit size.

    Returns:
        `dict[str, list[Path]]`: the units' files of the split, in query order.
    """
    # The VLM decodes what it has not seen yet; here every image would be decoded in every unit that shows it.
    pool, queries = undecoded(pool), undecoded(queries)
    row_of = {identifier: row for row, identifier in enumerate(pool["id"])}
    split = table_split(args.eval_split)
    units = units_of(split, len(queries), args.unit_size)

    def work(name: str) -> pa.Table:
        examples: dict[str, dict] = {}
        requests, rows = [], []
        for position in units[name].rows:
            query = queries[position]
            for (method, shots, seed), chosen in plan.items():
                if chosen[position] is None:
                    continue
                for identifier in chosen[position]:
                    if identifier not in examples:
                        examples[identifier] = pool[row_of[identifier]]
                requests.append(Request(tuple(examples[i] for i in chosen[position]), query))
                rows.append(
                    {
                        "query_id": query["id"],
                        "split": split,
                        "method": method,
                        "shots": shots,
                        "seed": seed,
                        "candidate_ids": candidate_ids[position],
                        "demonstration_ids": chosen[position],
                    }
                )
        with vlm.unit():
            for row, request, generation in zip(rows, requests, vlm.generate(requests), strict=True):
                prediction = vlm.task.postprocess(generation)
                row |= {
                    "generation": generation,
                    "prediction": prediction,
                    "accuracy": vlm.task.accuracy(prediction, request.query),
                    "confidence": None,
                }
            # Behind the answers, so that these run as they would without.
            alone = [number for number, row in enumerate(rows) if row["method"] == ZERO_SHOT]
            asked = [requests[number].query for number in alone]
            found = confidences(vlm, asked, [rows[number]["prediction"] for number in alone])
        for number, confidence in zip(alone, found, strict=True):
            rows[number]["confidence"] = confidence
        return pa.Table.from_pylist(rows)

    sizes = {name: len(unit.rows) for name, unit in units.items()}
    return {split: run_units(run, sizes, work, "Answering")}


def confidences(vlm: BaseVLM, queries: Sequence[Example], predictions: Sequence[str]) -> list[float | None]:
    """
    How sure the VLM is of what it said without demonstrations: `answer_prob` of its own predictions, as the task would
    show them (`task.target`), behind the zero-shot prompts. The right answers have no part in it.

    Args:
        vlm ([`BaseVLM`]):
            Said it.
        queries (`Sequence[Example]`):
            What was asked.
        predictions (`Sequence[str]`):
            What the answers to it were.

    Returns:
        `list[float | None]`: in 0..1; `None` for a prediction that is empty, or can't be scored behind its prompt.
    """
    asked: dict[int, Request] = {}
    for number, (query, prediction) in enumerate(zip(queries, predictions, strict=True)):
        own = {**query, "answer": vlm.task.bare_answer(prediction)}
        if not own["answer"]:
            continue
        try:
            vlm.answer_ids(own)
        except ValueError as error:  # a model may say what its own template or tokenizer has no place for
            logger.warning("No confidence in the answer %r to query %r: %s", prediction, query["id"], error)
        else:
            asked[number] = Request((), own)
    found: list[float | None] = [None] * len(queries)
    for number, scored in zip(asked, vlm.answer_logprobs(list(asked.values())), strict=True):
        found[number] = answer_score(ScoredPrompt(*scored))
    return found


def read_predictions(files: Sequence[Path], folder: Path) -> tuple[Dataset, Dataset]:
    """
    The units' results as two tables with the columns of `schema.PREDICTIONS`: predictions, and order probes.

    Args:
        files (`Sequence[Path]`):
            Results of the units, in query order.
        folder (`Path`):
            Where the rows are kept while the tables are in use.
    """

    def probes(unit: pa.Table) -> pa.Array:
        return pc.ends_with(unit["method"], SHUFFLED_SUFFIX)

    join = partial(join_units, files, PREDICTIONS)
    return (
        join(folder / f"{UNFINISHED}predictions.arrow", lambda unit: unit.filter(pc.invert(probes(unit)))),
        join(folder / f"{UNFINISHED}order_probes.arrow", lambda unit: unit.filter(probes(unit))),
    )
