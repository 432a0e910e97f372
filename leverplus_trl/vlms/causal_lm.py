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

"""Text-only causal language models behind the same interface, for tasks without images."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..tasks import BaseTask
from .base_vlm import BaseVLM
from .prompts import ChatPrompt, Piece, PlainPrompt
from .segments import Segment
from .vlm_arguments import VLMArguments


class CausalLM(BaseVLM):
    """
    A causal language model.

    Args:
        model (`PreTrainedModel`):
            A model for causal language modelling.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer.
        task ([`BaseTask`]):
            A task without images.
        args ([`VLMArguments`]):
            Budgets and conventions; `prompt_format` chooses between the chat template and plain lines.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: BaseTask, args: VLMArguments):
        if args.prompt_format == "chat" and not tokenizer.chat_template:
            raise ValueError(f"prompt_format is 'chat', and {args.vlm!r} has no chat template. Use 'plain' or 'auto'.")

        def render(messages: list[dict], add_generation_prompt: bool) -> str:
            if any(part["type"] != "text" for turn in messages for part in turn["content"]):
                raise ValueError(f"{args.vlm!r} is a language model and the task shows it an image. Name another VLM.")
            turns = [{**turn, "content": "".join(part["text"] for part in turn["content"])} for turn in messages]
            return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)

        if tokenizer.chat_template and args.prompt_format != "plain":
            prompt = ChatPrompt(render, task, args.system_prompt)
        else:
            prompt = PlainPrompt(task, args.system_prompt)
        super().__init__(model, tokenizer, prompt, args)

    def _process(self, piece: Piece) -> Segment:
        return Segment({"input_ids": self.tokenizer(piece.text, add_special_tokens=False)["input_ids"]})
