# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a job costs, before it is run: counted on a few of its units, and timed for some seconds on the first requests
of one."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset

from ..tasks import BaseTask, Example
from ..tasks.images import image_key, undecoded
from .base_vlm import BaseVLM
from .calibration import Rates, calibrate
from .chat_vlm import ChatVLM
from .counting import Call, CountingVLM, Work
from .loading import load_vlm
from .operations import Operations, image_operations
from .shared_runner import SharedRunner
from .vlm_arguments import VLMArguments


logger = logging.getLogger(__name__)

#: Units that are counted, if that takes no longer than `COUNTING_SECONDS`.
NUM_SAMPLES = 4
COUNTING_SECONDS = 60.0
CALIBRATION_SECONDS = 10.0


@dataclass
class Job:
    """
    What is to be estimated.

    Args:
        queries (`dict[str, Dataset]`):
            Examples to ask, by split.
        pool (`Dataset`):
            Examples to demonstrate with.
        unit_size (`int`):
            Queries in a unit of work.
        work (`Callable`):
            `work(split, queries, pool, vlm)` does a unit: some queries of a split, examples of the pool by id, and the
            VLM, or what stands in for it.
        num_shards (`int`, *optional*, defaults to 1):
            Launches among which the job is cut.
        notes (`Sequence[str]`, *optional*, defaults to `()`):
            In what the units of `work` differ from those that will be run.
    """

    queries: dict[str, Dataset]
    pool: Dataset
    unit_size: int
    work: Callable[[str, list[Example], Mapping[str, Example], Any], Any]
    num_shards: int = 1
    notes: Sequence[str] = ()

    def __post_init__(self):
        self.pool = undecoded(self.pool)
        self.queries = {split: undecoded(examples) for split, examples in self.queries.items()}

    @property
    def units(self) -> list[tuple[str, range]]:
        """Split and rows of each unit."""
        return [
            (split, range(start, min(start + self.unit_size, len(examples))))
            for split, examples in self.queries.items()
            for start in range(0, len(examples), self.unit_size)
        ]

    def run(self, unit: tuple[str, range], vlm: Any) -> None:
        split, rows = unit
        with vlm.unit():
            self.work(split, [self.queries[split][row] for row in rows], ExamplesById(self.pool), vlm)


