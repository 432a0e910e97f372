# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the beam search."""

from dataclasses import dataclass, field

from ..fields import check_fields
from .beam_search import INSERTIONS, OBJECTIVES


#: The scale that is read off what the VLM says, not off the probability of what it should say.
METRIC = "metric"
SCORES = ("prob", "logprob", METRIC)


@dataclass
class BeamArguments:
    """
    Beam search: how it is done, and on which queries.

    Args:
        output_dir (`str`):
            Where the beams and ledger tables go.
        query_splits (`list[str]`, *optional*, defaults to `["train"]`):
            Splits whose examples are queries.
        num_queries (`int`, *optional*):
            Only the first so many of each split.
        num_shots (`int`, *optional*, defaults to 2):
            Demonstrations in a sequence (S).
        beam_size (`int`, *optional*, defaults to 5):
            Sequences kept for each query (B).
        insertion (`str`, *optional*, defaults to `"left"`):
            Where a newly chosen demonstration goes: `"left"` or `"right"`.
        objective (`str`, *optional*, defaults to `"cumulative"`):
            `"cumulative"` or `"marginal"`, see [`beam_search`].
        score (`str`, *optional*, defaults to `"prob"`):
            Scale of InfoScore: `"prob"`, the length-normalised probability of the right answer, `"logprob"`, its
            logarithm, or `"metric"`, the task's metric of an answer that is generated greedily behind each sequence.
            That costs much more and ties often (all right answers are alike to it), but is what captions are judged
            by: CIDEr, its document frequencies counted over the answers of all examples of `query_splits`.
        unit_size (`int`, *optional*, defaults to 8):
            Queries in a unit of work: what is scored together, and what each process can lose.
        preflight_seed (`int`, *optional*, defaults to 0):
            Seed of the sequences that the preflight draws.
    """

    output_dir: str = field(metadata={"help": "Where the beams and ledger tables go.", "path": "folder"})
    query_splits: list[str] = field(
        default_factory=lambda: ["train"],
        metadata={"help": "Splits whose examples are queries.", "not_empty": True, "unique": True},
    )
    num_queries: int | None = field(
        default=None, metadata={"help": "Only the first so many queries of each split.", "min": 1}
    )
    num_shots: int = field(default=2, metadata={"help": "Demonstrations in a sequence (S).", "min": 1})
    beam_size: int = field(default=5, metadata={"help": "Sequences kept for each query (B).", "min": 1})
    insertion: str = field(
        default="left", metadata={"help": "left | right: where a new demonstration goes.", "choices": INSERTIONS}
    )
    objective: str = field(
        default="cumulative",
        metadata={"help": "cumulative | marginal: what beams are ranked by.", "choices": OBJECTIVES},
    )
    score: str = field(
        default="prob", metadata={"help": "prob | logprob | metric: the scale of InfoScore.", "choices": SCORES}
    )
    unit_size: int = field(default=8, metadata={"help": "Queries in a unit of work.", "min": 1})
    preflight_seed: int = field(default=0, metadata={"help": "Seed of the preflight's random sequences.", "min": 0})

    def __post_init__(self):
        check_fields(self)
