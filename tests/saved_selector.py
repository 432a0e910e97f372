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

"""A selector with random weights on the embedded world's encoder, which is enough to choose with."""

import torch
from paths import ROOT

from leverplus_trl.provenance import model_revision
from leverplus_trl.selectors import PointerSelectorConfig, PointerSelectorModel, SelectorProcessor


WORLD = ROOT / "data" / "concept_binding"
CLIP = str(WORLD / "clip")


def save_selector(folder, embedded, **values):
    torch.manual_seed(0)
    pool = embedded[0]
    widths = {"image_embed_dim": pool.image.shape[1], "text_embed_dim": pool.text.shape[1]}
    names = {"encoder": CLIP, "encoder_commit": model_revision(CLIP), "sampler": "mix", "num_candidates": 12}
    config = PointerSelectorConfig(hidden_size=16, **{**widths, **names, **values})
    model = PointerSelectorModel(config)
    processor = SelectorProcessor(config.query_features, config.candidate_features)
    model.fit_inputs(*(processor.fuse(pool, names) for names in (config.query_features, config.candidate_features)))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
