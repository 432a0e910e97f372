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
The metrics by name, what each needs of an example, and all that apply side by side.

Each is a folder, so that `evaluate.load("leverplus_trl/metrics/anls")` finds it from the repository's root (elsewhere:
`evaluate.load(f"{leverplus_trl.metrics.__path__[0]}/anls")`), and a plain function in it; that of GSM8K gives both
`gsm8k_strict` and `gsm8k_flexible`.
"""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "cider.cider": ("DocumentFrequencies", "document_frequencies"),
        "metrics": ("METRICS", "Metric", "all_metrics"),
        "names": ("METRIC_NAMES",),
    },
)