class ExamplesById(Mapping[str, Example]):
    """
    Examples of a table by id, read when they are asked for.

    Args:
        examples (`Dataset`):
            The table.
    """

    def __init__(self, examples: Dataset):
        self.examples = examples
        self._row = {identifier: row for row, identifier in enumerate(examples["id"])}

    def __getitem__(self, identifier: str) -> Example:
        return self.examples[self._row[identifier]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


@dataclass
class Sample:
    """A unit as it was counted."""

    size: int
    work: Work
    calls: list[Call]
    demonstrated: set[tuple[str, ...]]


class Estimate:
    """
    Costs of a job, scaled up from sampled units.

    Args:
        job ([`Job`]):
            The job.
        samples (`Sequence[Sample]`):
            The units that were counted.
        rates (`Sequence[Rates]`):
            Of every process.
        vlm ([`BaseVLM`]):
            The VLM.
    """

    def __init__(self, job: Job, samples: Sequence[Sample], rates: Sequence[Rates], vlm: BaseVLM):
        self.job, self.samples, self.rates, self.vlm = job, samples, rates, vlm
        self.num_queries = sum(map(len, job.queries.values()))
        self.operations = Operations(vlm.model)
        self.image_bytes = vlm.features.num_bytes / max(1, len(vlm.features))
        self.image_operations = _image_operations(vlm, next(iter(job.queries.values()))[0])
        self.num_images = _num_images(job.pool), sum(_num_images(examples) for examples in job.queries.values())

    def scaled(self, value: Callable[[Work], float]) -> np.ndarray:
        """A sum over the job: by all sampled units, and by the cheapest and the dearest of them."""
        found = [value(sample.work) / sample.size for sample in self.samples]
        sizes = np.array([sample.size for sample in self.samples])
        return self.num_queries * np.array([np.average(found, weights=sizes), min(found), max(found)])

    @property
    def shares(self) -> bool:
        """Whether prefixes are shared."""
        return isinstance(self.vlm.runner, SharedRunner)

    def new_images(self) -> float:
        """Images that a process sees for the first time, over all processes of all shards: each keeps what it has
        seen, if there is room."""
        processes = len(self.rates) * self.job.num_shards
        in_pool, asked = self.num_images
        in_unit = float(np.mean([len(sample.demonstrated) for sample in self.samples]))
        if not in_unit:
            return asked
        units = max(1.0, len(self.job.units) / processes)
        if in_pool * self.image_bytes > self.vlm.features.max_bytes:
            return processes * units * in_unit + asked
        # What units draw alike they meet again.
        seen = in_pool * (1.0 - (1.0 - min(1.0, in_unit / in_pool)) ** units)
        return processes * seen + asked

    def seconds(self) -> np.ndarray:
        """For this launch, all of its processes at work together."""
        by_process = [
            self.scaled(lambda work, own=own: work_seconds(work, own)) + self.new_images() * own.image
            for own in self.rates
        ]
        together = 1.0 / sum(1.0 / seconds for seconds in by_process)
        return together / self.job.num_shards


def describe(estimate: Estimate) -> str:
    """An estimate as a table for people to read."""
    job, counted_units = estimate.job, len(estimate.samples)
    rows = [
        f"  {name:<46} {whole:>18}   {run}"
        for name, whole, run in [("", "every prompt whole", "as it is run"), *_rows(estimate)]
    ]
    return "\n".join(
        [
            f"An estimate for {estimate.num_queries:,} queries in {len(job.units):,} units of work, of which "
            f"{counted_units} were counted (in brackets: if all were like the cheapest of these, or the dearest):",
            *rows,
            f"Times are those of the VLM at work, by {estimate.rates[0].measured:.1f} s of the job's own requests; "
            "loading and checks come on top.",
            *job.notes,
        ]
    )


def _rows(estimate: Estimate) -> list[tuple[str, str, str]]:
    """Name, cost if every prompt ran by itself, and cost as it is run; only what there is."""
    rows: list[tuple[str, str, str]] = []

    def add(name: str, run: np.ndarray | float, whole: float = 0.0, write: Callable[[float], str] = amount) -> None:
        middle, *ends = (write(value) for value in np.atleast_1d(run))
        interval = f" ({' to '.join(ends)})" if len({middle, *ends}) > 1 else ""
        if np.any(run):
            rows.append((name, write(whole) if whole else "", middle + interval))

    sums, of, image = estimate.scaled, estimate.operations, estimate.image_operations
    whole_operations = sums(lambda work: _whole_operations(work, of, image))[0]
    shown = sums(lambda work: work.whole_images)[0]
    once = estimate.shares or not isinstance(estimate.vlm, ChatVLM)
    encoded = min(shown, estimate.new_images()) if once else shown
    batch = estimate.vlm.args.max_batch_tokens
    add("prompts to score", sums(lambda work: work.scored))
    add("prompts to answer", sums(lambda work: work.answered))
    add("tokens of prompts", sums(lambda work: work.tokens), sums(lambda work: work.whole_tokens)[0])
    add("tokens of answers, at most", sums(lambda work: work.new_tokens))
    add("images to encode", encoded, shown)
    add("floating-point operations", sums(lambda work: _operations(work, of)) + encoded * image, whole_operations)
    add("bytes of weights, keys and values, for prompts", *_moved(sums, of, batch))
    add("bytes of keys and values held at a time", max(s.work.kept for s in estimate.samples) * of.kv_bytes)
    seconds, processes = estimate.seconds(), len(estimate.rates)
    shards = estimate.job.num_shards
    add("time, if one process did it all", seconds * processes * shards, write=duration)
    if processes > 1 or shards > 1:
        each = f" in each of {shards} shards" if shards > 1 else ""
        add(f"time with {processes} process{'es' * (processes > 1)}{each}", seconds, write=duration)
    return rows


def _whole_operations(work: Work, of: Operations, image: int) -> float:
    decoder = of.of_decoder(work.whole_tokens + work.new_tokens, work.whole_pairs + work.new_pairs)
    head = of.of_head(work.whole_positions + work.new_tokens)
    return decoder + head + image * work.whole_images + _cross_attention(work, of)


def _operations(work: Work, of: Operations) -> float:
    """Images aside."""
    decoder = of.of_decoder(work.tokens + work.new_tokens, work.pairs + work.new_pairs)
    return decoder + of.of_head(work.positions + work.new_tokens) + _cross_attention(work, of)


def _cross_attention(work: Work, of: Operations) -> float:
    """Keys and values of images are made in each prompt, and again for each new token behind it."""
    new_tokens = work.new_tokens / max(1, work.scored + work.answered)  # of a prompt, on average
    return of.of_cross_attention(work.whole_images * (1 + new_tokens))


def _moved(sums: Callable, of: Operations, batch_tokens: int) -> tuple[np.ndarray, float]:
    """Bytes: a batch reads all weights, a token is written once and read whenever something attends to it."""
    run = sums(lambda work: work.batches * of.weight_bytes + of.kv_bytes * (work.tokens + work.kv_reads))
    whole = sums(lambda work: work.whole_tokens * (of.weight_bytes / batch_tokens + 2 * of.kv_bytes))
    return run, whole[0]


def amount(value: float) -> str:
    """A number in three digits and a name of its size."""
    for size, name in ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def work_seconds(work: Work, rates: Rates) -> float:
    """Seconds of a process for some work, images aside."""
    return rates.token * work.scored_tokens + rates.answer * work.answered


def estimate_job(job: Job, vlm: BaseVLM) -> Estimate:
    """
    Counts sampled units, then times this process, as all others of the launch do at the same time.

    Args:
        job ([`Job`]):
            The job.
        vlm ([`BaseVLM`]):
            The VLM.
    """
    state = PartialState()
    units, samples, start = job.units, [], time.monotonic()
    counting = CountingVLM(vlm)
    for number in np.unique(np.linspace(0, len(units) - 1, NUM_SAMPLES).round().astype(int)).tolist():
        if samples and time.monotonic() - start > COUNTING_SECONDS:
            break
        counting.start()
        job.run(units[number], counting)
        samples.append(Sample(len(units[number][1]), counting.work, counting.calls, counting.demonstrated))
    state.wait_for_everyone()  # so that all are measured while all are at work
    rates = calibrate(counting, samples[0].calls, CALIBRATION_SECONDS)
    every = gather_object([rates]) if state.num_processes > 1 else [rates]
    return Estimate(job, samples, every, vlm)


def _image_operations(vlm: BaseVLM, query: Example) -> int:
    """Those of one image; this query's, if it has one."""
    piece = vlm.texts.prompt.query(query)
    if not piece.images:
        return 0
    return image_operations(vlm.model, vlm._process(piece).images) // len(piece.images)


def _num_images(examples: Dataset) -> int:
    """Different images, by their files' bytes."""
    return len({image_key(image) for image in undecoded(examples)["image"] if image is not None})


def dry_run(job: Job, vlm_args: VLMArguments, task: BaseTask) -> None:
    """
    Says what a job costs, without doing it or writing anything.

    Args:
        job ([`Job`]):
            The job.
        vlm_args ([`VLMArguments`]):
            Names the VLM.
        task ([`BaseTask`]):
            Task to make prompts for.

    Raises:
        `ValueError`: the VLM can't be loaded.
    """
    try:
        vlm = load_vlm(vlm_args, task)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The prompts are counted above. Their tokens, operations and time can't be estimated: the VLM "
            f"{vlm_args.vlm!r} can't be loaded ({error})."
        ) from error
    logger.info("%s", describe(estimate_job(job, vlm)))
    logger.info("memory_mb was %d%s.", vlm.memory_mb, "" if vlm_args.memory_mb else ", found on this machine")
