# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""The selectors and the encodings that have a name. A preset is a named set of config values, nothing more."""

_V2 = {"num_cross_attention_layers": 3, "history": "vector_gate"}

#: `{preset: (model type, values)}`. v3 and v4 are v2, then trained by offline RL: two names from the literature for
# one  recipe, v3 with Flamingo and v4 with Qwen.
PRESETS: dict[str, tuple[str, dict]] = {
    "v0": ("gpt2_selector", {}),
    "v1": ("pointer_selector", {"num_cross_attention_layers": 0, "history": "scalar_gate"}),
    "v2": ("pointer_selector", _V2),
    "v2_lora": ("pointer_selector", _V2 | {"lora": {}}),
    "v3": ("pointer_selector", _V2),
    "v4": ("pointer_selector", _V2),
}

#: What describes a query and a demonstration, by the names that Lever-LM gives these pairs:
#: `{encoding: (query features, candidate features)}`. `icd_idx`: an example is known by its name alone (v0).
ENCODINGS: dict[str, tuple[list[str], list[str]]] = {
    "query_img_icd_idx": (["image"], []),
    "query_img_icd_img": (["image"], ["image"]),
    "query_img_icd_text": (["image"], ["text"]),
    "query_img_icd_img_text": (["image"], ["image", "text"]),
    "query_text_icd_text": (["text"], ["text"]),
    "query_img_text_icd_img_text": (["image", "text"], ["image", "text"]),
}
