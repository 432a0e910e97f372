# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the `evaluate` stage."""

import logging
from dataclasses import dataclass

from ..fields import check_fields, documented, option
from ..recipe import named_folder
from .methods import METHODS, ORACLE, POOL_SUFFIX, SELECTOR, SHUFFLED_SUFFIX, ZERO_SHOT


logger = logging.getLogger(__name__)


@documented
@dataclass
class EvaluationArguments:
    """Evaluation: the queries, and the methods and selectors that choose demonstrations."""

    output_dir: str = option("Where predictions/ and results.json go.", path="folder")
    eval_split: str = option("Split of the queries.", "test")
    num_queries: list[int] | int | None = option(
        "The first so many queries. Several numbers give results for each; only the largest is answered.",
        None,
        min=1,
        not_empty=True,
    )
    methods: list[str] | None = option(
        "Methods to compare with zero-shot. Default: all that data, encoder, selectors and beams allow.",
        None,
        choices=tuple(METHODS),
        unique=True,
    )
    shots: list[int] = option(
        "Numbers of demonstrations. The oracle has those of the ledger.", [1, 2, 4], min=1, not_empty=True, unique=True
    )
    method_seeds: list[int] = option(
        "Seeds of the methods that draw at random: answers with each.", [0], min=0, not_empty=True, unique=True
    )
    selectors: list[str] = option(
        "Selectors: NAME=PATH, or PATH for the name `selector`. Paths of the same name are seeds.", [], path="folder"
    )
    beams: str | None = option(
        "Beams of the queries, for candidates and oracle. Without them candidates are sampled.", None, path="folder"
    )
    order_probes: int = option(
        "Queries that are also answered with shuffled demonstrations, at the most shots. The demonstrations are "
        "those of each selector, or, without selectors, those of the first method; 0 for none.",
        50,
        min=0,
    )
    unit_size: int = option("Queries in a unit of work.", 25, min=1)

    def __post_init__(self):
        check_fields(self)
        if isinstance(self.num_queries, int):  # as recipes write it
            self.num_queries = [self.num_queries]
        for name in self.selector_paths:
            if (name in METHODS and name != SELECTOR) or name.endswith((POOL_SUFFIX, SHUFFLED_SUFFIX)):
                raise ValueError(f"A selector can't be called {name!r}, which is a method's name; name it otherwise.")
        if self.methods is None:
            return
        for method, key in ((SELECTOR, "selectors"), (ORACLE, "beams")):
            if method in self.methods and not getattr(self, key):
                raise ValueError(f"`methods` holds {method!r}: set `{key}`, or take it out of `methods`.")
        if self.selectors and SELECTOR not in self.methods:
            logger.warning("`methods` does not hold 'selector', so no selector is evaluated.")
            self.selectors = []
        if ZERO_SHOT not in self.methods:
            self.methods = [ZERO_SHOT, *self.methods]

    @property
    def selector_paths(self) -> dict[str, list[str]]:
        """`{name: [path of each seed]}`, in the order in which they were named."""
        paths: dict[str, list[str]] = {}
        for name, path in map(named_folder, self.selectors):
            paths.setdefault(name or SELECTOR, []).append(path)
        return paths
