# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Embeddings, indexes and candidate samplers."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "candidate_sampler": ("CandidateSampler", "sample_candidates"),
        "embeddings": ("ExampleEmbeddings", "embed_examples", "usable_modalities"),
        "sampler_arguments": ("SAMPLERS", "SIMILARITIES", "SamplerArguments"),
        "similarity_index": ("SimilarityIndex", "rank_candidates", "rank_pool"),
    },
)
