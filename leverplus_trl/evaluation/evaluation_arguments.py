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
    """Evaluation: what is answered, with whose demonstrations."""

    output_dir: str = option("Where predictions/ and results.json go.", path="folder")
    eval_split: str = option("Split of the queries.", "test")
    num_queries: list[int] | int | None = option(
        "Only the first so many queries; several numbers are nested test sets. The most are answered, each "
        "once, and there are results for each number.",
        None,
        min=1,
        not_empty=True,
    )
    methods: list[str] | None = option(
        "Methods to compare; all that data, encoder, selectors and beams allow. Zero-shot is always included.",
        None,
        choices=tuple(METHODS),
        unique=True,
    )
    shots: list[int] = option(
        "Numbers of demonstrations. The oracle answers at those that the ledger holds.",
        [1, 2, 4],
        min=1,
        not_empty=True,
        unique=True,
    )
    method_seeds: list[int] = option(
        "Seeds of the methods that draw at random. Each of them answers once with each seed.",
        [0],
        min=0,
        not_empty=True,
        unique=True,
    )
    selectors: list[str] = option(
        "Selectors as NAME=PATH or PATH; one name may have several (seeds). A path alone is called "
        "`selector`; the tables show the runs of a name and their average.",
        [],
        path="folder",
    )
    beams: str | None = option(
        "Beams of the queries: candidates, and the oracle. Without them candidates are sampled and there is "
        "no oracle.",
        None,
        path="folder",
    )
    order_probes: int = option(
        "Queries that are also asked with shuffled demonstrations, at the most shots. The demonstrations are "
        "those of each selector, or of the first method without one; 0 for none.",
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
        """`{name: paths, one a seed}`, in the order in which they were named."""
        paths: dict[str, list[str]] = {}
        for name, path in map(named_folder, self.selectors):
            paths.setdefault(name or SELECTOR, []).append(path)
        return paths
