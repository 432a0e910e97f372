# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

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
