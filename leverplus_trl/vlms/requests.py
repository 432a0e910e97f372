# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What is asked of a VLM, what it answers, and what is refused before anything runs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..tasks import BaseTask, Example


if TYPE_CHECKING:
    from .base_vlm import BaseVLM


#: Who speaks in a turn: the VLM, and those whom it answers.
ROLES = (ASSISTANT := "assistant", "user", "tool")


class Turn(NamedTuple):
    """A message after the query: who says it (one of `ROLES`), and its text."""

    role: str
    text: str


class Request(NamedTuple):
    """
    One prompt: demonstrations in prompt order (the last stands next to the query), the query, and further turns.

    An example may come with several answers. Ids are for messages: a VLM knows examples by their content. Turns begin
    with what the VLM said to the query, and end with what it is to answer next; see [`Request.then`].
    """

    demonstrations: tuple[Example, ...]
    query: Example
    turns: tuple[Turn, ...] = ()

    def then(self, said: str, text: str, role: str = "user") -> "Request":
        """The request that continues this one: the VLM said `said`, and is now told `text`."""
        return self._replace(turns=(*self.turns, Turn(ASSISTANT, said), Turn(role, text)))


class AnswerLogprob(NamedTuple):
    """`logprob`: sum over the answer's tokens of log p(token | all before it); `num_tokens`: how many these are."""

    logprob: float
    num_tokens: int

    @property
    def prob(self) -> float:
        """The answer's probability, normalised by its length: exp(logprob / num_tokens)."""
        return math.exp(self.logprob / self.num_tokens)


class MemoryTooSmall(ValueError):
    """`memory_mb` leaves no room for a prompt."""


def check_answer(task: BaseTask, query: Example, ids: Sequence[int]) -> None:
    """Refuses an answer that there is nothing to score of."""
    if not ids:
        raise ValueError(f"The answer {task.target(query)!r} of example {query['id']!r} has no tokens.")


def check_lengths(vlm: "BaseVLM", requests: Sequence[Request], lengths: Sequence[int]) -> None:
    """Refuses prompts (with their answers) that are longer than the model's context."""
    for request, length in zip(requests, lengths, strict=True):
        if vlm.max_length is not None and length > vlm.max_length:
            raise ValueError(
                f"The prompt of query {request.query['id']!r} with {len(request.demonstrations)} demonstrations has "
                f"{length} tokens; the context of {type(vlm.model).__name__} holds {vlm.max_length}. Use fewer shots, "
                "shorter texts or smaller images."
            )
