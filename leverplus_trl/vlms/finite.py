# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Numbers that are not finite: refused where they leave the model."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessor

from .requests import AnswerLogprob, Request


if TYPE_CHECKING:
    from .base_vlm import BaseVLM


REMEDIES = {
    "float16": "float16 overflows, or the weights are damaged. Set `dtype: bfloat16` or `dtype: float32`.",
    "bfloat16": "bfloat16 overflows, or the weights are damaged. Set `dtype: float32`.",
}


class NotFinite(ValueError):
    """The model's logits hold NaN or infinity."""


def _refuse(vlm: "BaseVLM", request: Request, what: str) -> None:
    shown = [example["id"] for example in request.demonstrations]
    remedy = REMEDIES.get(vlm.args.dtype, "its weights are damaged. Download or convert them again.")
    raise NotFinite(
        f"{vlm.args.vlm!r} gives {what} for query {request.query['id']!r} with demonstrations {shown}, which is not "
        f"finite: {remedy}"
    )


def check_finite(vlm: "BaseVLM", requests: Sequence[Request], found: Sequence[AnswerLogprob]) -> None:
    """Raises [`NotFinite`] for the first log-probability that is NaN or infinite, and names its prompt."""
    for request, score in zip(requests, found, strict=True):
        if not math.isfinite(score.logprob):
            _refuse(vlm, request, f"the log-probability {score.logprob} to the answer {request.query['answer']!r}")


class FiniteLogits(LogitsProcessor):
    """
    Raises [`NotFinite`] if the best logit of a row is NaN or infinite; changes nothing.

    Args:
        vlm ([`BaseVLM`]):
            Generates.
        requests (`Sequence[Request]`):
            The prompts of the batch; each has as many rows as there are beams.
    """

    def __init__(self, vlm: "BaseVLM", requests: Sequence[Request]):
        self.vlm, self.requests = vlm, requests

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        best = scores.amax(-1)  # [R]; NaN wins
        if not best.isfinite().all():
            row = int((~best.isfinite()).nonzero()[0])
            request = self.requests[row * len(self.requests) // len(best)]
            _refuse(self.vlm, request, f"the logit {float(best[row])} to a new token")
        return scores
