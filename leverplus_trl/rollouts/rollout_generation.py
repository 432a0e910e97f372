# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From proposed sequences to answers and their measures, in units; measures that are known are not computed again."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from ..answering import Answerer
from ..beams.info_score import METRIC, ScoredPrompt, answer_score
from ..metrics.texts import check_texts
from ..metrics.token_f1 import normalized_words, token_f1
from ..run_folder import RunFolder
from ..tasks import BaseTask, Example
from ..tasks.images import undecoded
from ..vlms import VLM, AnswerLogprob, Request
from ..work_units import Unit, files_by_split, run_units, units_of
from .rollout_reuse import MEASURES, Known, stored_measures
from .rollout_sources import Ids, Proposal, RolloutSources, distinct


def edit_similarity(prediction: str, answers: list[str]) -> float:
    """`difflib.SequenceMatcher.ratio()` of the letters of the texts, normalised as for `token_f1`: twice the letters
    in matching blocks over all letters of both; the highest over the answers. Raises as `check_texts`."""
    check_texts(prediction, answers)
    own, *others = (" ".join(normalized_words(text)) for text in (prediction, *answers))
    # Answers first: the ratio is not symmetric, and autojunk would drop letters that are frequent in long texts.
    return max(SequenceMatcher(None, answer, own, autojunk=False).ratio() for answer in others)


def relevance(prediction: str, answers: list[str]) -> float:
    """The mean of `token_f1` and [`edit_similarity`] with the same answer, in 0..1; the highest over the answers."""
    check_texts(prediction, answers)
    return max((token_f1(prediction, [answer]) + edit_similarity(prediction, [answer])) / 2 for answer in answers)


def answer_weights(task: BaseTask, query: Example) -> dict[str, float]:
    """The accuracy, by the task's metric, of each distinct answer of a query's annotators, if it is above 0."""
    texts = dict.fromkeys(answer.strip() for answer in query["answers"])
    accuracies = {text: task.accuracy(text, query) for text in texts if text}
    return {text: accuracy for text, accuracy in accuracies.items() if accuracy > 0.0}


def gt_prob(weights: Mapping[str, float], logprobs: Mapping[str, float]) -> float:
    """
    The sum of accuracy(a) * exp(log-probability of a) over the annotators' answers a, at most 1. `weights` are those
    of [`answer_weights`].

    It is the expected accuracy of an answer *sampled* from the VLM, over the annotators' answers: a reward that also
    changes where the greedy answer does not. Log-probabilities are sums over an answer's tokens, without the end token
    unless `score_end_token`, so that "red" includes "red star"; where both are answers they count twice, hence the
    limit.
    """
    return min(1.0, math.fsum(weight * math.exp(logprobs[text]) for text, weight in weights.items()))


