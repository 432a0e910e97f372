# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a protocol is handed, and what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..tasks import BaseTask
from ..vlms import Request


@dataclass(frozen=True, kw_only=True)
class Reply:
    """
    What a VLM replied to a request.

    Args:
        generation (`str`):
            Its words, as generated.
        prediction (`str`):
            The answer in them.
    """

    generation: str
    prediction: str


#: Generates one text for each request. All requests of a call run together.
Generate = Callable[[Sequence[Request]], list[str]]
#: Asks the VLM, once or several times, and returns one reply for each request, in their order. To ask again, it passes
#: `Generate` the request with further turns (`request._replace(turns=...)`).
Protocol = Callable[[Sequence[Request], BaseTask, Generate], list[Reply]]
