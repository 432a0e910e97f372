# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Checks of a VLM on the data of a job, which refuse it before the job starts if its scores can't be trusted."""

from dataclasses import asdict, dataclass

import numpy as np
from datasets import Dataset

from ..log import doing
from ..tasks.images import content_sizes, undecoded
from .requests import MemoryTooSmall, Request
from .tokenization import ForgedTokens, bare
from .vlm import TransformersVLM


NUM_SEQUENCES = 64
NUM_SINGLE = 16
#: Tolerance on answer log-probabilities between a prompt in a batch and the same prompt alone.
BATCHING_TOLERANCE = {"float32": 1e-4, "float64": 1e-4}
COARSE_BATCHING_TOLERANCE = 2e-2  # bfloat16, float16, 8-bit (which columns count as outliers depends on the batch)


@dataclass
class PreflightReport:
    """What the preflight measured."""

    batching_error: float  # max |answer_logprob in a batch - alone|, nats
    score_error: float  # the same of the length-normalised probability, the scale of InfoScore
    info_score_spread: float  # standard deviation of InfoScore over random sequences
    self_demonstration_gain: float  # mean InfoScore of a query's own solved example as its only demonstration
    longest_prompt: int  # tokens
    context: int | None  # tokens

    def __str__(self) -> str:
        context = f" of {self.context:,}" if self.context else ""
        return (
            f"log-probabilities in a batch and alone differ by at most {self.batching_error:.1e} nats, InfoScore has "
            f"a standard deviation of {self.info_score_spread:.2g} over random sequences, the longest prompt takes "
            f"{self.longest_prompt:,}{context} tokens"
        )


@doing("checking the VLM (preflight)")
def preflight(
    vlm: TransformersVLM, pool: Dataset, queries: Dataset, num_shots: int, seed: int = 0, max_new_tokens: int = 0
) -> PreflightReport:
    """
    Checks a VLM on the data of a job.

    A VLM is refused if (1) a prompt scores differently in a batch than alone, (2) the scored tokens do not decode to
    the answer, (3) the spread of InfoScore over random sequences is less than 100 times the batching error, (4) the
    longest prompt does not fit into the context, or where prefixes are shared into `memory_mb`, (5) showing a query
    its own solution does not raise its score, (6) the tokenizer changes the words of an answer, (7) a text holds a
    control token, such as the mark of a turn or an image. All but (4), (6) and (7) are tried on a sample.

    Context and memory must have room for `num_shots` demonstrations and `max_new_tokens` of a generated answer.

    Raises:
        `ValueError`: names every check that failed, with its numbers.
    """
    pool, queries = undecoded(pool), undecoded(queries)
    for examples in (pool, queries):
        _check_texts(vlm, examples)
        _check_answers(vlm, examples)
    rng = np.random.default_rng(seed)
    picked = [queries[int(i)] for i in rng.choice(len(queries), size=min(NUM_SINGLE, len(queries)), replace=False)]
    demonstrations = [pool[int(i)] for i in rng.integers(len(pool), size=NUM_SEQUENCES * num_shots)]
    requests = []
    for i in range(NUM_SEQUENCES):
        shots = num_shots if i < NUM_SINGLE else 1 + i % num_shots
        requests.append(Request(tuple(demonstrations[i * num_shots : i * num_shots + shots]), picked[i % len(picked)]))
    vlm.prepare(requests)
    # Context first: a prompt that does not fit can't be scored at all.
    longest_prompt = _longest_prompt(vlm, pool, queries, num_shots, max_new_tokens)
    together = vlm.answer_logprobs(requests)[:NUM_SINGLE]
    alone = [vlm.answer_logprobs([request])[0] for request in requests[:NUM_SINGLE]]
    pairs = list(zip(together, alone, strict=True))
    info_scores = _info_scores(vlm, requests)
    report = PreflightReport(
        # numpy's maximum is NaN if one of the numbers is; Python's may pass over it.
        batching_error=float(np.max([abs(a.logprob - b.logprob) for a, b in pairs])),
        score_error=float(np.max([abs(a.prob - b.prob) for a, b in pairs])),
        info_score_spread=float(info_scores.std()),
        self_demonstration_gain=float(_info_scores(vlm, [Request((query,), query) for query in picked]).mean()),
        longest_prompt=longest_prompt,
        context=vlm.family.max_length,
    )
    problems = _problems(vlm, report, picked)
    if problems:
        raise ValueError(
            f"Preflight of {vlm.args.vlm!r} failed: " + "; ".join(problems) + f". Measured: {asdict(report)}."
        )
    return report


def _info_scores(vlm: TransformersVLM, requests: list[Request]) -> np.ndarray:
    """InfoScore on the probability scale, for every `score` of the job."""
    scores = vlm.answer_logprobs(requests)
    zero_shot = vlm.answer_logprobs([Request((), request.query) for request in requests])
    return np.array([score.prob - zero.prob for score, zero in zip(scores, zero_shot, strict=True)])


