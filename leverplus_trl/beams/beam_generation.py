# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Beam search over all queries of a stage, in units that processes share, and the tables that it leaves."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..answering import Answerer
from ..output_files import UNFINISHED
from ..run_folder import RunFolder
from ..schema import BEAMS, LEDGER
from ..tables import write_tables
from ..tasks import Example
from ..tasks.images import undecoded
from ..vlms import VLM, Request
from ..work_units import Unit, files_by_split, join_units, run_units, units_of
from .beam_search import BeamArguments, beam_search
from .info_score import METRIC, ScoredPrompt, answer_score, info_score


CARD = """\
Scores of a frozen VLM for ordered demonstrations.

- `beams`: for each query the best sequences of a beam search, best first, with their InfoScores.
- `ledger`: every scored sequence, with the log-probability of the right answer, summed over its tokens (the row
  without demonstrations is the zero-shot prompt). `accuracy` is the task's metric of the generated answer; it is null
  unless the search used it (`score: metric`).

The InfoScore of a sequence is its score minus that of the zero-shot prompt, on the scale `score` of the recipe: the
length-normalised probability of the right answer (`prob`), its logarithm (`logprob`), or `accuracy` (`metric`).

`demonstration_ids` are in prompt order: left to right, the last demonstration is next to the query. Ids are those of
the examples."""


def search_unit(
    queries: Sequence[Example],
    candidate_ids: Sequence[Sequence[str]],
    pool: dict[str, Example],
    vlm: VLM,
    args: BeamArguments,
) -> list[dict]:
    """Searches the beams of some queries together; `pool` holds at least the candidates, by id. Returns a row for each
    query, with the columns of `schema.BEAMS` (without `split`) and all scored sequences under `ledger`."""
    ledgers: list[list[dict]] = [[] for _ in queries]
    zero_shot: list[ScoredPrompt] = []

    def score_prompts(sequences: Sequence[tuple[int, tuple[str, ...]]]) -> list[ScoredPrompt]:
        requests = [Request(tuple(pool[name] for name in sequence), queries[query]) for query, sequence in sequences]
        prompts = [ScoredPrompt(*logprob) for logprob in vlm.answer_logprobs(requests)]
        if args.score == METRIC:
            answers = Answerer(vlm).answer(requests)
            prompts = [
                prompt._replace(accuracy=answer.accuracy) for prompt, answer in zip(prompts, answers, strict=True)
            ]
        for (query, sequence), prompt in zip(sequences, prompts, strict=True):
            values = zip(("answer_logprob", "num_answer_tokens", "accuracy"), prompt, strict=True)
            ledgers[query].append({"demonstration_ids": list(sequence), **dict(values)})
        return prompts

    def score(sequences: Sequence[tuple[int, tuple[str, ...]]]) -> list[float]:
        prompts = zip(sequences, score_prompts(sequences), strict=True)
        return [info_score(prompt, zero_shot[query], args.score) for (query, _), prompt in prompts]

    zero_shot += score_prompts([(query, ()) for query in range(len(queries))])
    beams = beam_search(score, candidate_ids, args.num_shots, args.beam_size, args.insertion, args.objective)
    return [
        {
            "query_id": query["id"],
            "candidate_ids": list(candidate_ids[number]),
            "demonstration_ids": [list(sequence) for sequence in beams[number].demonstration_ids],
            "scores": beams[number].scores,
            "step_scores": beams[number].step_scores,
            "zero_shot_score": answer_score(zero_shot[number], args.score),
            "ledger": ledgers[number],
        }
        for number, query in enumerate(queries)
    ]


def generate_beams(
    run: RunFolder,
    queries: dict[str, Dataset],
    candidate_ids: dict[str, list[list[str]]],
    pool: Dataset,
    vlm: VLM,
    args: BeamArguments,
) -> dict[str, list[Path]]:
    """Searches the beams of all queries, in units that the processes of the launch share; returns the units' files of
    each split, in query order. `candidate_ids` holds the candidates of each query, by split."""
    # The VLM decodes each image once; decoding here would repeat it in every unit.
    pool, queries = undecoded(pool), {split: undecoded(examples) for split, examples in queries.items()}
    position = {identifier: row for row, identifier in enumerate(pool["id"])}
    units: dict[str, Unit] = {}
    for split, examples in queries.items():
        units |= units_of(split, len(examples), args.unit_size)

    def work(name: str) -> pa.Table:
        split, span = units[name]
        candidates = candidate_ids[split][span.start : span.stop]
        needed = sorted({position[identifier] for ids in candidates for identifier in ids})
        by_id = {example["id"]: example for example in (pool[row] for row in needed)}
        with vlm.unit():
            rows = search_unit([queries[split][row] for row in span], candidates, by_id, vlm, args)
        return pa.Table.from_pylist([{**row, "split": split} for row in rows])

    files = run_units(run, {name: len(unit.rows) for name, unit in units.items()}, work, "Searching beams")
    return files_by_split(queries, files)


def write_beam_dataset(folder: Path, files: dict[str, list[Path]], provenance: dict) -> None:
    """Writes the tables of a completed search, and deletes the units' files `files` (by split, in query order)."""
    units = folder / "units"
    tables = {
        config: {
            split: join_units(parts, features, units / f"{UNFINISHED}{config}-{split}.arrow", rows)
            for split, parts in files.items()
        }
        for config, features, rows in (("beams", BEAMS, lambda unit: unit), ("ledger", LEDGER, _ledger_rows))
    }
    write_tables(folder, tables, "Beams and ledger", CARD, provenance)
    del tables  # Windows does not delete files that are mapped into memory
    shutil.rmtree(units, ignore_errors=True)


def _ledger_rows(unit: pa.Table) -> pa.Table:
    """A row for each scored sequence, from a row for each query."""
    entries = unit["ledger"].combine_chunks()
    table = pa.Table.from_struct_array(entries.flatten())
    queries = unit.select(["query_id", "split"]).take(pc.list_parent_indices(entries))
    return pa.Table.from_arrays([*queries.columns, *table.columns], [*queries.column_names, *table.column_names])
