# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that say how a VLM's answers are decoded."""

from dataclasses import dataclass, field


SOURCES = ("recipe", "model")


@dataclass(kw_only=True)
class GenerationArguments:
    """
    Decoding: answers are greedy and without penalties unless the recipe says otherwise.

    Args:
        num_beams (`int`, *optional*, defaults to 1):
            Beams of a beam search; 1 for none.
        length_penalty (`float`, *optional*, defaults to 1.0):
            With beams, the power of an answer's length that its log-probability is divided by.
        repetition_penalty (`float`, *optional*, defaults to 1.0):
            What the logits of tokens that are in the prompt or the answer already are divided by (multiplied by, if
            negative).
        do_sample (`bool`, *optional*, defaults to `False`):
            Draw each token, from a generator of its prompt's own: an answer depends on its prompt and
            `generation_seed`, and on nothing else that is asked.
        temperature (`float`, *optional*, defaults to 1.0):
            With `do_sample`, what logits are divided by.
        top_p (`float`, *optional*, defaults to 1.0):
            With `do_sample`, the most probable tokens are kept whose probabilities add up to this.
        generation_seed (`int`, *optional*, defaults to 0):
            Seed of the draws.
        generation_config (`str`, *optional*, defaults to `"recipe"`):
            `"recipe"`: these fields hold, whatever the model's `generation_config.json` says; `"model"`: that file
            holds, and these fields are left out. `max_new_tokens` is the recipe's in any case.
    """

    num_beams: int = field(default=1, metadata={"help": "Beams of a beam search; 1 for none.", "min": 1})
    length_penalty: float = field(
        default=1.0, metadata={"help": "Power of an answer's length that ranks beams (num_beams > 1)."}
    )
    repetition_penalty: float = field(
        default=1.0, metadata={"help": "Divides logits of tokens that are there already.", "above": 0.0}
    )
    do_sample: bool = field(default=False, metadata={"help": "Draw each token instead of taking the best."})
    temperature: float = field(
        default=1.0, metadata={"help": "What logits are divided by before a draw (do_sample).", "above": 0.0}
    )
    top_p: float = field(
        default=1.0,
        metadata={"help": "Probability that is kept for a draw (do_sample).", "above": 0.0, "max": 1.0},
    )
    generation_seed: int = field(default=0, metadata={"help": "Seed of the draws (do_sample).", "min": 0})
    generation_config: str = field(
        default="recipe",
        metadata={"help": "recipe | model: what says how answers are decoded.", "choices": SOURCES},
    )

    def __post_init__(self):
        for name in ("length_penalty", "repetition_penalty", "temperature", "top_p"):
            setattr(self, name, float(getattr(self, name)))
        if self.generation_config == "model":
            self._refuse_changed("generation_config is 'model', whose file says how answers are decoded")
        if self.do_sample and self.num_beams > 1:
            raise ValueError(
                f"do_sample is true and num_beams is {self.num_beams}; expected one of both. Leave num_beams out to "
                "draw answers, or do_sample to search for them."
            )
        if self.num_beams == 1:
            self._refuse_changed("num_beams is 1, and only beams are ranked by length", "length_penalty")
        if not self.do_sample:
            self._refuse_changed("do_sample is false, so nothing is drawn", "temperature", "top_p", "generation_seed")

    def _refuse_changed(self, reason: str, *names: str) -> None:
        """Raises `ValueError` for a field that has no meaning here: one of `names`, or of all others."""
        for name, one in GenerationArguments.__dataclass_fields__.items():
            value = getattr(self, name)
            if (name in names if names else name != "generation_config") and value != one.default:
                raise ValueError(f"{name} is {value}, but {reason}. Leave {name} out.")
