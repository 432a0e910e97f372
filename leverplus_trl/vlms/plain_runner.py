# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Prompts that share nothing in the model, in padded batches: right for any family."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import GenerationConfig

from ..tasks import Example
from .boundaries import WholePrompts
from .decoding import decode, generate_settings, reads_tokens
from .family import VLMFamily
from .prompts import Piece
from .requests import AnswerLogprob, Request, Turn
from .segments import ByteCache, Segment, num_tokens, run_padded_batches


#: Prompts that are preprocessed at once where each is processed whole: not all images need be in memory together.
WHOLE_PROMPTS = 64


class PlainRunner:
    """
    Runs each prompt from its beginning. With `by_segments` prompts are joined from segments that are processed once;
    otherwise each is processed whole.
    """

    num_tokens_run = 0  # counted only where prefixes are shared

    def __init__(self, family: VLMFamily, by_segments: bool):
        self.family, self.by_segments = family, by_segments
        self.whole_prompts = WholePrompts()
        self._cache = ByteCache(family.memory_bytes // 4)
        self._header: list[Segment] | None = None  # empty if the prompts have none

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        """See [`VLM.answer_logprobs`]."""
        return [score for part in self._parts(requests) for score in self._score_part(part)]

    def generate(self, requests: Sequence[Request], config: GenerationConfig) -> list[str]:
        """See [`VLM.generate`]."""
        return [text for part in self._parts(requests) for text in self._generate_part(part, config)]

    def answer_ids(self, query: Example) -> list[int]:
        return self._answered_row(Request((), query))[1]

    def num_prompt_tokens(self, request: Request) -> int:
        return num_tokens(self._answered_row(request)[0])

    def check_room(self, num_tokens: int) -> None:
        """A prompt of any length runs: nothing is kept of it."""

    def forget(self) -> None:
        """Nothing is kept beyond a call but preprocessed segments."""

    def _parts(self, requests: Sequence[Request]) -> list[Sequence[Request]]:
        size = len(requests) if self.by_segments else WHOLE_PROMPTS
        return [requests[start : start + size] for start in range(0, len(requests), max(1, size))]

    # ------------------------------------------------------------------ rows
    def _segment(self, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> Segment:
        key = self.family.contents.key(example, answered, turns)
        segment = self._cache.get(key)
        if segment is None:
            piece = self.family.texts.piece(example, answered, turns)
            segment = self.family.encode(piece)
            segment.ends = self.family.texts.ends(piece, example, answered, turns)
            self._cache.put(key, segment, segment.num_bytes)
        return segment

    def _answer(self, text: str) -> Segment:
        segment = self._cache.get(("answer", text))
        if segment is None:
            segment = self.family.encode(Piece(text)) if text else Segment({"input_ids": []})
            segment.ends = self.family.texts.boundaries.ends(text)
            self._cache.put(("answer", text), segment, segment.num_bytes)
        return segment

    def _segments(self, request: Request) -> list[Segment]:
        texts = self.family.texts
        if self._header is None:
            piece = texts.header(request.query)
            self._header = [self.family.encode(piece)] if piece.text else []
            for segment in self._header:
                segment.ends = texts.boundaries.ends(piece.text)
        shown = [self._segment(example, answered=True) for example in request.demonstrations]
        said = [self._segment(request.query, False, request.turns)] if request.turns else []
        return [*self._header, *shown, self._segment(request.query, answered=False), *said]

    def _row(self, request: Request) -> list[Segment]:
        """A prompt without its answer."""
        if self.by_segments:
            segments = self._segments(request)
            if self._add_up(segments):
                return segments
        return [self.family.encode(self.family.texts.whole(*request))]

    def _add_up(self, segments: list[Segment]) -> bool:
        return self.family.texts.boundaries.add_up([segment.ends for segment in segments])

    def _count(self, requests: Sequence[Request], rows: Sequence[list[Segment]]) -> None:
        """Takes down which prompts were processed whole, where they need not be as a rule."""
        if self.by_segments:
            whole = [request for request, row in zip(requests, rows, strict=True) if row[0].ends is None]
            self.whole_prompts.count(requests, whole)

    def _answered_row(self, request: Request) -> tuple[list[Segment], list[int]]:
        """A prompt with its answer, and the tokens at its end that are the answer's."""
        query, text = request.query, self.family.texts.answer(request.query)
        if not self.by_segments:
            return self._whole_row(request, text)
        answer = self._answer(text)
        self.family.check_answer(query, answer.tokens["input_ids"])
        row = [*self._segments(request), answer]
        return (row, answer.tokens["input_ids"]) if self._add_up(row) else self._whole_row(request, text)

    def _whole_row(self, request: Request, answer: str) -> tuple[list[Segment], list[int]]:
        query, whole, tokenizer = request.query, self.family.texts.whole(*request), self.family.tokenizer
        # Of the text alone: placeholders of images stand before the answer, however many tokens they become.
        before, after, alone = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (whole.text, whole.text + answer, answer)
        )
        if after[: len(before)] != before:
            # A token begins in the prompt and ends in the answer. What is generated follows the prompt's own tokens.
            self.family.check_answer(query, alone)
            return [self.family.encode(whole), Segment({"input_ids": alone})], alone
        row, ids = [self.family.encode(Piece(whole.text + answer, whole.images))], after[len(before) :]
        self.family.check_answer(query, ids)
        if row[0].tokens["input_ids"][-len(ids) :] != ids:
            raise ValueError(f"{type(self.family).__name__} puts tokens behind the answer of example {query['id']!r}.")
        return row, ids

    # ------------------------------------------------------------------ scores
    def _score_part(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        rows, answers = zip(*(self._answered_row(request) for request in requests), strict=True)
        self._count(requests, rows)
        lengths = [num_tokens(row) for row in rows]
        self.family.check_lengths(requests, lengths)

        def score(batch: Sequence[int]) -> list[float]:
            return self._score_batch([rows[i] for i in batch], [answers[i] for i in batch])

        found = run_padded_batches(score, lengths, self.family.args.max_batch_tokens)
        return [AnswerLogprob(logprob, len(answer)) for logprob, answer in zip(found, answers, strict=True)]

    def _score_batch(self, rows: Sequence[list[Segment]], answers: Sequence[list[int]]) -> list[float]:
        """Log-probability of the answer at the end of each row, in one forward."""
        # Padding stands on the right: under causal attention it can't touch what is scored, whatever positions a model
        # uses.
        inputs = self.family.collate(rows, padding_side="right")
        owners, columns, targets = [], [], []
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            for step, token in enumerate(answer):
                owners.append(i)
                columns.append(num_tokens(row) - len(answer) + step - 1)  # the logits that predict this token
                targets.append(token)
        kept = sorted(set(columns))
        index = {column: i for i, column in enumerate(kept)}
        with torch.inference_mode():
            logits = self.family.logits(inputs, torch.tensor(kept, device=self.family.model.device))  # [B, C, V]
            logits = logits[torch.tensor(owners), torch.tensor([index[column] for column in columns])]  # [N, V]
            logprobs = logits.float().log_softmax(-1)
            logprobs = logprobs.gather(1, torch.tensor(targets, device=logits.device)[:, None])[:, 0]  # [N]
        sums = np.zeros(len(rows))
        np.add.at(sums, owners, logprobs.double().cpu().numpy())
        return sums.tolist()

    # ------------------------------------------------------------------ answers
    def _generate_part(self, requests: Sequence[Request], config: GenerationConfig) -> list[str]:
        rows = [self._row(request) for request in requests]
        self._count(requests, rows)
        lengths = [num_tokens(row) + config.max_new_tokens for row in rows]
        self.family.check_lengths(requests, lengths)

        def answer(batch: Sequence[int]) -> list[str]:
            inputs = self.family.collate([rows[position] for position in batch], padding_side="left")
            width = inputs["input_ids"].shape[1]
            with torch.inference_mode():
                settings = generate_settings(self.family, [requests[position] for position in batch], config, width)
                output = self.family.model.generate(**inputs, **settings)
            return decode(self.family, output[:, width:], config)

        budget = self.family.args.max_batch_tokens // (config.num_beams or 1)
        return run_padded_batches(answer, lengths, budget, padded=not reads_tokens(config))
