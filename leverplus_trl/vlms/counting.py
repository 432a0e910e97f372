# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A stand-in for a VLM that runs nothing: it plans what it is asked as the VLM would, and counts."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig

from ..tasks import Example
from .base_vlm import BaseVLM
from .operations import attended_pairs
from .prefix_trie import Ask, Chain, Node
from .prompts import Piece
from .requests import AnswerLogprob, Request
from .shared_runner import SharedRunner
from .trie_attention import KVPool
from .trie_scorer import TrieScorer


@dataclass
class Work:
    """
    What some requests ask of a model.

    Args:
        scored (`int`):
            Prompts whose answer is scored.
        answered (`int`):
            Prompts that are answered.
        new_tokens, new_pairs (`int`):
            Tokens of these answers, at most, and pairs of one and what it sees.
        whole_tokens, whole_pairs, whole_positions, whole_images (`int`):
            Tokens, pairs of a token and what it sees, positions with logits and images, if every prompt ran by itself
            from its beginning.
        tokens, pairs, positions (`int`):
            The same as the VLM runs it.
        scored_tokens (`int`):
            Those of `tokens` that are run to score answers.
        kv_reads (`int`):
            Tokens whose keys and values attention gathers.
        batches (`int`):
            Batches of prompts' tokens.
        kept (`int`):
            Most tokens whose keys and values are held together.
    """

    scored: int = 0
    answered: int = 0
    new_tokens: int = 0
    new_pairs: int = 0
    whole_tokens: int = 0
    whole_pairs: int = 0
    whole_positions: int = 0
    whole_images: int = 0
    tokens: int = 0
    scored_tokens: int = 0
    pairs: int = 0
    positions: int = 0
    kv_reads: int = 0
    batches: int = 0
    kept: int = 0

    def __add__(self, other: "Work") -> "Work":
        """Both, one after the other."""
        mine, theirs = asdict(self), asdict(other)
        return Work(**{name: mine[name] + theirs[name] for name in mine} | {"kept": max(self.kept, other.kept)})


class Call(NamedTuple):
    """What was asked at once: `kind` is `"score"` or `"answer"`."""

    kind: str
    requests: list[Request]


class _Length(int):
    """A segment of which only the length is known."""

    span = 0
    images_key: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self)


class CountingEngine(TrieScorer):
    """
    Plans, evicts and batches as the engine that it stands in for, down to the same batches.

    Args:
        engine ([`TrieScorer`]):
            That engine.
    """

    def __init__(self, engine: TrieScorer):
        self.costs, self.batch_bytes, self.max_batch_tokens = engine.costs, engine.batch_bytes, engine.max_batch_tokens
        # Slots are given away and taken back, but there is nothing behind them.
        self.pool = KVPool(0, 1, 1, engine.pool.capacity, torch.float32, torch.device("cpu"))
        self.work = Work()
        self.forget()

    def count(self, paths: Sequence[Sequence[tuple[tuple, _Length]]], answers: Sequence[Sequence[int]]) -> None:
        """Counts what `score` would run, or with empty answers what `prefill` would."""
        self.tick += 1
        asks = [Ask(self._node(path), tuple(ids), i) for i, (path, ids) in enumerate(zip(paths, answers, strict=True))]
        self._answer(asks, np.zeros(len(paths)))

    def _attention(self):
        return nullcontext()

    def _run(self, chains: list[Chain], pins: set[Node], sums: np.ndarray) -> None:
        count = sum(chain.num_tokens for chain in chains)
        self._make_room(count, pins)
        slots = self.pool.take(count)
        self._read([(None, chain.picks) for chain in chains], sums)
        self.work.tokens += count
        self.work.batches += 1
        self.work.pairs += sum(attended_pairs(chain.parent.end, chain.num_tokens) for chain in chains)
        self.work.kv_reads += sum(chain.parent.end + chain.num_tokens for chain in chains)
        self.work.kept = max(self.work.kept, self.pool.capacity - 1 - self.pool.num_free)
        self._keep(chains, slots, torch.empty(count, 0))

    def _read(self, places, sums: np.ndarray) -> None:
        self.work.positions += sum(len(picks) for _, picks in places)


