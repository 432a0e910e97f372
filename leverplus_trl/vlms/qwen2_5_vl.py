# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Qwen2.5-VL: each image goes through the vision tower once, and positions are put together from those of the
segments."""

import numpy as np
import torch

from .chat_vlm import ChatFamily
from .prompts import Piece
from .segments import ByteCache, Segment


class Qwen2_5_VLFamily(ChatFamily):
    """
    [`ChatFamily`] of three position axes: those of a prompt are put together from those of its segments.

    An image that was shown before is not opened again for another text: how many tokens it becomes is known.
    """

    num_axes = 3

    def __init__(self, *args):
        super().__init__(*args)
        self._grids: dict[tuple[str, ...], torch.Tensor] = {}  # of each image that was seen, [images, 3]
        self._positions = ByteCache(2**24)  # of texts, by where their images stand

    def share(self, piece: Piece) -> Segment:
        keys, images = piece.images.keys, {}
        if keys and keys not in self._grids:
            images = dict(self.processor.image_processor(images=list(piece.images), return_tensors="pt"))
            self._grids[keys] = images["image_grid_thw"]
        segment = self._process_text(piece.text, self._grids.get(keys))
        segment.images_key = keys
        if images:
            self._let_wait(keys, images)
        segment.position_ids = self._positions_of(segment.tokens["mm_token_type_ids"], self._grids.get(keys))
        return segment

    def _positions_of(self, types: list[int], grids: torch.Tensor | None) -> np.ndarray:
        """Positions of tokens, `(3, L)`, of which only matters which are images."""
        key = bytes(types), None if grids is None else tuple(grids.flatten().tolist())
        found = self._positions.get(key)
        if found is None:
            # Of the ids it reads no more than how many there are.
            ids, kinds = torch.zeros(1, len(types), dtype=torch.long), torch.tensor([types])
            positions, _ = self.model.model.get_rope_index(ids, kinds, image_grid_thw=grids)
            found = positions[:, 0].numpy()
            self._positions.put(key, found, found.nbytes + len(types))
        return found

    def _process_text(self, text: str, grids: torch.Tensor | None) -> Segment:
        """Tokens of a text whose images have the given grids, without looking at these."""
        if grids is not None:
            token, merge = self.processor.image_token, self.processor.image_processor.merge_size**2
            before, *behind = text.split(token)
            counts = (grids.prod(-1) // merge).tolist()
            text = before + "".join(token * count + part for count, part in zip(counts, behind, strict=True))
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Segment(
            {"input_ids": ids, "mm_token_type_ids": [int(i == self.model.config.image_token_id) for i in ids]}
        )
