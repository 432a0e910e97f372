# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What every VLM promises (`answer_logprobs`, `generate`), how it finds the fastest right way to keep that, and what a
family says of itself."""

import copy
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..tasks import BaseTask, Example
from .boundaries import WholePrompts
from .contents import ContentKeys
from .decoding import check_config, make_config, own_settings, report_ignored
from .finite import NotFinite, check_finite
from .out_of_memory import is_out_of_memory
from .plain_runner import PlainRunner
from .prompt_texts import PromptTexts
from .prompts import ChatPrompt, Piece, PlainPrompt
from .requests import AnswerLogprob, MemoryTooSmall, Request
from .segments import ByteCache, Segment, cat_padded, num_tokens
from .shared_runner import SharedRunner
from .trie_attention import CantShare
from .vlm_arguments import VLMArguments
from .vocabulary import check_embeddings, check_turns, control_tokens, padding_id


logger = logging.getLogger(__name__)

#: Memory beside the model on a CPU, where the recipe does not say: what is free there changes from moment to moment.
CPU_MEMORY_MB = 1024
#: Largest difference of an answer's log-probability, by token, between sharing prefixes and not; see
#: `BaseVLM.prepare`.
SHARING_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
COARSE_SHARING_TOLERANCE = 0.1  # bfloat16, float16


def find_memory_mb(device: torch.device) -> int:
    """Memory that may be used beside a model that is loaded: on a GPU most of what is free, in MB."""
    if device.type != "cuda":
        return CPU_MEMORY_MB
    free, _ = torch.cuda.mem_get_info(device)
    return max(256, int(0.8 * free / 2**20) // 256 * 256)


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

    #: Position axes of the decoder's rotary embedding.
    num_axes = 1

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
        self.texts = PromptTexts(prompt, tokenizer, args.score_end_token)
        self.contents = ContentKeys(prompt.task)
        self.control_tokens = control_tokens(tokenizer, self._chat_template(), self.placeholders())
        num_embeddings = model.get_input_embeddings().weight.shape[0]
        self.pad_token_id = padding_id(tokenizer, num_embeddings)
        check_embeddings(self, num_embeddings)
        shape = model.config.get_text_config()
        # MPT, which has no positions to embed, calls it by another name.
        self.max_length = getattr(shape, "max_position_embeddings", None) or getattr(shape, "max_seq_len", None)
        self._in_unit = self._decoding_reported = False
        self.set_memory(args.memory_mb or find_memory_mb(model.device))
        self._can_select_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def _chat_template(self) -> str:
        """Text of the chat template; empty without one."""
        return str(self.tokenizer.chat_template or "")

    def placeholders(self) -> tuple[str | None, ...]:
        """What stands for images in the text of a prompt."""
        return ()

    def set_memory(self, memory_mb: int) -> None:
        """
        Sets what may be used beside the model, before anything is asked; what was kept is forgotten.

        Args:
            memory_mb (`int`):
                Memory in MB. A quarter is for image features, the rest for keys, values and activations.
        """
        self.memory_mb, self.memory_bytes = memory_mb, memory_mb * 2**20
        self.features = ByteCache(self.memory_bytes // 4)
        self.runner: SharedRunner | PlainRunner | None = None  # None until `prepare` has looked
        self.whole_prompts = WholePrompts()

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
            `ValueError`: a prompt longer than the model's context, an answer without tokens, or turns that
                [`check_turns`] refuses; before any is run.
            [`NotFinite`]: a log-probability that is NaN or infinite.
        """
        if not requests:
            return []
        check_turns(self, requests)
        with self.unit():
            found = self.prepare(requests).answer_logprobs(requests)
        check_finite(self, requests, found)
        return found

    def generate(self, requests: Sequence[Request], generation_config: GenerationConfig | None = None) -> list[str]:
        """
        What the model says behind each prompt: the same in any batch.

        Args:
            requests (`Sequence[Request]`):
                Prompts; the same one asked twice is answered once.
            generation_config (`GenerationConfig`, *optional*):
                Settings of transformers' `generate`, complete: none are added from the model's file. Those of the
                VLM's arguments, and the task's `max_new_tokens` and `stop_strings`, if not given.

        Returns:
            `list[str]`: the new text of each up to the first stop string, special tokens left out, in the order of
            the requests.

        Raises:
            `ValueError`: a prompt that with its answer is longer than the model's context, or a `generation_config`
                without `max_new_tokens`, with more than one text a prompt, or of another kind than a greedy, sampled
                or beam search; before any is run.
            [`NotFinite`]: a new token's logits that are NaN or infinite.
        """
        if not requests:
            return []
        check_turns(self, requests)
        config = copy.deepcopy(generation_config) or self._decoding()
        check_config(config)
        if config.eos_token_id is None:
            config.eos_token_id = self._end_token_ids(requests[0].query) or None
        config.pad_token_id = self.pad_token_id
        if isinstance(config.stop_strings, str):
            config.stop_strings = [config.stop_strings]
        with self.unit():
            keys = [self.contents.prompt(request) for request in requests]
            distinct = dict(zip(keys, requests, strict=True))
            runner = self.prepare(requests)
            with own_settings(self.model):
                texts = runner.generate(list(distinct.values()), config)
        by_key = dict(zip(distinct, texts, strict=True))
        return [by_key[key] for key in keys]

    def _decoding(self) -> GenerationConfig:
        """What the recipe says of decoding; what the model's file says otherwise is reported once."""
        if not self._decoding_reported:
            report_ignored(self.args, self.model)
            self._decoding_reported = True
        return make_config(self.args, self.model, self.task.max_new_tokens, self.task.stop_strings)

    @contextmanager
    def unit(self) -> Iterator[None]:
        """
        What is asked inside shares its prefixes; behind it they are forgotten.

        A call outside of a unit is one by itself. What runs together, and so the last bits of every number, depends on
        what else is asked in the unit, and on nothing else.
        """
        if self._in_unit:
            yield
            return
        self._in_unit = True
        try:
            yield
        finally:
            self._in_unit = False
            self.contents.forget()
            if self.runner is not None:
                self.runner.forget()

    def answer_ids(self, query: Example) -> list[int]:
        """Tokens of the answer behind its query, the end token included only with `score_end_token`."""
        with self.unit():
            return list(self.prepare([Request((), query)]).answer_ids(query))

    def num_prompt_tokens(self, request: Request) -> int:
        """Length of a prompt with its answer."""
        with self.unit():
            return self.prepare([request]).num_prompt_tokens(request)

    # ------------------------------------------------------------------ the way to go
    def prepare(self, requests: Sequence[Request]) -> SharedRunner | PlainRunner:
        """
        Decides, once, how prompts are run; tried out on a few of the examples, answers included.

        With shared prefixes, if that gives the numbers of whole prompts. Else one by one: put together of segments
        that are tokenised, and whose images are preprocessed, once, if these add up to the whole prompts' inputs; if
        they don't, each processed whole, which is right for any model. What is left undone is said once. Where pieces
        add up for some examples, each prompt is checked, and processed whole if its own don't.
        """
        if self.runner is not None:
            return self.runner
        shown = (example for request in requests for example in (*request.demonstrations, request.query))
        examples = {self.contents.key(example, answered=False): example for example in shown}
        probes = [example for example in examples.values() if example["answer"].strip()][:4]
        if not probes:
            return PlainRunner(self, by_segments=False)  # nothing to try it on: this call goes the safe way
        name = type(self.model).__name__
        probes = [probe for probe in probes if self.tokens_add_up(probe)]
        if not probes:
            logger.warning(
                "%s: tokenising a prompt piece by piece differs from tokenising it whole, so each prompt is processed "
                "whole and nothing is reused between prompts.",
                name,
            )
            self.runner = PlainRunner(self, by_segments=False)
            return self.runner
        self.texts.set_neighbour(probes[0])
        try:
            self.runner = self._try_sharing(probes)
            return self.runner
        except (MemoryTooSmall, NotFinite):
            raise
        except Exception as error:  # whatever a model that is built in another way makes of it
            if is_out_of_memory(error):
                raise
            reason, unforeseen = f"{type(error).__name__}: {error}", None if isinstance(error, CantShare) else error
        finally:
            self.whole_prompts = WholePrompts()  # nobody asked for those that were tried
        exact = all(self.segments_are_exact(Request((probe, probe), probe)) for probe in probes)
        logger.warning(
            "%s can't share prefixes between prompts (%s): each runs from its beginning%s.",
            name,
            reason,
            "" if exact else ", and its images are encoded with it",
            exc_info=unforeseen,
        )
        self.runner = PlainRunner(self, by_segments=exact)
        return self.runner

    def _try_sharing(self, probes: list[Example]) -> SharedRunner:
        """
        A runner that shares prefixes, tried on a few requests.

        Raises:
            [`CantShare`]: it gives other numbers than whole prompts do.
            [`NotFinite`]: whole prompts have scores that are NaN or infinite.
        """
        shared, plain = SharedRunner(self), PlainRunner(self, by_segments=False)
        requests = [Request((), probes[0])]
        for probe in probes:
            requests += [Request((probes[0],), probe), Request((probe, probes[0]), probes[-1])]
        # Nobody asked for prompts that are too long.
        limit = min(self.max_length or shared.engine.max_prompt_tokens, shared.engine.max_prompt_tokens)
        requests = [request for request in requests if shared.num_prompt_tokens(request) <= limit] or requests[:1]
        found, expected = shared.answer_logprobs(requests), plain.answer_logprobs(requests)
        check_finite(self, requests, expected)
        # Of numpy, whose maximum is NaN if one of the numbers is.
        error = np.max([abs(a.logprob - b.logprob) / a.num_tokens for a, b in zip(found, expected, strict=True)])
        # 8-bit layers round what goes into them together with what else is in the batch.
        coarse = self.args.quantization == "8bit" or self.model.dtype not in SHARING_TOLERANCE
        if not error <= (COARSE_SHARING_TOLERANCE if coarse else SHARING_TOLERANCE[self.model.dtype]):
            raise CantShare(f"log-probabilities of tokens would differ by {error:.2g}")
        shared.forget()
        return shared

    def tokens_add_up(self, probe: Example) -> bool:
        """Whether the tokens of an example's segments and answer are those that a whole text gives."""
        request, answer = Request((probe, probe), probe), Piece(self.texts.answer(probe))
        parts = [self._process(piece) for piece in (*self.texts.pieces(request), answer) if piece.text]
        whole = self.texts.whole(*request)
        reference = self._process(Piece(whole.text + answer.text, whole.images))
        return [t for part in parts for t in part.tokens["input_ids"]] == reference.tokens["input_ids"]

    def segments_are_exact(self, request: Request) -> bool:
        """Whether the segments of a request and its answer add up to the inputs that the whole text gives."""
        answer = Piece(self.texts.answer(request.query))
        parts = [self._process(piece) for piece in (*self.texts.pieces(request), answer) if piece.text]
        whole = self.texts.whole(*request)
        found = self._collate([parts], "right")
        reference = self._collate([[self._process(Piece(whole.text + answer.text, whole.images))]], "right")
        return found.keys() == reference.keys() and all(
            found[name].shape == reference[name].shape and torch.allclose(found[name], reference[name], atol=1e-4)
            for name in found
        )

    def _end_token_ids(self, example: Example) -> list[int]:
        """The model's own end tokens, and the token that ends an answer in the prompt."""
        ids = self.model.generation_config.eos_token_id
        ids = list(ids) if isinstance(ids, (list, tuple)) else [ids] if ids is not None else []
        return sorted({*ids, *self.texts.end_token_ids(example)})

    # ------------------------------------------------------------------ what a family says of itself
    def report_whole_prompts(self) -> None:
        """Says how many prompts of a launch were processed whole, and which; all processes call this at the end."""
        found = sum(gather_object([self.whole_prompts]), start=WholePrompts())
        if found.num_whole and PartialState().is_main_process:
            logger.warning("%s", found)

    @abstractmethod
    def _process(self, piece: Piece) -> Segment:
        """Tokenises the text and preprocesses the images of a piece, as the family's processor does."""

    def _encode(self, piece: Piece) -> Segment:
        """[`_process`], and what else can be done once for all the prompts that a piece stands in."""
        return self._process(piece)

    def _share(self, piece: Piece) -> Segment:
        """A piece as a segment of tokens and positions, without pixels, for the prefix-sharing engine."""
        return self._process(piece)

    def lead_length(self, ids: Sequence[int]) -> int:
        """How many tokens at a segment's beginning may be those of any segment: what stands before an image."""
        return 0

    def embed(self, ids: torch.Tensor, segments: Sequence[Segment]) -> tuple[torch.Tensor, dict[str, Any]]:
        """
        Inputs of the decoder for tokens in a row.

        Args:
            ids (`torch.Tensor` of shape `(T,)`):
                The tokens.
            segments (`Sequence[Segment]`):
                The segments that they are of, in order (tokens of answers belong to none).

        Returns:
            `tuple`: embeddings, `(1, T, D)`, images in their places; what else the decoder's forward is to be given.
        """
        return self.model.get_input_embeddings()(ids)[None], {}

    def _logits(self, inputs: dict[str, Any], columns: torch.Tensor) -> torch.Tensor:
        """Logits at the given columns only, [B, C, V]."""
        if self._can_select_logits:
            return self.model(**inputs, use_cache=False, logits_to_keep=columns).logits
        return self.model(**inputs, use_cache=False).logits[:, columns]

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
