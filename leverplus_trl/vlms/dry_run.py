# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a job costs: its prompts are counted by formula, and some of its units of work are timed with the real VLM."""

import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset

from ..tasks import BaseTask, Example
from ..tasks.images import undecoded
from ..work_units import units_of
from .loading import load_vlm
from .prompts import images_of
from .requests import AnswerLogprob, Request
from .vlm import TransformersVLM
from .vlm_arguments import VLMArguments


logger = logging.getLogger(__name__)

#: Seconds that requests of the job may run; the first `FIRST_PART` of each call of one unit always do.
SECONDS = 10.0
FIRST_PART = 4
#: Units that are timed, and requests of each call whose tokens are counted, at most.
NUM_UNITS, NUM_REQUESTS = 4, 16
SCORE, ANSWER = "score", "answer"


@dataclass
class Job:
    """The VLM's work in a stage: its prompts, and `work(split, queries, pool, vlm)`, which does a unit of `unit_size`
    queries; `pool` maps ids to examples."""

    queries: dict[str, Dataset]
    pool: Dataset
    unit_size: int
    work: Callable[[str, list[Example], Mapping[str, Example], Any], Any]
    num_scored: int
    num_answered: int = 0
    num_shards: int = 1
    notes: Sequence[str] = ()

    def __post_init__(self):
        self.pool = undecoded(self.pool)
        self.queries = {split: undecoded(examples) for split, examples in self.queries.items()}
        self.units = []
        for split, examples in self.queries.items():
            self.units += units_of(split, len(examples), self.unit_size).values()


class ExamplesById(dict):
    """Examples of a table by id, each read on its first access."""

    def __init__(self, examples: Dataset):
        super().__init__()
        self._examples, self._row = examples, {name: row for row, name in enumerate(examples["id"])}

    def __missing__(self, identifier: str) -> Example:
        self[identifier] = self._examples[self._row[identifier]]
        return self[identifier]


@dataclass
class Call:
    """Measures of the same call in some units."""

    size: int = 0  # its requests
    parts: list[tuple[int, float]] = field(default_factory=list)  # size and seconds of each part that ran
    prompts: list[list[float]] = field(default_factory=list)  # `[tokens, images, tokens that ran]` of some prompts

    def measures(self) -> np.ndarray:
        """Of one prompt: seconds on average, in the cheapest and in the dearest part, then the means of `prompts`.
        Small parts make small batches, so parts of less than half the largest size do not count."""
        largest = max(count for count, _ in self.parts)
        counts, seconds = np.transpose([part for part in self.parts if 2 * part[0] >= largest])
        each = seconds / counts
        return np.array([seconds.sum() / counts.sum(), each.min(), each.max(), *np.mean(self.prompts, axis=0)])


