# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A hash of how prompts are written and tokenised, so that scores of different prompts are never mixed."""

from collections.abc import Mapping
from typing import Any

from ..provenance import json_hash
from ..tasks import BaseTask
from .loading import Loaded, family_of, load_processor
from .prompt_texts import PromptTexts, probe_example
from .vlm_arguments import VLMArguments


#: Recipe keys that a prompt hash depends on.
PROMPT_KEYS = (
    *("vlm", "vlm_revision", "gguf_file", "prompt_format", "system_prompt", "prompt_date", "score_end_token"),
    *("task", "question_template", "answer_template"),
)


def prompt_hash(args: VLMArguments, task: BaseTask, loaded: Loaded | None = None) -> str:
    """
    Hash of the prompt of a fixed example, and of its tokens; it reads no weights.

    It changes with the chat template and the date in it, the system prompt, the task's templates and the tokenizer;
    not with the examples of a job, nor with the machine. `loaded` is the result of [`load_processor`].

    Raises:
        `ValueError`: a model or a chat template that can't be used.
    """
    config, processor = loaded or load_processor(args)
    family, probe = family_of(config, args), probe_example(task)
    if not family.takes_images:
        probe["image"] = None
        try:
            task.content(probe)
        except ValueError as error:
            raise ValueError(
                f"{args.vlm!r} is a language model and the task shows it an image. Name another VLM."
            ) from error
    prompt, tokenizer = family.make_prompt(processor, task, args), getattr(processor, "tokenizer", processor)
    texts = PromptTexts(prompt, tokenizer, args.score_end_token)
    text = texts.whole((probe,), probe).text + texts.answer(probe)
    return json_hash([text, tokenizer(text, add_special_tokens=False)["input_ids"]])


def prompt_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The differences between the prompts of two outputs, of which this is the provenance; empty if there are none."""
    if there["facts"].get("prompt_hash") == here["facts"]["prompt_hash"]:
        return ""
    pairs = {"prompt_hash": [made["facts"].get("prompt_hash") for made in (there, here)]}
    pairs |= {key: [made["recipe"].get(key) for made in (there, here)] for key in PROMPT_KEYS}
    return "; ".join(f"{key}: {old!r} there, {new!r} here" for key, (old, new) in pairs.items() if old != new)
