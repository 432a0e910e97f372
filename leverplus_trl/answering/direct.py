# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a protocol is handed and returns; and `direct`, which prompts once and lets the task read the generation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..tasks import BaseTask
from ..vlms import Request


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A VLM's reply to a request."""

    generation: str  #: the text, as generated
    prediction: str  #: the answer in it


#: Generates one text for each request. All requests of a call run together.
Generate = Callable[[Sequence[Request]], list[str]]
#: Calls `Generate` once or several times, and returns one reply for each request, in their order. A second prompt is
#: the request with further turns ([`Request.then`]).
Protocol = Callable[[Sequence[Request], BaseTask, Generate], list[Reply]]


def direct(requests: Sequence[Request], task: BaseTask, generate: Generate) -> list[Reply]:
    """One reply for each request; see [`Protocol`]."""
    return [Reply(generation=text, prediction=task.postprocess(text)) for text in generate(requests)]
