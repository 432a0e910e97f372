# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The family OpenFlamingo: images reach the language model through cross-attention alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from transformers import AutoImageProcessor, AutoTokenizer, BaseImageProcessor, PreTrainedTokenizerBase

from ...tasks import BaseTask, Example
from ..family import VLMFamily
from ..prompts import Piece, PlainPrompt, images_of
from ..segments import Segment
from ..vlm_arguments import VLMArguments
from .modeling import OpenFlamingoModel


MEDIA_TOKEN = "<image>"
END_OF_CHUNK = "<|endofchunk|>"


def refuse_published_checkpoint(name: str) -> None:
    """Raises `ValueError` for OpenFlamingo as published: a pickle without config, language model, vision encoder."""
    path = Path(name)
    bare = (path / "checkpoint.pt").exists() and not (path / "config.json").exists()
    if bare or path.suffix == ".pt" or (name.startswith("openflamingo/") and not path.exists()):
        raise ValueError(
            f"{name!r} is OpenFlamingo as it is published, a pickle, and loading pickles can run code. Convert it "
            "once, where you trust it, and name the folder: `python -m leverplus_trl.vlms.open_flamingo.conversion "
            "--checkpoint checkpoint.pt --language_model ID --cross_attn_every_n_layers N --output_dir FOLDER`."
        )


class FlamingoProcessor(NamedTuple):
    """The tokenizer, which knows `<image>` and `<|endofchunk|>`, and the image processor of a folder."""

    tokenizer: PreTrainedTokenizerBase
    image_processor: BaseImageProcessor

    @classmethod
    def from_pretrained(cls, name: str, **source: Any) -> "FlamingoProcessor":
        # With Pillow, as the transforms that it was trained with.
        images = AutoImageProcessor.from_pretrained(name, backend="pil", **source)
        return cls(AutoTokenizer.from_pretrained(name, **source), images)


class FlamingoPrompt(PlainPrompt):
    """
    Chunks of an image and its text, as in OpenFlamingo's training: `<image>question answer<|endofchunk|>`. The answer
    follows the task's `question_template` without a space: OpenFlamingo's own evaluation has
    `"Question:{question} Short answer:"`, and `"Output:"` for captions.
    """

    before, end, header_end = "", END_OF_CHUNK, ""

    def query(self, example: Example) -> Piece:
        content = self.task.content(example)
        texts = [part["text"] for part in content if part["type"] == "text"]
        for text in (*texts, self.task.target(example)):
            if MEDIA_TOKEN in text or END_OF_CHUNK in text:
                raise ValueError(
                    f"Example {example['id']!r} has {MEDIA_TOKEN!r} or {END_OF_CHUNK!r} in its text {text!r}, which "
                    "OpenFlamingo would take for an image or for the end of an answer. Remove it."
                )
        text = "".join(MEDIA_TOKEN if part["type"] == "image" else part["text"] for part in content)
        return Piece(text, images_of(self.task, example))


class OpenFlamingoFamily(VLMFamily):
    """OpenFlamingo from a folder that the conversion wrote. An image is encoded once, by itself, for all prompts."""

    model_loader = OpenFlamingoModel
    processor_loader = FlamingoProcessor
    processor_file = "tokenizer_config.json"
    cant_share = "its images are beside the prompts, in cross-attention, and are encoded once for all"

    def __init__(self, model: OpenFlamingoModel, processor: FlamingoProcessor, task: BaseTask, args: VLMArguments):
        super().__init__(model, processor, task, args)
        self.image_processor = processor.image_processor
        for token, expected in ((MEDIA_TOKEN, model.config.media_token_id), (END_OF_CHUNK, model.config.eoc_token_id)):
            token_id = self.tokenizer.convert_tokens_to_ids(token)
            if token_id != expected:
                raise ValueError(
                    f"The tokenizer of {args.vlm!r} gives {token!r} the id {token_id}, and the model expects "
                    f"{expected}: they do not belong together."
                )

    @staticmethod
    def make_prompt(processor: FlamingoProcessor, task: BaseTask, args: VLMArguments) -> FlamingoPrompt:
        return FlamingoPrompt(task, args.system_prompt)

    @classmethod
    def check_arguments(cls, args: VLMArguments) -> None:
        if args.device_map is not None:
            raise ValueError(
                f"device_map is {args.device_map!r}, and OpenFlamingo needs all its layers on one device. Leave "
                "device_map out."
            )
        if args.quantization == "8bit":
            raise ValueError(
                "quantization is '8bit', and OpenFlamingo's perceiver gives its layers inputs of four dimensions, "
                "which the 8-bit layers of bitsandbytes do not take. Use '4bit'."
            )
        if args.prompt_format == "chat":
            raise ValueError("prompt_format is 'chat', and OpenFlamingo has no chat template. Use 'auto' or 'plain'.")

    def process(self, piece: Piece) -> Segment:
        tokens = self.tokenizer(piece.text, add_special_tokens=False)["input_ids"]
        images = {"pixel_values": self._pixels(list(piece.images))} if len(piece.images) else {}
        return Segment({"input_ids": tokens}, images)

    def _pixels(self, images: list[Image]) -> torch.Tensor:
        return self.image_processor(images, return_tensors="pt")["pixel_values"]  # [N, 3, H, W]

    def encode(self, piece: Piece) -> Segment:
        segment = self.process(Piece(piece.text))
        if len(piece.images):
            features = [self._image_features(piece, i, key) for i, key in enumerate(piece.images.keys)]
            # [N, latents, V]; the kept features of one image are not copied.
            segment.images = {"features": torch.cat(features) if len(features) > 1 else features[0]}
        return segment

    def _image_features(self, piece: Piece, index: int, key: str) -> torch.Tensor:
        """Features of one image, [1, latents, V], encoded by itself so that they have the same bytes everywhere."""
        features = self.features.get((key,))
        if features is None:
            pixels = self._pixels([piece.images[index]]).to(self.model.device, self.model.dtype)
            with torch.inference_mode():
                features = self.model.encode_images(pixels)
            self.features.put((key,), features, features.nbytes)
        return features

    def collate(self, rows: Sequence[Sequence[Segment]], padding_side: str) -> dict[str, Any]:
        batch = super().collate(rows, padding_side)
        if "features" in batch:
            counts = [sum(len(s.images["features"]) for s in row if s.images) for row in rows]
            per_row = batch.pop("features").split(counts)
            # The n-th image of a row belongs to its n-th `<image>`, so zeros after the last are never looked at.
            batch["image_features"] = torch.nn.utils.rnn.pad_sequence(per_row, batch_first=True)  # [B, T, latents, V]
        return batch
