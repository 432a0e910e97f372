# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Embeddings, indexes and candidate samplers."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "candidate_sampler": ("CandidateSampler", "sample_candidates"),
        "embeddings": ("embed_examples", "usable_modalities"),
        "example_embeddings": ("ExampleEmbeddings",),
        "sampler_arguments": ("SAMPLERS", "SIMILARITIES", "SamplerArguments"),
        "similarity_index": ("SimilarityIndex", "rank_candidates", "rank_pool"),
    },
)
