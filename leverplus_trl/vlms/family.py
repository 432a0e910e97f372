# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a model family knows: how a prompt becomes segments, a segment tensors, and a batch logits."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from ..tasks import BaseTask, Example
from .contents import ContentKeys
from .prompt_texts import PromptTexts, probe_example
from .prompts import ChatPrompt, Piece, PlainPrompt
from .requests import Request
from .segments import ByteCache, Segment, cat_padded, num_tokens
from .vlm_arguments import VLMArguments
from .vocabulary import ForgedTokens, check_turns, control_tokens, padding_id


class VLMFamily(ABC):
    """
    A frozen model with its tokenizer and prompts. [`TransformersVLM`] and its runners call a family, never the
    reverse.

    Args:
        model (`PreTrainedModel`):
            The model, on its device, in eval mode.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer.
        prompt ([`ChatPrompt`] or [`PlainPrompt`]):
            Renders requests.
        args ([`VLMArguments`]):
            Budgets and conventions.

    Raises:
        `ValueError`: a token that can occur in a prompt has no embedding.
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

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: ChatPrompt | PlainPrompt,
        args: VLMArguments,
    ):
        self.model, self.tokenizer, self.prompt, self.args = model, tokenizer, prompt, args
        self.task: BaseTask = prompt.task
        self.texts = PromptTexts(prompt, tokenizer, args.score_end_token)
        self.contents = ContentKeys(prompt.task)
        self.control_tokens = control_tokens(tokenizer, self.chat_template(), self.placeholders())
        num_embeddings = model.get_input_embeddings().weight.shape[0]
        self.pad_token_id = padding_id(tokenizer, num_embeddings)
        self._check_embeddings(num_embeddings)
        shape = model.config.get_text_config()
        # MPT has no position embeddings and its own name for the length.
        self.max_length = getattr(shape, "max_position_embeddings", None) or getattr(shape, "max_seq_len", None)
        self._can_select_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.set_memory(0)

    def set_memory(self, memory_bytes: int) -> None:
        """Sets the memory beside the model; a quarter of it is for image features, which are forgotten."""
        self.memory_bytes = memory_bytes
        self.features = ByteCache(memory_bytes // 4)

    # ------------------------------------------------------------------ prompts
    @staticmethod
    @abstractmethod
    def make_prompt(
        processor: ProcessorMixin | PreTrainedTokenizerBase, task: BaseTask, args: VLMArguments
    ) -> ChatPrompt | PlainPrompt:
        """The prompts of a task; reads no weights."""

    @classmethod
    def check_arguments(cls, args: VLMArguments) -> None:
        """Raises `ValueError` for settings that the family can't follow."""
        return

    def chat_template(self) -> str:
        """Text of the chat template; empty without one."""
        return str(self.tokenizer.chat_template or "")

    def placeholders(self) -> tuple[str | None, ...]:
        """What stands for images in the text of a prompt."""
        return ()

    def end_token_ids(self, example: Example) -> list[int]:
        """The model's own end tokens, and the token that ends an answer in the prompt."""
        ids = self.model.generation_config.eos_token_id
        ids = list(ids) if isinstance(ids, (list, tuple)) else [ids] if ids is not None else []
        return sorted({*ids, *self.texts.end_token_ids(example)})

    def tokens_add_up(self, probe: Example) -> bool:
        """Whether the tokens of an example's segments and answer are those that a whole text gives."""
        parts, whole = self._in_pieces_and_whole(Request((probe, probe), probe))
        return [t for part in parts for t in part.tokens["input_ids"]] == whole.tokens["input_ids"]

    def segments_are_exact(self, request: Request) -> bool:
        """Whether the segments of a request and its answer add up to the inputs that the whole text gives."""
        parts, whole = self._in_pieces_and_whole(request)
        found, reference = self.collate([parts], "right"), self.collate([[whole]], "right")
        return found.keys() == reference.keys() and all(
            found[name].shape == reference[name].shape and torch.allclose(found[name], reference[name], atol=1e-4)
            for name in found
        )

    def _in_pieces_and_whole(self, request: Request) -> tuple[list[Segment], Segment]:
        """A request with its answer, processed piece by piece and in one piece."""
        answer, whole = Piece(self.texts.answer(request.query)), self.texts.whole(*request)
        parts = [self.process(piece) for piece in (*self.texts.pieces(request), answer) if piece.text]
        return parts, self.process(Piece(whole.text + answer.text, whole.images))

    # ------------------------------------------------------------------ segments
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
        """How many tokens at a segment's beginning other segments may begin with, too: those before an image."""
        return 0

    # ------------------------------------------------------------------ the model's inputs and outputs
    def embed(self, ids: torch.Tensor, segments: Sequence[Segment]) -> tuple[torch.Tensor, dict[str, Any]]:
        """
        Inputs of the decoder.

        Args:
            ids (`torch.Tensor` of shape `(T,)`):
                Tokens in a row.
            segments (`Sequence[Segment]`):
                Their segments, in order (tokens of answers belong to none).

        Returns:
            `tuple`: embeddings, `(1, T, D)`, images in their places; further arguments of the decoder's forward.
        """
        return self.model.get_input_embeddings()(ids)[None], {}

    def logits(self, inputs: dict[str, Any], columns: torch.Tensor) -> torch.Tensor:
        """Logits at the given columns only, [B, C, V]."""
        if self._can_select_logits:
            return self.model(**inputs, use_cache=False, logits_to_keep=columns).logits
        return self.model(**inputs, use_cache=False).logits[:, columns]

    def collate(self, rows: list[list[Segment]], padding_side: str) -> dict[str, Any]:
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

    # ------------------------------------------------------------------ checks
    def check_turns(self, requests: Sequence[Request]) -> None:
        """See [`check_turns`]; requests may have no turns."""
        requests = [request for request in requests if request.turns]
        if requests:
            special = control_tokens(self.tokenizer, placeholders=self.placeholders())
            own, others = (ForgedTokens(self.tokenizer, tokens) for tokens in (special, self.control_tokens))
            check_turns(requests, own, others, self.args.vlm)

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
