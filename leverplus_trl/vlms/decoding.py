# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Decoding: the settings of `generate`, and draws that do not depend on the other prompts of a batch."""

import copy
import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)
from transformers.generation.configuration_utils import GenerationMode

from ..tasks.base_task import text_before
from .family import VLMFamily
from .requests import NotFinite, Request
from .vlm_arguments import GenerationArguments, VLMArguments


logger = logging.getLogger(__name__)

#: Settings of draws alone, and of beams alone, with the values that change nothing.
OF_DRAWS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": None, "top_h": None, "typical_p": 1.0}
OF_DRAWS |= {"epsilon_cutoff": 0.0, "eta_cutoff": 0.0}
OF_BEAMS = {"length_penalty": 1.0, "early_stopping": False}
#: Other settings that choose a token by its logits alone.
OF_LOGITS = {"do_sample": False, "num_beams": 1, "suppress_tokens": None, "remove_invalid_values": False}
OF_LOGITS |= {"renormalize_logits": False}
#: Settings that read the tokens before a new token, or count them.
OF_TOKENS = {"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
OF_TOKENS |= {"encoder_no_repeat_ngram_size": 0, "bad_words_ids": None, "sequence_bias": None, "min_length": 0}
OF_TOKENS |= {"min_new_tokens": None, "begin_suppress_tokens": None, "forced_bos_token_id": None}
OF_TOKENS |= {"forced_eos_token_id": None, "exponential_decay_length_penalty": None}
#: Settings that can be followed, and settings that change answers in ways that a model's file can't ask for.
NEUTRAL = OF_DRAWS | OF_BEAMS | OF_LOGITS | OF_TOKENS
UNSUPPORTED = {"num_return_sequences": 1, "num_beam_groups": 1, "diversity_penalty": 0.0, "stop_strings": None}
UNSUPPORTED |= dict.fromkeys(
    ("assistant_early_exit", "constraints", "dola_layers", "force_words_ids", "guidance_scale")
)
UNSUPPORTED |= dict.fromkeys(("max_time", "penalty_alpha", "prompt_lookup_num_tokens", "token_healing", "use_mtp"))
UNSUPPORTED |= {"watermarking_config": None}
MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.BEAM_SEARCH)


def settings_of(config: GenerationConfig) -> dict[str, Any]:
    """The settings of a model's file that differ from greedy decoding without penalties."""
    neutral = NEUTRAL | UNSUPPORTED
    settings = {name: value for name, value in config.to_dict().items() if name in neutral and value is not None}
    return {name: value for name, value in settings.items() if value != neutral[name]}


def model_settings(args: VLMArguments) -> dict[str, Any]:
    """[`settings_of`] the file of a model that is not loaded."""
    try:
        config = GenerationConfig.from_pretrained(args.vlm, revision=args.vlm_revision)
    except OSError:  # there is no such file
        return {}
    return json.loads(json.dumps(settings_of(config), default=str))


def make_config(
    args: GenerationArguments, model: PreTrainedModel, max_new_tokens: int, stop_strings: Sequence[str] = ()
) -> GenerationConfig:
    """All settings of `generate`: the recipe's, or the model's if the recipe says so; raises `ValueError` if these
    can't be followed. `stop_strings` end an answer."""
    if args.generation_config == "model":
        settings = settings_of(model.generation_config)
        unknown = sorted(settings.keys() & UNSUPPORTED)
        if unknown:
            raise ValueError(
                f"generation_config is 'model', and the model's file sets {unknown[0]} to {settings[unknown[0]]!r}, "
                "which can't be followed. Set `generation_config: recipe`, and the other settings in the recipe."
            )
    else:
        names = ("num_beams", "length_penalty", "repetition_penalty", "do_sample", "temperature", "top_p")
        settings = {"top_k": 0} | {name: getattr(args, name) for name in names}
    settings = {"do_sample": False, "num_beams": 1} | settings
    drop = ({} if settings["do_sample"] else OF_DRAWS) | (OF_BEAMS if settings["num_beams"] == 1 else {})
    settings = {name: value for name, value in settings.items() if name not in drop}
    return GenerationConfig(**settings, max_new_tokens=max_new_tokens, stop_strings=list(stop_strings) or None)


def report_ignored(args: VLMArguments, model: PreTrainedModel) -> None:
    """Logs which settings of the model's file are not followed, if any."""
    settings = settings_of(model.generation_config)
    if args.generation_config == "recipe":
        settings = {name: value for name, value in settings.items() if getattr(args, name, None) != value}
        if settings and PartialState().is_main_process:
            ignored = ", ".join(f"{name} to {value!r}" for name, value in settings.items())
            logger.warning(
                "The generation_config of %r sets %s. Answers are decoded as the recipe says instead; to follow the "
                "model, set `generation_config: model`.",
                *(args.vlm, ignored),
            )


