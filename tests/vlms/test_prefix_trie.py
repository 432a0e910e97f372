# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The planner alone: made-up segments, and a run that keeps the tokens themselves in place of numbers."""

import numpy as np
import pytest

from leverplus_trl.vlms.prefix_trie import Node, Plan, ScoreRequest, Span, plan_batches, plan_spans


def random_requests(rng, root, count):
    """Prompts of 0 to 4 segments of 1 to 5 tokens, and a last one; some are asked twice, with several answers."""
    tokens = {name: tuple(rng.integers(0, 9, rng.integers(1, 6))) for name in range(6)}
    requests = []
    for owner in range(count):
        node = root
        names = [("demonstration", int(name)) for name in rng.permutation(6)[: rng.integers(0, 5)]]
        for key in [*names, ("query", int(rng.integers(0, 3)))]:
            if key not in node.children:
                node.children[key] = Node(node, tokens[key[1]], len(tokens[key[1]]))
            node = node.children[key]
        length = 0 if rng.random() < 0.1 else rng.integers(1, 5)
        requests.append(ScoreRequest(node, tuple(int(token) for token in rng.integers(0, 3, length)), owner))
    return requests


def num_tokens(plan):
    return sum(span.num_tokens for level in plan.levels for span in level)


def prompt_tokens(node):
    return sum((tuple(above.segment) for above in node.path()), ())


def run(plan, num_owners):
    """What each owner would be told: pairs of what stands before a token, and the token."""
    told = [[] for _ in range(num_owners)]

    def read(states, indices):
        for index in indices:
            for owner in index.owners:
                told[owner].append((states[index.offset], index.token))

    for node, indices in plan.stored:
        assert node.slots is not None and node.hidden is not None
        read([prompt_tokens(node)], indices)
    for level in plan.levels:
        for span in level:
            assert span.parent.is_there, "a span before what it goes on from"
            assert span.num_tokens > 0
        for span in level:
            before = prompt_tokens(span.parent)
            tokens = sum((tuple(node.segment) for node in span.nodes), ()) + span.tail
            read([before + tokens[: i + 1] for i in range(len(tokens))], span.indices)
            for node in span.nodes:
                assert node.slots is None, "a prefix run twice"
                node.slots = np.zeros(len(node.segment), dtype=np.int64)
            if span.nodes:
                span.nodes[-1].hidden = ()
    return told


def definition(request):
    before = prompt_tokens(request.prompt)
    return [(before + request.answer[:i], token) for i, token in enumerate(request.answer)]


def needed_tokens(requests):
    """Distinct segments in their places that are not there yet, and distinct answers without their last tokens."""
    nodes = {node for request in requests for node in request.prompt.path() if node.slots is None}
    tails = {(request.prompt, request.answer) for request in requests if request.answer}
    return sum(len(node.segment) for node in nodes) + sum(len(answer) - 1 for _, answer in tails)


@pytest.mark.parametrize("seed", range(25))
def test_each_prefix_runs_once_and_everyone_is_told_what_they_asked(seed):
    rng = np.random.default_rng(seed)
    root = Node()
    for count in (int(rng.integers(1, 30)), 1, 12, 12):  # later calls find what earlier ones left
        requests = random_requests(rng, root, count)
        needed = needed_tokens(requests)
        plan = plan_spans(requests)
        assert num_tokens(plan) == needed
        told = run(plan, count)
        assert [sorted(found) for found in told] == [sorted(definition(request)) for request in requests]


def test_prefixes_that_others_go_on_from_are_the_shared_ones():
    root = Node()
    header = Node(root, (1, 2), 2)
    shown = Node(header, (3, 4, 5), 3)
    first, second, alone = Node(shown, (6,), 1), Node(shown, (7,), 1), Node(header, (8, 9), 2)
    plan = plan_spans([ScoreRequest(first, (1,), 0), ScoreRequest(second, (1, 2), 1), ScoreRequest(alone, (1,), 2)])
    nodes = [[span.nodes for span in level] for level in plan.levels]
    assert nodes == [[[header]], [[shown], [alone]], [[first], [second]]]
    shared = [node for level in plan.levels for span in level if span.shared for node in span.nodes]
    assert shared == [header, shown]


def test_a_prompt_of_its_own_runs_in_one_piece():
    shown = Node(Node(Node(), (1, 2), 2), (3, 4), 2)
    plan = plan_spans([ScoreRequest(shown, (5, 6), 0)])
    ((span,),) = plan.levels
    assert (span.num_tokens, span.tail, span.shared) == (5, (5,), False)


def test_several_answers_share_their_prompt():
    prompt = Node(Node(), (1, 2, 3), 3)
    plan = plan_spans([ScoreRequest(prompt, answer, i) for i, answer in enumerate([(4, 5), (4, 6), (7,), (4, 5)])])
    assert num_tokens(plan) == 3 + 1 + 1


def test_positions_go_on_behind_a_segment_that_takes_up_fewer_than_it_has_tokens():
    picture = Node(Node(), range(9), 3)
    behind = Node(picture, (1, 2), 2)
    assert (picture.end, picture.end_position, behind.end, behind.end_position) == (9, 3, 11, 5)


def made_up_spans(rng, count):
    root = Node()
    parents = [root, *(Node(root, range(rng.integers(1, 40)), 1) for _ in range(5))]
    return [Span(parents[rng.integers(0, 6)], [], tuple(range(rng.integers(1, 20)))) for _ in range(count)]


def cost_of(tokens, rows, longest, whole):
    return tokens + rows * longest * whole


@pytest.mark.parametrize("seed", range(10))
def test_batches_hold_every_span_once_within_both_bounds(seed):
    rng = np.random.default_rng(seed)
    spans = made_up_spans(rng, 40)
    batches = plan_batches(spans, cost_of, max_tokens=30, max_bytes=2000)
    assert sorted(id(span) for batch in batches for span in batch) == sorted(map(id, spans))
    for batch in batches:
        lengths = [span.num_tokens for span in batch]
        whole = max(span.parent.end + span.num_tokens for span in batch)
        within = sum(lengths) <= 30 and cost_of(sum(lengths), len(batch), max(lengths), whole) <= 2000
        assert within or len(batch) == 1
    assert len(batches) < len(spans)


def test_batches_do_not_depend_on_what_spans_hold():
    first = made_up_spans(np.random.default_rng(0), 20)
    second = made_up_spans(np.random.default_rng(0), 20)

    def places(spans):
        where = {id(span): i for i, span in enumerate(spans)}
        return [[where[id(span)] for span in batch] for batch in plan_batches(spans, cost_of, 40, 1000)]

    assert places(first) == places(second)


def test_nothing_asked_is_nothing_planned():
    assert plan_spans([]) == Plan([], [])
    assert plan_batches([], cost_of, 10, 10) == []
