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

"""A frozen model that scores and answers, one file a family."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "base_vlm": ("BaseVLM",),
        "causal_lm": ("CausalLM",),
        "chat_vlm": ("ChatVLM",),
        "loading": ("FAMILIES", "load_vlm"),
        "preflight": ("preflight",),
        "prompt_hash": ("prompt_hash",),
        "qwen2_5_vl": ("Qwen2_5_VL",),
        "requests": ("AnswerLogprob", "Request"),
        "vlm_arguments": ("VLMArguments",),
    },
)
