# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Beam search over all queries of a stage, in units that processes share."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from ..answering import Answerer
from ..run_folder import RunFolder
from ..tasks import Example
from ..tasks.images import undecoded
from ..vlms import VLM, Request
from ..work_units import Unit, files_by_split, run_units, units_of
from .beam_arguments import METRIC, BeamArguments
from .beam_search import beam_search
from .info_score import ScoredPrompt, answer_score, info_score


def num_scored_sequences(num_candidates: int, num_shots: int, beam_size: int) -> int:
    """The number of prompts that a search scores for a query, zero-shot included."""
    total, width = 1, 1
    for step in range(num_shots):
        extensions = width * (num_candidates - step)
        total += extensions
        width = min(beam_size, extensions)
    return total


def score_prompts(requests: Sequence[Request], vlm: VLM, score: str) -> list[ScoredPrompt]:
    """
    What the VLM makes of some prompts: the log-probability of the right answer, and with `score="metric"` also what
    the answer that it generates is worth.
    """
    logprobs = vlm.answer_logprobs(requests)
    if score != METRIC:
        return [ScoredPrompt(*found) for found in logprobs]
    answers = Answerer(vlm).answer(requests)
    return [ScoredPrompt(*found, answer.accuracy) for found, answer in zip(logprobs, answers, strict=True)]


def _entry(sequence: Sequence[str], prompt: ScoredPrompt) -> dict:
    """A row of the ledger, without `query_id` and `split`."""
    return {
        "demonstration_ids": list(sequence),
        "answer_logprob": prompt.logprob,
        "num_answer_tokens": prompt.num_tokens,
        "accuracy": prompt.accuracy,
    }


def search_unit(
    queries: Sequence[Example],
    candidate_ids: Sequence[Sequence[str]],
    pool: dict[str, Example],
    vlm: VLM,
    args: BeamArguments,
) -> list[dict]:
    """
    Searches the beams of some queries together.

    Args:
        pool (`dict[str, Example]`):
            At least the candidates, by id.

    Returns:
        `list[dict]`: a row for each query, with the columns of `schema.BEAMS` (without `split`) and all scored
        sequences under `ledger`.
    """
    zero_shot = score_prompts([Request((), query) for query in queries], vlm, args.score)
    ledgers = [[_entry((), prompt)] for prompt in zero_shot]

    def score(sequences: Sequence[tuple[int, tuple[str, ...]]]) -> list[float]:
        requests = [Request(tuple(pool[i] for i in sequence), queries[query]) for query, sequence in sequences]
        values = []
        for (query, sequence), prompt in zip(sequences, score_prompts(requests, vlm, args.score), strict=True):
            ledgers[query].append(_entry(sequence, prompt))
            values.append(info_score(prompt, zero_shot[query], args.score))
        return values

    beams = beam_search(score, candidate_ids, args.num_shots, args.beam_size, args.insertion, args.objective)
    return [
        {
            "query_id": query["id"],
            "candidate_ids": list(candidates),
            "demonstration_ids": [list(sequence) for sequence in of_query.demonstration_ids],
            "scores": of_query.scores,
            "step_scores": of_query.step_scores,
            "zero_shot_score": answer_score(prompt, args.score),
            "ledger": ledger,
        }
        for query, candidates, of_query, prompt, ledger in zip(
            queries, candidate_ids, beams, zero_shot, ledgers, strict=True
        )
    ]


def generate_beams(
    run: RunFolder,
    queries: dict[str, Dataset],
    candidate_ids: dict[str, list[list[str]]],
    pool: Dataset,
    vlm: VLM,
    args: BeamArguments,
) -> dict[str, list[Path]]:
    """
    Searches the beams of all queries, in units that the processes of the launch share.

    Args:
        run ([`RunFolder`]):
            The folder that stores the results of units.
        queries, candidate_ids (`dict[str, Dataset]`, `dict[str, list[list[str]]]`):
            The queries by split, and the candidates of each query.
        pool (`Dataset`):
            Examples that hold the candidates.

    Returns:
        `dict[str, list[Path]]`: the units' files of each split, in query order.
    """
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
