# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""OpenFlamingo: images reach the language model through cross-attention, so their features are all that is kept of
them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import BaseImageProcessor, PreTrainedTokenizerBase

from ..tasks import BaseTask, Example
from .base_vlm import BaseVLM
from .modeling_open_flamingo import OpenFlamingoModel
from .prompts import Piece, images_of, plain_turns
from .requests import Turn
from .segments import Segment
from .shared_runner import SharedRunner
from .trie_attention import CantShare
from .vlm_arguments import VLMArguments


MEDIA_TOKEN = "<image>"
END_OF_CHUNK = "<|endofchunk|>"


def refuse_published_checkpoint(name: str) -> None:
    """
    Refuses OpenFlamingo as it is published: a pickle, without config, language model and vision encoder.

    Raises:
        `ValueError`: says how it is converted.
    """
    path = Path(name)
    bare = (path / "checkpoint.pt").exists() and not (path / "config.json").exists()
    if bare or path.suffix == ".pt" or (name.startswith("openflamingo/") and not path.exists()):
        raise ValueError(
            f"{name!r} is OpenFlamingo as it is published, a pickle, and loading pickles can run code. Convert it "
            "once, where you trust it, and name the folder: `python -m leverplus_trl.vlms.convert_open_flamingo "
            "--checkpoint checkpoint.pt --language_model ID --cross_attn_every_n_layers N --output_dir FOLDER`."
        )


class FlamingoPrompt:
    """
    Chunks of an image and its text, as OpenFlamingo was trained on: `<image>question answer<|endofchunk|>`.

    What stands around question and answer is the task's `question_template`; the answer follows it without a space.
    OpenFlamingo's own evaluation has `"Question:{question} Short answer:"`, and `"Output:"` for captions.

    Args:
        task ([`BaseTask`]):
            Makes the chunks.
        system_prompt (`str`, *optional*):
            Text before the first chunk.
    """

    def __init__(self, task: BaseTask, system_prompt: str | None = None):
        self.task = task
        self._header = Piece(system_prompt or "")

    def header(self, example: Example) -> Piece:
        return self._header

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

    def answer(self, example: Example) -> tuple[str, str]:
        return self.task.target(example), END_OF_CHUNK

    def demonstration(self, example: Example) -> Piece:
        query = self.query(example)
        return Piece(query.text + "".join(self.answer(example)), query.images)

    def turns(self, example: Example, turns: Sequence[Turn]) -> Piece:
        return Piece(plain_turns(turns, "", END_OF_CHUNK))

    def whole(self, demonstrations: Sequence[Example], query: Example, turns: Sequence[Turn] = ()) -> Piece:
        shown = (self.demonstration(example) for example in demonstrations)
        pieces = [self._header, *shown, self.query(query), self.turns(query, turns)]
        return Piece("".join(piece.text for piece in pieces), images_of(self.task, *demonstrations, query))


class OpenFlamingo(BaseVLM):
    """
    OpenFlamingo from a folder that `convert_open_flamingo` wrote.

    An image is encoded once, in a call of its own, whatever examples and prompts it stands in.

    Args:
        model ([`OpenFlamingoModel`]):
            The model.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer, which knows `<image>` and `<|endofchunk|>`.
        image_processor (`BaseImageProcessor`):
            What makes its pixels.
        task ([`BaseTask`]):
            Task to make prompts for.
        args ([`VLMArguments`]):
            Budgets and conventions.
    """

    @staticmethod
    def make_prompt(tokenizer: PreTrainedTokenizerBase, task: BaseTask, args: VLMArguments) -> FlamingoPrompt:
        return FlamingoPrompt(task, args.system_prompt)

    def __init__(
        self,
        model: OpenFlamingoModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        task: BaseTask,
        args: VLMArguments,
    ):
        for token, expected in ((MEDIA_TOKEN, model.config.media_token_id), (END_OF_CHUNK, model.config.eoc_token_id)):
            if tokenizer.convert_tokens_to_ids(token) != expected:
                raise ValueError(
                    f"The tokenizer of {args.vlm!r} gives {token!r} the id {tokenizer.convert_tokens_to_ids(token)}, "
                    f"and the model expects {expected}: they do not belong together."
                )
        if args.prompt_format == "chat":
            raise ValueError("prompt_format is 'chat', and OpenFlamingo has no chat template. Use 'auto' or 'plain'.")
        super().__init__(model, tokenizer, self.make_prompt(tokenizer, task, args), args)
        self.image_processor = image_processor

    def placeholders(self) -> tuple[str | None, ...]:
        return (MEDIA_TOKEN,)

    def _process(self, piece: Piece) -> Segment:
        tokens = self.tokenizer(piece.text, add_special_tokens=False)["input_ids"]
        images = {"pixel_values": self._pixels(list(piece.images))} if len(piece.images) else {}
        return Segment({"input_ids": tokens}, images)

    def _pixels(self, images: list[Image]) -> torch.Tensor:
        return self.image_processor(images, return_tensors="pt")["pixel_values"]  # [N, 3, H, W]

    def _encode(self, piece: Piece) -> Segment:
        segment = self._process(Piece(piece.text))
        if len(piece.images):
            features = [self._image_features(piece, i, key) for i, key in enumerate(piece.images.keys)]
            # [N, latents, V]; what is kept for one image is not copied.
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

    def _try_sharing(self, probes: list[Example]) -> SharedRunner:
        raise CantShare("images stand beside its prompts, in cross-attention, and are encoded once for all")

    def _collate(self, rows: list[list[Segment]], padding_side: str) -> dict[str, Any]:
        batch = super()._collate(rows, padding_side)
        if "features" in batch:
            counts = [sum(len(s.images["features"]) for s in row if s.images) for row in rows]
            per_row = batch.pop("features").split(counts)
            # The n-th image of a row belongs to its n-th `<image>`, so zeros behind the last are never looked at.
            batch["image_features"] = torch.nn.utils.rnn.pad_sequence(per_row, batch_first=True)  # [B, T, latents, V]
        return batch
