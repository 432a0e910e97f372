# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The protocol `direct`: each request is asked once, and the task finds the answer in the generation."""

from collections.abc import Sequence

from ..tasks import BaseTask
from ..vlms import Request
from .reply import Generate, Reply


def direct(requests: Sequence[Request], task: BaseTask, generate: Generate) -> list[Reply]:
    """One reply for each request; see [`Protocol`]."""
    return [Reply(generation=text, prediction=task.postprocess(text)) for text in generate(requests)]
