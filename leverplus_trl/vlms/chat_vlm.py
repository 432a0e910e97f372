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

"""Any `AutoModelForImageTextToText` with a chat template."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from ..tasks import BaseTask
from .base_vlm import BaseVLM
from .prompts import ChatPrompt, Piece
from .segments import Segment
from .trie_attention import CantShare
from .vlm_arguments import VLMArguments


class ChatVLM(BaseVLM):
    """
    A vision-language model driven through nothing but its processor and its `forward`, so that it is right for any
    family.

    Args:
        model (`PreTrainedModel`):
            A model for image-text-to-text.
        processor (`ProcessorMixin`):
            Its processor, with a chat template.
        task ([`BaseTask`]):
            Task to make prompts for.
        args ([`VLMArguments`]):
            Budgets and conventions.

    Raises:
        `ValueError`: a processor that can't take images, or has no chat template.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, task: BaseTask, args: VLMArguments):
        if getattr(processor, "image_processor", None) is None:
            raise ValueError(
                f"{type(processor).__name__} does not take images: AutoProcessor found no processor for {args.vlm!r} "
                "and gave a bare tokenizer. Check the folder's preprocessor_config.json."
            )
        if not processor.chat_template:
            raise ValueError(
                f"The processor of {args.vlm!r} has no chat template, which a vision-language prompt needs."
            )
        self.processor = processor

        def render(messages: list[dict], add_generation_prompt: bool) -> str:
            return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)

        super().__init__(model, processor.tokenizer, ChatPrompt(render, task, args.system_prompt), args)
        self.num_images_encoded = 0

    def _process(self, piece: Piece) -> Segment:
        inputs = self.processor(
            text=[piece.text], images=list(piece.images) or None, return_tensors="pt", add_special_tokens=False
        )
        if piece.images and not any(name.startswith("pixel_values") for name in inputs):
            raise ValueError(
                f"{type(self.processor).__name__} returned no pixel_values for an image, only {list(inputs)}."
            )
        length = inputs["input_ids"].shape[1]
        tokens, images = {}, {}
        for name, tensor in inputs.items():
            if name == "attention_mask":
                continue
            if tuple(tensor.shape) == (1, length) and not tensor.is_floating_point():
                tokens[name] = tensor[0].tolist()
            else:
                images[name] = torch.as_tensor(tensor)
        return Segment(tokens, images)

    # ------------------------------------------------------------------ shared prefixes
    def _share(self, make: Callable[[], Piece]) -> Segment:
        piece = make()
        return self._with_features(self._process(piece), piece, make)

    def _with_features(self, segment: Segment, piece: Piece, make: Callable[[], Piece]) -> Segment:
        """A segment whose images are encoded, unless they were before, and no longer held."""
        if segment.images:
            segment.images_key, segment.make = piece.images.keys, make
            if self.features.get(segment.images_key) is None:
                self._encode_images(segment)
            segment.images = {}
        return segment

    def _encode_images(self, segment: Segment) -> list[torch.Tensor]:
        """
        Features of a segment's images, `(tokens, D)`, and behind them what else the decoder is given of them.

        They are encoded in a call of their own, so that they have the same bytes whatever else is scored.
        """
        device, dtype = self.model.device, self.model.dtype
        inputs = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else None)
            for name, tensor in segment.images.items()
        }
        with torch.inference_mode():
            output = self.model.get_image_features(**inputs, return_dict=True)
        layers = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
        found = [torch.cat([part.flatten(0, -2) for part in layer]) for layer in layers]
        self.features.put(segment.images_key, found, sum(tensor.nbytes for tensor in found))
        self.num_images_encoded += 1
        return found

    def _image_features(self, segment: Segment) -> list[torch.Tensor]:
        found = self.features.get(segment.images_key)
        if found is None:  # forgotten since
            again = self._process(segment.make())
            again.images_key = segment.images_key
            found = self._encode_images(again)
        return found

    def embed(self, ids: torch.Tensor, segments: Sequence[Segment]) -> tuple[torch.Tensor, dict[str, Any]]:
        embeds, extra = super().embed(ids, segments)
        shown = [self._image_features(segment) for segment in segments if segment.images_key]
        if not shown:
            return embeds, extra
        places = ids == self.model.config.image_token_id
        features, *deepstack = [torch.cat(layer) for layer in zip(*shown, strict=True)]
        if int(places.sum()) != len(features):
            raise CantShare(f"{len(features)} image features stand for {int(places.sum())} tokens")
        embeds[0, places] = features.to(embeds.dtype)
        if deepstack:  # Qwen3-VL adds these behind its first layers
            extra |= {"visual_pos_masks": places[None], "deepstack_visual_embeds": deepstack}
        return embeds, extra
