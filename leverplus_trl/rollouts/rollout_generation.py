# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""From proposed sequences to answers and their measures, unit by unit; what is known already is not asked again."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from ..answering import Answerer
from ..beams.info_score import METRIC, ScoredPrompt, answer_score
from ..run_folder import RunFolder
from ..tasks import BaseTask, Example
from ..tasks.images import undecoded
from ..vlms import VLM, AnswerLogprob, Request
from ..work_units import Unit, files_by_split, run_units, units_of
from .relevance import relevance
from .rollout_reuse import MEASURES, Known, PreviousRollouts
from .rollout_sources import Ids, Proposal, RolloutSources, distinct


def answer_weights(task: BaseTask, query: Example) -> dict[str, float]:
    """The distinct answers of a query's annotators that are worth something, and what each is worth by the task's
    metric."""
    texts = dict.fromkeys(answer.strip() for answer in query["answers"])
    worth = {text: task.accuracy(text, query) for text in texts if text}
    return {text: value for text, value in worth.items() if value > 0.0}


def gt_prob(weights: Mapping[str, float], logprobs: Mapping[str, float]) -> float:
    """
    sum over the distinct answers a of the annotators of accuracy(a) * exp(log-probability of a), at most 1.

    It is the accuracy to be expected of an answer that is *sampled* from the VLM, as far as it is one that an
    annotator gave: a reward that also moves where the greedy answer, and so the accuracy, stays. Log-probabilities are
    sums over an answer's tokens, without the end token unless `score_end_token`, so that "red" also counts what goes
    on to "red star"; where both are answers they count twice, hence the cap.

    Args:
        weights (`Mapping[str, float]`):
            Worth of each answer, see [`answer_weights`].
        logprobs (`Mapping[str, float]`):
            Log-probability of each.
    """
    return min(1.0, math.fsum(worth * math.exp(logprobs[text]) for text, worth in weights.items()))


def answer_unit(
    queries: Sequence[Example],
    proposals: Sequence[Sequence[Proposal]],
    known: Sequence[Known],
    pool: Mapping[str, Example],
    vlm: VLM,
    score: str = "prob",
) -> list[dict]:
    """
    Answers a few queries together, with each distinct sequence once, and measures the answers.

    Args:
        queries (`Sequence[Example]`):
            The queries.
        proposals (`Sequence[Sequence[Proposal]]`):
            What the sources propose for each, see [`RolloutSources.propose`].
        known (`Sequence[Known]`):
            What need not be asked again.
        pool (`Mapping[str, Example]`):
            At least all examples in `proposals`, by id.
        vlm ([`VLM`]):
            Answers and scores.
        score (`str`, *optional*, defaults to `"prob"`):
            Scale of InfoScore. On `"metric"` the prompt without demonstrations is answered too.

    Returns:
        `list[dict]`: a row a query with the columns of `schema.ROLLOUTS` (but `split` and `candidate_ids`), all
        proposals under `proposals`, and under `counts` how much was asked and how much was known.
    """
    groups = [distinct(own) for own in proposals]
    new = [
        (number, proposal.demonstration_ids)
        for number, group in enumerate(groups)
        for proposal in group
        if proposal.demonstration_ids not in known[number].measures
    ]
    # The ledger's accuracy of the zero-shot prompt may be by another metric, or CIDEr over another corpus.
    bare = [(number, ()) for number, one in enumerate(known) if score == METRIC and () not in one.measures]
    asked = list(dict.fromkeys([*new, *bare]))
    requests = [Request(tuple(pool[name] for name in ids), queries[number]) for number, ids in asked]
    weights = [answer_weights(vlm.task, query) for query in queries]
    targets = [vlm.task.target(query) for query in queries]
    logprobs, num_scored = _score_answers(queries, new, weights, targets, known, pool, vlm)
    heard = {
        (number, ids): {**vars(answer), "relevance": relevance(answer.prediction, queries[number]["answers"])}
        for (number, ids), answer in zip(asked, Answerer(vlm).answer(requests), strict=True)
    }
    measures = [dict(before.measures) for before in known]
    for number, ids in new:
        own = {text: logprobs[number, ids, text].logprob for text in weights[number]}
        found = logprobs[number, ids, targets[number]]
        measures[number][ids] = {
            **heard[number, ids],
            "gt_prob": gt_prob(weights[number], own),
            "answer_logprob": found.logprob,
            "num_answer_tokens": found.num_tokens,
        }
    rows = []
    for number, (query, group) in enumerate(zip(queries, groups, strict=True)):
        own = [measures[number][proposal.demonstration_ids] for proposal in group]
        found = [ids for owner, ids in new if owner == number]
        nothing = measures[number].get((), heard.get((number, ()), {}))
        zero_shot = ScoredPrompt(*logprobs[number, (), targets[number]], nothing.get("accuracy"))
        rows.append(
            {
                "query_id": query["id"],
                "zero_shot_score": answer_score(zero_shot, score),
                "demonstration_ids": [list(proposal.demonstration_ids) for proposal in group],
                "sources": [proposal.source for proposal in group],
                **{column: [one[name] for one in own] for name, column in MEASURES.items()},
                "behaviour_logprobs": [proposal.behaviour_logprob for proposal in group],
                "proposals": [
                    {"source": one.source, "demonstration_ids": list(one.demonstration_ids)}
                    for one in proposals[number]
                ],
                "counts": {
                    "sequences": len(group),
                    "answered": sum(owner == number for owner, _ in asked),
                    "scored": num_scored[number],
                    "from_ledger": sum(ids in known[number].answer_logprobs for ids in found),
                    "from_previous": len(group) - len(found),
                },
            }
        )
    return rows


