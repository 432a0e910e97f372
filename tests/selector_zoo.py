# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""Every kind of selector, small and with random weights: the parts one by one, all together, and the presets."""

import torch

from leverplus_trl.selectors import GPT2SelectorConfig, GPT2SelectorModel, PointerSelectorConfig, PointerSelectorModel


EVERYTHING = {
    "history": "gru",
    "scoring": "additive",
    "diversity": "mmr",
    "candidate_encoder_layers": 1,
    "step_embeddings": True,
}
POINTERS = {
    "v1": {"num_cross_attention_layers": 0, "history": "scalar_gate"},
    "v2": {},
    "history none": {"history": "none"},
    "gru": {"history": "gru"},
    "additive": {"scoring": "additive"},
    "mmr": {"diversity": "mmr"},
    "candidate encoder": {"candidate_encoder_layers": 2},
    "step embeddings": {"step_embeddings": True, "num_shots": 2},
    "fixed temperature": {"learn_temperature": False},
    "everything": EVERYTHING,
}
ZOO = {
    **POINTERS,
    **{f"{name}, stop": POINTERS[name] | {"stop": True} for name in ("v2", "additive", "everything")},
    "v0": None,
    "v0, stop": {"stop": True},
}


def make_selector(name):
    torch.manual_seed(0)
    values = {"image_embed_dim": 6, "text_embed_dim": 4, "hidden_size": 16, "num_heads": 2, "num_candidates": 6}
    if name.startswith("v0"):
        model = GPT2SelectorModel(GPT2SelectorConfig(pool_size=9, **values, **(ZOO[name] or {})))
    else:
        model = PointerSelectorModel(PointerSelectorConfig(**(values | ZOO[name])))
    with torch.no_grad():  # far from the neat initial values, so that every part matters
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if hasattr(model, "scorer"):
            model.scorer.log_temperature.fill_(-1.5)
        else:
            model.transformer.wte.weight.mul_(3.0)
    return model.eval()


def make_inputs(batch=3, candidates=6):
    """Queries of 10 features, candidates of 10 features with row numbers in a pool of 9."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.stack([torch.randperm(9, generator=generator)[:candidates] for _ in range(batch)])
    return {
        "query_embeds": torch.randn(batch, 10, generator=generator),
        "candidate_embeds": torch.randn(batch, candidates, 10, generator=generator),
        "candidate_rows": rows,
    }
