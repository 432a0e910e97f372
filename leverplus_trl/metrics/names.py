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

"""The names of the metrics, for those who need no more of them."""

METRIC_NAMES = (
    "exact_match",
    "cover_exact_match",
    "token_f1",
    "accuracy",
    "vqa_accuracy",
    "vqa_accuracy_normalized",
    "okvqa_accuracy",
    "anls",
    "cider",
    "option_accuracy",
    "scienceqa_accuracy",
    "mmbench_accuracy",
    "gsm8k_strict",
    "gsm8k_flexible",
)
