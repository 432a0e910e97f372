# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Arguments of offline reinforcement learning of selectors."""

from dataclasses import dataclass

from .base_training_config import BaseSelectorTrainingConfig
from .training_fields import OfflineGRPOFields


@dataclass
class OfflineGRPOConfig(OfflineGRPOFields, BaseSelectorTrainingConfig):
    """
    Arguments of [`OfflineGRPOTrainer`]: those of `transformers.TrainingArguments`, some with other defaults, and
    these. Names that trl's `GRPOConfig` has, too, mean here what they mean there, but for
    `importance_sampling_level`: an action is a step, not a token, and the ratio of a sequence is the product of
    theirs.

    Args:
        reward_funcs (`list[str]`, *optional*, defaults to `["accuracy"]`):
            Rewards of `leverplus_trl.rollouts.REWARDS`, or import paths `package.module:function`; computed from the
            stored measures.
        reward_weights (`list[float]`, *optional*, defaults to 1 for each):
            What each of them is multiplied by before they are added up.
        scale_rewards (`str`, *optional*, defaults to `"group"`):
            What a reward's distance from the mean of its group is divided by: the standard deviation of the `"group"`,
            of the `"batch"` (all processes and accumulated micro-batches), or nothing (`"none"`).
        advantage_clip (`float`, *optional*, defaults to 5.0):
            Largest advantage, in either direction.
        rce_epochs (`float`, *optional*, defaults to 2.0):
            How many of the `num_train_epochs` are the warm-up by reward-weighted cross-entropy, which comes first.
        rce_tau_start, rce_tau_end (`float`, *optional*, default to 2.0 and 0.5):
            Temperature of the weights at the first and the last step of the warm-up; linear in between.
        curriculum_top_k (`int`, *optional*, defaults to 3):
            How many of the best sequences of each group (and what ties with them) count at first.
        curriculum_epochs (`float`, *optional*, defaults to 1.0):
            For how many epochs after the warm-up; then all sequences count.
        num_iterations (`int`, *optional*, defaults to 2):
            How many optimizer steps in a row are taken on each batch. With 1 all ratios are 1 and nothing is clipped.
        epsilon (`float`, *optional*, defaults to 0.2):
            How far below 1 a ratio may fall before it is clipped.
        epsilon_high (`float`, *optional*, defaults to `epsilon`):
            How far above 1 it may rise.
        importance_sampling_level (`str`, *optional*, defaults to `"step"`):
            Ratios of each `"step"`, or of the whole `"sequence"` (their product).
        loss_type (`str`, *optional*, defaults to `"grpo"`):
            How terms of steps become one of a sequence: `"grpo"`, their mean; `"dr_grpo"`, their sum over the constant
            S. They differ only where sequences differ in length, that is for selectors with `stop`.
        beta (`float`, *optional*, defaults to 0.04):
            Weight of the KL to the SFT policy; with `adaptive_beta` its first value.
        adaptive_beta (`bool`, *optional*, defaults to `True`):
            Whether beta rises after steps with a KL above `kl_high` and falls after steps with one below `kl_low`.
        kl_low, kl_high (`float`, *optional*, default to 0.01 and 0.1):
            Where the KL is meant to stay, in nats a step.
        behaviour_weights (`bool`, *optional*, defaults to `False`):
            Whether sequences are weighted by min(pi / b, `behaviour_weight_cap`) where it is known with which
            probability b their source drew them (samples of the selector, and random ones).
        behaviour_weight_cap (`float`, *optional*, defaults to 2.0):
            Largest such weight.
        disable_dropout (`bool`, *optional*, defaults to `True`):
            Whether dropout is off, so that ratios compare policies and not dropout masks.
    """
