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

"""
A Qwen2.5-VL processor for machines without torchvision.

The stock `Qwen2_5_VLProcessor` insists on a video processor, and video processors need torchvision, which has no wheel
for every machine. Pictures need neither. [`register_processor`] makes `AutoProcessor` give the stock class where
torchvision is installed and the image-only class of this module where it is not.
"""

from transformers import AutoProcessor, Qwen2_5_VLConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.qwen2_5_vl import processing_qwen2_5_vl as stock
from transformers.processing_utils import ProcessorMixin
from transformers.utils import is_torchvision_available


class Qwen2_5_VLProcessor(stock.Qwen2_5_VLProcessor):
    """
    The stock processor without its video half: image processor (PIL backend) and tokenizer.

    It bears the stock class's name on purpose: the name is written into the directories it saves, which then load with
    plain `transformers` and torchvision elsewhere; and it is the name by which `AutoProcessor` looks for a class (see
    [`register_processor`]). Everything that concerns images and text (placeholders, `mm_token_type_ids`, chat
    template, post-processing) is inherited; videos are refused.

    Args:
        image_processor ([`Qwen2VLImageProcessorPil`]):
            Image processor.
        tokenizer ([`PreTrainedTokenizerFast`]):
            Tokenizer. It must know `<|image_pad|>` and `<|video_pad|>`.
        chat_template (`str`, *optional*):
            Jinja template of a conversation.
    """

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        self.image_token = getattr(tokenizer, "image_token", "<|image_pad|>")
        self.video_token = getattr(tokenizer, "video_token", "<|video_pad|>")
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        # Not super().__init__: the parent's would ask for the video processor.
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, images=None, text=None, videos=None, **kwargs):
        if videos is not None:
            raise ValueError(
                "This image-only Qwen2.5-VL processor got `videos`. Install torchvision to use the stock processor."
            )
        return super().__call__(images=images, text=text, **kwargs)

    @property
    def model_input_names(self):
        return [name for name in super().model_input_names if name != "second_per_grid_ts"]


def register_processor() -> None:
    """
    Makes `AutoProcessor.from_pretrained` work for Qwen2.5-VL directories on machines without torchvision.

    It does nothing where torchvision is installed: `AutoProcessor` then gives the stock class. It can be called
    repeatedly.

    `AutoProcessor` finds a class in one of two ways. A directory that names no processor class is looked up by its
    config, and there `AutoProcessor.register` is enough. A directory that names one (every published Qwen2.5-VL does)
    is looked up by that name: first in the table of built-in names, then among the registered classes. A registered
    class can therefore only be reached by name when the built-in table has no such entry, so the entry is taken out
    (nothing else refers to it) and a class of the same name registered. That is what `transformers` itself does to its
    table of video processors when torchvision is missing; no class, function or method of `transformers` is replaced.
    """
    if is_torchvision_available():
        return
    PROCESSOR_MAPPING_NAMES.pop(Qwen2_5_VLConfig.model_type, None)
    AutoProcessor.register(Qwen2_5_VLConfig, Qwen2_5_VLProcessor, exist_ok=True)