class CountingVLM:
    """
    Takes requests where a VLM would, answers with stand-ins, and counts what the VLM would have run.

    A stand-in score is drawn by hash: a demonstration has a worth for a query wherever it stands, and each sequence as
    much of its own. A search by it takes the same steps as one by real scores, with other winners, which overlap about
    as much.

    Args:
        vlm ([`BaseVLM`]):
            The VLM; its processor says how long segments are, and its budgets what runs together.

    Attributes:
        work ([`Work`]):
            What was counted.
        calls (`list[Call]`):
            What was asked.
        demonstrated, asked (`set[tuple[str, ...]]`):
            Keys of the images that demonstrations and queries showed.
    """

    def __init__(self, vlm: BaseVLM):
        self.vlm, self.task, self.args = vlm, vlm.task, vlm.args
        self._engine: CountingEngine | None = None
        self._lengths: dict[tuple, list[tuple[tuple, _Length]]] = {}
        self._answers: dict[tuple, tuple[int, ...]] = {}
        self._in_unit = False
        self.start()

    def start(self) -> None:
        """Counts from zero."""
        self.work, self.calls = Work(), []
        self.demonstrated: set[tuple[str, ...]] = set()
        self.asked: set[tuple[str, ...]] = set()

    @contextmanager
    def unit(self) -> Iterator[None]:
        """See [`BaseVLM.unit`]."""
        outer, self._in_unit = self._in_unit, True
        try:
            yield
        finally:
            self._in_unit = outer
            if not outer:
                self.vlm.contents.forget()
            if not outer and self._engine is not None:
                self._engine.forget()

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        """Stand-in scores; see [`BaseVLM.answer_logprobs`]."""
        self._prepare(requests)
        self.calls.append(Call("score", list(requests)))
        self.work.scored += len(requests)
        answers = [self._answer_ids(request.query) for request in requests]
        before = self.work.tokens
        self._count([self._path(request) for request in requests], answers)
        self.work.scored_tokens += self.work.tokens - before
        return [AnswerLogprob(_worth(r) * len(ids), len(ids)) for r, ids in zip(requests, answers, strict=True)]

    def generate(self, requests: Sequence[Request], generation_config: GenerationConfig | None = None) -> list[str]:
        """The right answer or none, by hash; see [`BaseVLM.generate`]."""
        self._prepare(requests)
        distinct = list({self.vlm.contents.prompt(request): request for request in requests}.values())
        self.calls.append(Call("answer", distinct))
        self.work.answered += len(distinct)
        longest = generation_config.max_new_tokens if generation_config else self.task.max_new_tokens
        beams = (generation_config.num_beams or 1) if generation_config else self.args.num_beams
        paths = [self._path(request) for request in distinct]
        self.work.new_tokens += beams * longest * len(distinct)
        self.work.new_pairs += beams * sum(attended_pairs(_num_tokens(path), longest) for path in paths)
        self._count(paths, [()] * len(distinct))
        # Right ones alone would leave a search by their worth nothing to choose between.
        keys = [(request.query["id"], *(example["id"] for example in request.demonstrations)) for request in requests]
        return [
            self.task.target(request.query) if _draw(*key) < 0.5 else ""
            for request, key in zip(requests, keys, strict=True)
        ]

    # ------------------------------------------------------------------ counting
    def _prepare(self, requests: Sequence[Request]) -> None:
        runner = self.vlm.prepare(requests) if requests else None
        if self._engine is None and isinstance(runner, SharedRunner):
            self._engine = CountingEngine(runner.engine)

    def _count(self, paths: list[list[tuple[tuple, _Length]]], answers: list[tuple[int, ...]]) -> None:
        found = Work()
        for path, ids in zip(paths, answers, strict=True):
            length = _num_tokens(path) + len(ids)
            found.whole_tokens += length
            found.whole_pairs += attended_pairs(0, length)
            found.whole_positions += length
            found.whole_images += sum(len(segment.images_key) for _, segment in path)
        if self._engine is None:
            found.tokens, found.pairs = found.whole_tokens, found.whole_pairs
            found.kv_reads, found.positions = found.whole_tokens, sum(map(len, answers))
            found.batches = -(-found.whole_tokens // self.args.max_batch_tokens)
        else:
            self._engine.work = Work()
            with self.unit():
                self._engine.count(paths, answers)
            found += self._engine.work
        self.work += found

    def _path(self, request: Request) -> list[tuple[tuple, _Length]]:
        texts, contents = self.vlm.texts, self.vlm.contents
        path = list(self._steps(("header",), lambda: texts.header(request.query)))
        for example in request.demonstrations:
            key = contents.key(example, answered=True)
            shown = self._steps(key, lambda example=example: texts.prompt.demonstration(example))
            self.demonstrated.update(segment.images_key for _, segment in shown if segment.images_key)
            path += shown
        asked = self._steps(contents.key(request.query, answered=False), lambda: texts.prompt.query(request.query))
        self.asked.update(segment.images_key for _, segment in asked if segment.images_key)
        return path + asked

    def _steps(self, key: tuple, make: Callable[[], Piece]) -> list[tuple[tuple, _Length]]:
        """A segment as the steps that the VLM takes it in."""
        if key not in self._lengths:
            piece = make()
            ids = self.vlm._process(piece).tokens["input_ids"] if piece.text else []
            lead = self.vlm.lead_length(ids)
            steps = [(("lead", *ids[:lead]), _Length(lead)), (key, _Length(len(ids) - lead))]
            steps[1][1].images_key = piece.images.keys
            self._lengths[key] = [step for step in steps if step[1]]
        return self._lengths[key]

    def _answer_ids(self, query: Example) -> tuple[int, ...]:
        key = self.vlm.contents.key(query, answered=True)
        if key not in self._answers:
            text = self.vlm.texts.answer(query)
            self._answers[key] = tuple(self.vlm._process(Piece(text)).tokens["input_ids"]) if text else ()
        return self._answers[key]


def _num_tokens(path: list[tuple[tuple, _Length]]) -> int:
    return sum(length for _, length in path)


def _worth(request: Request) -> float:
    """A stand-in for the log-probability of one token."""
    query = request.query["id"], request.query["answer"]
    shown = [example["id"] for example in request.demonstrations]
    return -1.0 / (1.0 + sum(_draw(*query, name) for name in shown) + _draw(*query, *shown))


def _draw(*parts: str) -> float:
    """A number between 0 and 1 that looks random."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big") / 2**64
