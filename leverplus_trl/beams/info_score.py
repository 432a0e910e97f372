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

"""InfoScore: how much a sequence of demonstrations helps the VLM to say the right answer."""

import math


SCORES = ("prob", "logprob")


def answer_score(answer_logprob: float, num_answer_tokens: int, score: str = "prob") -> float:
    """The length-normalised probability exp(logprob / tokens) of an answer, or its logarithm with
    `score="logprob"`."""
    value = answer_logprob / num_answer_tokens
    return math.exp(value) if score == "prob" else value


def info_score(
    answer_logprob: float,
    num_answer_tokens: int,
    zero_shot_logprob: float,
    zero_shot_num_tokens: int,
    score: str = "prob",
) -> float:
    """
    InfoScore(q, S) = answer_score(q, S) - answer_score(q, no demonstrations).

    Larger is better for every VLM; negative means that the demonstrations hurt. Lever-LM (Yang et al., NeurIPS 2024)
    uses the scale of probabilities, the default here.
    """
    return answer_score(answer_logprob, num_answer_tokens, score) - answer_score(
        zero_shot_logprob, zero_shot_num_tokens, score
    )
