# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Any `AutoModelForImageTextToText` with a chat template."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import ProcessorMixin

from ..tasks import BaseTask
from .chat_templates import make_chat_prompt
from .family import VLMFamily
from .prompts import ChatPrompt, Piece
from .segments import Segment, run_or_halve
from .trie_attention import CantShare
from .vlm_arguments import VLMArguments


#: Pixel values of the images that are encoded in one call. All calls for one image shape have the same batch size, so
#: an incomplete batch is filled up with copies; larger batches would encode more copies.
ENCODED_VALUES = 2**18
MAX_ENCODED = 16
#: Images of rare shapes that may wait for others of their shape.
MAX_WAITING = 64


def _batch_size(images: dict[str, torch.Tensor]) -> int:
    """How many segments with such images are encoded in one call."""
    return min(MAX_ENCODED, max(1, ENCODED_VALUES // max(tensor.numel() for tensor in images.values())))


def _shape(images: dict[str, torch.Tensor]) -> tuple:
    """What images encoded together must have in common: sizes, and grids of patches."""
    return tuple(
        (name, tuple(tensor.shape), tuple(tensor.flatten().tolist()) if tensor.numel() < 16 else ())
        for name, tensor in images.items()
    )


class ChatFamily(VLMFamily):
    """Any vision-language model of transformers: it uses nothing but the model's processor, `get_image_features` and
    `forward`."""

    def __init__(self, *args):
        super().__init__(*args)
        self.num_images_encoded = 0
        self._waiting: dict[tuple[str, ...], dict[str, torch.Tensor]] = {}  # preprocessed images, not encoded yet

    @staticmethod
    def make_prompt(processor: ProcessorMixin, task: BaseTask, args: VLMArguments) -> ChatPrompt:
        if getattr(processor, "image_processor", None) is None:
            raise ValueError(
                f"{type(processor).__name__} does not take images: AutoProcessor has no processor for {args.vlm!r} "
                "and gave a bare tokenizer. Check the folder's preprocessor_config.json."
            )
        if not processor.chat_template:
            raise ValueError(
                f"The processor of {args.vlm!r} has no chat template, which a vision-language prompt needs."
            )
        return make_chat_prompt(processor, task, args, has_images=True)

    def process(self, piece: Piece) -> Segment:
        inputs = self.processor(
            text=[piece.text], images=list(piece.images) or None, return_tensors="pt", add_special_tokens=False
        )
        if piece.images and not any(name.startswith("pixel_values") for name in inputs):
            raise ValueError(
                f"{type(self.processor).__name__} returned no pixel_values for an image, only {list(inputs)}."
            )
        shape = inputs["input_ids"].shape
        inputs.pop("attention_mask", None)
        images = {name: torch.as_tensor(tensor) for name, tensor in inputs.items()}
        is_token = {name: tensor.shape == shape and not tensor.is_floating_point() for name, tensor in images.items()}
        tokens = {name: images.pop(name)[0].tolist() for name in inputs if is_token[name]}
        return Segment(tokens, images)

    def share(self, piece: Piece) -> Segment:
        """A segment without its images, which wait to be encoded if they were not encoded before."""
        segment = self.process(piece)
        if segment.images:
            segment.images_key = piece.images.keys
            self._let_wait(segment.images_key, segment.images)
            segment.images = {}
        return segment

    def _let_wait(self, key: tuple[str, ...], images: dict[str, torch.Tensor]) -> None:
        if self.features.get(key) is not None or key in self._waiting:
            return
        self._waiting[key] = images
        alike = self._alike(key)
        if len(alike) == _batch_size(images) or len(self._waiting) > MAX_WAITING:
            self._encode_waiting(alike[0])

    def _alike(self, key: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The waiting images that can be encoded together with those of `key`, which are among them."""
        shape = _shape(self._waiting[key])
        return [other for other, images in self._waiting.items() if _shape(images) == shape]

    def _encode_waiting(self, key: tuple[str, ...]) -> list[torch.Tensor]:
        """
        Features of the images of `key`, `(tokens, D)`, followed by those of further layers.

        Waiting images of the same shape are encoded in the same call, and copies fill up its batch. With a fixed batch
        size the features of an image have the same bytes, whatever the other images are.
        """
        size = _batch_size(self._waiting[key])
        keys = [key, *(other for other in self._alike(key) if other != key)][:size]
        rows = [self._waiting.pop(name) for name in keys]
        rows += rows[:1] * (size - len(rows))
        encoded = dict(zip(keys, run_or_halve(self._run_tower, rows), strict=False))
        for name, features in encoded.items():
            self.features.put(name, features, sum(tensor.nbytes for tensor in features))
        self.num_images_encoded += sum(len(name) for name in keys)
        return encoded[key]

    def _run_tower(self, rows: Sequence[dict[str, torch.Tensor]]) -> list[list[torch.Tensor]]:
        """Features of each row's images, in one call: a tensor `(tokens, D)` for each layer that the decoder reads."""
        inputs = {name: torch.cat([row[name] for row in rows]).to(self.model.device) for name in rows[0]}
        inputs = {name: t.to(self.model.dtype) if t.is_floating_point() else t for name, t in inputs.items()}
        with torch.inference_mode():
            output = self.model.get_image_features(**inputs, return_dict=True)
        layers = []
        for layer in (output.pooler_output, *(getattr(output, "deepstack_features", None) or ())):
            parts = [part.flatten(0, -2) for part in layer]
            share, rest = divmod(len(parts), len(rows))
            if rest:
                raise CantShare(f"it makes {len(parts)} features of the images of {len(rows)} texts")
            layers.append([torch.cat(parts[start : start + share]) for start in range(0, len(parts), share)])
        return [list(of_row) for of_row in zip(*layers, strict=True)]

    def _image_features(self, segment: Segment) -> list[torch.Tensor]:
        features = self.features.get(segment.images_key)
        if features is None:
            if segment.images_key not in self._waiting:  # encoded, and dropped since
                self._waiting[segment.images_key] = self.process(segment.make()).images
            features = self._encode_waiting(segment.images_key)
        return features

    def lead_length(self, ids: Sequence[int]) -> int:
        image = self.model.config.image_token_id
        return ids.index(image) if image in ids else 0

    def embed(self, ids: torch.Tensor, segments: Sequence[Segment]) -> tuple[torch.Tensor, dict[str, Any]]:
        embeds, extra = super().embed(ids, segments)
        shown = [self._image_features(segment) for segment in segments if segment.images_key]
        if not shown:
            return embeds, extra
        places = ids == self.model.config.image_token_id
        features, *deepstack = [torch.cat(layer) for layer in zip(*shown, strict=True)]
        if int(places.sum()) != len(features):
            raise CantShare(f"it has {len(features)} image features for {int(places.sum())} tokens")
        embeds[0, places] = features.to(embeds.dtype)
        if deepstack:  # Qwen3-VL adds these after its first layers
            extra |= {"visual_pos_masks": places[None], "deepstack_visual_embeds": deepstack}
        return embeds, extra
