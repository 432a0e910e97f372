# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The prefix-sharing engine: each distinct prefix runs through the decoder once, and only answers through the head."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import DynamicCache

from .family import VLMFamily
from .prefix_trie import LogprobIndex, Node, ScoreRequest, Span, plan_batches, plan_spans
from .requests import MemoryTooSmall
from .segments import Segment, is_out_of_memory, num_tokens, run_or_halve
from .trie_attention import TRIE_ATTENTION, CantShare, KVPool, make_batch


class TrieScorer:
    """Runs prompts through a family's decoder as paths in a tree of segments; `memory_bytes` is for keys, values and
    activations. Raises [`CantShare`] for a decoder without full attention in every layer."""

    def __init__(self, family: VLMFamily, memory_bytes: int):
        model = family.model
        self.family, self.model, self.num_axes = family, model, family.num_axes
        self.decoder, self.head = model.get_decoder(), model.get_output_embeddings()
        if len({parameter.device for parameter in model.parameters()}) > 1:
            raise CantShare("it is spread over several devices")
        self.costs = costs = _Costs(self.decoder.config, model.dtype)
        self.batch_bytes = memory_bytes // 3
        capacity = (memory_bytes - self.batch_bytes) // costs.kv_bytes
        # Half of the slots at least are for what is kept.
        self.max_batch_tokens = max(1, min(family.args.max_batch_tokens, capacity // 2))
        shape = costs.num_layers, costs.num_kv_heads, costs.head_dim
        self.pool = KVPool(capacity, *shape, dtype=model.dtype, device=model.device)
        #: Tokens that a prompt with its answer may have: there is room for it twice, once kept and once running.
        self.max_prompt_tokens = (capacity - 1) // 2
        self.num_tokens = 0  # that went through the decoder
        self.forget()

    @property
    def max_prefilled_tokens(self) -> int:
        """Tokens, padding included, that the prompts of a call of [`prefill`] may have together."""
        return min(self.batch_bytes // (2 * self.costs.kv_bytes), self.pool.capacity - 1 - self.max_batch_tokens)

    def forget(self) -> None:
        """Drops all prefixes."""
        self.root = Node()
        self.kept: list[Node] = []
        self.tick = 0
        self.pool.clear()

    def score(self, paths: Sequence[Sequence[Segment]], answers: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probability of each answer (one token or more) after its path: float64 sums of float32 terms."""
        self.tick += 1
        self.check_room([num_tokens(path) + len(ids) for path, ids in zip(paths, answers, strict=True)])
        sums = np.zeros(len(paths))
        pairs = enumerate(zip(paths, answers, strict=True))
        requests = [ScoreRequest(self._node(path), tuple(ids), i) for i, (path, ids) in pairs]
        with torch.inference_mode(), self._attention():
            self._answer(requests, sums)
        return sums

    def prefill(self, paths: Sequence[Sequence[Segment]]) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
        """
        A cache of transformers, padded on the left, of all tokens of each prompt but its last; the attention mask of
        the whole prompts, `(B, L)`; their position ids, `(B, L)` or `(axes, B, L)`, of which only the last is right.
        """
        self.tick += 1
        self.check_room([num_tokens(path) for path in paths])
        nodes = [self._node(path) for path in paths]
        with torch.inference_mode(), self._attention():
            self._answer([ScoreRequest(node, (), i) for i, node in enumerate(nodes)], np.zeros(0))
            width = max(node.end for node in nodes)
            index = np.zeros((len(nodes), width - 1), dtype=np.int64)
            mask = np.zeros((len(nodes), width), dtype=np.int64)
            positions = np.zeros((self.num_axes, len(nodes), width), dtype=np.int64)
            for row, node in enumerate(nodes):
                index[row, width - node.end :] = self._slots(node)[:-1]
                mask[row, width - node.end :] = 1
                positions[:, row, -1] = node.end_position - 1
            index, mask, positions = (torch.from_numpy(a).to(self.pool.keys.device) for a in (index, mask, positions))
            layers = zip(self.pool.keys, self.pool.values, strict=True)
            cache = DynamicCache([tuple(self.pool.gather(block, index) for block in layer) for layer in layers])
        return cache, mask, positions if self.num_axes > 1 else positions[0]

    def check_room(self, lengths: Sequence[int]) -> None:
        """Raises [`MemoryTooSmall`] for prompts, with their answers, that are too long for the memory."""
        if max(lengths) > self.max_prompt_tokens:
            needed = -(-5 * max(lengths) * self.costs.kv_bytes // 2**20)  # half of it is for them
            raise MemoryTooSmall(
                f"A prompt of {max(lengths)} tokens does not fit into memory_mb, which leaves room for the keys and "
                f"values of {self.pool.capacity - 1} tokens. Set memory_mb to {needed} or more."
            )

    def _node(self, path: Sequence[Segment]) -> Node:
        node = self.root
        for segment in path:
            child = node.children.get(segment.key)
            if child is None:
                child = node.children[segment.key] = Node(node, segment, segment.num_positions)
            child.tick = self.tick
            node = child
        return node

    def _answer(self, requests: list[ScoreRequest], sums: np.ndarray) -> None:
        """Runs requests, in halves if their prefixes do not fit into the pool together."""
        plan = plan_spans(requests)
        spans = [span for level in plan.levels for span in level]
        # Prefixes that a span needs, and its own if others need it, stay while the plan runs.
        pins = {node for span in spans for node in (*span.parent.path(), *(span.nodes if span.shared else ()))}
        longest = max((span.num_tokens for span in spans), default=0)
        room = self.pool.capacity - 1 - max(self.max_batch_tokens, longest)
        prompts = list(dict.fromkeys(request.prompt for request in requests))
        if sum(node.size for node in pins) > room and len(prompts) > 1:
            # In the tree's own order, so that prompts with a common prefix stay together.
            order, pending = {}, [self.root]
            while pending:
                node = pending.pop()
                order[node] = len(order)
                pending.extend(reversed(node.children.values()))
            prompts.sort(key=order.__getitem__)
            first = set(prompts[: len(prompts) // 2])
            self._answer([request for request in requests if request.prompt in first], sums)
            self._answer([request for request in requests if request.prompt not in first], sums)
            return
        for request in requests:
            if not request.answer:  # the prompt itself is requested
                pins.update(request.prompt.path())
        self._read([(node.hidden, indices) for node, indices in plan.stored if indices], sums)

        def run(spans: Sequence[Span]) -> Sequence[Span]:
            self._run(spans, pins, sums)
            return spans

        for level in plan.levels:
            for batch in plan_batches(level, self.costs.of_batch, self.max_batch_tokens, self.batch_bytes):
                run_or_halve(run, batch)

    def _make_room(self, count: int, pins: set[Node]) -> None:
        """Drops the least recently used prefixes, longer ones first, until `count` slots are free."""
        if self.pool.num_free >= count:
            return
        goal = min(count + self.pool.capacity // 8, self.pool.capacity - 1)
        droppable = [node for node in self.kept if node not in pins]
        droppable.sort(key=lambda node: (-node.tick, node.depth))
        while droppable and self.pool.num_free < goal:
            node = droppable.pop()
            self.pool.give_back(node.slots)
            node.slots = node.hidden = None
        self.kept = [node for node in self.kept if node in pins] + droppable

    @contextmanager
    def _attention(self) -> Iterator[None]:
        config = self.decoder.config
        before = config._attn_implementation
        config._attn_implementation = TRIE_ATTENTION
        try:
            yield
        finally:
            config._attn_implementation = before

    def _run(self, spans: Sequence[Span], pins: set[Node], sums: np.ndarray) -> None:
        """Runs a batch, and keeps its prefixes; after an error the engine is as before, but for smaller batches."""
        lengths = [span.num_tokens for span in spans]
        count = sum(lengths)
        self._make_room(count, pins)
        slots = self.pool.take(count)
        try:
            hidden = self._forward(spans, lengths, slots)
            self._read([(own, s.indices) for own, s in zip(hidden.split(lengths), spans, strict=True)], sums)
        except Exception as error:
            self.pool.give_back(slots)
            # Later batches of the same plan may be as large.
            if is_out_of_memory(error) and len(spans) > 1 and count <= self.max_batch_tokens:
                self.max_batch_tokens = max(1, self.max_batch_tokens // 2)
                self.batch_bytes //= 2
            raise
        self.num_tokens += count
        self._keep(spans, slots, hidden)

    def _forward(self, spans: list[Span], lengths: list[int], slots: np.ndarray) -> torch.Tensor:
        """Last hidden states `(T, D)` of the new tokens; their keys and values go into the pool."""
        ids, positions, segments = [], [], []
        for span in spans:
            for node in span.nodes:
                ids.extend(node.segment.tokens["input_ids"])
                positions.append(node.segment.positions(self.num_axes) + node.parent.end_position)
                segments.append(node.segment)
            if span.tail:
                start = (span.nodes[-1] if span.nodes else span.parent).end_position
                ids.extend(span.tail)
                positions.append(np.tile(np.arange(start, start + len(span.tail)), (self.num_axes, 1)))
        device = self.model.device
        position_ids = torch.from_numpy(np.concatenate(positions, axis=1)).to(device)  # [axes, T]
        if self.num_axes > 1:
            position_ids = position_ids[:, None]  # [axes, 1, T]
        embeds, extra = self.family.embed(torch.tensor(ids, device=device), segments)
        batch = make_batch(self.pool, [self._slots(span.parent) for span in spans], lengths, slots, self.model.dtype)
        out = self.decoder(inputs_embeds=embeds, position_ids=position_ids, use_cache=False, trie_batch=batch, **extra)
        if batch.num_layers_run != self.costs.num_layers:  # other layers take all tokens for one text
            raise CantShare(f"only {batch.num_layers_run} of its {self.costs.num_layers} layers run the attention")
        return out.last_hidden_state[0]

    def _keep(self, spans: list[Span], slots: np.ndarray, hidden: torch.Tensor) -> None:
        """Hands the slots to the prefixes in them, and takes those of answers back."""
        start, lasts = 0, {}
        for span in spans:
            for node in span.nodes:
                node.slots = slots[start : start + node.size]
                self.kept.append(node)
                start += node.size
            if span.nodes:
                lasts[span.nodes[-1]] = start - 1
            self.pool.give_back(slots[start : start + len(span.tail)])
            start += len(span.tail)
        if lasts:
            rows = hidden.index_select(0, torch.tensor([*lasts.values()], device=hidden.device))
            for node, row in zip(lasts, rows, strict=True):
                node.hidden = row.clone()  # a view would keep the rows of all

    def _slots(self, node: Node) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype=np.int64), *(above.slots for above in node.path())])

    def _read(self, places: Sequence[tuple[torch.Tensor, Sequence[LogprobIndex]]], sums: np.ndarray) -> None:
        """Adds log-probabilities to their owners' sums, each read from hidden states `(n, D)`, or from one, `(D,)`."""
        read = [
            (hidden if hidden.ndim == 1 else hidden[index.offset], index) for hidden, own in places for index in own
        ]

        def logprobs(batch: Sequence[tuple[torch.Tensor, LogprobIndex]]) -> np.ndarray:
            logits = self.head(torch.stack([row for row, _ in batch])).float()  # [R, V]
            tokens = torch.tensor([index.token for _, index in batch], device=logits.device)
            return (logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)).double().cpu().numpy()  # [R]

        size, values = max(1, self.batch_bytes // self.costs.head_bytes), []
        for start in range(0, len(read), size):
            values += run_or_halve(logprobs, read[start : start + size])
        for (_, index), value in zip(read, values, strict=True):
            for owner in index.owners:
                sums[owner] += value


class _Costs:
    """Bytes that a batch of spans takes, from a decoder's shape."""

    def __init__(self, config, dtype: torch.dtype):
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise CantShare(f"its layers are {', '.join(sorted(kinds))}")
        rope = getattr(config, "rope_parameters", None) or {}
        if "longrope" in (kind.get("rope_type") for kind in (rope, *rope.values()) if isinstance(kind, dict)):
            raise CantShare("a prompt's length decides how all of its positions are rotated (longrope)")
        num_heads = config.num_attention_heads
        self.num_layers = config.num_hidden_layers
        self.num_kv_heads = getattr(config, "num_key_value_heads", None) or num_heads
        if getattr(config, "multi_query", False):  # GPT-BigCode
            self.num_kv_heads = 1
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
        size, width, hidden = dtype.itemsize, num_heads * self.head_dim, config.hidden_size
        intermediate = getattr(config, "intermediate_size", None) or 4 * hidden
        #: The keys and values of a token in all layers.
        self.kv_bytes = 2 * self.num_layers * self.num_kv_heads * self.head_dim * size
        #: The logits of a token: the model's, in float32, and those of logsumexp.
        self.head_bytes = config.vocab_size * (size + 8)
        self._per_token = size * (4 * hidden + 3 * max(intermediate, width)) + 8 * hidden
        self._per_query = 2 * width * size
        self._per_key = 4 * width * size  # keys and values, as gathered and repeated for every head
        self._per_pair = size + 1  # the mask

    def of_batch(self, tokens: int, rows: int, longest: int, whole: int) -> int:
        """The activations of one layer at its widest; see [`plan_batches`]."""
        per_row = longest * self._per_query + whole * self._per_key + longest * whole * self._per_pair
        return tokens * self._per_token + rows * per_row
