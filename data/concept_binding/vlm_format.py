# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
How a prompt of the tiny VLM looks: vocabulary, tokenizer, chat template, processor.

A user turn is the picture and then the question's words; the assistant's turn is the answer's words and the end token:

    <|vision_start|><|image_pad|><|vision_end|>what colour ? wagu<|im_end|>

Turns are simply concatenated, a generation prompt adds nothing, and white space means nothing to the tokenizer, so
that a conversation is the concatenation of its turns, as text and as tokens.
"""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from world import IMAGE_SIZE, QUESTIONS, WORDS

from leverplus_trl.vlms.qwen2_5_vl import Qwen2_5_VLProcessor


PATCH_SIZE = 14
MERGE_SIZE = 4  # the 4 x 4 patches of a picture become one token
MAX_POSITIONS = 1024
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<unk>",
)  # fmt: skip
QUESTION_WORDS = tuple(sorted({word for wordings in QUESTIONS.values() for text in wordings for word in text.split()}))

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message['content'] is string -%}
        {{- message['content'] -}}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
            {%- elif part['type'] == 'text' -%}
                {{- part['text'] -}}
            {%- else -%}
                {{- raise_exception('Unknown part ' + part['type'] + ': this model reads images and text.') -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>' if message['role'] == 'assistant' else ' ' -}}
{%- endfor -%}
"""


def build_tokenizer(words: tuple[str, ...] = QUESTION_WORDS + WORDS) -> PreTrainedTokenizerFast:
    """
    A tokenizer of whole words, lower-cased; words that it does not know become `<unk>`.

    Args:
        words (`tuple[str]`, *optional*): the vocabulary after the special tokens.
    """
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS + tuple(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        additional_special_tokens=["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
        model_max_length=MAX_POSITIONS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_processor() -> Qwen2_5_VLProcessor:
    """The image-only Qwen2.5-VL processor of the tiny VLM: whatever a picture's size, it becomes one token."""
    image_processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE**2, "longest_edge": IMAGE_SIZE**2},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        patch_size=PATCH_SIZE,
        merge_size=MERGE_SIZE,
        temporal_patch_size=1,
    )
    return Qwen2_5_VLProcessor(image_processor, build_tokenizer(), chat_template=CHAT_TEMPLATE)


def question_turn(question: str) -> dict:
    """The user's turn: the picture, then the question."""
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}


def answer_turn(answer: str) -> dict:
    """The assistant's turn."""
    return {"role": "assistant", "content": [{"type": "text", "text": answer}]}
