# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The table of the methods that an evaluation compares."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

from ..retrieval.sampler_arguments import RANDOM, SAMPLERS, sampler_modalities
from .baselines import POOL_SUFFIX, Choices, choose_by_sampler, choose_oracle


ZERO_SHOT, SELECTOR, ORACLE = "zero_shot", "selector", "oracle"
#: Behind the name of a method whose demonstrations were put in another order, to see what order does.
SHUFFLED_SUFFIX = "~shuffled"


@dataclass(frozen=True)
class Method:
    """
    A row of the table.

    Args:
        label (`str`):
            Its name in words.
        meaning (`str`):
            Which demonstrations it puts into the prompt, as a sentence.
        style (`tuple[str, str]`, *optional*):
            Colour and marker of its line in charts; none for a method without shots.
        choose (`Callable`, *optional*):
            Takes [`~leverplus_trl.evaluation.baselines.Choices`], a number of shots and a seed, and returns the ids of
            each query's demonstrations in prompt order. None for zero-shot, and for selectors, which are models.
        sampler (`str`, *optional*):
            The row of `SAMPLERS` it chooses by. Such a method is a heuristic, which a selector has to beat.
        scope (`str`, *optional*, defaults to `"candidates"`):
            What it chooses from: `"candidates"` (the K sampled), `"pool"` or `"none"`.
        needs (`str`, *optional*):
            The recipe key that it can't do without.
    """

    label: str
    meaning: str
    style: tuple[str, str] | None = None
    choose: Callable[[Choices, int, int], list[list[str]]] | None = None
    sampler: str | None = None
    scope: str = "candidates"
    needs: str | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The embeddings that it compares, of `"image"` and `"text"`."""
        return sampler_modalities(self.sampler) if self.sampler else ()

    @property
    def is_random(self) -> bool:
        """Whether it draws at random, once with each seed."""
        return RANDOM in SAMPLERS.get(self.sampler, ())


#: `{sampler: (label, colour, marker, meaning)}`.
_HEURISTICS = {
    RANDOM: ("random", "#7F7F7F", "v", "Demonstrations drawn at random, seeded per query."),
    "text_sim": (
        *("text similarity", "#56B4E9", "s"),
        "The examples whose questions are most similar to the query's question.",
    ),
    "image_sim": (
        *("image similarity", "#009E73", "^"),
        "The examples whose images are most similar to the query's image.",
    ),
    "image_text_sim": (
        *("image+text similarity", "#0072B2", "D"),
        "The examples with the largest sum of image and question similarity.",
    ),
    "mix": ("mix", "#CC79A7", "P", "Half random, a quarter by question similarity, a quarter by image similarity."),
}


def _heuristics(whole_pool: bool) -> dict[str, Method]:
    """The rows of the samplers; over the whole pool of those with a single source."""
    rows = {}
    for sampler, (label, colour, marker, meaning) in _HEURISTICS.items():
        row = Method(label, meaning, (colour, marker), partial(choose_by_sampler, sampler, whole_pool), sampler)
        if not whole_pool:
            rows[sampler] = row
        elif len(SAMPLERS[sampler]) == 1:
            rows[sampler + POOL_SUFFIX] = replace(row, label=f"{label} (whole pool)", scope="pool")
    return rows


#: The table, in the order in which methods answer.
METHODS = {
    ZERO_SHOT: Method("zero-shot", "The VLM answers the query alone, without demonstrations.", scope="none"),
    **_heuristics(whole_pool=False),
    **_heuristics(whole_pool=True),
    SELECTOR: Method(
        "selector",
        "The trained model: it chooses and orders the demonstrations.",
        ("#D55E00", "o"),
        needs="selectors",
    ),
    ORACLE: Method(
        "oracle",
        "The best sequence that the beam search scored for the query. It knows the answer: a mark, not a rival.",
        ("#000000", "*"),
        choose_oracle,
        needs="beams",
    ),
}
HEURISTICS = tuple(name for name, row in METHODS.items() if row.sampler)
RANDOM_METHODS = tuple(name for name, row in METHODS.items() if row.is_random)


def method_scope(method: str) -> str:
    """What a method chooses from; a name that is not in the table is a selector's."""
    return METHODS.get(method, METHODS[SELECTOR]).scope


def method_rank(method: str) -> tuple[bool, int, str]:
    """Sorting key: the order of the table, the whole pool last; selectors of other names in alphabetical order."""
    return (method_scope(method) == "pool", list(METHODS).index(method if method in METHODS else SELECTOR), method)


def method_label(method: str) -> str:
    """A method's name in words; names that are not in the table stay as they are."""
    return METHODS[method].label if method in METHODS else method


def choose(method: str, choices: Choices, num_shots: int, seed: int) -> list[list[str]]:
    """
    The demonstrations that a heuristic, or the oracle, takes for each query.

    Args:
        method (`str`):
            One of `HEURISTICS`, or `"oracle"`.
        choices ([`~leverplus_trl.evaluation.baselines.Choices`]):
            Queries, candidates and pool.
        num_shots (`int`):
            Demonstrations for each query.
        seed (`int`):
            Seed of the methods that draw at random; each query draws by itself.

    Returns:
        `list[list[str]]`: ids in prompt order.

    Raises:
        `ValueError`: an unknown method, or fewer candidates than shots.
    """
    row = METHODS.get(method)
    if row is None or row.choose is None:
        raise ValueError(f"Unknown heuristic {method!r}; expected one of {', '.join(HEURISTICS)}.")
    return row.choose(choices, num_shots, seed)


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
    absent = {"selectors": not has_selectors, "beams": not has_beams}
    return [
        method
        for method, row in METHODS.items()
        if not absent.get(row.needs) and set(row.modalities) <= set(modalities)
    ]
