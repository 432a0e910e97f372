# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The one place where requests become scored answers: beam search, rollouts and evaluation all answer here."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..vlms import VLM, Request
from ..vlms.requests import MemoryTooSmall, NotFinite
from .direct import Protocol, Reply, direct


logger = logging.getLogger(__name__)


#: The protocols by their names in a recipe (`answering`).
PROTOCOLS: dict[str, Protocol] = {"direct": direct}


@dataclass(frozen=True, kw_only=True)
class Answer(Reply):
    """A [`Reply`] with the score of its prediction by the task's metric (`accuracy`)."""

    accuracy: float


@dataclass
class Answerer:
    """Answers requests with a VLM, and scores the answers. The protocol says how the VLM is prompted and how its reply
    is read; the default is that of the task's recipe."""

    vlm: VLM
    protocol: Protocol | None = None

    def __post_init__(self):
        self.protocol = self.protocol or PROTOCOLS[self.vlm.task.answering]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The answer to each request, in their order."""
        task = self.vlm.task
        replies = self.protocol(requests, task, self.vlm.generate)
        return [
            Answer(**vars(reply), accuracy=task.accuracy(reply.prediction, request.query))
            for request, reply in zip(requests, replies, strict=True)
        ]

    def confidences(self, requests: Sequence[Request], predictions: Sequence[str]) -> list[float | None]:
        """
        The length-normalised probability, 0..1, of each prediction after its request. The prediction is scored in the
        form in which the task shows answers (`task.target`); the right answers are not used.

        A prediction that is empty, or can't be scored after its prompt, has `None`. The log names the latter.
        """
        pairs = zip(requests, map(self.vlm.task.bare_answer, predictions), strict=True)
        own = [request._replace(query={**request.query, "answer": answer}) for request, answer in pairs]
        probabilities = iter(self._probabilities([request for request in own if request.query["answer"]]))
        return [next(probabilities) if request.query["answer"] else None for request in own]

    def _probabilities(self, requests: Sequence[Request]) -> list[float | None]:
        try:
            return [score.prob for score in self.vlm.answer_logprobs(requests)]
        except (NotFinite, MemoryTooSmall):
            raise
        except ValueError as error:  # a model may generate texts that its own template or tokenizer has no place for
            if len(requests) > 1:
                half = len(requests) // 2
                return self._probabilities(requests[:half]) + self._probabilities(requests[half:])
            query = requests[0].query
            logger.warning("No confidence in the answer %r to query %r: %s", query["answer"], query["id"], error)
            return [None]
