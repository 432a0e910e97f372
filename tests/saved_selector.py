# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

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
