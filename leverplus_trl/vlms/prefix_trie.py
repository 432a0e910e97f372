# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Requests as paths in a tree of segments, and the plan by which every shared prefix is run once.

Nothing here computes: a plan is a function of lengths and of what the tree already holds, so it is the same on every
machine, and the cost of a job can be counted without running it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Node:
    """
    A prefix: a segment behind the segments of its ancestors.

    Args:
        parent (`Node`, *optional*):
            The prefix without the last segment.
        segment (`Any`):
            The last segment; has a length.
        span (`int`):
            Rotary positions that the segment takes up (its length, but for images of models with more than one
            position axis).
    """

    __slots__ = ("children", "depth", "end", "end_position", "hidden", "parent", "segment", "size", "slots", "tick")

    def __init__(self, parent: "Node | None" = None, segment: Any = (), span: int = 0):
        self.parent = parent
        self.segment = segment
        self.children: dict[Any, Node] = {}
        self.depth = parent.depth + 1 if parent else 0
        self.size = len(segment)
        self.end: int = (parent.end if parent else 0) + self.size  # tokens of the whole prefix
        self.end_position: int = (parent.end_position if parent else 0) + span
        self.slots: np.ndarray | None = None  # where keys and values of the segment's tokens are kept
        self.hidden: Any = None  # last hidden state at the segment's last token, where it was asked for
        self.tick = 0  # last call that used it

    @property
    def is_there(self) -> bool:
        """Whether something can be run behind it at once: keys and values are kept, or there are none (the root)."""
        return self.slots is not None or self.parent is None

    def path(self) -> list["Node"]:
        """The node and its ancestors with tokens, from the first to the last."""
        nodes, node = [], self
        while node is not None:
            if node.size:
                nodes.append(node)
            node = node.parent
        return nodes[::-1]


class Ask(NamedTuple):
    """An answer wanted behind a prompt: its tokens (none: only the prompt itself is to be run), and who wants it."""

    prompt: Node
    answer: tuple[int, ...]
    owner: int


class Pick(NamedTuple):
    """A log-probability to read off: `token` after the hidden state at `offset` of a chain, for `owners`."""

    offset: int
    token: int
    owners: tuple[int, ...]


@dataclass
class Chain:
    """
    Tokens that are run in one piece behind a prefix whose keys and values are there.

    Args:
        parent (`Node`):
            The prefix; the root if there is none.
        nodes (`list[Node]`):
            Segments to run, top down.
        tail (`tuple[int, ...]`):
            Tokens of an answer behind them, without its last one, which nothing follows.
        picks (`list[Pick]`):
            What is read off.
        shared (`bool`):
            Whether other chains of the plan go on from its end.
    """

    parent: Node
    nodes: list[Node]
    tail: tuple[int, ...] = ()
    picks: list[Pick] = field(default_factory=list)
    shared: bool = False

    @property
    def num_tokens(self) -> int:
        return sum(node.size for node in self.nodes) + len(self.tail)


@dataclass
class Plan:
    """
    What a call runs.

    Args:
        levels (`list[list[Chain]]`):
            Chains by level; those of a level need only what earlier levels leave.
        stored (`list[tuple[Node, list[Pick]]]`):
            Prompts whose last hidden state is there already, and what is read off it.
    """

    levels: list[list[Chain]]
    stored: list[tuple[Node, list[Pick]]]

    @property
    def num_tokens(self) -> int:
        return sum(chain.num_tokens for level in self.levels for chain in level)


