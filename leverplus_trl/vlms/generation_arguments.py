# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that say how a VLM's answers are decoded."""

from dataclasses import dataclass

from ..fields import documented, option


SOURCES = ("recipe", "model")


@documented
@dataclass(kw_only=True)
class GenerationArguments:
    """Decoding: answers are greedy and without penalties unless the recipe says otherwise."""

    num_beams: int = option("Beams of a beam search; 1 for none.", 1, min=1)
    length_penalty: float = option(
        "Power of an answer's length that ranks beams (num_beams > 1). The log-probability is divided by it.",
        1.0,
    )
    repetition_penalty: float = option(
        "Divides logits of tokens that are there already. Negative logits are multiplied; tokens of the prompt count.",
        1.0,
        above=0.0,
    )
    do_sample: bool = option(
        "Draw each token instead of taking the best. An answer depends on its prompt and generation_seed alone.", False
    )
    temperature: float = option("What logits are divided by before a draw (do_sample).", 1.0, above=0.0)
    top_p: float = option("Probability that is kept for a draw (do_sample).", 1.0, above=0.0, max=1.0)
    generation_seed: int = option("Seed of the draws (do_sample).", 0, min=0)
    generation_config: str = option(
        "recipe | model: what says how answers are decoded. model: its `generation_config.json` holds and "
        "these keys are left out; `max_new_tokens` is the recipe's in any case.",
        "recipe",
        choices=SOURCES,
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
