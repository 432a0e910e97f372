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

"""What every VLM promises (`answer_logprobs`, `generate`), and the planning, batching and counting they have in
common."""

import copy
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..tasks import BaseTask, Example
from .prompts import ChatPrompt, Piece, PlainPrompt
from .segments import Segment, SegmentCache, cat_padded, num_tokens, plan_batches
from .vlm_arguments import VLMArguments


logger = logging.getLogger(__name__)

#: Prompts that are preprocessed at once where each is processed whole.
WHOLE_PROMPTS = 64


class Request(NamedTuple):
    """One prompt: demonstrations in prompt order (the last stands next to the query), and the query."""

    demonstrations: tuple[Example, ...]
    query: Example

    @property
    def key(self) -> tuple[str, ...]:
        return (*(example["id"] for example in self.demonstrations), self.query["id"])


class AnswerLogprob(NamedTuple):
    """`logprob`: sum over the answer's tokens of log p(token | all before it); `num_tokens`: how many these are."""

    logprob: float
    num_tokens: int


class BaseVLM(ABC):
    """
    A frozen model behind two promises; callers hand over *many* requests, and the VLM plans the work.

    Args:
        model (`PreTrainedModel`):
            The model, on its device, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer.
        prompt ([`ChatPrompt`] or [`PlainPrompt`]):
            Renders requests.
        args ([`VLMArguments`]):
            Budgets and conventions.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: ChatPrompt | PlainPrompt,
        args: VLMArguments,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.task: BaseTask = prompt.task
        self.args = args
        self.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.max_length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        # What the tokenizer writes before a text by itself: left to it, every piece of a prompt would get one.
        begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        self._start: str = tokenizer.bos_token if tokenizer.bos_token is not None and begins else ""
        self._cache = SegmentCache(args.cache_mb * 2**20)
        self._header: list[Segment] | None = None  # empty if the prompts have none
        self._by_segments: bool | None = None  # None until `prepare` has looked
        self._can_select_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    # ------------------------------------------------------------------ promises
    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        """
        Log-probability of each query's answer (`task.target`) behind its prompt.

        Only the answer's own tokens count, wherever the chat template put them.

        Args:
            requests (`Sequence[Request]`):
                Prompts; any number. To score several answers to one query, pass it with another `answer` each time.

        Returns:
            `list[AnswerLogprob]`: one a request, in their order; natural logarithm, float64 sums of float32 terms.

        Raises:
            `ValueError`: a prompt longer than the model's context, or an answer without tokens; before any is run.
        """
        self.prepare(requests)
        if not self._by_segments and len(requests) > WHOLE_PROMPTS:
            # Whole prompts share nothing, so all their images need not be in memory at once.
            starts = range(0, len(requests), WHOLE_PROMPTS)
            return [
                score for start in starts for score in self.answer_logprobs(requests[start : start + WHOLE_PROMPTS])
            ]
        # One query may come with several answers; everything but the answer is then shared.
        queries = {(request.query["id"], request.query["answer"]): request.query for request in requests}
        texts = {key: self._answer_text(query) for key, query in queries.items()}
        found = [
            self._answered_row(request, texts[request.query["id"], request.query["answer"]]) for request in requests
        ]
        rows, answers = [row for row, _ in found], [answer for _, answer in found]
        lengths = [num_tokens(row) for row in rows]
        self._check_lengths(requests, lengths)
        results: list[AnswerLogprob | None] = [None] * len(requests)
        for batch in plan_batches(lengths, self.args.max_batch_tokens):
            for position, logprob in zip(batch, self._score(rows, answers, batch), strict=True):
                results[position] = AnswerLogprob(logprob, len(answers[position]))
        return results

    def generate(self, requests: Sequence[Request], generation_config: GenerationConfig | None = None) -> list[str]:
        """
        What the model says behind each prompt, greedily unless `generation_config` says otherwise.

        Args:
            requests (`Sequence[Request]`):
                Prompts; the same one asked twice is answered once.
            generation_config (`GenerationConfig`, *optional*):
                Settings of transformers' `generate`; the task's `max_new_tokens` and greedy decoding if not given.

        Returns:
            `list[str]`: the new text of each, special tokens left out, in the order of the requests.

        Raises:
            `ValueError`: a prompt that with its answer is longer than the model's context; before any is run.
        """
        self.prepare(requests)
        config = copy.deepcopy(generation_config) or GenerationConfig(
            max_new_tokens=self.task.max_new_tokens, do_sample=False
        )
        config.pad_token_id = self.pad_token_id
        if not self._by_segments and len(requests) > WHOLE_PROMPTS:
            starts = range(0, len(requests), WHOLE_PROMPTS)
            return [
                text
                for start in starts
                for text in self.generate(requests[start : start + WHOLE_PROMPTS], generation_config)
            ]
        distinct = list({request.key: request for request in requests}.values())
        config.eos_token_id = self._end_token_ids(distinct[0].query) if distinct else None
        rows = [self._row(request) for request in distinct]
        lengths = [num_tokens(row) + config.max_new_tokens for row in rows]
        self._check_lengths(distinct, lengths)
        texts: dict[tuple[str, ...], str] = {}
        for batch in plan_batches(lengths, self.args.max_batch_tokens):
            inputs = self._collate([rows[position] for position in batch], padding_side="left")
            with torch.inference_mode():
                output = self.model.generate(**self._generation_inputs(inputs), generation_config=config)
            new_ids = output[:, inputs["input_ids"].shape[1] :]
            for position, text in zip(
                batch, self.tokenizer.batch_decode(new_ids, skip_special_tokens=True), strict=True
            ):
                texts[distinct[position].key] = text
        return [texts[request.key] for request in requests]

    # ------------------------------------------------------------------ prompts
    def prepare(self, requests: Sequence[Request]) -> None:
        """
        Decides, once, whether prompts are put together from segments that were tokenised one by one.

        They are if that gives what the whole prompt gives, answer included, checked on a few of the examples. If it
        does not, every prompt is tokenised whole, which is right for any family, and slower, since nothing is shared;
        that is said once.
        """
        if self._by_segments is not None:
            return
        examples = {e["id"]: e for request in requests for e in (*request.demonstrations, request.query)}
        probes = [example for example in examples.values() if example["answer"].strip()][:4]
        if not probes:
            return  # nothing to try it on: this call goes the safe way
        self._by_segments = all(self.segments_are_exact(Request((probes[0], probe), probe)) for probe in probes)
        if not self._by_segments:
            logger.warning(
                "%s: tokenising a prompt piece by piece differs from tokenising it whole, so each prompt is processed "
                "whole and nothing is reused between prompts.",
                type(self.model).__name__,
            )

    def segments_are_exact(self, request: Request) -> bool:
        """Whether the segments of a request and its answer add up to the inputs that the whole text gives."""
        answer = self._answer_text(request.query)
        demonstrations = [self.prompt.demonstration(example) for example in request.demonstrations]
        pieces = [self._header_piece(request.query), *demonstrations, self.prompt.query(request.query), Piece(answer)]
        whole = self._whole_piece(request)
        parts = self._collate([[self._process(piece) for piece in pieces if piece.text]], "right")
        reference = self._collate([[self._process(Piece(whole.text + answer, whole.images))]], "right")
        return parts.keys() == reference.keys() and all(
            parts[name].shape == reference[name].shape and torch.allclose(parts[name], reference[name], atol=1e-4)
            for name in parts
        )

    def answer_ids(self, query: Example) -> list[int]:
        """Tokens of the answer behind its query, the end token included only with `score_end_token`."""
        self.prepare([Request((), query)])
        return self._answered_row(Request((), query), self._answer_text(query))[1]

    def num_prompt_tokens(self, request: Request) -> int:
        """Length of a prompt with its answer."""
        self.prepare([request])
        return num_tokens(self._answered_row(request, self._answer_text(request.query))[0])

    def _answer_text(self, query: Example) -> str:
        answer, end = self.prompt.answer(query)
        return answer + self.tokenizer.decode(self._end_ids(end)) if self.args.score_end_token else answer

    def _end_ids(self, end: str) -> list[int]:
        """The token that ends an answer: the first one behind it that is more than a space."""
        ids = self.tokenizer(end, add_special_tokens=False)["input_ids"]
        return next(([token] for token in ids if self.tokenizer.decode([token]).strip(" ")), [])

    def _end_token_ids(self, example: Example) -> list[int]:
        """The model's own end tokens, and the token that ends an answer in the prompt."""
        ids = self.model.generation_config.eos_token_id
        ids = list(ids) if isinstance(ids, (list, tuple)) else [ids] if ids is not None else []
        return sorted({*ids, *self._end_ids(self.prompt.answer(example)[1])})

    def _with_start(self, text: str) -> str:
        """The text behind the start token, for tokenizers that add one by themselves, if it is not there already."""
        return text if text.startswith(self._start) else self._start + text

    def _header_piece(self, example: Example) -> Piece:
        return Piece(self._with_start(self.prompt.header(example).text))

    def _whole_piece(self, request: Request) -> Piece:
        whole = self.prompt.whole(*request)
        return Piece(self._with_start(whole.text), whole.images)

    def _cached(self, role: str, example: Example, make, text: str = "") -> Segment:
        key = (role, example["id"], text)
        segment = self._cache.get(key)
        if segment is None:
            try:
                segment = self._encode(make())
            except (OSError, SyntaxError) as error:  # what PIL raises for damaged files
                raise ValueError(f"The image of example {example['id']!r} can't be used: {error}") from error
            self._cache.put(key, segment)
        return segment

    def _segments(self, request: Request) -> list[Segment]:
        if self._header is None:
            piece = self._header_piece(request.query)
            self._header = [self._encode(piece)] if piece.text else []
        demonstrations = [
            self._cached("demonstration", example, lambda example=example: self.prompt.demonstration(example))
            for example in request.demonstrations
        ]
        return [
            *self._header,
            *demonstrations,
            self._cached("query", request.query, lambda: self.prompt.query(request.query)),
        ]

    def _row(self, request: Request) -> list[Segment]:
        """A prompt without its answer."""
        return self._segments(request) if self._by_segments else [self._encode(self._whole_piece(request))]

    def _answered_row(self, request: Request, answer_text: str) -> tuple[list[Segment], list[int]]:
        """A prompt with its answer, and the tokens at its end that are the answer's."""
        query = request.query
        if self._by_segments:
            answer = (
                self._cached("answer", query, lambda: Piece(answer_text), answer_text)
                if answer_text
                else Segment({"input_ids": []})
            )
            row, ids = [*self._segments(request), answer], answer.tokens["input_ids"]
        else:
            whole = self._whole_piece(request)
            text = whole.text + answer_text
            # Of the text alone: placeholders of images stand before the answer, however many tokens they become.
            before, after = (self.tokenizer(t, add_special_tokens=False)["input_ids"] for t in (whole.text, text))
            if after[: len(before)] != before:
                raise ValueError(
                    f"The answer {answer_text!r} of example {query['id']!r} melts into the prompt's last token, so "
                    "its own probability is not defined. End the prompt in another way: `question_template`, or "
                    "`prompt_format`."
                )
            row, ids = [self._encode(Piece(text, whole.images))], after[len(before) :]
            if ids and row[0].tokens["input_ids"][-len(ids) :] != ids:
                raise ValueError(f"{type(self).__name__} puts tokens behind the answer of example {query['id']!r}.")
        if not ids:
            raise ValueError(f"The answer {self.task.target(query)!r} of example {query['id']!r} has no tokens.")
        return row, ids

    def _check_lengths(self, requests: Sequence[Request], lengths: Sequence[int]) -> None:
        for request, length in zip(requests, lengths, strict=True):
            if self.max_length is not None and length > self.max_length:
                raise ValueError(
                    f"The prompt of query {request.query['id']!r} with {len(request.demonstrations)} demonstrations "
                    f"has {length} tokens; the context of {type(self.model).__name__} holds {self.max_length}. Use "
                    "fewer shots, shorter texts or smaller images."
                )

    # ------------------------------------------------------------------ numbers
    def _score(self, rows: list[list[Segment]], answers: list[list[int]], batch: list[int]) -> list[float]:
        """Answer log-probabilities of one batch; halved, and said so, if it does not fit into memory."""
        try:
            return self._score_batch([rows[i] for i in batch], [answers[i] for i in batch])
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            logger.warning("Out of memory with %d prompts; trying halves. Lower max_batch_tokens.", len(batch))
        half = len(batch) // 2
        return self._score(rows, answers, batch[:half]) + self._score(rows, answers, batch[half:])

    def _score_batch(self, rows: list[list[Segment]], answers: list[list[int]]) -> list[float]:
        # Padding stands on the right: under causal attention it can't touch what is scored, whatever positions a model
        # uses.
        inputs = self._collate(rows, padding_side="right")
        owners, columns, targets = [], [], []
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            for step, token in enumerate(answer):
                owners.append(i)
                columns.append(num_tokens(row) - len(answer) + step - 1)  # the logits that predict this token
                targets.append(token)
        kept = sorted(set(columns))
        index = {column: i for i, column in enumerate(kept)}
        with torch.inference_mode():
            logits = self._logits(inputs, torch.tensor(kept, device=self.model.device))  # [B, C, V]
            logits = logits[torch.tensor(owners), torch.tensor([index[column] for column in columns])]  # [N, V]
            logprobs = logits.float().log_softmax(-1)
            logprobs = logprobs.gather(1, torch.tensor(targets, device=logits.device)[:, None])[:, 0]  # [N]
        sums = np.zeros(len(rows))
        np.add.at(sums, owners, logprobs.double().cpu().numpy())
        return sums.tolist()

    def _logits(self, inputs: dict[str, Any], columns: torch.Tensor) -> torch.Tensor:
        """Logits at the given columns only, [B, C, V]."""
        if self._can_select_logits:
            return self.model(**inputs, use_cache=False, logits_to_keep=columns).logits
        return self.model(**inputs, use_cache=False).logits[:, columns]

    # ------------------------------------------------------------------ what a family says of itself
    @abstractmethod
    def _process(self, piece: Piece) -> Segment:
        """Tokenises the text and preprocesses the images of a piece, as the family's processor does."""

    def _encode(self, piece: Piece) -> Segment:
        """[`_process`], and what else can be done once for all the prompts that a piece stands in."""
        return self._process(piece)

    def _collate(self, rows: list[list[Segment]], padding_side: str) -> dict[str, Any]:
        """Model inputs of rows, padded; the rows' images one after the other."""
        lengths = [num_tokens(row) for row in rows]
        width = max(lengths)
        names = sorted({name for row in rows for segment in row for name in segment.tokens})
        inputs = {name: np.zeros((len(rows), width), dtype=np.int64) for name in names}
        inputs["input_ids"] += self.pad_token_id
        inputs["attention_mask"] = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            place = slice(0, lengths[i]) if padding_side == "right" else slice(width - lengths[i], width)
            inputs["attention_mask"][i, place] = 1
            for name in names:
                inputs[name][i, place] = [
                    token for segment in row for token in segment.tokens.get(name) or [0] * len(segment)
                ]
        device = self.model.device
        batch = {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}
        segments = [segment for row in rows for segment in row if segment.images]
        for name in segments[0].images if segments else ():
            tensor = cat_padded([segment.images[name] for segment in segments]).to(device)
            batch[name] = tensor.to(self.model.dtype) if tensor.is_floating_point() else tensor
        return batch

    def _generation_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs for `generate`; a family changes what it must."""
        return inputs
