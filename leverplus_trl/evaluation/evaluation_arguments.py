# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the `evaluate` stage."""

import logging
from dataclasses import dataclass, field

from ..fields import check_fields
from ..recipe import named_folder
from .methods import METHODS, ORACLE, POOL_SUFFIX, SELECTOR, SHUFFLED_SUFFIX, ZERO_SHOT


logger = logging.getLogger(__name__)


@dataclass
class EvaluationArguments:
    """
    Evaluation: what is answered, with whose demonstrations.

    Args:
        output_dir (`str`):
            Where `predictions/` and `results.json` go.
        eval_split (`str`, *optional*, defaults to `"test"`):
            Split of the queries.
        num_queries (`list[int]`, *optional*):
            Only the first so many queries. Several numbers (100, 200, 300) are nested: the most are answered, each
            once, and there are results for each number.
        methods (`list[str]`, *optional*):
            Methods to compare; zero-shot is always included. Defaults to all that the data, the encoder, `selectors`
            and `beams` allow: without images the baselines that compare text, without an encoder the random ones.
        shots (`list[int]`, *optional*, defaults to `[1, 2, 4]`):
            Numbers of demonstrations; the oracle answers at those that the ledger holds.
        method_seeds (`list[int]`, *optional*, defaults to `[0]`):
            Seeds of the methods that draw at random; each answers once with each.
        selectors (`list[str]`, *optional*):
            Folders or hub ids of trained selectors, each as `NAME=PATH`; a path alone is called `selector`. Several
            paths of one name are runs with different seeds: the tables show them and their average.
        beams (`str`, *optional*):
            Beams of the queries: their candidates are taken, and the oracle reads their ledger. Without them
            candidates are sampled, and there is no oracle.
        order_probes (`int`, *optional*, defaults to 50):
            The first so many queries are also asked with the demonstrations of each selector (without one: of the
            first method) in another order, at the most shots, to see what order does to the VLM. 0 for none.
        unit_size (`int`, *optional*, defaults to 25):
            Queries in a unit of work.
    """

    output_dir: str = field(metadata={"help": "Where predictions/ and results.json go.", "path": "folder"})
    eval_split: str = field(default="test", metadata={"help": "Split of the queries."})
    num_queries: list[int] | int | None = field(
        default=None,
        metadata={
            "help": "Only the first so many queries; several numbers are nested test sets.",
            "min": 1,
            "not_empty": True,
        },
    )
    methods: list[str] | None = field(
        default=None,
        metadata={
            "help": "Methods to compare; all that data, encoder, selectors and beams allow.",
            "choices": METHODS,
            "unique": True,
        },
    )
    shots: list[int] = field(
        default_factory=lambda: [1, 2, 4],
        metadata={"help": "Numbers of demonstrations.", "min": 1, "not_empty": True, "unique": True},
    )
    method_seeds: list[int] = field(
        default_factory=lambda: [0],
        metadata={"help": "Seeds of the methods that draw at random.", "min": 0, "not_empty": True, "unique": True},
    )
    selectors: list[str] = field(
        default_factory=list,
        metadata={"help": "Selectors as NAME=PATH or PATH; one name may have several (seeds).", "path": "folder"},
    )
    beams: str | None = field(
        default=None, metadata={"help": "Beams of the queries: candidates, and the oracle.", "path": "folder"}
    )
    order_probes: int = field(
        default=50,
        metadata={"help": "Queries that are also asked with shuffled demonstrations, at the most shots.", "min": 0},
    )
    unit_size: int = field(default=25, metadata={"help": "Queries in a unit of work.", "min": 1})

    def __post_init__(self):
        check_fields(self)
        if isinstance(self.num_queries, int):  # as recipes say it
            self.num_queries = [self.num_queries]
        taken = [
            name
            for name in self.selector_paths
            if (name in METHODS and name != SELECTOR) or name.endswith((POOL_SUFFIX, SHUFFLED_SUFFIX))
        ]
        if taken:
            raise ValueError(f"A selector can't be called {taken[0]!r}, which is a method's name; name it otherwise.")
        if self.methods is not None:
            self._check_methods()

    def _check_methods(self) -> None:
        if SELECTOR in self.methods and not self.selectors:
            raise ValueError("`methods` holds 'selector': set `selectors`, or take it out of `methods`.")
        if self.selectors and SELECTOR not in self.methods:
            logger.warning("`methods` does not hold 'selector', so no selector is evaluated.")
            self.selectors = []
        if ORACLE in self.methods and not self.beams:
            raise ValueError(
                "`methods` holds 'oracle': set `beams`, whose ledger it reads, or take it out of `methods`."
            )
        if ZERO_SHOT not in self.methods:
            self.methods = [ZERO_SHOT, *self.methods]

    @property
    def selector_paths(self) -> dict[str, list[str]]:
        """`{name: paths, one a seed}`, in the order in which they were named."""
        found: dict[str, list[str]] = {}
        for entry in self.selectors:
            name, path = named_folder(entry)
            found.setdefault(name or SELECTOR, []).append(path)
        return found
