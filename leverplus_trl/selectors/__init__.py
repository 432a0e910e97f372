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

"""Selectors: models that choose demonstrations."""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "base_selector": ("BaseSelectorModel", "Selection", "SelectorOutput", "action_mask", "action_step_logprobs"),
        "base_selector_config": ("BaseSelectorConfig", "read_selector_config"),
        "collapse": ("CollapseMeasures", "is_collapsed", "measure_collapse"),
        "configuration_gpt2_selector": ("GPT2SelectorConfig",),
        "configuration_pointer_selector": ("EncoderLoraConfig", "PointerSelectorConfig"),
        "demonstration_selector": ("DemonstrationSelection", "DemonstrationSelector"),
        "modeling_gpt2_selector": ("GPT2SelectorModel",),
        "modeling_pointer_selector": ("PointerSelectorModel",),
        "presets": ("ENCODINGS", "PRESETS"),
        "processing_selector": ("SelectorProcessor",),
    },
)