def answer_unit(
    queries: Sequence[Example],
    proposals: Sequence[Sequence[Proposal]],
    known: Sequence[Known],
    pool: Mapping[str, Example],
    vlm: VLM,
    score: str = "prob",
) -> list[dict]:
    """
    Answers some queries together, with each distinct sequence once, and measures the answers.

    `proposals` and `known` are those of each query, `pool` holds at least their demonstrations, by id, and `score` is
    the scale of InfoScore: on `"metric"` the prompt without demonstrations is answered, too.

    Returns:
        `list[dict]`: a row for each query with the columns of `schema.ROLLOUTS` (but `split` and `candidate_ids`), all
        proposals under `proposals`, and under `counts` how many prompts were answered and scored, and how many were
        known.
    """
    groups = [distinct(own) for own in proposals]
    new = [
        (number, proposal.demonstration_ids)
        for number, group in enumerate(groups)
        for proposal in group
        if proposal.demonstration_ids not in known[number].measures
    ]
    # The ledger's accuracy of the zero-shot prompt may be by another metric, or CIDEr over another corpus.
    bare = [(number, ()) for number, own in enumerate(known) if score == METRIC and () not in own.measures]
    prompts = list(dict.fromkeys([*new, *bare]))
    weights = [answer_weights(vlm.task, query) for query in queries]
    targets = [vlm.task.target(query) for query in queries]
    logprobs, num_scored = _score_answers(queries, new, weights, targets, known, pool, vlm)
    requests = [Request(tuple(pool[name] for name in ids), queries[number]) for number, ids in prompts]
    answers = dict(zip(prompts, Answerer(vlm).answer(requests), strict=True))
    bare_accuracies = {number: answer.accuracy for (number, ids), answer in answers.items() if not ids}
    measures = [dict(own.measures) for own in known]
    for number, ids in new:
        answer, target = answers[number, ids], logprobs[number, ids, targets[number]]
        of_answers = {text: logprobs[number, ids, text].logprob for text in weights[number]}
        measures[number][ids] = {
            **vars(answer),
            "relevance": relevance(answer.prediction, queries[number]["answers"]),
            "gt_prob": gt_prob(weights[number], of_answers),
            "answer_logprob": target.logprob,
            "num_answer_tokens": target.num_tokens,
        }
    rows = []
    for number, (query, group) in enumerate(zip(queries, groups, strict=True)):
        own = [measures[number][proposal.demonstration_ids] for proposal in group]
        own_new = [ids for owner, ids in new if owner == number]
        accuracy = measures[number].get((), {}).get("accuracy", bare_accuracies.get(number))
        rows.append(
            {
                "query_id": query["id"],
                "zero_shot_score": answer_score(ScoredPrompt(*logprobs[number, (), targets[number]], accuracy), score),
                "demonstration_ids": [list(proposal.demonstration_ids) for proposal in group],
                "sources": [proposal.source for proposal in group],
                **{column: [values[name] for values in own] for name, column in MEASURES.items()},
                "behaviour_logprobs": [proposal.behaviour_logprob for proposal in group],
                "proposals": [vars(proposal) for proposal in proposals[number]],
                "counts": {
                    "sequences": len(group),
                    "answered": sum(owner == number for owner, _ in prompts),
                    "scored": num_scored[number],
                    "from_ledger": sum(ids in known[number].answer_logprobs for ids in own_new),
                    "from_previous": len(group) - len(own_new),
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
) -> tuple[dict[tuple[int, Ids, str], AnswerLogprob], Counter]:
    """Log-probabilities by query, sequence and answer, and how many of them the VLM scored for each query. With each
    new sequence, `answer` and every other answer with a metric above 0 are scored; without demonstrations, `answer`
    alone."""
    requests = {(number, (), targets[number]): Request((), query) for number, query in enumerate(queries)}
    for number, ids in new:
        demonstrations, query = tuple(pool[name] for name in ids), queries[number]
        for text in (targets[number], *weights[number]):
            own = query if text == targets[number] else {**query, "answer": text}
            requests[number, ids, text] = Request(demonstrations, own)
    logprobs = {}
    for number, ids, text in requests:
        before = known[number].answer_logprob(ids) if text == targets[number] else None
        if before is not None:
            logprobs[number, ids, text] = before
    requests = {key: request for key, request in requests.items() if key not in logprobs}
    logprobs |= zip(requests, vlm.answer_logprobs(list(requests.values())), strict=True)
    return logprobs, Counter(number for number, _, _ in requests)


def generate_rollouts(
    run: RunFolder,
    queries: dict[str, Dataset],
    pool: Dataset,
    sources: RolloutSources,
    vlm: VLM,
    score: str,
    reuse_ledger: Mapping[str, bool],
    previous: Mapping[str, Dataset],
) -> dict[str, list[Path]]:
    """
    Answers the queries of all splits, in units, together with the other processes of the launch.

    `run` stores the results of the units; `queries` are given by split, and `pool` holds the demonstrations. `score`
    is the scale of InfoScore. `reuse_ledger` says for each split whether the log-probabilities in its ledger are those
    of this VLM; `previous` are the earlier rollouts of the splits that have any.

    Returns:
        `dict[str, list[Path]]`: the units' files of each split, in query order.
    """
    # The VLM decodes each image once; decoding here would repeat it in every unit.
    pool, queries = undecoded(pool), {split: undecoded(examples) for split, examples in queries.items()}
    row_of = {identifier: row for row, identifier in enumerate(pool["id"])}
    previous_row_of = {
        split: {query_id: row for row, query_id in enumerate(table["query_id"])} for split, table in previous.items()
    }
    units: dict[str, Unit] = {}
    for split, examples in queries.items():
        units |= units_of(split, len(examples), sources.args.unit_size)

    def known(split: str, query_id: str) -> Known:
        scored = sources.searched[split].scored(query_id) if reuse_ledger[split] else {}
        logprobs = {ids: AnswerLogprob(prompt.logprob, prompt.num_tokens) for ids, prompt in scored.items()}
        row = previous_row_of.get(split, {}).get(query_id)
        return Known(logprobs, {} if row is None else stored_measures(previous[split][row]))

    def work(name: str) -> pa.Table:
        split, span = units[name]
        examples = [queries[split][row] for row in span]
        ids = [example["id"] for example in examples]
        proposals = sources.propose(split, ids)
        needed = sorted({row_of[i] for own in proposals for proposal in own for i in proposal.demonstration_ids})
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
