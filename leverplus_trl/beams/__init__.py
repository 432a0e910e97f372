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

"""Beam search over ordered demonstrations, InfoScore, and the tables that a search leaves."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "beam_arguments": ("BeamArguments",),
        "beam_dataset": ("write_beam_dataset",),
        "beam_generation": ("generate_beams", "num_scored_sequences", "search_unit"),
        "beam_search": ("Beams", "beam_search", "insert", "selection_order"),
        "info_score": ("ScoredPrompt", "answer_score", "info_score"),
    },
)
