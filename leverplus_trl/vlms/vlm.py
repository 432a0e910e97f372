# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a VLM promises, and the VLM that keeps its promises with a model of transformers."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import GenerationConfig

from ..tasks import BaseTask, Example
from .decoding import check_config, make_config, report_ignored
from .family import VLMFamily
from .requests import AnswerLogprob, MemoryTooSmall, NotFinite, Request, check_finite
from .runners import PlainRunner, SharedRunner
from .segments import is_out_of_memory
from .tokenization import WholePrompts
from .trie_attention import CantShare


logger = logging.getLogger(__name__)

#: Memory beside the model on a CPU in MB, if the recipe sets none: free memory there changes all the time.
CPU_MEMORY_MB = 1024
#: Largest difference per token that sharing prefixes may make to an answer's log-probability.
SHARING_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
COARSE_SHARING_TOLERANCE = 0.1  # bfloat16, float16, 8-bit layers, which round their inputs with the rest of the batch


class VLM(Protocol):
    """
    A frozen model that scores and answers prompts. Any class with these members is a VLM, wherever its model runs.

    Callers pass many requests in a call, and the VLM plans the work. `task` is the task that its prompts are made for.
    """

    task: BaseTask

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        """
        Natural log-probability of each query's answer (`task.target`) after its prompt. Only the answer's own tokens
        count, wherever the chat template puts them. A query may occur with several answers.

        Raises `ValueError` for a prompt longer than the model's context, an answer without tokens, turns in no order
        that a conversation has, or a result that is NaN or infinite.
        """

    def generate(self, requests: Sequence[Request], generation_config: GenerationConfig | None = None) -> list[str]:
        """
        The model's answer to each prompt, which does not depend on the other requests: the new text up to the first
        stop string, without special tokens. `generation_config` has all settings of transformers' `generate`; the
        default is those of the VLM's arguments, and the task's `max_new_tokens` and `stop_strings`.

        Raises `ValueError` for a prompt that with its answer is longer than the model's context, settings that can't
        be followed, or logits that are NaN or infinite.
        """

    def unit(self) -> AbstractContextManager[None]:
        """Calls inside share the work of common prefixes, which are forgotten at the end. The last bits of a number
        may depend on the calls of its unit, and on nothing else."""


