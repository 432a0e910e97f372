# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Processors of Qwen2-VL, Qwen2.5-VL and Qwen3-VL for machines without torchvision.

The stock processors insist on a video processor, and video processors need torchvision, which has no wheel for every
machine. Pictures need neither. [`register_processor`] makes `AutoProcessor` give the stock classes where torchvision
is installed and the image-only classes of this module where it is not.
"""

from transformers import AutoProcessor, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig, Qwen3VLMoeConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.qwen2_5_vl import processing_qwen2_5_vl as stock_2_5
from transformers.models.qwen2_vl import processing_qwen2_vl as stock_2
from transformers.models.qwen3_vl import processing_qwen3_vl as stock_3
from transformers.processing_utils import ProcessorMixin
from transformers.utils import is_torchvision_available


#: Tokens that stand for or around an image or a video, by the names that the stock processors call them.
SPECIAL_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}


class ImageOnlyProcessor(ProcessorMixin):
    """
    A stock processor without its video half: image processor (PIL backend) and tokenizer.

    A class for a family inherits this one first and the stock class second, and bears the stock class's name on
    purpose: the name is written into the directories it saves, which then load with plain `transformers` and
    torchvision elsewhere; and it is the name by which `AutoProcessor` looks for a class (see [`register_processor`]).
    Everything that concerns images and text (placeholders, `mm_token_type_ids`, chat template, post-processing) is
    inherited; videos are refused.

    Args:
        image_processor ([`Qwen2VLImageProcessorPil`]):
            Image processor.
        tokenizer ([`PreTrainedTokenizerFast`]):
            Tokenizer. It must know `<|image_pad|>` and `<|video_pad|>`.
        chat_template (`str`, *optional*):
            Jinja template of a conversation.
    """

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        for name, default in SPECIAL_TOKENS.items():
            token = getattr(tokenizer, name, default)
            setattr(self, name, token)
            setattr(self, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
        # Not super().__init__: the stock class's would ask for the video processor.
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, images=None, text=None, videos=None, **kwargs):
        if videos is not None:
            raise ValueError(
                f"This image-only {type(self).__name__} processor got `videos`. Install torchvision to use the stock "
                "processor."
            )
        return super().__call__(images=images, text=text, **kwargs)

    @property
    def model_input_names(self):
        return [name for name in super().model_input_names if name != "second_per_grid_ts"]


class Qwen2VLProcessor(ImageOnlyProcessor, stock_2.Qwen2VLProcessor):
    """[`ImageOnlyProcessor`] of Qwen2-VL."""


class Qwen2_5_VLProcessor(ImageOnlyProcessor, stock_2_5.Qwen2_5_VLProcessor):
    """[`ImageOnlyProcessor`] of Qwen2.5-VL."""


class Qwen3VLProcessor(ImageOnlyProcessor, stock_3.Qwen3VLProcessor):
    """[`ImageOnlyProcessor`] of Qwen3-VL."""


#: What stands in for the stock processor, by the config of the model.
PROCESSORS = {
    Qwen2VLConfig: Qwen2VLProcessor,
    Qwen2_5_VLConfig: Qwen2_5_VLProcessor,
    Qwen3VLConfig: Qwen3VLProcessor,
    Qwen3VLMoeConfig: Qwen3VLProcessor,
}


def register_processor() -> None:
    """
    Makes `AutoProcessor.from_pretrained` work for Qwen-VL directories on machines without torchvision.

    It does nothing where torchvision is installed: `AutoProcessor` then gives the stock classes. It can be called
    repeatedly.

    `AutoProcessor` finds a class in one of two ways. A directory that names no processor class is looked up by its
    config, and there `AutoProcessor.register` is enough. A directory that names one (every published Qwen-VL does) is
    looked up by that name: first in the table of built-in names, then among the registered classes. A registered class
    can therefore only be reached by name when the built-in table has no such entry, so the entry is taken out (nothing
    else refers to it) and a class of the same name registered. That is what `transformers` itself does to its table of
    video processors when torchvision is missing; no class, function or method of `transformers` is replaced.
    """
    if is_torchvision_available():
        return
    for config, processor in PROCESSORS.items():
        PROCESSOR_MAPPING_NAMES.pop(config.model_type, None)
        AutoProcessor.register(config, processor, exist_ok=True)
