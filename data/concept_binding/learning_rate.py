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
The learning rate's course, common to the tiny models.
"""

import math

import torch


def set_learning_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int, flat: float) -> None:
    """
    Warm-up over 5% of the steps (at most 200), then the peak, then a half cosine down to 3% of it.

    Args:
        optimizer (`torch.optim.Optimizer`): its parameter groups all get the same rate.
        peak (`float`): highest rate.
        step (`int`): this step, from 0.
        steps (`int`): number of steps.
        flat (`float`): share of the steps after which the rate falls.
    """
    warm_up = min(1.0, (step + 1) / max(1, min(200, steps // 20)))
    fall = max(0.0, step / steps - flat) / (1 - flat)
    for group in optimizer.param_groups:
        group["lr"] = peak * warm_up * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * fall)))
