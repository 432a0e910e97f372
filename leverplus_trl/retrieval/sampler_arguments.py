# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of candidate sampling, and the samplers that there are."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option


#: What each kind of similarity compares.
SIMILARITIES = {"text_sim": ("text",), "image_sim": ("image",), "image_text_sim": ("image", "text")}


#: The similarities that each sampler asks for.
SAMPLERS = {
    "random": (),
    **{kind: (kind,) for kind in SIMILARITIES},
    "mix": ("text_sim", "image_sim"),
}


@documented
@dataclass
class SamplerArguments:
    """Candidates and encoder: how the candidates of each query are drawn from the pool."""

    encoder: str | None = option(
        "CLIP model or (for text_sim) sentence encoder: hub id or folder.", None, path="folder"
    )
    encoder_revision: str | None = option("Branch, tag or commit of the encoder on the hub.", None)
    sampler: str = option(
        "random | text_sim | image_sim | image_text_sim | mix. `image_text_sim` sums both similarities; `mix` is half "
        "random, a quarter text-similar and a quarter image-similar.",
        "random",
        choices=tuple(SAMPLERS),
    )
    num_candidates: int = option("Candidates of each query (K).", 64, min=1)
    sampler_seed: int = option("Seed of the random part of the candidates.", 0, min=0)
    encoder_batch_size: int = option("Examples that the encoder embeds at once.", 64, min=1)
    embeddings_dir: str | None = option(
        "Where embeddings are kept. Defaults to leverplus_trl/embeddings under HF_HOME.", None, path="folder"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if SAMPLERS[self.sampler] and not self.encoder:
            raise ValueError(f"The sampler {self.sampler!r} compares embeddings: set `encoder`, or take 'random'.")

    @property
    def modalities(self) -> tuple[str, ...]:
        """The embeddings that the sampler compares, of `"image"` and `"text"`."""
        return sampler_modalities(self.sampler)


def sampler_modalities(sampler: str) -> tuple[str, ...]:
    """The embeddings that a sampler compares, of `"image"` and `"text"`; none for `random`."""
    return tuple(sorted({modality for kind in SAMPLERS[sampler] for modality in SIMILARITIES[kind]}))


def check_sampler(sampler: str, num_candidates: int) -> None:
    """Raises `ValueError` for an unknown sampler or fewer than one candidate."""
    if sampler not in SAMPLERS:
        raise ValueError(f"Unknown sampler {sampler!r}; expected one of {', '.join(SAMPLERS)}.")
    if isinstance(num_candidates, bool) or not isinstance(num_candidates, int) or num_candidates < 1:
        raise ValueError(f"num_candidates is {num_candidates!r}; expected a whole number of at least 1.")
