# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys of candidate sampling, and the names of samplers and similarities."""

from dataclasses import dataclass

from ..fields import check_fields, documented, option


#: `{similarity: {modality: weight}}`: a similarity is the weighted sum of the modalities' cosine similarities.
SIMILARITIES = {
    "text_sim": {"text": 1.0},
    "image_sim": {"image": 1.0},
    "image_text_sim": {"image": 1.0, "text": 1.0},
}

RANDOM = "random"
#: `{sampler: {source: share}}`: the share of the examples that come from each source, a similarity or `"random"`.
SAMPLERS = {
    RANDOM: {RANDOM: 1.0},
    **{kind: {kind: 1.0} for kind in SIMILARITIES},
    "mix": {RANDOM: 0.5, "text_sim": 0.25, "image_sim": 0.25},
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
        f"{' | '.join(SAMPLERS)}: how K are drawn. `image_text_sim` sums both similarities; mix ("
        f"{', '.join(f'{share:.0%} {source}' for source, share in SAMPLERS['mix'].items())}).",
        RANDOM,
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
        if self.modalities and not self.encoder:
            raise ValueError(f"The sampler {self.sampler!r} compares embeddings: set `encoder`, or take 'random'.")

    @property
    def modalities(self) -> tuple[str, ...]:
        """The embeddings that the sampler compares, of `"image"` and `"text"`."""
        return sampler_modalities(self.sampler)


def sampler_modalities(sampler: str) -> tuple[str, ...]:
    """The embeddings that a sampler compares, of `"image"` and `"text"`, none for `random`; raises `ValueError` for an
    unknown sampler."""
    if sampler not in SAMPLERS:
        raise ValueError(f"Unknown sampler {sampler!r}; expected one of {', '.join(SAMPLERS)}.")
    return tuple(sorted({modality for source in SAMPLERS[sampler] for modality in SIMILARITIES.get(source, ())}))