class TransformersVLM:
    """A [`VLM`] that runs the model of a family, and tries out by itself how its prompts can share work."""

    def __init__(self, family: VLMFamily):
        self.family, self.task, self.args = family, family.task, family.args
        self.model, self.tokenizer, self.texts = family.model, family.tokenizer, family.texts
        self._in_unit = self._decoding_reported = False
        self.set_memory(self.args.memory_mb or find_memory_mb(self.model.device))

    @property
    def pad_token_id(self) -> int:
        return self.family.pad_token_id

    def set_memory(self, memory_mb: int) -> None:
        """Sets the memory beside the model, in MB, before the first request: a quarter for image features, the rest
        for keys, values and activations."""
        self.memory_mb = memory_mb
        self.family.set_memory(memory_mb * 2**20)
        self.runner: SharedRunner | PlainRunner | None = None  # `prepare` chooses it

    def answer_logprobs(self, requests: Sequence[Request]) -> list[AnswerLogprob]:
        """See [`VLM.answer_logprobs`]; float64 sums of float32 terms."""
        if not requests:
            return []
        self.family.check_turns(requests)
        with self.unit():
            scores = self.prepare(requests).answer_logprobs(requests)
        check_finite(self.args, requests, scores)
        return scores

    def generate(self, requests: Sequence[Request], generation_config: GenerationConfig | None = None) -> list[str]:
        """See [`VLM.generate`]; greedy, sampled or beam search. Equal prompts are answered once."""
        if not requests:
            return []
        self.family.check_turns(requests)
        config = copy.deepcopy(generation_config)
        if config is None:
            if not self._decoding_reported:
                report_ignored(self.args, self.model)
                self._decoding_reported = True
            config = make_config(self.args, self.model, self.task.max_new_tokens, self.task.stop_strings)
        check_config(config)
        if config.eos_token_id is None:
            config.eos_token_id = self.family.end_token_ids(requests[0].query) or None
        config.pad_token_id = self.family.pad_token_id
        if isinstance(config.stop_strings, str):
            config.stop_strings = [config.stop_strings]
        with self.unit():
            keys = [self.family.contents.prompt(request) for request in requests]
            distinct = dict(zip(keys, requests, strict=True))
            runner, of_file = self.prepare(requests), self.model.generation_config
            self.model.generation_config = GenerationConfig()  # `generate` fills what a config leaves open from here
            try:
                texts = runner.generate(list(distinct.values()), config)
            finally:
                self.model.generation_config = of_file
        by_key = dict(zip(distinct, texts, strict=True))
        return [by_key[key] for key in keys]

    @contextmanager
    def unit(self) -> Iterator[None]:
        """See [`VLM.unit`]; a call outside of a unit is a unit of its own."""
        if self._in_unit:
            yield
            return
        self._in_unit = True
        try:
            yield
        finally:
            self._in_unit = False
            self.family.contents.forget()
            if self.runner is not None:
                self.runner.forget()

    def answer_ids(self, query: Example) -> list[int]:
        """Tokens of the answer after its query, the end token included only with `score_end_token`."""
        with self.unit():
            return list(self.prepare([Request((), query)]).answer_ids(query))

    def num_prompt_tokens(self, request: Request) -> int:
        """Length of a prompt with its answer."""
        with self.unit():
            return self.prepare([request]).num_prompt_tokens(request)

    def report_whole_prompts(self) -> None:
        """Logs how many prompts of a launch were processed whole, and which; all processes call this at the end."""
        total = WholePrompts()
        for own in gather_object([self.runner.whole_prompts if self.runner is not None else total]):
            total.add(own)
        if total.num_whole and PartialState().is_main_process:
            logger.warning("%s", total)

    def prepare(self, requests: Sequence[Request]) -> SharedRunner | PlainRunner:
        """
        Chooses, once, how prompts are run, by trying it out on a few of the examples and their answers.

        Prefixes are shared if that gives the numbers of whole prompts. Otherwise each prompt runs by itself, joined
        from segments that are processed once if these add up to the inputs of the whole prompt, else processed whole.
        """
        if self.runner is not None:
            return self.runner
        shown = (example for request in requests for example in (*request.demonstrations, request.query))
        examples = {self.family.contents.key(example, answered=False): example for example in shown}
        probes = [example for example in examples.values() if example["answer"].strip()][:4]
        whole = PlainRunner(self.family, by_segments=False)
        if not probes:
            return whole  # there is nothing to try: this call runs the safe way
        name = type(self.model).__name__
        probes = [probe for probe in probes if self._adds_up(probe, tokens_alone=True)]
        if not probes:
            logger.warning(
                "%s: tokenising a prompt piece by piece differs from tokenising it whole, so each prompt is processed "
                "whole and nothing is reused between prompts.",
                name,
            )
            self.runner = whole
            return whole
        self.texts.set_neighbour(probes[0])
        try:
            self.runner = self._try_sharing(probes)
            return self.runner
        except (MemoryTooSmall, NotFinite):
            raise
        except Exception as error:  # a model that is built in another way may raise anything
            if is_out_of_memory(error):
                raise
            reason, unforeseen = f"{type(error).__name__}: {error}", None if isinstance(error, CantShare) else error
        exact = all(self._adds_up(probe) for probe in probes)
        logger.warning(
            "%s can't share prefixes between prompts (%s): each runs from its beginning%s.",
            name,
            reason,
            "" if exact else ", and its images are encoded with it",
            exc_info=unforeseen,
        )
        self.runner = PlainRunner(self.family, by_segments=True) if exact else whole
        return self.runner

    def _adds_up(self, probe: Example, tokens_alone: bool = False) -> bool:
        """Whether the segments of a prompt with its answer add up to the tokens, or all inputs, of the whole text."""
        parts, whole = self.family.in_pieces_and_whole(Request((probe, probe), probe))
        if tokens_alone:
            return [t for part in parts for t in part.tokens["input_ids"]] == whole.tokens["input_ids"]
        inputs, expected = self.family.collate([parts], "right"), self.family.collate([[whole]], "right")
        return inputs.keys() == expected.keys() and all(
            inputs[name].shape == expected[name].shape and torch.allclose(inputs[name], expected[name], atol=1e-4)
            for name in inputs
        )

    def _try_sharing(self, probes: list[Example]) -> SharedRunner:
        """A runner that shares prefixes; raises [`CantShare`] if it gives other numbers than whole prompts, and
        [`NotFinite`] if these are NaN or infinite."""
        if self.family.cant_share is not None:
            raise CantShare(self.family.cant_share)
        shared, plain = SharedRunner(self.family), PlainRunner(self.family, by_segments=False)
        requests = [Request((), probes[0])]
        for probe in probes:
            requests += [Request((probes[0],), probe), Request((probe, probes[0]), probes[-1])]
        # Prompts of the trial may be longer than any prompt of the job.
        limit = shared.engine.max_prompt_tokens
        limit = min(self.family.max_length or limit, limit)
        requests = [request for request in requests if shared.num_prompt_tokens(request) <= limit] or requests[:1]
        scores, expected = shared.answer_logprobs(requests), plain.answer_logprobs(requests)
        check_finite(self.args, requests, expected)
        # numpy's maximum is NaN if one of the numbers is.
        error = np.max([abs(a.logprob - b.logprob) / a.num_tokens for a, b in zip(scores, expected, strict=True)])
        coarse = self.args.quantization == "8bit" or self.model.dtype not in SHARING_TOLERANCE
        if not error <= (COARSE_SHARING_TOLERANCE if coarse else SHARING_TOLERANCE[self.model.dtype]):
            raise CantShare(f"log-probabilities of tokens would differ by {error:.2g}")
        shared.forget()
        shared.whole_prompts = WholePrompts()  # the trial's own do not count
        return shared


def find_memory_mb(device: torch.device) -> int:
    """Memory that may be used beside a loaded model, in MB: on a GPU most of the free memory."""
    if device.type != "cuda":
        return CPU_MEMORY_MB
    free, _ = torch.cuda.mem_get_info(device)
    return max(256, int(0.8 * free / 2**20) // 256 * 256)
