# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Rewards: plain functions over the columns of a rollouts table, so that a new reward needs no VLM.

A reward takes keyword arguments, flat over all N sequences of a table, and returns `[N]`; what it does not need goes
to `**columns`:

- numbers `[N]`: `accuracies`, `gt_probs`, `relevances`, `answer_logprobs`, `num_answer_tokens`, `behaviour_logprobs`
  (NaN for none), `zero_shot_scores` (that of the query, repeated), `num_demonstrations`;
- lists of N: `predictions`, `generations`, `sources`, `demonstration_ids`, `query_ids`, `splits`, `answers` (all
  annotators' answers);
- one string: `score`, the scale of InfoScore (`"prob"`, `"logprob"` or `"metric"`).
"""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from datasets import Dataset

from ..beams.info_score import SCORES, ScoredPrompt, answer_score
from ..log import doing
from ..metrics import METRICS


#: An answer is right if its accuracy is above this: if it agrees with a single annotator.
RIGHT_ABOVE = 0.0
#: Columns of a rollouts table that hold a list for each query.
TEXTS = ("demonstration_ids", "sources", "generations", "predictions")
NUMBERS = ("accuracies", "gt_probs", "relevances", "answer_logprobs", "num_answer_tokens", "behaviour_logprobs")

RewardFunction = Callable[..., np.ndarray]


def accuracy(*, accuracies: np.ndarray, **columns) -> np.ndarray:
    """The task's metric of the answer, in 0..1 (CIDEr: 0..10)."""
    return np.asarray(accuracies, dtype=np.float64)


def correct(*, accuracies: np.ndarray, **columns) -> np.ndarray:
    """1 for a right answer (accuracy above `RIGHT_ABOVE`, which is 0), else 0."""
    return (np.asarray(accuracies) > RIGHT_ABOVE).astype(np.float64)


def hard_plus_soft(*, accuracies: np.ndarray, **columns) -> np.ndarray:
    """`correct` + `accuracy`, in 0..2: being right at all counts as much as how many annotators agree."""
    return correct(accuracies=accuracies) + accuracy(accuracies=accuracies)


def separated(*, accuracies: np.ndarray, gt_probs: np.ndarray, **columns) -> np.ndarray:
    """1 + `accuracy` for a right answer, which is above 1; `gt_prob` for a wrong answer, which is at most 1."""
    right = correct(accuracies=accuracies) > 0
    return np.where(right, 1.0 + accuracy(accuracies=accuracies), gt_prob(gt_probs=gt_probs))


def gt_prob(*, gt_probs: np.ndarray, **columns) -> np.ndarray:
    """The probability that the VLM gives the right answers, each weighted by its accuracy; in 0..1."""
    return np.asarray(gt_probs, dtype=np.float64)


def relevance_if_wrong(*, accuracies: np.ndarray, relevances: np.ndarray, **columns) -> np.ndarray:
    """How near a wrong answer is to a right answer, in 0..1; 0 for a right answer. Add it to `accuracy` or `correct`
    with a small weight; it is no reward by itself."""
    return np.where(correct(accuracies=accuracies) > 0, 0.0, np.asarray(relevances, dtype=np.float64))


def info_score(
    *,
    answer_logprobs: np.ndarray,
    num_answer_tokens: np.ndarray,
    accuracies: np.ndarray,
    zero_shot_scores: np.ndarray,
    score: str = "prob",
    **columns,
) -> np.ndarray:
    """InfoScore of the sequence on the scale `score`, as in the ledger of beams."""
    prompts = map(ScoredPrompt, answer_logprobs, num_answer_tokens, accuracies)
    own = np.array([answer_score(prompt, score) for prompt in prompts], dtype=np.float64)
    return own - np.asarray(zero_shot_scores, dtype=np.float64)


def exact_match(*, predictions: Sequence[str], answers: Sequence[Sequence[str]], **columns) -> np.ndarray:
    """1 if the prediction is one of the annotators' answers, case and whitespace aside, else 0."""
    return _by_metric("exact_match", predictions, answers)


def cover_exact_match(*, predictions: Sequence[str], answers: Sequence[Sequence[str]], **columns) -> np.ndarray:
    """1 if the prediction contains the words of one of the annotators' answers in a row, else 0."""
    return _by_metric("cover_exact_match", predictions, answers)


def token_f1(*, predictions: Sequence[str], answers: Sequence[Sequence[str]], **columns) -> np.ndarray:
    """F1 of the prediction's words against the annotators' answer that fits best, in 0..1."""
    return _by_metric("token_f1", predictions, answers)


def _by_metric(name: str, predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    metric = METRICS[name].function
    return np.array([metric(text, list(right)) for text, right in zip(predictions, answers, strict=True)])


def num_demonstrations(*, num_demonstrations: np.ndarray, **columns) -> np.ndarray:
    """Minus the number of demonstrations: with the weight 0.05 each costs 0.05."""
    return -np.asarray(num_demonstrations, dtype=np.float64)


_FUNCTIONS = (accuracy, correct, hard_plus_soft, separated, gt_prob, relevance_if_wrong, info_score)
_FUNCTIONS += (exact_match, cover_exact_match, token_f1, num_demonstrations)
REWARDS: dict[str, RewardFunction] = {function.__name__: function for function in _FUNCTIONS}


def load_reward(name: str) -> RewardFunction:
    """A reward by its name in `REWARDS`, or a function of your own by its import path `"package.module:function"`;
    raises `ValueError` for any other name."""
    if name in REWARDS:
        return REWARDS[name]
    advice = f"Expected one of {', '.join(REWARDS)}, or the import path `package.module:function` of your own."
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise ValueError(f"Unknown reward {name!r}. {advice}")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (TypeError, ImportError, AttributeError) as error:
        raise ValueError(f"The reward {name!r} can't be imported ({error}). {advice}") from error
    if not callable(function):
        raise ValueError(f"The reward {name!r} is {function!r}, which is not a function. {advice}")
    return function


@doing("computing the rewards")
def compute_rewards(
    rollouts: Dataset,
    answers: Mapping[str, Sequence[str]],
    reward_funcs: Sequence[str],
    reward_weights: Sequence[float] | None = None,
    score: str = "prob",
) -> list[np.ndarray]:
    """
    The weighted sum of some rewards for every sequence of a rollouts table.

    Args:
        rollouts (`Dataset`):
            Table with the columns of `schema.ROLLOUTS`.
        answers (`Mapping[str, Sequence[str]]`):
            All annotators' answers of each query, by id.
        reward_funcs, reward_weights (`Sequence[str]`, `Sequence[float]`, *optional*, defaults to 1 each):
            Rewards as [`load_reward`] takes them, and their factors.
        score (`str`, *optional*, defaults to `"prob"`):
            Scale of InfoScore of the table's `zero_shot_score`: that of its beams.

    Returns:
        `list[np.ndarray]`: float64 `[G]` for each query, in the order of the table.

    Raises:
        `ValueError`: an invalid argument, a query without answers, a damaged table, or a reward that returns another
            number of values, or NaN or infinity.
    """
    if not reward_funcs:
        raise ValueError(f"reward_funcs is empty; expected some of {', '.join(REWARDS)}, or import paths.")
    weights = [1.0] * len(reward_funcs) if reward_weights is None else list(reward_weights)
    if len(weights) != len(reward_funcs):
        raise ValueError(
            f"There are {len(weights)} reward_weights ({weights}) for {len(reward_funcs)} reward_funcs; give one each."
        )
    if not all(map(math.isfinite, weights)):
        raise ValueError(f"reward_weights is {weights}; expected finite numbers.")
    if score not in SCORES:
        raise ValueError(f"score is {score!r}; expected one of {', '.join(SCORES)}.")
    functions = [load_reward(name) for name in reward_funcs]
    columns, sizes = _flat_columns(rollouts, answers)
    query_ids, total = columns["query_ids"], np.zeros(sum(sizes))
    for name, function, weight in zip(reward_funcs, functions, weights, strict=True):
        values = np.asarray(function(**columns, score=score), dtype=np.float64)
        if values.shape != total.shape:
            shape = list(values.shape)
            expected = f"expected one number for each of {len(total)} sequences"
            raise ValueError(f"The reward {name!r} gave values of shape {shape}; {expected}.")
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ValueError(
                f"The reward {name!r} is {values[bad[0]]} for query {query_ids[bad[0]]!r} ({bad.size} such values in "
                "all); expected finite numbers. Correct the reward, or the measure it reads."
            )
        total += weight * values
    return np.split(total, np.cumsum(sizes)[:-1]) if sizes else []


def _flat_columns(rollouts: Dataset, answers: Mapping[str, Sequence[str]]) -> tuple[dict, list[int]]:
    """The keyword arguments of rewards (but `score`), flat over all sequences of a table, and the sizes of its
    groups."""
    query_ids = list(rollouts["query_id"])
    absent = [query_id for query_id in query_ids if not answers.get(query_id)]
    if absent:
        raise ValueError(
            f"{len(absent)} of {len(query_ids)} queries of the rollouts have no answers, e.g. {absent[0]!r}. Name the "
            "dataset and split that the rollouts were made of."
        )
    lists = {name: list(rollouts[name]) for name in (*TEXTS, *NUMBERS)}
    sizes = [len(group) for group in lists["demonstration_ids"]]
    for name, groups in lists.items():
        for query_id, size, group in zip(query_ids, sizes, groups, strict=True):
            if len(group) != size:
                raise ValueError(
                    f"The rollouts of query {query_id!r} hold {size} sequences, but {len(group)} {name}; the table is "
                    "damaged, make it again."
                )

    def repeated(values: Sequence) -> list:
        return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]

    columns = {name: [value for group in groups for value in group] for name, groups in lists.items()}
    columns |= {
        "zero_shot_scores": repeated(list(rollouts["zero_shot_score"])),
        "num_demonstrations": np.array([len(ids) for ids in columns["demonstration_ids"]], dtype=np.int64),
        "answers": repeated([list(answers[query_id]) for query_id in query_ids]),
        "query_ids": repeated(query_ids),
        "splits": repeated(list(rollouts["split"])),
    }
    for name in (*NUMBERS, "zero_shot_scores"):
        values = columns[name] = np.array(columns[name], dtype=np.float64)  # null becomes NaN
        # A source without a density has no behaviour log-probability.
        broken = np.isinf(values) if name == "behaviour_logprobs" else ~np.isfinite(values)
        if broken.any():
            first = int(np.flatnonzero(broken)[0])
            raise ValueError(
                f"{name} of the rollout {list(columns['demonstration_ids'][first])} of the query "
                f"{columns['query_ids'][first]!r} is {values[first]} ({int(broken.sum())} such values in all); "
                "expected finite numbers. The table is damaged, make it again."
            )
    return columns, sizes
