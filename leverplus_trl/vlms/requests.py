# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a VLM is given, what it returns, and the errors that name a request."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..tasks import Example
from .vlm_arguments import VLMArguments


#: The roles of a turn: the VLM, and those whom it answers.
ROLES = (ASSISTANT := "assistant", "user", "tool")
REMEDIES = {
    "float16": "float16 overflows, or the weights are damaged. Set `dtype: bfloat16` or `dtype: float32`.",
    "bfloat16": "bfloat16 overflows, or the weights are damaged. Set `dtype: float32`.",
}


class Turn(NamedTuple):
    """A message after the query; `role` is one of `ROLES`."""

    role: str
    text: str


class Request(NamedTuple):
    """
    One prompt: demonstrations in prompt order (the last is next to the query), the query, and further turns.

    Turns begin with the VLM's reply to the query and end with the message that it answers next; see [`Request.then`].
    A VLM knows examples by their content: ids are for messages, and an example may occur with several answers.
    """

    demonstrations: tuple[Example, ...]
    query: Example
    turns: tuple[Turn, ...] = ()

    def then(self, reply: str, text: str, role: str = "user") -> "Request":
        """Continues the request with the VLM's reply and the next message."""
        return self._replace(turns=(*self.turns, Turn(ASSISTANT, reply), Turn(role, text)))


class AnswerLogprob(NamedTuple):
    """`logprob`: sum over the answer's tokens of log p(token | all before it); `num_tokens`: the number of tokens."""

    logprob: float
    num_tokens: int

    @property
    def prob(self) -> float:
        """The length-normalised probability: exp(logprob / num_tokens)."""
        return math.exp(self.logprob / self.num_tokens)


class MemoryTooSmall(ValueError):
    """`memory_mb` leaves no room for a prompt."""


class NotFinite(ValueError):
    """A log-probability or logit is NaN or infinite."""

    def __init__(self, args: VLMArguments, request: Request, value: str):
        shown = [example["id"] for example in request.demonstrations]
        remedy = REMEDIES.get(args.dtype, "its weights are damaged. Download or convert them again.")
        super().__init__(
            f"{args.vlm!r} gives {value} for query {request.query['id']!r} with demonstrations {shown}, which is not "
            f"finite: {remedy}"
        )


def check_finite(args: VLMArguments, requests: Sequence[Request], scores: Sequence[AnswerLogprob]) -> None:
    """Raises [`NotFinite`] for the first log-probability that is NaN or infinite."""
    for request, score in zip(requests, scores, strict=True):
        if not math.isfinite(score.logprob):
            value = f"the log-probability {score.logprob} to the answer {request.query['answer']!r}"
            raise NotFinite(args, request, value)
