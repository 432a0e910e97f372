# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: their family, and their processors for machines without torchvision."""

import numpy as np
import torch
from transformers import AutoProcessor, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig, Qwen3VLMoeConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.qwen2_5_vl import processing_qwen2_5_vl as stock_2_5
from transformers.models.qwen2_vl import processing_qwen2_vl as stock_2
from transformers.models.qwen3_vl import processing_qwen3_vl as stock_3
from transformers.processing_utils import ProcessorMixin
from transformers.utils import is_torchvision_available

from .chat_vlm import ChatFamily
from .prompts import Piece
from .segments import ByteCache, Segment


#: Tokens that mark an image or a video, by the names of the stock processors' attributes.
SPECIAL_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}


class Qwen2_5_VLFamily(ChatFamily):
    """[`ChatFamily`] of three position axes: those of a prompt are put together from those of its segments. An image
    that was shown before is not opened again for another text, since its number of tokens is known."""

    num_axes = 3

    def __init__(self, *args):
        super().__init__(*args)
        self._grids: dict[tuple[str, ...], torch.Tensor] = {}  # of all images that were shown, [images, 3]
        self._positions = ByteCache(2**24)  # of texts, by the places of their images

    def share(self, piece: Piece) -> Segment:
        keys = piece.images.keys
        if keys and keys not in self._grids:
            images = dict(self.processor.image_processor(images=list(piece.images), return_tensors="pt"))
            self._grids[keys] = images["image_grid_thw"]
            self._let_wait(keys, images)
        grids, text = self._grids.get(keys), piece.text
        if grids is not None:
            token, merge = self.processor.image_token, self.processor.image_processor.merge_size**2
            before, *after = text.split(token)
            counts = (grids.prod(-1) // merge).tolist()
            text = before + "".join(token * count + part for count, part in zip(counts, after, strict=True))
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        types = [int(token_id == self.model.config.image_token_id) for token_id in ids]
        positions = self._positions_of(types, grids)
        return Segment({"input_ids": ids, "mm_token_type_ids": types}, position_ids=positions, images_key=keys)

    def _positions_of(self, types: list[int], grids: torch.Tensor | None) -> np.ndarray:
        """Positions of tokens, `(3, L)`, which depend only on which of them are images."""
        key = bytes(types), None if grids is None else tuple(grids.flatten().tolist())
        positions = self._positions.get(key)
        if positions is None:
            ids, kinds = torch.zeros(1, len(types), dtype=torch.long), torch.tensor([types])
            positions = self.model.model.get_rope_index(ids, kinds, image_grid_thw=grids)[0][:, 0].numpy()
            self._positions.put(key, positions, positions.nbytes + len(types))
        return positions


class ImageOnlyProcessor(ProcessorMixin):
    """
    A stock processor without its video half, which needs torchvision: image processor (PIL backend) and tokenizer.

    A subclass also inherits from the stock class and has its name, which is written into saved directories, so that
    they load with plain `transformers` and torchvision, and by which `AutoProcessor` looks classes up.
    """

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        for name, default in SPECIAL_TOKENS.items():
            token = getattr(tokenizer, name, default)
            setattr(self, name, token)
            setattr(self, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
        # Not super().__init__: the stock class's needs the video processor.
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


#: The class that replaces the stock processor, by the config of the model.
PROCESSORS = {
    Qwen2VLConfig: Qwen2VLProcessor,
    Qwen2_5_VLConfig: Qwen2_5_VLProcessor,
    Qwen3VLConfig: Qwen3VLProcessor,
    Qwen3VLMoeConfig: Qwen3VLProcessor,
}


def register_processor() -> None:
    """Makes `AutoProcessor` work for Qwen-VL directories on machines without torchvision."""
    # It looks the class that a directory names up in the table of built-in names, then among the registered classes.
    if is_torchvision_available():
        return
    for config, processor in PROCESSORS.items():
        PROCESSOR_MAPPING_NAMES.pop(config.model_type, None)
        AutoProcessor.register(config, processor, exist_ok=True)
