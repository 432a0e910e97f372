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

from .beam_dataset import write_beam_dataset
from .beam_generation import BeamArguments, generate_beams, num_scored_sequences, search_unit
from .beam_search import Beams, beam_search, insert, selection_order
from .info_score import ScoredPrompt, answer_score, info_score


__all__ = [
    "BeamArguments",
    "Beams",
    "ScoredPrompt",
    "answer_score",
    "beam_search",
    "generate_beams",
    "info_score",
    "insert",
    "num_scored_sequences",
    "search_unit",
    "selection_order",
    "write_beam_dataset",
]
