# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The names of the methods that an evaluation compares."""

from collections.abc import Collection

from ..retrieval.sampler_arguments import SAMPLERS, sampler_modalities


ZERO_SHOT, RANDOM, ORACLE, SELECTOR = "zero_shot", "random", "oracle", "selector"
SIMILARITIES = ("text_sim", "image_sim", "image_text_sim")
POOL_SUFFIX = "_pool"
POOL_HEURISTICS = tuple(name + POOL_SUFFIX for name in (RANDOM, *SIMILARITIES))
#: What a selector has to beat, over the sampled candidates or the whole pool.
HEURISTICS = (RANDOM, *SIMILARITIES, "mix", *POOL_HEURISTICS)
#: Order of methods in every table; selectors that have names of their own stand where `selector` does.
METHOD_ORDER = (ZERO_SHOT, RANDOM, *SIMILARITIES, "mix", SELECTOR, ORACLE, *POOL_HEURISTICS)
METHODS = (ZERO_SHOT, *HEURISTICS, SELECTOR, ORACLE)
MIX = "mix"
#: Those that draw at random, once with each seed.
RANDOM_METHODS = (RANDOM, MIX, RANDOM + POOL_SUFFIX)
#: Names in words.
LABELS = {
    "zero_shot": "zero-shot",
    "random": "random",
    "text_sim": "text similarity",
    "image_sim": "image similarity",
    "image_text_sim": "image+text similarity",
    "mix": "mix",
    "selector": "selector",
    "oracle": "oracle",
}
#: Behind the name of a method whose demonstrations were put in another order, to see what order does.
SHUFFLED_SUFFIX = "~shuffled"


def method_scope(method: str) -> str:
    """What a method chooses from: `"candidates"` (the K sampled), `"pool"` (names that end in `_pool`) or `"none"`."""
    if method == ZERO_SHOT:
        return "none"
    return "pool" if method.endswith(POOL_SUFFIX) else "candidates"


def method_rank(method: str) -> tuple[int, str]:
    """Sorting key: the order of `METHOD_ORDER`; other names are those of selectors, in alphabetical order."""
    return (METHOD_ORDER.index(method if method in METHOD_ORDER else SELECTOR), method)


def method_label(method: str) -> str:
    """A method's name in words; names that are not known stay as they are."""
    base = method.removesuffix(POOL_SUFFIX)
    if base not in LABELS:
        return method
    return LABELS[base] + (" (whole pool)" if base != method else "")


def default_methods(modalities: Collection[str], has_selectors: bool, has_beams: bool) -> list[str]:
    """
    The methods to compare where a recipe names none: all that the data, the encoder and the recipe allow.

    Args:
        modalities (`Collection[str]`):
            What can be compared, of `"image"` and `"text"`; empty without an encoder.
        has_selectors (`bool`):
            Whether the recipe names selectors.
        has_beams (`bool`):
            Whether the recipe names beams, which the oracle reads.
    """
    absent = {SELECTOR: not has_selectors, ORACLE: not has_beams}
    bases = {method: method.removesuffix(POOL_SUFFIX) for method in METHODS}
    return [
        method
        for method, base in bases.items()
        if not absent.get(method) and (base not in SAMPLERS or set(sampler_modalities(base)) <= set(modalities))
    ]
