# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Answers every query with the demonstrations of every method, in units that any process may take."""

from collections.abc import Mapping, Sequence
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


#: `{(method, shots, seed): demonstration ids of each query, in prompt order}`; `None` for a query that is left out.
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
    """Answers every query once with the demonstrations that the plan has for it, and returns the files of the units of
    the split, in query order."""
    # The VLM decodes what it has not seen yet; here every image would be decoded in every unit that shows it.
    pool, queries = undecoded(pool), undecoded(queries)
    row_of = {identifier: row for row, identifier in enumerate(pool["id"])}
    split = table_split(args.eval_split)
    units, answerer = units_of(split, len(queries), args.unit_size), Answerer(vlm)

    def work(name: str) -> pa.Table:
        examples: dict[str, dict] = {}
        requests, rows = [], []
        for position in units[name].rows:
            query, candidates = queries[position], candidate_ids[position]
            for (method, shots, seed), chosen in plan.items():
                ids = chosen[position]
                if ids is None:
                    continue
                for identifier in ids:
                    if identifier not in examples:
                        examples[identifier] = pool[row_of[identifier]]
                requests.append(Request(tuple(examples[identifier] for identifier in ids), query))
                row = {"query_id": query["id"], "split": split, "method": method, "shots": shots, "seed": seed}
                rows.append(row | {"candidate_ids": candidates, "demonstration_ids": ids})
        with vlm.unit():
            for row, answer in zip(rows, answerer.answer(requests), strict=True):
                row |= {**vars(answer), "confidence": None}
            # After the answers, so that these run as they would without.
            zero_shot = [number for number, row in enumerate(rows) if row["method"] == ZERO_SHOT]
            predictions = [rows[number]["prediction"] for number in zero_shot]
            confidences = answerer.confidences([requests[number] for number in zero_shot], predictions)
        for number, confidence in zip(zero_shot, confidences, strict=True):
            rows[number]["confidence"] = confidence
        return pa.Table.from_pylist(rows)

    sizes = {name: len(unit.rows) for name, unit in units.items()}
    return {split: run_units(run, sizes, work, "Answering")}


def read_predictions(files: Sequence[Path], folder: Path) -> tuple[Dataset, Dataset]:
    """The results of the units, in query order, as tables with the columns of `schema.PREDICTIONS`: predictions, and
    order probes. The rows are kept in `folder` while the tables are in use."""

    def predictions(unit: pa.Table) -> pa.Table:
        return unit.filter(pc.invert(pc.ends_with(unit["method"], SHUFFLED_SUFFIX)))

    def probes(unit: pa.Table) -> pa.Table:
        return unit.filter(pc.ends_with(unit["method"], SHUFFLED_SUFFIX))

    kept = folder / f"{UNFINISHED}predictions.arrow", folder / f"{UNFINISHED}order_probes.arrow"
    return join_units(files, PREDICTIONS, kept[0], predictions), join_units(files, PREDICTIONS, kept[1], probes)
