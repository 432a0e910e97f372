# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Answering: every query with what every method chose for it, in units any process may take."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..answering import Answerer
from ..output_files import UNFINISHED
from ..run_folder import RunFolder
from ..schema import PREDICTIONS
from ..tables import table_split
from ..tasks.images import undecoded
from ..vlms import VLM, Request
from ..work_units import join_units, run_units, units_of
from .evaluation_arguments import EvaluationArguments
from .methods import SHUFFLED_SUFFIX, ZERO_SHOT


#: `{(method, shots, seed): demonstration ids of each query, in prompt order}`; `None` for a query that is not asked.
Plan = Mapping[tuple[str, int, int], Sequence[list[str] | None]]


def answer_queries(
    run: RunFolder,
    queries: Dataset,
    pool: Dataset,
    candidate_ids: list[list[str]],
    plan: Plan,
    vlm: VLM,
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
        vlm ([`VLM`]):
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
    units, answerer = units_of(split, len(queries), args.unit_size), Answerer(vlm)

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
            for row, answer in zip(rows, answerer.answer(requests), strict=True):
                row |= {**vars(answer), "confidence": None}
            # After the answers, so that these run as they would without.
            alone = [number for number, row in enumerate(rows) if row["method"] == ZERO_SHOT]
            said = [rows[number]["prediction"] for number in alone]
            found = answerer.confidences([requests[number] for number in alone], said)
        for number, confidence in zip(alone, found, strict=True):
            rows[number]["confidence"] = confidence
        return pa.Table.from_pylist(rows)

    sizes = {name: len(unit.rows) for name, unit in units.items()}
    return {split: run_units(run, sizes, work, "Answering")}


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
