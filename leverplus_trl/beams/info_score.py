# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""InfoScore: how much a sequence of demonstrations helps the VLM to say the right answer."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from datasets import Dataset

from .beam_arguments import METRIC


class ScoredPrompt(NamedTuple):
    """
    What a search knows of a prompt; a row of the ledger by other names.

    Args:
        logprob (`float`):
            Log-probability of the right answer, summed over its tokens.
        num_tokens (`int`):
            How many these are.
        accuracy (`float`, *optional*):
            The task's metric of the answer that the VLM generates; only a search with `score: metric` asks for it.
    """

    logprob: float
    num_tokens: int
    accuracy: float | None = None

    @classmethod
    def of(cls, entry: Mapping) -> "ScoredPrompt":
        """The same of a row of the ledger."""
        return cls(entry["answer_logprob"], entry["num_answer_tokens"], entry["accuracy"])


def answer_score(found: ScoredPrompt, score: str = "prob") -> float:
    """
    What a prompt is worth on a scale.

    Args:
        found ([`ScoredPrompt`]):
            What is known of it.
        score (`str`, *optional*, defaults to `"prob"`):
            `"prob"`: the length-normalised probability exp(logprob / tokens) of the right answer; `"logprob"`: its
            logarithm; `"metric"`: the task's metric of the generated answer, on the metric's own scale.

    Raises:
        `ValueError`: the metric is asked for and not known.
    """
    if score == METRIC:
        if found.accuracy is None:
            raise ValueError(
                "The scale `metric` is asked for, but the ledger has no accuracies: its search generated no answers. "
                "Search beams with `score: metric`, or take the scale prob or logprob."
            )
        return found.accuracy
    value = found.logprob / found.num_tokens
    return math.exp(value) if score == "prob" else value


def info_score(found: ScoredPrompt, zero_shot: ScoredPrompt, score: str = "prob") -> float:
    """
    InfoScore(q, S) = answer_score(q, S) - answer_score(q, no demonstrations).

    Larger is better for every VLM; negative means that the demonstrations hurt. Lever-LM (Yang et al., NeurIPS 2024)
    uses the scale of probabilities, the default here.
    """
    return answer_score(found, score) - answer_score(zero_shot, score)


def ledger_prompts(ledger: Dataset | Mapping[str, Sequence]) -> list[ScoredPrompt]:
    """What a ledger, or some rows of it as lists, knows of its prompts, in their order."""
    columns = (ledger[name][:] for name in ("answer_logprob", "num_answer_tokens", "accuracy"))
    return [ScoredPrompt(*row) for row in zip(*columns, strict=True)]
