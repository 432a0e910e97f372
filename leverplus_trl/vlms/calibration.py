# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""How fast this process is with a VLM: some seconds of a job's own requests."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .base_vlm import BaseVLM
from .counting import Call, CountingVLM
from .prompts import images_of
from .requests import Request
from .shared_runner import SharedRunner


@dataclass
class Rates:
    """
    Seconds that things took on this process.

    Args:
        token (`float`):
            A prompt's token through the decoder, and all that goes with it, where answers are scored.
        answer (`float`):
            A prompt that is answered.
        image (`float`):
            An image: opened, preprocessed and encoded.
        measured (`float`):
            How long was measured.
    """

    token: float = 0.0
    answer: float = 0.0
    image: float = 0.0
    measured: float = 0.0


def calibrate(counting: CountingVLM, calls: Sequence[Call], seconds: float) -> Rates:
    """
    Times the first requests of a unit, twice as many each time, until the next would take longer than is left.

    Only the last and largest part counts: small ones make small batches.

    Args:
        counting ([`CountingVLM`]):
            What counts for the VLM that is timed.
        calls (`Sequence[Call]`):
            What a unit asks.
        seconds (`float`):
            How long this may take; a few requests are timed in any case.
    """
    vlm, rates, images = counting.vlm, Rates(), _Images(counting.vlm)
    end, last = time.monotonic() + seconds, 0.0
    for part in _growing_parts(calls):
        if rates.measured and time.monotonic() + 2 * last > end:
            break
        start = time.perf_counter()
        counting.start()
        with counting.unit():
            for call in part:
                _ask(counting, call)
        images.show(part)
        spent = {"score": 0.0, "answer": 0.0}
        with vlm.unit():
            for call in part:
                begin = time.perf_counter()
                _ask(vlm, call)
                spent[call.kind] += time.perf_counter() - begin
        last, work = time.perf_counter() - start, counting.work
        rates = Rates(
            token=spent["score"] / work.scored_tokens if work.scored_tokens else 0.0,
            answer=spent["answer"] / work.answered if work.answered else 0.0,
            image=images.seconds / len(images.keys) if images.keys else 0.0,
            measured=rates.measured + sum(spent.values()),
        )
    rates.measured += images.seconds
    return rates


class _Images:
    """
    Shows images to a VLM ahead of the requests, and times that.

    Args:
        vlm ([`BaseVLM`]):
            The VLM. One that takes in whole prompts only is shown nothing: images are part of each prompt's price.
    """

    def __init__(self, vlm: BaseVLM):
        self.vlm, self.seconds = vlm, 0.0
        self.keys: set[tuple[str, ...]] = set()
        self._seen: set[tuple[str, str]] = set()

    def show(self, calls: Sequence[Call]) -> None:
        if not isinstance(self.vlm.runner, SharedRunner) and not self.vlm.runner.by_segments:
            return
        start = time.perf_counter()
        for call in calls:
            for request in call.requests:
                for role, example in [("query", request.query), *(("shown", e) for e in request.demonstrations)]:
                    if (role, example["id"]) not in self._seen:
                        self._seen.add((role, example["id"]))
                        shown = (example,) if role == "shown" else ()
                        self.vlm.num_prompt_tokens(Request(shown, request.query))
                        self.keys.add(images_of(self.vlm.task, example).keys)
        self.keys.discard(())
        self.seconds += time.perf_counter() - start


def _ask(vlm, call: Call) -> None:
    if call.kind == "score":
        vlm.answer_logprobs(call.requests)
    else:
        vlm.generate(call.requests)


def _growing_parts(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """A unit's calls: a few requests of its first query, all of these, those of two queries, of four, and so on."""
    names = list(dict.fromkeys(request.query["id"] for call in calls for request in call.requests))

    def part(count: int, most: int | None) -> list[Call]:
        chosen = set(names[:count])
        own = [Call(kind, [r for r in requests if r.query["id"] in chosen][:most]) for kind, requests in calls]
        return [call for call in own if call.requests]

    yield part(1, 4)
    yield part(1, 32)
    count = 1
    while count < len(names):
        yield part(count, None)
        count *= 2
    yield part(len(names), None)