def _score_answers(
    queries: Sequence[Example],
    new: Sequence[tuple[int, Ids]],
    weights: Sequence[Mapping[str, float]],
    targets: Sequence[str],
    known: Sequence[Known],
    pool: Mapping[str, Example],
    vlm: VLM,
) -> tuple[dict[tuple[int, Ids, str], AnswerLogprob], list[int]]:
    """
    Log-probabilities by query, sequence and answer, and how many of them the VLM had to score for each query.

    After each new sequence, `answer` and every other answer with a metric above 0 are scored; without demonstrations,
    `answer` alone.
    """
    logprobs: dict[tuple[int, Ids, str], AnswerLogprob] = {}
    asked: dict[tuple[int, Ids, str], Request] = {}
    zero_shot = [(number, ()) for number in range(len(queries))]
    for number, ids in (*zero_shot, *new):
        measured = known[number].measures.get(ids)
        before = known[number].answer_logprobs.get(ids)
        if measured is not None:
            before = AnswerLogprob(measured["answer_logprob"], measured["num_answer_tokens"])
        if before is not None:
            logprobs[number, ids, targets[number]] = before
    for number, ids in zero_shot:
        asked[number, ids, targets[number]] = Request((), queries[number])
    for number, ids in new:
        demonstrations = tuple(pool[name] for name in ids)
        for text in (targets[number], *weights[number]):
            query = queries[number] if text == targets[number] else {**queries[number], "answer": text}
            asked[number, ids, text] = Request(demonstrations, query)
    asked = {key: request for key, request in asked.items() if key not in logprobs}
    for (number, ids, text), found in zip(asked, vlm.answer_logprobs(list(asked.values())), strict=True):
        logprobs[number, ids, text] = found
    owners = [number for number, _, _ in asked]
    return logprobs, [owners.count(number) for number in range(len(queries))]


def generate_rollouts(
    run: RunFolder,
    queries: dict[str, Dataset],
    pool: Dataset,
    sources: RolloutSources,
    vlm: VLM,
    score: str,
    reuse_ledger: Mapping[str, bool],
    previous: Mapping[str, PreviousRollouts],
) -> dict[str, list[Path]]:
    """
    Answers the queries of all splits, in units, together with the other processes of the launch.

    Args:
        run ([`RunFolder`]):
            Keeps the results of the units.
        queries (`dict[str, Dataset]`):
            Examples to ask, by split.
        pool (`Dataset`):
            Examples to demonstrate with.
        sources ([`RolloutSources`]):
            Propose sequences.
        vlm ([`VLM`]):
            Answers and scores.
        score (`str`):
            Scale of InfoScore.
        reuse_ledger (`Mapping[str, bool]`):
            Whether the ledger of a split says what this VLM would say.
        previous (`Mapping[str, PreviousRollouts]`):
            Earlier rollouts of the splits that have any.

    Returns:
        `dict[str, list[Path]]`: the units' files of each split, in query order.
    """
    # The VLM decodes what it has not seen yet; here every image would be decoded in every unit that shows it.
    pool, queries = undecoded(pool), {split: undecoded(examples) for split, examples in queries.items()}
    row_of = {identifier: row for row, identifier in enumerate(pool["id"])}
    units: dict[str, Unit] = {}
    for split, examples in queries.items():
        units |= units_of(split, len(examples), sources.args.unit_size)

    def known(split: str, query_id: str) -> Known:
        searched, before = sources.searched[split], previous.get(split)
        return Known(
            searched.answer_logprobs(query_id) if reuse_ledger[split] else {},
            before.measures(query_id) if before else {},
        )

    def work(name: str) -> pa.Table:
        split, span = units[name]
        examples = [queries[split][row] for row in span]
        ids = [example["id"] for example in examples]
        proposals = sources.propose(split, ids)
        needed = sorted({row_of[i] for own in proposals for one in own for i in one.demonstration_ids})
        by_id = {example["id"]: example for example in (pool[row] for row in needed)}
        before = [known(split, query_id) for query_id in ids]
        with vlm.unit():
            rows = answer_unit(examples, proposals, before, by_id, vlm, score)
        candidates = sources.searched[split].candidate_ids
        return pa.Table.from_pylist(
            [{**row, "split": split, "candidate_ids": candidates(row["query_id"])} for row in rows]
        )

    files = run_units(run, {name: len(unit.rows) for name, unit in units.items()}, work, "Rolling out")
    return files_by_split(queries, files)
