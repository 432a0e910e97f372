# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of the sequences that a query is answered with."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option
from ..retrieval.sampler_arguments import SIMILARITIES


@documented
@dataclass
class RolloutArguments:
    """
    Rollouts: where the sequences of each query come from, and how many.

    Candidates are those of the beams. Sequences that the sources leave free of `num_rollouts` are drawn at random.
    """

    beams: str = option("Folder or hub id of the beams and ledger of the queries.", path="folder")
    output_dir: str = option("Where the rollouts table and summary.json go.", path="folder")
    selector: str | None = option(
        "Folder or hub id of the selector to sample. Without it there are no samples and no greedy choice.",
        None,
        path="folder",
    )
    query_splits: list[str] = option(
        "Splits whose examples are queries.", ["train", "validation"], not_empty=True, unique=True
    )
    num_queries: int | None = option("Only the first so many queries of each split.", None, min=1)
    num_shots: int | None = option("Shots of a sequence (S), with STOP at most; default: as the beams.", None, min=1)
    num_rollouts: int = option("Sequences of a query (G), if there are as many; random sequences fill up.", 16, min=2)
    num_beam_sequences: int = option("Sequences from the beams.", 5, min=0)
    num_samples: int = option("Draws from the selector at each temperature.", 3, min=0)
    temperatures: list[float] = option("Temperatures the selector is sampled at.", [1.0, 1.3], above=0, unique=True)
    similarities: list[str] | None = option(
        f"Similarities whose top candidates are taken, of {', '.join(SIMILARITIES)}; default: "
        "image_text_sim, or text_sim without images.",
        None,
        choices=tuple(SIMILARITIES),
        unique=True,
    )
    num_similar: int = option("Sequences by each similarity.", 1, min=0)
    rollout_seed: int = option("Seed of all draws. Each query draws from its own generator.", 0, min=0)
    previous_rollouts: str | None = option(
        "Earlier rollouts of the same VLM, prompt and data, to be taken over.", None, path="folder"
    )
    encoder: str | None = option("Encoder of the embeddings; default: as selector or beams.", None, path="folder")
    encoder_revision: str | None = option("Its hub revision.", None)
    embeddings_dir: str | None = option("Where embeddings are kept.", None, path="folder")
    unit_size: int = option("Queries in a unit of work.", 8, min=1)

    def __post_init__(self):
        check_fields(self)
        self.temperatures = [float(temperature) for temperature in self.temperatures]
        self.check_room()

    def check_room(self, stop: bool = False) -> None:
        """Raises `ValueError` if the sources give more sequences than `num_rollouts`."""
        kinds = 1 if self.similarities is None else len(self.similarities)
        counts = {
            "num_beam_sequences": self.num_beam_sequences,
            "similarities x num_similar": kinds * self.num_similar,
        }
        if self.selector:
            counts |= {"the greedy choice": 1, "temperatures x num_samples": len(self.temperatures) * self.num_samples}
        if stop:
            counts["zero-shot"] = 1
        if sum(counts.values()) > self.num_rollouts:
            parts = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(
                f"num_rollouts is {self.num_rollouts}, but the sources are asked for {sum(counts.values())} sequences "
                f"({parts}). Raise num_rollouts, or ask for fewer."
            )