def check_config(config: GenerationConfig) -> None:
    """Raises `ValueError` for settings of `generate` that give no single text a prompt, or another in each batch."""
    if config.max_new_tokens is None or (config.num_return_sequences or 1) > 1:
        raise ValueError(
            f"generation_config has max_new_tokens {config.max_new_tokens} and num_return_sequences "
            f"{config.num_return_sequences}; expected a number of new tokens, and one text for each prompt."
        )
    mode = config.get_generation_mode()
    if mode not in MODES:
        modes = [known.value.replace("_", " ") for known in (mode, *MODES)]
        raise ValueError(f"generation_config asks for {modes[0]}; expected {', '.join(modes[1:])}.")


def reads_tokens(config: GenerationConfig) -> bool:
    """Whether a setting reads the tokens of a prompt, or counts them: then padding must not be among them."""
    neutral = OF_TOKENS | UNSUPPORTED
    values = {name: value for name, value in config.to_dict().items() if name in neutral and name != "stop_strings"}
    return any(value not in (None, neutral[name]) for name, value in values.items())


class FiniteLogits(LogitsProcessor):
    """Raises [`NotFinite`] if the best logit of a row is NaN or infinite; a request has a row for each beam."""

    def __init__(self, args: VLMArguments, requests: Sequence[Request]):
        self.args, self.requests = args, requests

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        best = scores.amax(-1)  # [R]; NaN is the maximum of a row that holds it
        if not best.isfinite().all():
            row = int((~best.isfinite()).nonzero()[0])
            request = self.requests[row * len(self.requests) // len(best)]
            raise NotFinite(self.args, request, f"the logit {float(best[row])} to a new token")
        return scores


class GumbelNoise(LogitsProcessor):
    """Adds noise to logits: the largest sum is a draw from their softmax (Gumbel-max trick). Each row has its seed."""

    def __init__(self, seeds: Sequence[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        size = scores.shape[-1]
        rows = [torch.empty(size).exponential_(generator=generator) for generator in self.generators]  # [V] each
        return scores - torch.stack(rows).log().to(scores.device)


class StopStrings(StoppingCriteria):
    """Ends a row when its tokens after the first `num_prompt_tokens` hold a stop string. The criterion of transformers
    also reads the prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str], num_prompt_tokens: int = 0):
        self.tokenizer, self.stop_strings, self.start = tokenizer, stop_strings, num_prompt_tokens
        added = tokenizer.added_tokens_decoder.items()  # a special token is not in the text
        self.stop_ids = {number for number, token in added if token.content in stop_strings}
        # A token is a byte or more; the first of a text may lose the space before it.
        self.num_read = max(len(text.encode()) for text in stop_strings) + 1

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        rows = input_ids[:, self.start :][:, -self.num_read :].tolist()
        return torch.tensor([self._holds_stop(row) for row in rows], device=input_ids.device)

    def _holds_stop(self, ids: list[int]) -> bool:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return not self.stop_ids.isdisjoint(ids) or any(stop in text for stop in self.stop_strings)

    def length(self, ids: list[int]) -> int:
        """The number of new tokens until a row ended."""
        ends = (end for end in range(1, len(ids)) if self._holds_stop(ids[max(0, end - self.num_read) : end]))
        return next(ends, len(ids))


def generate_settings(
    family: VLMFamily, requests: Sequence[Request], config: GenerationConfig, num_prompt_tokens: int
) -> dict[str, Any]:
    """Arguments of `generate` for a batch of prompts of `num_prompt_tokens`, padding included, beside its inputs."""
    settings = {"generation_config": config, "logits_processor": [FiniteLogits(family.args, requests)]}
    if config.stop_strings:
        settings["generation_config"] = copy.copy(config)
        settings["generation_config"].stop_strings = None
        settings["stopping_criteria"] = [StopStrings(family.tokenizer, config.stop_strings, num_prompt_tokens)]
    if config.do_sample:
        keys = (json.dumps([family.args.generation_seed, family.contents.prompt(request)]) for request in requests)
        hashes = (hashlib.sha256(key.encode()).digest() for key in keys)
        noise = GumbelNoise([int.from_bytes(value[:8], "big") >> 1 for value in hashes])  # below 2**63

        def draw(model, input_ids, logits_processor, stopping_criteria, generation_config, **inputs):
            generation_config.do_sample = False  # the best of noisy logits is the draw
            processors = LogitsProcessorList([*logits_processor, noise])
            return model._sample(input_ids, processors, stopping_criteria, generation_config, **inputs)

        settings["custom_generate"] = draw
    return settings


def decode(family: VLMFamily, new_ids: torch.Tensor, config: GenerationConfig) -> list[str]:
    """Texts of new tokens `(B, N)`, each up to its end or a stop string; padding may be a token that texts hold."""
    stops = StopStrings(family.tokenizer, config.stop_strings) if config.stop_strings else None
    ends = {*config.eos_token_id} if isinstance(config.eos_token_id, list) else {config.eos_token_id}
    rows = []
    for row in new_ids.tolist():
        length = next((place for place, token in enumerate(row, 1) if token in ends), len(row))
        rows.append(row[: stops.length(row[:length]) if stops else length])
    texts = family.tokenizer.batch_decode(rows, skip_special_tokens=True)
    return [text_before(text, config.stop_strings or ()) for text in texts]
