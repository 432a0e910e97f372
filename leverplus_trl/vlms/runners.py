# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""How prompts run: each from its beginning, or with every prefix once. Segments are made once for all prompts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from ..tasks import Example
from .decoding import decode, generate_settings, reads_tokens
from .family import VLMFamily
from .prompts import Piece
from .requests import AnswerLogprob, Request, Turn
from .segments import ByteCache, Segment, num_tokens, run_padded_batches
from .tokenization import WholePrompts
from .trie_scorer import TrieScorer


#: How many prompts are preprocessed at once where each is processed whole, so that not all images are in memory.
WHOLE_PROMPTS = 64
#: Prompts as segments, and what makes the inputs of `generate` for some prompts and a number of beams.
Rows = Sequence[list[Segment]]
InputsOf = Callable[[Rows, int], dict[str, Any]]


class Runner:
    """Prompts as rows of segments: what the two kinds of runners have in common."""

    by_segments = True
    num_tokens_run = 0  # counted only where prefixes are shared

    def __init__(self, family: VLMFamily, cache_bytes: int):
        self.family, self.whole_prompts = family, WholePrompts()
        self._cache = ByteCache(cache_bytes)  # segments, by content
        self._header: list[Segment] | None = None  # empty if the prompts have none

    def answer_ids(self, query: Example) -> list[int]:
        return self._answered_row(Request((), query))[1]

    def num_prompt_tokens(self, request: Request) -> int:
        """Length of a prompt with its answer."""
        return num_tokens(self._answered_row(request)[0])

    def check_room(self, num_tokens: int) -> None:
        """Raises [`MemoryTooSmall`] for a prompt of so many tokens that there is no memory for."""

    def forget(self) -> None:
        """Drops all prefixes, and the examples that they could be made of again."""

    def _make(self, key: tuple, piece: Piece) -> list[Segment]:
        """A piece as segments, ready for the model."""
        return [self.family.encode(piece)]

    def _segments(self, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> list[Segment]:
        key = self.family.contents.key(example, answered, turns)
        segments = self._cache.get(key)
        if segments is None:
            piece = self.family.texts.piece(example, answered, turns)
            segments = self._make(key, piece)
            segments[-1].ends = self.family.texts.ends(piece, example, answered, turns)
            self._cache.put(key, segments, sum(segment.num_bytes for segment in segments))
        return segments

    def _row(self, request: Request) -> list[Segment]:
        """A prompt without its answer, as segments."""
        if self._header is None:
            piece = self.family.texts.header(request.query)
            self._header = self._make(("header",), piece) if piece.text else []
            for segment in self._header:
                segment.ends = self.family.texts.boundaries.ends(piece.text)
        row = [*self._header]
        for example in request.demonstrations:
            row += self._segments(example, answered=True)
        row += self._segments(request.query, answered=False)
        return row + self._segments(request.query, False, request.turns) if request.turns else row

    def _answer(self, query: Example) -> Segment:
        key = ("answer", *self.family.contents.key(query, answered=True))
        segment = self._cache.get(key)
        if segment is None:
            text = self.family.texts.answer(query)
            segment = self.family.process(Piece(text)) if text else Segment({"input_ids": []})
            self.family.check_answer(query, segment.tokens["input_ids"])
            segment.ends = self.family.texts.boundaries.ends(text)
            self._cache.put(key, segment, segment.num_bytes)
        return segment

    def _adds_up(self, row: Sequence[Segment]) -> bool:
        """Whether the tokens of segments are those of the whole text."""
        return self.family.texts.boundaries.add_up([segment.ends for segment in row if segment.ends is not None])

    def _answered_row(self, request: Request) -> tuple[list[Segment], list[int]]:
        """A prompt with its answer, and the tokens at its end that are the answer's."""
        if self.by_segments:
            answer = self._answer(request.query)
            row = [*self._row(request), answer]
            if self._adds_up(row):
                return row, answer.tokens["input_ids"]
        query, texts = request.query, self.family.texts
        answer, whole = texts.answer(query), texts.whole(*request)
        # Of the text alone: placeholders of images are before the answer, however many tokens they become.
        before, after, alone = (
            self.family.tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (whole.text, whole.text + answer, answer)
        )
        if after[: len(before)] != before:
            # A token begins in the prompt and ends in the answer. A generated answer follows the prompt's own tokens.
            self.family.check_answer(query, alone)
            return [self.family.encode(whole), Segment({"input_ids": alone})], alone
        row, ids = [self.family.encode(Piece(whole.text + answer, whole.images))], after[len(before) :]
        self.family.check_answer(query, ids)
        if row[0].tokens["input_ids"][-len(ids) :] != ids:
            raise ValueError(f"{type(self.family).__name__} puts tokens after the answer of example {query['id']!r}.")
        return row, ids

    def _generate(
        self, requests: Sequence[Request], rows: Rows, config: GenerationConfig, max_tokens: int, inputs_of: InputsOf
    ) -> list[str]:
        """Answers, in batches of at most `max_tokens`; `inputs_of(rows, num_beams)` makes the inputs of a batch."""
        num_beams = config.num_beams or 1
        lengths = [num_tokens(row) + config.max_new_tokens for row in rows]
        self.family.check_lengths(requests, lengths)

        def answer(batch: Sequence[int]) -> list[str]:
            inputs = inputs_of([rows[position] for position in batch], num_beams)
            width = inputs["input_ids"].shape[1]
            with torch.inference_mode():
                settings = generate_settings(self.family, [requests[position] for position in batch], config, width)
                output = self.family.model.generate(**inputs, **settings)
            return decode(self.family, output[:, width:], config)

        return run_padded_batches(answer, lengths, max_tokens // num_beams, padded=not reads_tokens(config))


class PlainRunner(Runner):
    """Runs each prompt from its beginning, in padded batches. With `by_segments` prompts are joined from segments that
    are processed once; otherwise each is processed whole."""

    def __init__(self, family: VLMFamily, by_segments: bool):
        super().__init__(family, family.memory_bytes // 4)
        self.by_segments = by_segments

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        return [score for part in self._parts(requests) for score in self._score_part(part)]

    def generate(self, requests: Sequence[Request], config: GenerationConfig) -> list[str]:
        texts, budget = [], self.family.args.max_batch_tokens
        for part in self._parts(requests):
            rows = []
            for request in part:
                row = self._row(request) if self.by_segments else []
                whole = not row or not self._adds_up(row)
                rows.append([self.family.encode(self.family.texts.whole(*request))] if whole else row)
            self._count(part, rows)
            texts += self._generate(part, rows, config, budget, lambda rows, _: self.family.collate(rows, "left"))
        return texts

    def _parts(self, requests: Sequence[Request]) -> list[Sequence[Request]]:
        size = max(1, len(requests)) if self.by_segments else WHOLE_PROMPTS
        return [requests[start : start + size] for start in range(0, len(requests), size)]

    def _count(self, requests: Sequence[Request], rows: Rows) -> None:
        """Counts prompts that were processed whole where that is the exception."""
        if self.by_segments:
            whole = [request for request, row in zip(requests, rows, strict=True) if row[0].ends is None]
            self.whole_prompts.count(requests, whole)

    def _score_part(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        rows, answers = zip(*map(self._answered_row, requests), strict=True)
        self._count(requests, rows)
        lengths = [num_tokens(row) for row in rows]
        self.family.check_lengths(requests, lengths)

        def score(batch: Sequence[int]) -> list[float]:
            return self._score_batch([rows[i] for i in batch], [answers[i] for i in batch])

        logprobs = run_padded_batches(score, lengths, self.family.args.max_batch_tokens)
        return [AnswerLogprob(logprob, len(answer)) for logprob, answer in zip(logprobs, answers, strict=True)]

    def _score_batch(self, rows: Rows, answers: Sequence[list[int]]) -> list[float]:
        """Log-probability of the answer at the end of each row, in one forward."""
        # Under causal attention, padding on the right can't touch what is scored, whatever positions a model uses.
        inputs = self.family.collate(rows, padding_side="right")
        owners, columns, targets = [], [], []
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            first = num_tokens(row) - len(answer) - 1  # the logits here predict the first token
            owners += [i] * len(answer)
            columns += range(first, first + len(answer))
            targets += answer
        kept, places = np.unique(columns, return_inverse=True)
        device = self.family.model.device
        with torch.inference_mode():
            logits = self.family.logits(inputs, torch.from_numpy(kept).to(device))  # [B, C, V]
            logits = logits[torch.tensor(owners), torch.from_numpy(places)]  # [N, V]
            logprobs = logits.float().log_softmax(-1)
            logprobs = logprobs.gather(1, torch.tensor(targets, device=logits.device)[:, None])[:, 0]  # [N]
        sums = np.zeros(len(rows))
        np.add.at(sums, owners, logprobs.double().cpu().numpy())
        return sums.tolist()


class SharedRunner(Runner):
    """Runs each distinct prefix of a unit once, through a [`TrieScorer`], which may raise [`CantShare`]. A prompt that
    tokenises differently in pieces runs whole."""

    def __init__(self, family: VLMFamily):
        super().__init__(family, family.memory_bytes // 16)  # tokens and positions, on the host
        # A quarter of the memory is for image features, which the family keeps.
        self.engine = TrieScorer(family, family.memory_bytes - family.memory_bytes // 4)
        self._whole = PlainRunner(family, by_segments=False)
        self._lent: list[Segment] = []  # segments that can be made again, in this unit

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        answers = [self._answer(request.query) for request in requests]
        rows = [[*self._row(request), answer] for request, answer in zip(requests, answers, strict=True)]

        def score(kept: Sequence[int]) -> list[AnswerLogprob]:
            self.family.check_lengths([requests[i] for i in kept], [num_tokens(rows[i]) for i in kept])
            ids = [answers[i].tokens["input_ids"] for i in kept]
            sums = self.engine.score([rows[i][:-1] for i in kept], ids)
            return [AnswerLogprob(float(total), len(own)) for total, own in zip(sums, ids, strict=True)]

        return self._run(requests, rows, score, self._whole.answer_logprobs)

    def generate(self, requests: Sequence[Request], config: GenerationConfig) -> list[str]:
        rows, budget = [self._row(request) for request in requests], self.engine.max_prefilled_tokens

        def answer(kept: Sequence[int]) -> list[str]:
            shown, paths = [requests[i] for i in kept], [rows[i] for i in kept]
            return self._generate(shown, paths, config, budget, self._inputs_of)

        return self._run(requests, rows, answer, lambda whole: self._whole.generate(whole, config))

    def num_prompt_tokens(self, request: Request) -> int:
        return num_tokens(self._row(request)) + len(self._answer(request.query))

    def check_room(self, num_tokens: int) -> None:
        self.engine.check_room([num_tokens])

    @property
    def num_tokens_run(self) -> int:
        return self.engine.num_tokens

    def forget(self) -> None:
        self.engine.forget()
        for segment in self._lent:
            segment.make = None
        self._lent.clear()

    def _make(self, key: tuple, piece: Piece) -> list[Segment]:
        """A segment, or two. Other segments may begin with the first of two: the tokens before an image."""
        segment = self.family.share(piece)
        ids, positions = segment.tokens["input_ids"], segment.position_ids
        segment.key, lead = key, self.family.lead_length(ids)
        if lead == 0:
            return [segment]
        first, rest = Segment({"input_ids": ids[:lead]}, key=("lead", *ids[:lead])), Segment({"input_ids": ids[lead:]})
        if positions is not None:
            first.position_ids, rest.position_ids = positions[:, :lead], positions[:, lead:] - lead
        rest.key, rest.images_key = key, segment.images_key
        return [first, rest]

    def _segments(self, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> list[Segment]:
        segments = super()._segments(example, answered, turns)
        last = segments[-1]
        if last.images_key and last.make is None:
            last.make = lambda: self.family.texts.piece(example, answered, turns)
            self._lent.append(last)
        return segments

    def _run(
        self, requests: Sequence[Request], rows: Rows, run: Callable[[Sequence[int]], list], run_whole: Callable
    ) -> list:
        """Results of all requests: `run` takes the positions of those whose rows add up, `run_whole` the others."""
        adds_up = [self._adds_up(row) for row in rows]
        kept = np.flatnonzero(adds_up).tolist()
        whole = [request for request, fits in zip(requests, adds_up, strict=True) if not fits]
        self.whole_prompts.count(requests, whole)
        results, others = iter(run(kept) if kept else ()), iter(run_whole(whole))
        return [next(results if fits else others) for fits in adds_up]

    def _inputs_of(self, rows: Rows, num_beams: int) -> dict[str, Any]:
        """Inputs of `generate`: the prompts' tokens, and a cache of all but the last of them."""
        cache, mask, positions = self.engine.prefill(rows)
        ids = torch.full_like(mask, self.family.pad_token_id)
        for place, row in enumerate(rows):
            tokens = [token for segment in row for token in segment.tokens["input_ids"]]
            ids[place, ids.shape[1] - len(tokens) :] = torch.tensor(tokens)
        if num_beams > 1:  # `generate` repeats everything but the cache
            cache.batch_repeat_interleave(num_beams)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "past_key_values": cache}