class TimedVLM:
    """Passes requests on to a VLM in growing parts, and times each part. A call gets half of the remaining seconds;
    requests that do not fit get the result of the last request that ran, so that a search goes on."""

    def __init__(self, vlm: TransformersVLM, seconds: float):
        self.vlm, self.task, self.args = vlm, vlm.task, vlm.args
        self.calls: defaultdict[tuple[str, int], Call] = defaultdict(Call)  # by kind and number in a unit
        self.drawn: list[set[str]] = []  # demonstrations of each unit that have an image
        self.seconds_left, self.image_seconds, self._shown = seconds, 0.0, set()

    def run(self, job: Job, number: int) -> None:
        """Does a unit of a job."""
        split, rows = job.units[number]
        self.drawn.append(set())
        self._number = 0
        with self.vlm.unit():
            job.work(split, [job.queries[split][row] for row in rows], ExamplesById(job.pool), self)

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        """See [`VLM.answer_logprobs`]."""
        return self._run(SCORE, self.vlm.answer_logprobs, requests)

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """See [`VLM.generate`]."""
        return self._run(ANSWER, self.vlm.generate, requests)

    def measures(self, kind: str) -> np.ndarray:
        """[`Call.measures`], averaged over the prompts of a kind."""
        calls = [call for (own, _), call in self.calls.items() if own == kind]
        return np.average([c.measures() for c in calls], axis=0, weights=[c.size for c in calls]) if calls else 0

    def _run(self, kind: str, run: Callable[[Sequence[Request]], list], requests: Sequence[Request]) -> list:
        if not requests:
            return []
        runner, call, results = self.vlm.prepare(requests), self.calls[kind, self._number], []
        self._number += 1
        call.size += len(requests)
        budget, size, begun = self.seconds_left / 2, FIRST_PART, time.perf_counter()
        before = runner.num_tokens_run
        while len(results) < len(requests):
            part = requests[len(results) : len(results) + size]
            self._show(part)
            start = time.perf_counter()
            results += run(part)
            seconds = time.perf_counter() - start
            call.parts.append((len(part), seconds))
            fits = int((budget - (time.perf_counter() - begun)) / seconds * len(part))
            size = min(4 * len(part), fits)
            if 2 * size < len(part):
                break
        self.seconds_left -= time.perf_counter() - begun
        tokens_run = (runner.num_tokens_run - before) / len(results)
        for request in requests[: len(results) : max(1, len(results) // NUM_REQUESTS)]:
            images = len(images_of(self.task, *request.demonstrations, request.query))
            call.prompts.append([self.vlm.num_prompt_tokens(request), images, tokens_run])
        self.drawn[-1].update(e["id"] for r in requests for e in r.demonstrations if e["image"] is not None)
        return results + results[-1:] * (len(requests) - len(results))

    def _show(self, requests: Sequence[Request]) -> None:
        """Times images by themselves where the VLM encodes each once: the job will have seen most of them before."""
        if not self.vlm.prepare(requests).by_segments:
            return
        start = time.perf_counter()
        for demonstrations, query, _ in requests:
            for request in (Request((), query), *(Request((shown,), query) for shown in demonstrations)):
                example = (*request.demonstrations, query)[0]
                if example["image"] is not None and example["id"] not in self._shown:
                    self._shown.add(example["id"])
                    self.vlm.num_prompt_tokens(request)
        self.image_seconds += time.perf_counter() - start

    @property
    def seconds_of_an_image(self) -> float:
        """Seconds to read, preprocess and encode an image, where each is encoded once."""
        return self.image_seconds / max(1, len(self._shown))


class Estimate(NamedTuple):
    """Costs of a job."""

    tokens: float
    images: float
    tokens_run: float
    different_images: float  # that one process encodes
    seconds: np.ndarray  # (3,), of this launch: on average, and as in the cheapest and the dearest part that was timed
    memory: int


def estimate_job(job: Job, timed: TimedVLM) -> Estimate:
    """Times some units of a job in this process, while all others of the launch do the same."""
    state = PartialState()
    state.wait_for_everyone()  # processes that share a machine slow each other down
    for number in np.unique(np.linspace(0, len(job.units) - 1, NUM_UNITS).round().astype(int)).tolist():
        if timed.drawn and timed.seconds_left < SECONDS / 4:
            break
        timed.run(job, number)
    total = job.num_scored * timed.measures(SCORE) + job.num_answered * timed.measures(ANSWER)  # (6,)
    pool, queries = _num_images(job.pool), sum(map(_num_images, job.queries.values()))
    drawn, features = float(np.mean([len(unit) for unit in timed.drawn])), timed.vlm.family.features
    all_fit = pool * features.num_bytes <= features.max_bytes * max(1, len(features))

    def different_images(processes: int) -> float:
        # Units draw some demonstrations in common, and features of all are kept while there is room.
        units = max(1.0, len(job.units) / processes)
        shown = pool * (1 - (1 - min(1.0, drawn / max(1, pool))) ** units) if all_fit else drawn * units
        return queries / processes + shown

    share = state.num_processes * job.num_shards
    images = different_images(share) * share * timed.seconds_of_an_image
    own = [(total[:3] + images, peak_memory(timed.vlm))]  # seconds if every process were like this one
    every = gather_object(own) if state.num_processes > 1 else own
    seconds = 1 / sum(1 / alone for alone, _ in every) / job.num_shards
    return Estimate(*total[3:], different_images(1), seconds, max(memory for _, memory in every))


def _num_images(examples: Dataset) -> int:
    return len({(image["path"], hash(image["bytes"])) for image in examples["image"] if image is not None})


def peak_memory(vlm: TransformersVLM) -> int:
    """Most bytes that this process has held: of its GPU, or else of the machine's memory."""
    if vlm.model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(vlm.model.device)
    if os.name == "nt":
        return psutil.Process().memory_info().peak_wset
    else:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def describe(job: Job, timed: TimedVLM, estimate: Estimate) -> str:
    """An estimate as a table."""
    processes, shards = PartialState().num_processes, job.num_shards
    counts = {
        "prompts to score": job.num_scored,
        "prompts to answer": job.num_answered,
        "tokens of prompts": estimate.tokens,
        "tokens to run, shared prefixes once": estimate.tokens_run,
        "tokens of answers, at most": job.num_answered * timed.task.max_new_tokens * timed.args.num_beams,
        "images in prompts": estimate.images,
        "images to encode, each once": estimate.different_images,
    }
    rows = {name: f"{count:,.0f}" for name, count in counts.items() if count}
    rows["time of one process"] = between(estimate.seconds * processes * shards)
    if processes * shards > 1:
        each = f" in each of {shards} shards" * (shards > 1)
        rows[f"time of {processes} process{'es' * (processes > 1)}{each}"] = between(estimate.seconds)
    rows["peak memory of a process"] = f"{estimate.memory / 2**20:,.0f} MB"
    width = max(map(len, rows))
    count, seconds = np.sum([part for call in timed.calls.values() for part in call.parts], axis=0)
    head = (
        f"{sum(map(len, job.queries.values())):,} queries in {len(job.units):,} units of work; {count:,.0f} prompts "
        f"of {len(timed.drawn)} of them took {seconds:.1f} s."
    )
    tail = "Loading and checks come on top. The range is that of the parts that were timed."
    return "\n".join([head, *(f"  {name:<{width}}  {value}" for name, value in rows.items()), tail, *job.notes])


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds:.0f} s"


def between(seconds: np.ndarray) -> str:
    """A time, and its range."""
    middle, low, high = map(duration, seconds)
    return middle if low == high else f"{middle} ({low} to {high})"


def dry_run(job: Job, vlm_args: VLMArguments, task: BaseTask) -> None:
    """Logs what a job costs; writes nothing. Without weights only the prompts are counted, which the stage logs."""
    try:
        vlm = load_vlm(vlm_args, task)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        logger.warning(
            "The prompts are counted above. Their tokens, time and memory are not measured: the VLM %r can't be "
            "loaded (%s).",
            *(vlm_args.vlm, error),
        )
        return
    timed = TimedVLM(vlm, SECONDS)
    logger.info("%s", describe(job, timed, estimate_job(job, timed)))
    logger.info(
        "memory_mb was %d%s.", vlm.memory_mb, "" if vlm_args.memory_mb else ", the free memory of this machine"
    )
