# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a model family knows: how a prompt becomes segments, a segment tensors, and a batch logits."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from ..tasks import BaseTask, Example
from .prompts import ContentKeys, Piece, Processor, Prompt, PromptTexts, probe_example
from .requests import ASSISTANT, ROLES, Request
from .segments import ByteCache, Segment, num_tokens
from .tokenization import ForgedTokens, control_tokens, padding_id
from .vlm_arguments import VLMArguments


class VLMFamily(ABC):
    """
    A frozen model, on its device and in eval mode, with its prompts and its processor, or the tokenizer of a model
    without images. [`TransformersVLM`] and its runners call a family, never the reverse.

    Raises:
        `ValueError`: a processor that the family can't use, or a token without an embedding that prompts may hold.
    """

    #: What reads the weights and the processor, and the file by which an adapter's own processor is recognised.
    model_loader: ClassVar[type] = AutoModelForImageTextToText
    processor_loader: ClassVar[type] = AutoProcessor
    processor_file: ClassVar[str] = "processor_config.json"
    takes_images: ClassVar[bool] = True
    #: Position axes of the decoder's rotary embedding.
    num_axes: ClassVar[int] = 1
    #: Why prefixes can't be shared between prompts, where that is known of the whole family.
    cant_share: ClassVar[str | None] = None

    def __init__(self, model: PreTrainedModel, processor: Processor, task: BaseTask, args: VLMArguments):
        self.model, self.processor, self.task, self.args = model, processor, task, args
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.prompt = self.make_prompt(processor, task, args)
        self.texts = PromptTexts(self.prompt, self.tokenizer, args.score_end_token)
        self.contents = ContentKeys(task)
        placeholders = [getattr(processor, name, None) for name in ("image_token", "video_token")]
        template = getattr(processor, "chat_template", None) or self.tokenizer.chat_template or ""
        self.control_tokens = control_tokens(self.tokenizer, str(template), placeholders)
        special_tokens = control_tokens(self.tokenizer, placeholders=placeholders)
        self._forged_by_vlm = ForgedTokens(self.tokenizer, special_tokens)
        self._forged_by_others = ForgedTokens(self.tokenizer, self.control_tokens)
        num_embeddings = model.get_input_embeddings().weight.shape[0]
        self.pad_token_id = padding_id(self.tokenizer, num_embeddings)
        self._check_embeddings(num_embeddings)
        shape = model.config.get_text_config()
        # MPT has no position embeddings and its own name for the length.
        self.max_length = getattr(shape, "max_position_embeddings", None) or getattr(shape, "max_seq_len", None)
        self._can_select_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.set_memory(0)

    def set_memory(self, memory_bytes: int) -> None:
        """Sets the memory beside the model; a quarter of it is for image features, which are dropped."""
        self.memory_bytes = memory_bytes
        self.features = ByteCache(memory_bytes // 4)

    @staticmethod
    @abstractmethod
    def make_prompt(processor: Processor, task: BaseTask, args: VLMArguments) -> Prompt:
        """The prompts of a task; reads no weights."""

    @classmethod
    def check_arguments(cls, args: VLMArguments) -> None:
        """Raises `ValueError` for settings that the family can't follow."""
        return

    def end_token_ids(self, example: Example) -> list[int]:
        """The model's own end tokens, and the token that ends an answer in the prompt."""
        ids = self.model.generation_config.eos_token_id
        ids = [ids] if isinstance(ids, int) else ids or []
        return sorted({*ids, *self.texts.end_token_ids(example)})

    def in_pieces_and_whole(self, request: Request) -> tuple[list[Segment], Segment]:
        """A request with its answer, processed piece by piece and in one piece."""
        texts, query = self.texts, request.query
        answer, whole = Piece(texts.answer(query)), texts.whole(*request)
        pieces = [texts.header(query), *(texts.piece(example, True) for example in request.demonstrations)]
        pieces += [texts.piece(query, False), answer]
        return [self.process(piece) for piece in pieces if piece.text], self.process(
            Piece(whole.text + answer.text, whole.images)
        )

    @abstractmethod
    def process(self, piece: Piece) -> Segment:
        """Tokenises the text and preprocesses the images of a piece, as the family's processor does."""

    def encode(self, piece: Piece) -> Segment:
        """[`process`], and what else can be done once for all the prompts that hold the piece."""
        return self.process(piece)

    def share(self, piece: Piece) -> Segment:
        """A piece as a segment of tokens and positions, without pixels, for the prefix-sharing engine."""
        return self.process(piece)

    def lead_length(self, ids: Sequence[int]) -> int:
        """How many of a segment's first tokens other segments may begin with, too: those before an image."""
        return 0

    def embed(self, ids: torch.Tensor, segments: Sequence[Segment]) -> tuple[torch.Tensor, dict[str, Any]]:
        """
        Inputs of the decoder for tokens in a row, `(T,)`, and their segments in order (tokens of answers belong to
        none): embeddings, `(1, T, D)`, images in their places; further arguments of the decoder's forward.
        """
        return self.model.get_input_embeddings()(ids)[None], {}

    def logits(self, inputs: dict[str, Any], columns: torch.Tensor) -> torch.Tensor:
        """Logits at the given columns only, [B, C, V]."""
        if self._can_select_logits:
            return self.model(**inputs, use_cache=False, logits_to_keep=columns).logits
        return self.model(**inputs, use_cache=False).logits[:, columns]

    def collate(self, rows: Sequence[Sequence[Segment]], padding_side: str) -> dict[str, Any]:
        """Model inputs of rows, padded; the rows' images one after the other."""
        lengths = [num_tokens(row) for row in rows]
        width = max(lengths)
        names = sorted({name for row in rows for segment in row for name in segment.tokens})
        inputs = {name: np.zeros((len(rows), width), dtype=np.int64) for name in (*names, "attention_mask")}
        inputs["input_ids"] += self.pad_token_id
        for i, row in enumerate(rows):
            place = slice(0, lengths[i]) if padding_side == "right" else slice(width - lengths[i], width)
            inputs["attention_mask"][i, place] = 1
            for name in names:
                values = [segment.tokens.get(name) or [0] * len(segment) for segment in row]
                inputs[name][i, place] = [value for own in values for value in own]
        batch = {name: torch.from_numpy(array).to(self.model.device) for name, array in inputs.items()}
        segments = [segment for row in rows for segment in row if segment.images]
        for name in segments[0].images if segments else ():
            tensor = _cat_padded([segment.images[name] for segment in segments]).to(self.model.device)
            batch[name] = tensor.to(self.model.dtype) if tensor.is_floating_point() else tensor
        return batch

    def check_turns(self, requests: Sequence[Request]) -> None:
        """Raises `ValueError` for turns with unknown or misplaced roles, without text, or with control tokens. The
        assistant may write marks of the chat template, such as `<tool_call>`, but no special token."""
        for request in requests:
            where, roles = f"after query {request.query['id']!r}", [turn.role for turn in request.turns]
            if not roles:
                continue
            follow_itself = (ASSISTANT, ASSISTANT) in pairwise(roles)
            if roles[0] != ASSISTANT or roles[-1] == ASSISTANT or follow_itself or not {*roles} <= {*ROLES}:
                raise ValueError(
                    f"The turns {where} have the roles {roles}; expected {ASSISTANT!r} first, and {ROLES[1]!r} or "
                    f"{ROLES[2]!r} after it and last."
                )
            for role, text in request.turns:
                if role != ASSISTANT and not text.strip():
                    raise ValueError(f"The {role}'s turn {where} is empty; expected a text.")
                token = (self._forged_by_vlm if role == ASSISTANT else self._forged_by_others).find(text)
                if token is not None:
                    raise ValueError(
                        f"The {role}'s turn {text!r} {where} holds {token!r}, which the tokenizer of "
                        f"{self.args.vlm!r} takes for the mark of a turn or an image. Remove it from the text."
                    )

    def check_answer(self, query: Example, ids: Sequence[int]) -> None:
        """Raises `ValueError` for an answer without tokens."""
        if not ids:
            raise ValueError(f"The answer {self.task.target(query)!r} of example {query['id']!r} has no tokens.")

    def check_lengths(self, requests: Sequence[Request], lengths: Sequence[int]) -> None:
        """Raises `ValueError` for a prompt that with its answer is longer than the model's context."""
        for request, length in zip(requests, lengths, strict=True):
            if self.max_length is not None and length > self.max_length:
                raise ValueError(
                    f"The prompt of query {request.query['id']!r} with {len(request.demonstrations)} demonstrations "
                    f"has {length} tokens; the context of {type(self.model).__name__} holds {self.max_length}. Use "
                    "fewer shots, shorter texts or smaller images."
                )

    def _check_embeddings(self, num_embeddings: int) -> None:
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        lacking = {token: number for token, number in vocabulary if number >= num_embeddings}
        # Examples hold no control tokens (the preflight refuses them): only those that the prompt writes occur.
        reached = [token for token in lacking if token not in self.control_tokens]
        if lacking and not reached:
            probe = probe_example(self.task) | ({} if self.takes_images else {"image": None})
            text = self.texts.whole((probe,), probe).text + "".join(self.prompt.answer(probe))
            written = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            reached = [token for token, number in lacking.items() if number in written]
        if reached:
            raise ValueError(
                f"The tokenizer of {self.args.vlm!r} has {len(self.tokenizer)} tokens, the model {num_embeddings} "
                f"embeddings: {reached[0]!r} with the id {lacking[reached[0]]} has none. Use the tokenizer that "
                "belongs to the model, or resize its embeddings (`resize_token_embeddings`) and train them."
            )


def _cat_padded(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Rows one after the other, smaller ones padded with zeros: what processors do with images of several sizes."""
    shape = np.max([tensor.shape[1:] for tensor in tensors], axis=0).astype(int).tolist()
    padded, start = tensors[0].new_zeros(sum(map(len, tensors)), *shape), 0
    for tensor in tensors:
        padded[(slice(start, start + len(tensor)), *map(slice, tensor.shape[1:]))] = tensor
        start += len(tensor)
    return padded
