# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The family of text-only causal language models."""

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..tasks import BaseTask
from .chat_templates import make_chat_prompt
from .family import VLMFamily
from .prompts import Piece, PlainPrompt, Prompt
from .segments import Segment
from .vlm_arguments import VLMArguments


class CausalLMFamily(VLMFamily):
    """Causal language models, for tasks without images; `prompt_format` chooses the chat template or plain lines."""

    model_loader = AutoModelForCausalLM
    processor_loader = AutoTokenizer
    processor_file = "tokenizer_config.json"
    takes_images = False

    @staticmethod
    def make_prompt(processor: PreTrainedTokenizerBase, task: BaseTask, args: VLMArguments) -> Prompt:
        if args.prompt_format == "chat" and not processor.chat_template:
            raise ValueError(f"prompt_format is 'chat', and {args.vlm!r} has no chat template. Use 'plain' or 'auto'.")
        if processor.chat_template and args.prompt_format != "plain":
            return make_chat_prompt(processor, task, args, has_images=False)
        return PlainPrompt(task, args.system_prompt)

    def process(self, piece: Piece) -> Segment:
        return Segment({"input_ids": self.tokenizer(piece.text, add_special_tokens=False)["input_ids"]})
