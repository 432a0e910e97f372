# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""InfoScore: how much a sequence of demonstrations helps the VLM to give the right answer."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


#: The scale of the task's metric of a generated answer; the other scales are of probabilities.
METRIC = "metric"
SCORES = ("prob", "logprob", METRIC)


class ScoredPrompt(NamedTuple):
    """The score of a prompt: the values of a ledger row."""

    logprob: float  #: log-probability of the right answer, summed over its tokens
    num_tokens: int
    accuracy: float | None = None  #: the task's metric of the generated answer, after a search with `score: metric`

    @classmethod
    def of(cls, entry: Mapping) -> "ScoredPrompt":
        return cls(entry["answer_logprob"], entry["num_answer_tokens"], entry["accuracy"])


def answer_score(prompt: ScoredPrompt, score: str = "prob") -> float:
    """
    The score of a prompt on a scale: `"prob"`, the length-normalised probability exp(logprob / tokens) of the right
    answer; `"logprob"`, its logarithm; `"metric"`, the task's metric of the generated answer. Raises `ValueError` if
    the scale is `"metric"` and the prompt has no accuracy.
    """
    if score == METRIC:
        if prompt.accuracy is None:
            raise ValueError(
                "The scale is `metric`, but the ledger has no accuracies: its search generated no answers. "
                "Search beams with `score: metric`, or take the scale prob or logprob."
            )
        return prompt.accuracy
    value = prompt.logprob / prompt.num_tokens
    return math.exp(value) if score == "prob" else value


def info_score(prompt: ScoredPrompt, zero_shot: ScoredPrompt, score: str = "prob") -> float:
    """
    InfoScore(q, S) = answer_score(q, S) - answer_score(q, no demonstrations).

    Larger is better; a negative value means that the demonstrations hurt. The default scale `"prob"` is that of
    Lever-LM (Yang et al., NeurIPS 2024).
    """
    return answer_score(prompt, score) - answer_score(zero_shot, score)


def ledger_prompts(ledger: Mapping[str, Sequence]) -> list[ScoredPrompt]:
    """The scores of the rows of a ledger (a `Dataset`, or its columns as lists), in their order."""
    columns = (ledger[name][:] for name in ("answer_logprob", "num_answer_tokens", "accuracy"))
    return [ScoredPrompt(*row) for row in zip(*columns, strict=True)]
