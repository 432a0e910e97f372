# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A KL weight that adapts to keep the KL in a range."""

import math

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


#: The factor by which beta changes in a step, and the range of beta.
BETA_FACTOR, BETA_RANGE = 1.3, (1e-4, 10.0)


class AdaptiveBeta(TrainerCallback, ExportableState):
    """
    The weight of the KL. It rises while the KL is above `kl_high`, falls while the KL is below `kl_low`, and returns
    to its first value in between: a beta that stayed high would pull the policy back to the SFT policy.
    Checkpoints store the value.

    Args:
        beta (`float`):
            First value.
        kl_low, kl_high (`float`):
            The range.
    """

    def __init__(self, beta: float, kl_low: float, kl_high: float, first_beta: float | None = None):
        self.beta, self.kl_low, self.kl_high = beta, kl_low, kl_high
        self.first_beta = beta if first_beta is None else first_beta

    def update(self, kl: float) -> None:
        """Adapts beta to the KL of a step; raises `ValueError` for a KL that is NaN or infinite."""
        if not math.isfinite(kl):
            raise ValueError(
                f"The KL to the SFT policy is {kl}: training has diverged. Lower learning_rate, or train without fp16."
            )
        least, most = BETA_RANGE
        if kl > self.kl_high:
            self.beta = min(self.beta * BETA_FACTOR, most)
        elif kl < self.kl_low:
            self.beta = max(self.beta / BETA_FACTOR, least)
        elif self.beta > self.first_beta:
            self.beta = max(self.beta / BETA_FACTOR, self.first_beta)
        else:
            self.beta = min(self.beta * BETA_FACTOR, self.first_beta)

    def state(self) -> dict:
        args = {"beta": self.beta, "kl_low": self.kl_low, "kl_high": self.kl_high, "first_beta": self.first_beta}
        return {"args": args, "attributes": {}}

    def on_train_begin(self, args, state, control, **kwargs):
        # transformers restores callbacks only with `restore_callback_states_from_checkpoint`.
        self.beta = state.stateful_callbacks[type(self).__name__]["args"]["beta"]
