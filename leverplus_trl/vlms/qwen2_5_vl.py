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

"""Qwen2.5-VL: each image goes through the vision tower once, and positions are put together from those of the
segments."""

from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .chat_vlm import ChatVLM
from .prompts import Piece
from .segments import Segment


class Qwen2_5_VL(ChatVLM):
    """
    [`ChatVLM`] that keeps image features instead of pixels.

    A segment's images are encoded in a call of their own, so that the features have the same bytes whatever else is
    scored.
    """

    def _encode(self, piece: Piece) -> Segment:
        segment = self._process(piece)
        grid = segment.images.get("image_grid_thw")
        ids = torch.tensor([segment.tokens["input_ids"]])
        types = torch.tensor([segment.tokens["mm_token_type_ids"]])
        if ids.shape[1]:
            positions, _ = self.model.model.get_rope_index(ids, types, image_grid_thw=grid)
            segment.position_ids = positions[:, 0].numpy()  # [3, L]
        if grid is not None:
            device = self.model.device
            with torch.inference_mode():
                encoded = self.model.get_image_features(
                    segment.images["pixel_values"].to(device, self.model.dtype), grid.to(device), return_dict=True
                )
            segment.images = {"features": torch.cat(list(encoded.pooler_output)), "image_grid_thw": grid}
        return segment

    def _collate(self, rows: list[list[Segment]], padding_side: str) -> dict[str, Any]:
        batch = super()._collate(rows, padding_side)
        if "features" in batch:
            batch["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=(batch.pop("features"),))}
        if all(segment.position_ids is not None for row in rows for segment in row):
            batch["position_ids"] = self._position_ids(rows, batch["attention_mask"])
        return batch

    def _position_ids(self, rows: list[list[Segment]], attention_mask: torch.Tensor) -> torch.Tensor:
        """Positions of whole prompts, [3, B, L]: each segment goes on where the one before it ended."""
        positions = np.zeros((3, *attention_mask.shape), dtype=np.int64)
        mask = attention_mask.cpu().numpy().astype(bool)
        for i, row in enumerate(rows):
            parts, start = [], 0
            for segment in row:
                parts.append(segment.position_ids + start)
                start = int(parts[-1].max()) + 1
            positions[:, i, mask[i]] = np.concatenate(parts, axis=1)
        return torch.from_numpy(positions).to(attention_mask.device)

    def _generation_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # `generate` counts on from positions that it computes itself.
        return {name: value for name, value in inputs.items() if name != "position_ids"}
