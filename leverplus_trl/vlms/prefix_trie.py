# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Requests as paths in a tree of segments, and the plan that runs every shared prefix once. A plan depends only on
lengths and on what the tree already holds, so it is the same on every machine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Node:
    """A prefix: a segment after the segments of its ancestors. It takes up `num_positions` rotary positions: fewer
    than its length for an image of a model with several position axes."""

    __slots__ = ("children", "depth", "end", "end_position", "hidden", "parent", "segment", "size", "slots", "tick")

    def __init__(self, parent: "Node | None" = None, segment: Any = (), num_positions: int = 0):
        self.parent, self.segment, self.size = parent, segment, len(segment)
        self.children: dict[Any, Node] = {}
        self.depth = parent.depth + 1 if parent else 0
        self.end: int = (parent.end if parent else 0) + self.size  # tokens of the whole prefix
        self.end_position: int = (parent.end_position if parent else 0) + num_positions
        self.slots: np.ndarray | None = None  # of the keys and values of the segment's tokens
        self.hidden: Any = None  # last hidden state at the segment's last token, where it was requested
        self.tick = 0  # last call that used it

    @property
    def is_there(self) -> bool:
        """Whether its keys and values are kept; the root has none."""
        return self.slots is not None or self.parent is None

    def path(self) -> list["Node"]:
        """The node and its ancestors with tokens, from the first to the last."""
        nodes, node = [], self
        while node is not None:
            if node.size:
                nodes.append(node)
            node = node.parent
        return nodes[::-1]


class ScoreRequest(NamedTuple):
    """Tokens of an answer to score after a prompt (none: the prompt alone is run), and the position of its score."""

    prompt: Node
    answer: tuple[int, ...]
    owner: int


class LogprobIndex(NamedTuple):
    """A log-probability to read: of `token`, from the hidden state at `offset` of a span, for `owners`."""

    offset: int
    token: int
    owners: tuple[int, ...]


@dataclass
class Span:
    """Tokens that are run in one piece after a prefix whose keys and values are kept."""

    parent: Node  # the prefix
    nodes: list[Node]  # segments to run, top down
    tail: tuple[int, ...] = ()  # tokens of an answer after them, without the last
    indices: list[LogprobIndex] = field(default_factory=list)
    shared: bool = False  # whether other spans of the plan continue from its end

    @property
    def num_tokens(self) -> int:
        return sum(node.size for node in self.nodes) + len(self.tail)


@dataclass
class Plan:
    """What a call runs: spans by level, each of which needs only earlier levels; and what is read from prompts whose
    last hidden state is kept already (`stored`)."""

    levels: list[list[Span]]
    stored: list[tuple[Node, list[LogprobIndex]]]


def plan_spans(requests: Iterable[ScoreRequest]) -> Plan:
    """The spans that score `requests` with every distinct prefix run once, in as few pieces as possible: a prefix with
    several continuations ends a span of its own, a prefix with a single continuation is run together with it."""
    by_prompt: dict[Node, dict[tuple[int, ...], list[int]]] = {}
    for request in requests:
        by_prompt.setdefault(request.prompt, {}).setdefault(request.answer, []).append(request.owner)
    builder, stored = _Builder(by_prompt), []
    for prompt, answers in by_prompt.items():
        if prompt.slots is None and builder.uses[prompt] == 1:
            ((answer, owners),) = answers.items()
            span = builder.span(prompt)
            span.indices = _indices(answer, owners, span.num_tokens - 1)
            span.tail = answer[:-1]
            builder.add(span)
            continue
        firsts: dict[int, list[int]] = {}
        for answer, owners in answers.items():
            if answer:
                firsts.setdefault(answer[0], []).extend(owners)
        if prompt.slots is not None:
            stored.append((prompt, [LogprobIndex(0, token, tuple(owners)) for token, owners in firsts.items()]))
        else:
            end = builder.end_of(prompt)
            end.indices = [LogprobIndex(end.num_tokens - 1, token, tuple(owners)) for token, owners in firsts.items()]
        for answer, owners in answers.items():
            if len(answer) > 1:
                builder.add(Span(prompt, [], answer[:-1], _indices(answer[1:], owners, 0)))
    return Plan(builder.levels, stored)


def _indices(tokens: Sequence[int], owners: Sequence[int], first: int) -> list[LogprobIndex]:
    return [LogprobIndex(first + i, token, tuple(owners)) for i, token in enumerate(tokens)]


class _Builder:
    """Makes spans, those first that others need."""

    def __init__(self, by_prompt: dict[Node, dict[tuple[int, ...], list[int]]]):
        self.levels: list[list[Span]] = []
        self.ends: dict[Node, tuple[Span, int]] = {}
        #: Continuations of each prefix that is not kept yet; one more for a prompt that is requested itself.
        self.uses: dict[Node, int] = {}
        for prompt, answers in by_prompt.items():
            node, follow = prompt, len(answers) + (() in answers)
            while not node.is_there:
                known = node in self.uses
                self.uses[node] = self.uses.get(node, 0) + follow
                if known:
                    break
                node, follow = node.parent, 1

    def span(self, node: Node) -> Span:
        """The span up to `node`, from the nearest prefix that is kept or shared."""
        nodes = [node]
        above = node.parent
        while not above.is_there and self.uses[above] == 1:
            nodes.append(above)
            above = above.parent
        return Span(above, nodes[::-1])

    def add(self, span: Span) -> int:
        if not span.parent.is_there:
            self.end_of(span.parent)
        level = self.ends[span.parent][1] + 1 if span.parent in self.ends else 0
        if level == len(self.levels):
            self.levels.append([])
        self.levels[level].append(span)
        return level

    def end_of(self, node: Node) -> Span:
        """The span that ends in a shared prefix."""
        if node not in self.ends:
            span = self.span(node)
            span.shared = True
            self.ends[node] = span, self.add(span)
        return self.ends[node][0]


def plan_batches(spans: Sequence[Span], cost: Callable[[int, int, int, int], int], max_tokens: int, max_bytes: int):
    """Spans of a level in batches of similar length, each of at most `max_tokens` and `max_bytes` but for single
    spans. `cost(tokens, rows, longest span, longest span with its prefix)` is the bytes of a batch."""
    batches: list[list[Span]] = []
    tokens = longest = whole = 0
    lengths = [span.num_tokens for span in spans]
    ends = [span.parent.end + length for span, length in zip(spans, lengths, strict=True)]
    for i in sorted(range(len(spans)), key=lambda i: (lengths[i], ends[i])):
        after = tokens + lengths[i], max(longest, lengths[i]), max(whole, ends[i])
        if batches and after[0] <= max_tokens and cost(after[0], len(batches[-1]) + 1, *after[1:]) <= max_bytes:
            batches[-1].append(spans[i])
            tokens, longest, whole = after
        else:
            batches.append([spans[i]])
            tokens, longest, whole = lengths[i], lengths[i], ends[i]
    return batches
