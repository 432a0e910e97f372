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

"""
Selectors: models that choose demonstrations. Importing this registers them with the Auto classes of transformers.
"""

from transformers import AutoConfig, AutoModel, AutoProcessor

from .base_selector import BaseSelectorModel, Selection, SelectorOutput, action_mask, action_step_logprobs
from .base_selector_config import BaseSelectorConfig, read_selector_config
from .collapse import CollapseMeasures, is_collapsed, measure_collapse
from .configuration_gpt2_selector import GPT2SelectorConfig
from .configuration_pointer_selector import EncoderLoraConfig, PointerSelectorConfig
from .demonstration_selector import DemonstrationSelection, DemonstrationSelector
from .modeling_gpt2_selector import GPT2SelectorModel
from .modeling_pointer_selector import PointerSelectorModel
from .presets import ENCODINGS, PRESETS
from .processing_selector import SelectorProcessor


for config, model in ((PointerSelectorConfig, PointerSelectorModel), (GPT2SelectorConfig, GPT2SelectorModel)):
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, model)
    AutoProcessor.register(config, SelectorProcessor)

__all__ = [
    "ENCODINGS",
    "PRESETS",
    "BaseSelectorConfig",
    "BaseSelectorModel",
    "CollapseMeasures",
    "DemonstrationSelection",
    "DemonstrationSelector",
    "EncoderLoraConfig",
    "GPT2SelectorConfig",
    "GPT2SelectorModel",
    "PointerSelectorConfig",
    "PointerSelectorModel",
    "Selection",
    "SelectorOutput",
    "SelectorProcessor",
    "action_mask",
    "action_step_logprobs",
    "is_collapsed",
    "measure_collapse",
    "read_selector_config",
]
