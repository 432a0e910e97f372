# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Numbers that are not finite: refused where they leave the model."""

import math
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from .requests import AnswerLogprob, Request
from .vlm_arguments import VLMArguments


REMEDIES = {
    "float16": "float16 overflows, or the weights are damaged. Set `dtype: bfloat16` or `dtype: float32`.",
    "bfloat16": "bfloat16 overflows, or the weights are damaged. Set `dtype: float32`.",
}


class NotFinite(ValueError):
    """The model's logits hold NaN or infinity."""


def _refuse(args: VLMArguments, request: Request, what: str) -> None:
    shown = [example["id"] for example in request.demonstrations]
    remedy = REMEDIES.get(args.dtype, "its weights are damaged. Download or convert them again.")
    raise NotFinite(
        f"{args.vlm!r} gives {what} for query {request.query['id']!r} with demonstrations {shown}, which is not "
        f"finite: {remedy}"
    )


def check_finite(args: VLMArguments, requests: Sequence[Request], found: Sequence[AnswerLogprob]) -> None:
    """Raises [`NotFinite`] for the first log-probability that is NaN or infinite, and names its prompt."""
    for request, score in zip(requests, found, strict=True):
        if not math.isfinite(score.logprob):
            _refuse(args, request, f"the log-probability {score.logprob} to the answer {request.query['answer']!r}")


class FiniteLogits(LogitsProcessor):
    """Raises [`NotFinite`] if the best logit of a row is NaN or infinite; a request has a row for each beam."""

    def __init__(self, args: VLMArguments, requests: Sequence[Request]):
        self.args, self.requests = args, requests

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        best = scores.amax(-1)  # [R]; NaN wins
        if not best.isfinite().all():
            row = int((~best.isfinite()).nonzero()[0])
            request = self.requests[row * len(self.requests) // len(best)]
            _refuse(self.args, request, f"the logit {float(best[row])} to a new token")
        return scores
