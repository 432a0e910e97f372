# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the beam search."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option
from .beam_search import INSERTIONS, OBJECTIVES


#: The scale of the task's metric of a generated answer, not of a probability.
METRIC = "metric"
SCORES = ("prob", "logprob", METRIC)


@documented
@dataclass
class BeamArguments:
    """Beam search: how it is done, and on which queries."""

    output_dir: str = option("Where the beams and ledger tables go.", path="folder")
    query_splits: list[str] = option("Splits whose examples are queries.", ["train"], not_empty=True, unique=True)
    num_queries: int | None = option("Only the first so many queries of each split.", None, min=1)
    num_shots: int = option("Demonstrations in a sequence (S).", 2, min=1)
    beam_size: int = option("Sequences kept for each query (B).", 5, min=1)
    insertion: str = option("left | right: where a new demonstration goes.", "left", choices=INSERTIONS)
    objective: str = option("cumulative | marginal: what beams are ranked by.", "cumulative", choices=OBJECTIVES)
    score: str = option(
        "prob | logprob | metric: the scale of InfoScore. prob is the length-normalised probability of the "
        "right answer, logprob its logarithm, metric the task's metric of a greedily generated answer, which "
        "costs much more.",
        "prob",
        choices=SCORES,
    )
    unit_size: int = option(
        "Queries in a unit of work. They are scored together, and are what an interrupted process can lose.",
        8,
        min=1,
    )
    preflight_seed: int = option("Seed of the preflight's random sequences.", 0, min=0)

    def __post_init__(self):
        check_fields(self)