def _problems(vlm: TransformersVLM, report: PreflightReport, queries: list[dict]) -> list[str]:
    """The checks that failed. NaN fails every comparison."""
    problems = []
    coarse = vlm.args.quantization == "8bit" or vlm.args.dtype not in BATCHING_TOLERANCE
    tolerance = COARSE_BATCHING_TOLERANCE if coarse else BATCHING_TOLERANCE[vlm.args.dtype]
    if not report.batching_error <= tolerance:
        problems.append(
            f"a prompt in a batch and alone differ by {report.batching_error:.2g} nats (at most {tolerance:.0e} "
            f"allowed for {vlm.args.dtype}): padding leaks into the scores, or the dtype is too coarse"
        )
    for query in queries if not vlm.args.score_end_token else ():
        decoded, target = vlm.tokenizer.decode(vlm.answer_ids(query)).strip(), vlm.task.target(query)
        if bare(decoded) != bare(target):
            problems.append(f"the scored tokens of {query['id']!r} decode to {decoded!r}, not {target!r}")
            break
    if not report.info_score_spread >= 100 * report.score_error:
        problems.append(
            f"InfoScore has a spread of {report.info_score_spread:.2g} over {NUM_SEQUENCES} random sequences, less "
            f"than 100 times the error {report.score_error:.2g} of batching: a ranking by it would be noise"
        )
    if not report.self_demonstration_gain > 0:
        problems.append(
            "showing a query its own solved example changes InfoScore by "
            f"{report.self_demonstration_gain:.2g}, not upwards: the VLM does not use demonstrations, or the wrong "
            "tokens are scored"
        )
    return problems


def _longest_prompt(vlm: TransformersVLM, pool: Dataset, queries: Dataset, num_shots: int, max_new_tokens: int) -> int:
    """
    Tokens of the longest prompt that can be expected: of the examples with the most words, the largest images, and a
    sample. Tokenising a whole pool would take too long; each prompt's length is checked again before it is run.

    Raises `ValueError` if context or memory is too small for it.
    """

    def candidates(dataset: Dataset, count: int) -> list[dict]:
        words = [-len(str(row)) for row in _texts(dataset)]
        sizes = [-(size or 0) for size in content_sizes(dataset)]
        rows = [row for some in (words, sizes) for row in np.argsort(some, kind="stable")[:count].tolist()]
        rows += np.random.default_rng(0).permutation(len(dataset))[:32].tolist()
        return [dataset[row] for row in dict.fromkeys(rows)]

    query = max(candidates(queries, 4), key=lambda example: vlm.num_prompt_tokens(Request((), example)))
    demonstrations = sorted(
        candidates(pool, num_shots), key=lambda example: -vlm.num_prompt_tokens(Request((example,), query))
    )
    longest = vlm.num_prompt_tokens(Request(tuple(demonstrations[:num_shots]), query))
    context, needed = vlm.family.max_length, longest + max_new_tokens
    problem = (
        f"Preflight of {vlm.args.vlm!r} failed: the longest prompt has {longest} tokens ({num_shots} "
        f"demonstrations, query {query['id']!r}){f' and {max_new_tokens} to come' if max_new_tokens else ''}"
    )
    if context is not None and needed > context:
        raise ValueError(f"{problem}; the model's context holds {context}. Use fewer shots or shorter examples.")
    try:
        vlm.prepare([]).check_room(needed)
    except MemoryTooSmall as error:
        raise MemoryTooSmall(f"{problem}. {error}") from error
    return longest


def _texts(examples: Dataset) -> Dataset:
    return examples.select_columns([name for name in examples.column_names if name != "image"])


def _check_texts(vlm: TransformersVLM, examples: Dataset) -> None:
    """Refuses questions and answers in which the tokenizer reads the mark of a turn or an image."""
    forged, task, marked = ForgedTokens(vlm.tokenizer, vlm.family.control_tokens), vlm.task, {}
    for row in _texts(examples):
        shown = [(task.question_text(row), task.template), (task.target(row), task.answer_template)]
        shown += [(answer, "") for answer in row["answers"]]
        token = next(filter(None, (forged.find(text, template) for text, template in shown)), None)
        if token is not None:
            marked[row["id"]] = token
    if marked:
        first, token = next(iter(marked.items()))
        raise ValueError(
            f"Preflight of {vlm.args.vlm!r} failed: the text of example {first!r} holds {token!r}, which its "
            f"tokenizer takes for the mark of a turn or an image. Such texts have {len(marked)} of {len(examples)} "
            f"examples: {', '.join(map(repr, list(marked)[:5]))}. Remove these marks, or leave the examples out."
        )


def _check_answers(vlm: TransformersVLM, examples: Dataset) -> None:
    """Refuses answers that are other words once the tokenizer has read them."""
    targets = {row["id"]: vlm.task.target(row) for row in _texts(examples)}
    ids = vlm.tokenizer(list(targets.values()), add_special_tokens=False)["input_ids"]
    decoded = dict(zip(targets, vlm.tokenizer.batch_decode(ids), strict=True))
    changed = [
        name
        for name, text in decoded.items()
        if not text.strip() or (text.strip() != targets[name] and bare(text) != bare(targets[name]))
    ]
    if changed:
        first, text = changed[0], decoded[changed[0]]
        remedy = "Write them as it does (lower case, without accents), or leave the examples out."
        if vlm.tokenizer.unk_token and vlm.tokenizer.unk_token in text:
            remedy = "It has no token for some of their characters: use another VLM, or leave the examples out."
        if not text.strip():
            remedy = "Write them in other characters, or leave the examples out."
        raise ValueError(
            f"Preflight of {vlm.args.vlm!r} failed: its tokenizer makes {text.strip()!r} of the answer "
            f"{targets[first]!r} of example {first!r}, and changes {len(changed)} of {len(examples)} answers: other "
            f"words would be scored. {remedy}"
        )
