# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a VLM is asked, and what it returns."""

import math
from typing import NamedTuple

from ..tasks import Example


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
