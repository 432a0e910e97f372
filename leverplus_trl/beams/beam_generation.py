# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From queries and candidates to beams and ledger, unit by unit."""

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
    """Prompts that the VLM scores for one query, zero-shot included: the cost of a search before it is run."""
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


def _entry(sequence: Sequence[str], found: ScoredPrompt) -> dict:
    """A row of the ledger (but `query_id` and `split`)."""
    return {
        "demonstration_ids": list(sequence),
        "answer_logprob": found.logprob,
        "num_answer_tokens": found.num_tokens,
        "accuracy": found.accuracy,
    }


def search_unit(
    queries: Sequence[Example],
    candidate_ids: Sequence[Sequence[str]],
    pool: dict[str, Example],
    vlm: VLM,
    args: BeamArguments,
) -> list[dict]:
    """
    Searches beams for a few queries together.

    Args:
        queries (`Sequence[Example]`):
            The queries.
        candidate_ids (`Sequence[Sequence[str]]`):
            Candidates of each.
        pool (`dict[str, Example]`):
            At least all candidates, by id.
        vlm ([`VLM`]):
            Scores.
        args ([`BeamArguments`]):
            The search.

    Returns:
        `list[dict]`: a row a query with the columns of `schema.BEAMS` (but `split`) and every scored sequence under
        `ledger`.
    """
    zero_shot = score_prompts([Request((), query) for query in queries], vlm, args.score)
    ledgers = [[_entry((), found)] for found in zero_shot]

    def score(sequences: Sequence[tuple[int, tuple[str, ...]]]) -> list[float]:
        requests = [Request(tuple(pool[i] for i in sequence), queries[query]) for query, sequence in sequences]
        values = []
        for (query, sequence), found in zip(sequences, score_prompts(requests, vlm, args.score), strict=True):
            ledgers[query].append(_entry(sequence, found))
            values.append(info_score(found, zero_shot[query], args.score))
        return values

    beams = beam_search(score, candidate_ids, args.num_shots, args.beam_size, args.insertion, args.objective)
    rows = []
    for query, candidates, found, z, ledger in zip(queries, candidate_ids, beams, zero_shot, ledgers, strict=True):
        rows.append(
            {
                "query_id": query["id"],
                "candidate_ids": list(candidates),
                "demonstration_ids": [list(sequence) for sequence in found.demonstration_ids],
                "scores": found.scores,
                "step_scores": found.step_scores,
                "zero_shot_score": answer_score(z, args.score),
                "ledger": ledger,
            }
        )
    return rows


def generate_beams(
    run: RunFolder,
    queries: dict[str, Dataset],
    candidate_ids: dict[str, list[list[str]]],
    pool: Dataset,
    vlm: VLM,
    args: BeamArguments,
) -> dict[str, list[Path]]:
    """
    Searches the beams of all queries of all splits, in units, together with the other processes of the launch.

    Args:
        run ([`RunFolder`]):
            Keeps the results of the units.
        queries (`dict[str, Dataset]`):
            Examples to ask, by split.
        candidate_ids (`dict[str, list[list[str]]]`):
            Candidates of each query, by split.
        pool (`Dataset`):
            Examples to demonstrate with.
        vlm ([`VLM`]):
            Scores.
        args ([`BeamArguments`]):
            The search.

    Returns:
        `dict[str, list[Path]]`: the units' files of each split, in query order.
    """
    # The VLM decodes what it has not seen yet; here every image would be decoded in every unit that shows it.
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