def plan_chains(asks: Iterable[Ask]) -> Plan:
    """
    The chains that answer `asks` with every distinct prefix run once.

    A prefix that more than one thing follows (and is not there yet) ends a chain of its own; one that a single thing
    follows is run together with that. So no token is run twice, and in as few pieces as possible.
    """
    by_prompt: dict[Node, dict[tuple[int, ...], list[int]]] = {}
    for ask in asks:
        by_prompt.setdefault(ask.prompt, {}).setdefault(ask.answer, []).append(ask.owner)
    uses = _count_uses(by_prompt)
    builder = _Builder(uses)
    stored = []
    for prompt, answers in by_prompt.items():
        if prompt.slots is None and uses[prompt] == 1:
            ((answer, owners),) = answers.items()
            chain = builder.chain(prompt)
            first = chain.num_tokens - 1
            chain.tail = answer[:-1]
            chain.picks = [Pick(first + i, token, tuple(owners)) for i, token in enumerate(answer)]
            builder.add(chain)
            continue
        firsts: dict[int, list[int]] = {}
        for answer, owners in answers.items():
            if answer:
                firsts.setdefault(answer[0], []).extend(owners)
        if prompt.slots is not None:
            stored.append((prompt, [Pick(0, token, tuple(owners)) for token, owners in firsts.items()]))
        else:
            end = builder.end_of(prompt)
            end.picks = [Pick(end.num_tokens - 1, token, tuple(owners)) for token, owners in firsts.items()]
        for answer, owners in answers.items():
            if len(answer) > 1:
                picks = [Pick(i, token, tuple(owners)) for i, token in enumerate(answer[1:])]
                builder.add(Chain(prompt, [], answer[:-1], picks))
    return Plan(builder.levels, stored)


def _count_uses(by_prompt: dict[Node, dict[tuple[int, ...], list[int]]]) -> dict[Node, int]:
    """How many things follow each prefix that is not there yet; a prompt that is wanted itself counts as two."""
    uses: dict[Node, int] = {}
    for prompt, answers in by_prompt.items():
        node, follow = prompt, len(answers) + (() in answers)
        while not node.is_there:
            known = node in uses
            uses[node] = uses.get(node, 0) + follow
            if known:
                break
            node, follow = node.parent, 1
    return uses


class _Builder:
    """Makes chains, those that others need first."""

    def __init__(self, uses: dict[Node, int]):
        self.uses = uses
        self.levels: list[list[Chain]] = []
        self.ends: dict[Node, tuple[Chain, int]] = {}

    def chain(self, node: Node) -> Chain:
        """The chain up to `node`, from the nearest prefix that is there or shared."""
        nodes = [node]
        above = node.parent
        while not above.is_there and self.uses[above] == 1:
            nodes.append(above)
            above = above.parent
        return Chain(above, nodes[::-1])

    def add(self, chain: Chain) -> int:
        if not chain.parent.is_there:
            self.end_of(chain.parent)
        level = self.ends[chain.parent][1] + 1 if chain.parent in self.ends else 0
        if level == len(self.levels):
            self.levels.append([])
        self.levels[level].append(chain)
        return level

    def end_of(self, node: Node) -> Chain:
        """The chain that ends in a shared prefix."""
        if node not in self.ends:
            chain = self.chain(node)
            chain.shared = True
            self.ends[node] = chain, self.add(chain)
        return self.ends[node][0]


def plan_batches(chains: Sequence[Chain], cost: Callable[[int, int, int, int], int], max_tokens: int, max_bytes: int):
    """
    Chains of a level in batches of near-equal length, each within both bounds.

    The plan depends on the lengths alone; ties go by position. A chain beyond a bound is a batch by itself.

    Args:
        chains (`Sequence[Chain]`):
            The chains.
        cost (`Callable`):
            Bytes that a batch needs: `cost(tokens, rows, longest chain, longest chain with its prefix)`.
        max_tokens (`int`):
            Tokens in a batch.
        max_bytes (`int`):
            Bytes for a batch.

    Returns:
        `list[list[Chain]]`: the batches.
    """
    batches: list[list[Chain]] = []
    tokens = longest = whole = 0
    lengths = [chain.num_tokens for chain in chains]
    ends = [chain.parent.end + length for chain, length in zip(chains, lengths, strict=True)]
    for i in sorted(range(len(chains)), key=lambda i: (lengths[i], ends[i], i)):
        after = tokens + lengths[i], max(longest, lengths[i]), max(whole, ends[i])
        fits = batches and after[0] <= max_tokens and cost(after[0], len(batches[-1]) + 1, *after[1:]) <= max_bytes
        if fits:
            batches[-1].append(chains[i])
            tokens, longest, whole = after
        else:
            batches.append([chains[i]])
            tokens, longest, whole = lengths[i], lengths[i], ends[i]
    return batches
