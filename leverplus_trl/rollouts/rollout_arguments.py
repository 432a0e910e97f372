# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""The recipe keys that say which sequences a query is answered with."""

from dataclasses import dataclass, field

from ..fields import check_fields
from ..retrieval.sampler_arguments import SIMILARITIES


@dataclass
class RolloutArguments:
    """
    Rollouts: where the sequences of each query come from, and how many.

    Candidates are those of the beams. What the sources leave free of `num_rollouts`, because they were asked for less
    or proposed a sequence twice, is drawn at random.

    Args:
        beams (`str`):
            Folder or hub id of the beams and ledger of the queries.
        output_dir (`str`):
            Where the rollouts table and `summary.json` go.
        selector (`str`, *optional*):
            Folder or hub id of the selector to sample; without one there are neither samples nor a greedy choice.
        query_splits (`list[str]`, *optional*, defaults to `["train", "validation"]`):
            Splits whose examples are queries.
        num_queries (`int`, *optional*):
            Only the first so many of each split.
        num_shots (`int`, *optional*, defaults to that of the beams):
            Demonstrations in a sequence (S); the most, if the selector can stop.
        num_rollouts (`int`, *optional*, defaults to 16):
            Sequences of a query, if it has so many different ones (G).
        num_beam_sequences (`int`, *optional*, defaults to 5):
            Sequences from the beams.
        num_samples (`int`, *optional*, defaults to 3):
            Draws from the selector at each temperature.
        temperatures (`list[float]`, *optional*, defaults to `[1.0, 1.3]`):
            What the selector's logits are divided by.
        similarities (`list[str]`, *optional*):
            Kinds of similarity whose top candidates are taken. Defaults to `image_text_sim`, to `text_sim` where not
            every example has an image or the encoder embeds texts only, and to none without an encoder.
        num_similar (`int`, *optional*, defaults to 1):
            Sequences by each similarity.
        rollout_seed (`int`, *optional*, defaults to 0):
            Seed of all draws; each query draws by itself.
        previous_rollouts (`str`, *optional*):
            Earlier rollouts of the same VLM, prompt and data: what they hold is taken over.
        encoder (`str`, *optional*, defaults to that of the selector, else of the beams):
            Encoder that similarities compare, and the selector reads.
        encoder_revision (`str`, *optional*):
            Its revision.
        embeddings_dir (`str`, *optional*):
            Where embeddings are kept.
        unit_size (`int`, *optional*, defaults to 8):
            Queries in a unit of work.
    """

    beams: str = field(metadata={"help": "Folder or hub id of the beams and ledger of the queries.", "path": "folder"})
    output_dir: str = field(metadata={"help": "Where the rollouts table and summary.json go.", "path": "folder"})
    selector: str | None = field(
        default=None, metadata={"help": "Folder or hub id of the selector to sample.", "path": "folder"}
    )
    query_splits: list[str] = field(
        default_factory=lambda: ["train", "validation"],
        metadata={"help": "Splits whose examples are queries.", "not_empty": True, "unique": True},
    )
    num_queries: int | None = field(
        default=None, metadata={"help": "Only the first so many queries of each split.", "min": 1}
    )
    num_shots: int | None = field(
        default=None, metadata={"help": "Demonstrations in a sequence (S); that of the beams if not given.", "min": 1}
    )
    num_rollouts: int = field(
        default=16, metadata={"help": "Sequences of a query (G); random ones fill up.", "min": 2}
    )
    num_beam_sequences: int = field(default=5, metadata={"help": "Sequences from the beams.", "min": 0})
    num_samples: int = field(default=3, metadata={"help": "Draws from the selector at each temperature.", "min": 0})
    temperatures: list[float] = field(
        default_factory=lambda: [1.0, 1.3],
        metadata={"help": "Temperatures the selector is sampled at.", "above": 0, "unique": True},
    )
    similarities: list[str] | None = field(
        default=None,
        metadata={
            "help": f"Similarities whose top candidates are taken, of {', '.join(SIMILARITIES)}; default: "
            "image_text_sim, or text_sim without images.",
            "choices": tuple(SIMILARITIES),
            "unique": True,
        },
    )
    num_similar: int = field(default=1, metadata={"help": "Sequences by each similarity.", "min": 0})
    rollout_seed: int = field(default=0, metadata={"help": "Seed of all draws.", "min": 0})
    previous_rollouts: str | None = field(
        default=None,
        metadata={"help": "Earlier rollouts of the same VLM, prompt and data, to be taken over.", "path": "folder"},
    )
    encoder: str | None = field(
        default=None,
        metadata={"help": "Encoder of the embeddings; that of the selector, else of the beams.", "path": "folder"},
    )
    encoder_revision: str | None = field(default=None, metadata={"help": "Its hub revision."})
    embeddings_dir: str | None = field(default=None, metadata={"help": "Where embeddings are kept.", "path": "folder"})
    unit_size: int = field(default=8, metadata={"help": "Queries in a unit of work.", "min": 1})

    def __post_init__(self):
        check_fields(self)
        self.temperatures = [float(temperature) for temperature in self.temperatures]
        self.check_room()

    def check_room(self, stop: bool = False) -> None:
        """Raises `ValueError` if the sources are asked for more sequences than a group holds."""
        kinds = 1 if self.similarities is None else len(self.similarities)
        asked = {"num_beam_sequences": self.num_beam_sequences, "similarities x num_similar": kinds * self.num_similar}
        if self.selector:
            asked |= {"the greedy choice": 1, "temperatures x num_samples": len(self.temperatures) * self.num_samples}
        if stop:
            asked["zero-shot"] = 1
        if sum(asked.values()) > self.num_rollouts:
            parts = ", ".join(f"{name} {count}" for name, count in asked.items())
            raise ValueError(
                f"num_rollouts is {self.num_rollouts}, but the sources are asked for {sum(asked.values())} sequences "
                f"({parts}). Raise num_rollouts, or ask for fewer."
            )
