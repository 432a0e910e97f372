# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Requests through the prefix-sharing engine: segments processed and images encoded once, prefixes run once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from ..tasks import Example
from .boundaries import WholePrompts
from .decoding import decode, generate_settings, reads_tokens
from .family import VLMFamily
from .plain_runner import PlainRunner
from .prompts import Piece
from .requests import AnswerLogprob, Request, Turn
from .segments import ByteCache, Segment, run_padded_batches
from .trie_scorer import Step, TrieScorer, path_length


class SharedRunner:
    """
    Runs each distinct prefix of a unit once; a prompt that tokenises differently in pieces runs whole.

    Raises:
        [`CantShare`]: a decoder whose prefixes can't be shared.
    """

    by_segments = True

    def __init__(self, family: VLMFamily):
        self.family, self.whole_prompts = family, WholePrompts()
        # A quarter of the memory is for image features, which the family keeps.
        memory = family.memory_bytes - family.memory_bytes // 4
        self.engine = TrieScorer(family, memory)
        self._whole = PlainRunner(family, by_segments=False)
        self._cache = ByteCache(family.memory_bytes // 16)  # tokens and positions, on the host
        self._lent: list[Segment] = []  # segments that know how to be made again, in this unit
        self._answers: dict[str, Segment] = {}  # by the answer's text
        self._header: list[Step] | None = None  # empty if the prompts have none

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        """See [`VLM.answer_logprobs`]."""
        contents = self.family.contents
        keys = [contents.key(request.query, answered=True) for request in requests]
        answers = {key: self._answer(r.query) for key, r in dict(zip(keys, requests, strict=True)).items()}
        paths, found = [self._path(request) for request in requests], [answers[key] for key in keys]
        rows = [[*(segment for _, segment in path), answer] for path, answer in zip(paths, found, strict=True)]

        def score(kept: Sequence[int]) -> list[AnswerLogprob]:
            ids = [found[i].tokens["input_ids"] for i in kept]
            lengths = [path_length(paths[i]) + len(own) for i, own in zip(kept, ids, strict=True)]
            self.family.check_lengths([requests[i] for i in kept], lengths)
            sums = self.engine.score([paths[i] for i in kept], ids)
            return [AnswerLogprob(float(total), len(own)) for total, own in zip(sums, ids, strict=True)]

        return self._run(requests, rows, score, self._whole.answer_logprobs)

    def generate(self, requests: Sequence[Request], config: GenerationConfig) -> list[str]:
        """See [`VLM.generate`]."""
        paths = [self._path(request) for request in requests]
        rows = [[segment for _, segment in path] for path in paths]

        def answer(kept: Sequence[int]) -> list[str]:
            return self._generate([requests[i] for i in kept], [paths[i] for i in kept], config)

        return self._run(requests, rows, answer, lambda whole: self._whole.generate(whole, config))

    def _run(
        self,
        requests: Sequence[Request],
        rows: Sequence[list[Segment]],
        run: Callable[[Sequence[int]], list[Any]],
        run_whole: Callable[[Sequence[Request]], list[Any]],
    ) -> list[Any]:
        """Results of all requests, by `run` of the positions of those whose rows of segments add up."""
        kept, whole = [], []
        for position, row in enumerate(rows):
            (kept if self._adds_up(row) else whole).append(position)
        self.whole_prompts.count(requests, [requests[position] for position in whole])
        results = dict(zip(kept, run(kept), strict=True)) if kept else {}
        results |= zip(whole, run_whole([requests[position] for position in whole]), strict=True)
        return [results[position] for position in range(len(requests))]

    def _adds_up(self, row: Sequence[Segment]) -> bool:
        return self.family.texts.boundaries.add_up([segment.ends for segment in row if segment.ends is not None])

    def _generate(
        self, requests: Sequence[Request], paths: Sequence[Sequence[Step]], config: GenerationConfig
    ) -> list[str]:
        lengths = [path_length(path) + config.max_new_tokens for path in paths]
        self.family.check_lengths(requests, lengths)
        beams = config.num_beams or 1

        def answer(batch: Sequence[int]) -> list[str]:
            cache, mask, positions = self.engine.prefill([paths[position] for position in batch])
            width = mask.shape[1]
            ids = torch.full_like(mask, self.family.pad_token_id)
            for row, position in enumerate(batch):
                tokens = [token for _, segment in paths[position] for token in segment.tokens["input_ids"]]
                ids[row, width - len(tokens) :] = torch.tensor(tokens)
            if beams > 1:  # `generate` repeats everything but the cache
                cache.batch_repeat_interleave(beams)
            with torch.inference_mode():
                output = self.family.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    **generate_settings(self.family, [requests[position] for position in batch], config, width),
                )
            return decode(self.family, output[:, width:], config)

        budget = self.engine.max_prefilled_tokens // beams
        return run_padded_batches(answer, lengths, budget, padded=not reads_tokens(config))

    def answer_ids(self, query: Example) -> list[int]:
        """See [`TransformersVLM.answer_ids`]."""
        answer = self._answer(query)
        adds_up = self._adds_up([*(segment for _, segment in self._path(Request((), query))), answer])
        return answer.tokens["input_ids"] if adds_up else self._whole.answer_ids(query)

    def num_prompt_tokens(self, request: Request) -> int:
        return path_length(self._path(request)) + len(self._answer(request.query))

    def check_room(self, num_tokens: int) -> None:
        """Raises [`MemoryTooSmall`] for a prompt of so many tokens that there is no memory for."""
        self.engine.check_room([num_tokens])

    @property
    def num_tokens_run(self) -> int:
        return self.engine.num_tokens

    def forget(self) -> None:
        """Drops all prefixes, and the examples that they could be made of again."""
        self.engine.forget()
        for segment in self._lent:
            segment.make = None
        self._lent.clear()

    def _answer(self, query: Example) -> Segment:
        text = self.family.texts.answer(query)
        if text not in self._answers:
            segment = self.family.process(Piece(text)) if text else Segment({"input_ids": []})
            self.family.check_answer(query, segment.tokens["input_ids"])
            segment.ends = self.family.texts.boundaries.ends(text)
            self._answers[text] = segment
        return self._answers[text]

    def _steps(self, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> list[Step]:
        key = self.family.contents.key(example, answered, turns)
        steps = self._cache.get(key)
        if steps is None:
            piece = self.family.texts.piece(example, answered, turns)
            segment = self.family.share(piece)
            segment.ends = self.family.texts.ends(piece, example, answered, turns)
            steps = cut(key, segment, self.family.lead_length(segment.tokens["input_ids"]))
            self._cache.put(key, steps, segment.num_bytes)
        last = steps[-1][1]
        if last.make is None:
            last.make = lambda: self.family.texts.piece(example, answered, turns)
            self._lent.append(last)
        return steps

    def _path(self, request: Request) -> list[Step]:
        """A prompt as steps down the tree."""
        if self._header is None:
            piece = self.family.texts.header(request.query)
            self._header = [(("header",), self.family.share(piece))] if piece.text else []
            for _, segment in self._header:
                segment.ends = self.family.texts.boundaries.ends(piece.text)
        path = list(self._header)
        for example in request.demonstrations:
            path += self._steps(example, answered=True)
        path += self._steps(request.query, answered=False)
        return path + self._steps(request.query, False, request.turns) if request.turns else path


def cut(key: tuple, segment: Segment, lead: int) -> list[Step]:
    """A segment as one step, or as two, the first of which, of `lead` tokens, other segments may begin with, too."""
    if lead == 0:
        return [(key, segment)]
    ids, positions = segment.tokens["input_ids"], segment.position_ids
    first, rest = Segment({"input_ids": ids[:lead]}), Segment({"input_ids": ids[lead:]})
    if positions is not None:
        first.position_ids, rest.position_ids = positions[:, :lead], positions[:, lead:] - lead
    rest.images_key, rest.ends = segment.images_key, segment.ends
    return [(("lead", *ids[:lead]), first), (key, rest)]
