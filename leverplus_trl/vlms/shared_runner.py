# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Requests through the prefix-sharing engine: segments processed and images encoded once, prefixes run once."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from ..tasks import Example
from .finite import FiniteLogits
from .out_of_memory import run_or_halve
from .prompts import Piece
from .requests import AnswerLogprob, Request, check_answer, check_lengths
from .segments import ByteCache, Segment, plan_padded_batches
from .trie_scorer import Step, TrieScorer, path_length


if TYPE_CHECKING:
    from .base_vlm import BaseVLM


class SharedRunner:
    """
    Scores and answers with every distinct prefix of a unit run once.

    Args:
        vlm ([`BaseVLM`]):
            Processes pieces, embeds tokens and images, and holds the model.

    Raises:
        [`CantShare`]: a decoder whose prefixes can't be shared.
    """

    def __init__(self, vlm: "BaseVLM"):
        self.vlm = vlm
        # A quarter of the memory is for image features, which the family keeps.
        memory = vlm.memory_bytes - vlm.memory_bytes // 4
        self.engine = TrieScorer(vlm.model, vlm, vlm.num_axes, vlm.args.max_batch_tokens, memory)
        self._cache = ByteCache(vlm.memory_bytes // 16)  # tokens and positions, on the host
        self._lent: list[Segment] = []  # segments that know how to be made again, in this unit
        self._answers: dict[str, tuple[int, ...]] = {}  # by the answer's text
        self._header: list[Step] | None = None  # empty if the prompts have none

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        """See [`BaseVLM.answer_logprobs`]."""
        contents = self.vlm.contents
        queries = {contents.demonstration(request.query): request.query for request in requests}
        answers = {key: self.answer_ids(query) for key, query in queries.items()}
        paths = [self._path(request) for request in requests]
        found = [answers[contents.demonstration(request.query)] for request in requests]
        lengths = [path_length(path) + len(ids) for path, ids in zip(paths, found, strict=True)]
        check_lengths(self.vlm, requests, lengths)
        sums = self.engine.score(paths, found)
        return [AnswerLogprob(float(total), len(ids)) for total, ids in zip(sums, found, strict=True)]

    def generate(self, requests: Sequence[Request], config: GenerationConfig) -> list[str]:
        """See [`BaseVLM.generate`]."""
        paths = [self._path(request) for request in requests]
        lengths = [path_length(path) + config.max_new_tokens for path in paths]
        check_lengths(self.vlm, requests, lengths)
        beams = config.num_beams or 1

        def answer(batch: Sequence[int]) -> list[str]:
            cache, mask, positions = self.engine.prefill([paths[position] for position in batch])
            width = mask.shape[1]
            ids = torch.full_like(mask, self.vlm.pad_token_id)
            for row, position in enumerate(batch):
                tokens = [token for _, segment in paths[position] for token in segment.tokens["input_ids"]]
                ids[row, width - len(tokens) :] = torch.tensor(tokens)
            if beams > 1:  # `generate` repeats everything but the cache
                cache.batch_repeat_interleave(beams)
            with torch.inference_mode():
                output = self.vlm.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    generation_config=config,
                    logits_processor=[FiniteLogits(self.vlm, [requests[position] for position in batch])],
                )
            return self.vlm.tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)

        texts: list[str | None] = [None] * len(requests)
        for batch in plan_padded_batches(lengths, self.engine.max_prefilled_tokens // beams):
            for position, text in zip(batch, run_or_halve(answer, batch), strict=True):
                texts[position] = text
        return texts

    def answer_ids(self, query: Example) -> tuple[int, ...]:
        text = self.vlm.texts.answer(query)
        if text not in self._answers:
            ids = self.vlm._process(Piece(text)).tokens["input_ids"] if text else []
            check_answer(self.vlm.task, query, ids)
            self._answers[text] = tuple(ids)
        return self._answers[text]

    def num_prompt_tokens(self, request: Request) -> int:
        return path_length(self._path(request)) + len(self.answer_ids(request.query))

    def forget(self) -> None:
        """Drops all prefixes, and the examples that they could be made of again."""
        self.engine.forget()
        for segment in self._lent:
            segment.make = None
        self._lent.clear()

    def _steps(self, key: tuple[str, ...], make: Callable[[], Piece]) -> list[Step]:
        steps = self._cache.get(key)
        if steps is None:
            segment = self.vlm._share(make)
            steps = cut(key, segment, self.vlm.lead_length(segment.tokens["input_ids"]))
            self._cache.put(key, steps, segment.num_bytes)
        last = steps[-1][1]
        if last.make is None:
            last.make = make
            self._lent.append(last)
        return steps

    def _path(self, request: Request) -> list[Step]:
        """A prompt as steps down the tree."""
        texts, contents = self.vlm.texts, self.vlm.contents
        if self._header is None:
            piece = texts.header(request.query)
            self._header = [(("header",), self.vlm._share(lambda: piece))] if piece.text else []
        path = list(self._header)
        for example in request.demonstrations:
            path += self._steps(
                contents.demonstration(example), lambda example=example: texts.prompt.demonstration(example)
            )
        query = request.query  # the request would be held together with its demonstrations
        return path + self._steps(contents.query(query), lambda: texts.prompt.query(query))


def cut(key: tuple, segment: Segment, lead: int) -> list[Step]:
    """A segment as one step, or as two, the first of which, of `lead` tokens, other segments may begin with, too."""
    if lead == 0:
        return [(key, segment)]
    ids, positions = segment.tokens["input_ids"], segment.position_ids
    first, rest = Segment({"input_ids": ids[:lead]}), Segment({"input_ids": ids[lead:]})
    if positions is not None:
        first.position_ids, rest.position_ids = positions[:, :lead], positions[:, lead:] - lead
    rest.images_key = segment.images_key
    return [(("lead", *ids[:lead]), first), (key, rest)]
