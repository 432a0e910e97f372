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

"""Arguments of offline reinforcement learning of selectors."""

from dataclasses import dataclass, field

from .base_training_config import BaseSelectorTrainingConfig
from .offline_grpo_losses import IMPORTANCE_SAMPLING_LEVELS, LOSS_TYPES, SCALE_REWARDS


@dataclass
class OfflineGRPOConfig(BaseSelectorTrainingConfig):
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

    reward_funcs: list[str] = field(
        default_factory=lambda: ["accuracy"], metadata={"help": "Rewards: names, or package.module:function."}
    )
    reward_weights: list[float] | None = field(default=None, metadata={"help": "Weight of each; 1 if not given."})
    scale_rewards: str = field(
        default="group", metadata={"help": "group | batch | none: whose standard deviation rewards are divided by."}
    )
    advantage_clip: float = field(default=5.0, metadata={"help": "Largest advantage, in either direction."})
    rce_epochs: float = field(default=2.0, metadata={"help": "Epochs of the warm-up, of all num_train_epochs."})
    rce_tau_start: float = field(default=2.0, metadata={"help": "Temperature of the weights when it begins."})
    rce_tau_end: float = field(default=0.5, metadata={"help": "Temperature of the weights when it ends."})
    curriculum_top_k: int = field(default=3, metadata={"help": "Best sequences of a group that count at first."})
    curriculum_epochs: float = field(default=1.0, metadata={"help": "Epochs after the warm-up with these alone."})
    num_iterations: int = field(default=2, metadata={"help": "Optimizer steps in a row on each batch."})
    epsilon: float = field(default=0.2, metadata={"help": "How far below 1 a ratio may fall."})
    epsilon_high: float | None = field(default=None, metadata={"help": "How far above 1; epsilon if not given."})
    importance_sampling_level: str = field(default="step", metadata={"help": "step | sequence: what has a ratio."})
    loss_type: str = field(
        default="grpo", metadata={"help": "grpo | dr_grpo: mean of a sequence's steps, or their sum over a constant."}
    )
    beta: float = field(default=0.04, metadata={"help": "Weight of the KL to the SFT policy, or its first value."})
    adaptive_beta: bool = field(default=True, metadata={"help": "Whether beta keeps the KL in kl_low..kl_high."})
    kl_low: float = field(default=0.01, metadata={"help": "Beta falls below this KL."})
    kl_high: float = field(default=0.1, metadata={"help": "Beta rises above this KL."})
    behaviour_weights: bool = field(default=False, metadata={"help": "Weight sequences by pi / b where b is known."})
    behaviour_weight_cap: float = field(default=2.0, metadata={"help": "Largest such weight."})
    disable_dropout: bool = field(default=True, metadata={"help": "Whether dropout is off."})
    # What follows are other defaults for fields of TrainingArguments: a selector goes on from where SFT left it.
    learning_rate: float = field(default=3e-4, metadata={"help": "Highest learning rate."})
    num_train_epochs: float = field(default=10.0, metadata={"help": "How often each query is seen."})
    metric_for_best_model: str = field(
        default="eval_expected_reward", metadata={"help": "What the best checkpoint is best in."}
    )
    greater_is_better: bool = field(default=True, metadata={"help": "Whether more of it is better."})

    def __post_init__(self):
        self._check_options()
        self._check_ranges()
        self._check_stages()
        super().__post_init__()

    def _check_options(self) -> None:
        options = {
            "scale_rewards": SCALE_REWARDS,
            "loss_type": LOSS_TYPES,
            "importance_sampling_level": IMPORTANCE_SAMPLING_LEVELS,
        }
        for name, known in options.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}.")
        if not self.reward_funcs:
            raise ValueError("reward_funcs is empty; name at least one reward, such as accuracy.")
        if self.reward_weights is not None and len(self.reward_weights) != len(self.reward_funcs):
            raise ValueError(
                f"reward_weights has {len(self.reward_weights)} values for the {len(self.reward_funcs)} rewards "
                f"{', '.join(self.reward_funcs)}; give one for each, or leave them out for 1 each."
            )
        if self.importance_sampling_level == "sequence" and self.loss_type == "dr_grpo":
            raise ValueError(
                "With importance_sampling_level 'sequence' a sequence is a single term, so there are no steps for "
                "loss_type 'dr_grpo' to add up; set loss_type: grpo or importance_sampling_level: step."
            )

    def _check_ranges(self) -> None:
        for name in ("rce_tau_start", "rce_tau_end", "advantage_clip", "behaviour_weight_cap", "epsilon"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")
        for name in ("rce_epochs", "curriculum_epochs", "beta", "kl_low"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it can't be below 0.")
        for name in ("num_iterations", "curriculum_top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not self.epsilon < 1.0:
            raise ValueError(f"epsilon is {self.epsilon}; a ratio is never below 0, so epsilon must be below 1.")
        if self.epsilon_high is not None and self.epsilon_high < self.epsilon:
            raise ValueError(
                f"epsilon_high is {self.epsilon_high}, below epsilon {self.epsilon}; it is meant to leave room to "
                "rise: raise it, or leave it out to use epsilon."
            )
        if self.rce_tau_end > self.rce_tau_start:
            raise ValueError(
                f"rce_tau_end is {self.rce_tau_end}, above rce_tau_start {self.rce_tau_start}; tau falls while the "
                "warm-up sharpens its weights: exchange them."
            )
        if self.adaptive_beta and not 0.0 < self.kl_low < self.kl_high:
            raise ValueError(
                f"kl_low is {self.kl_low} and kl_high {self.kl_high}; with adaptive_beta expected 0 < kl_low < "
                "kl_high."
            )
        if self.adaptive_beta and self.beta == 0.0:
            raise ValueError(
                "beta is 0, which no factor changes; set adaptive_beta: false for training without KL, or a beta "
                "above 0."
            )

    def _check_stages(self) -> None:
        if self.max_steps > 0:  # stands above num_train_epochs, and how many epochs it makes is not known yet
            return
        if self.rce_epochs > self.num_train_epochs:
            raise ValueError(
                f"rce_epochs is {self.rce_epochs}, but there are only {self.num_train_epochs} epochs "
                "(num_train_epochs), warm-up included; raise these or lower rce_epochs."
            )
        left = self.num_train_epochs - self.rce_epochs
        if 0.0 < left <= self.curriculum_epochs:
            raise ValueError(
                f"curriculum_epochs is {self.curriculum_epochs}, but only {left} epochs follow the warm-up, so that "
                f"no sequence beside the best {self.curriculum_top_k} would ever count; lower curriculum_epochs or "
                "raise num_train_epochs."
            )
