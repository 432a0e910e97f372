# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that selectors' trainers add to `transformers.TrainingArguments`, or have another default for.

Apart from the configs, since importing `TrainingArguments` takes seconds.
"""

import math
import re
from dataclasses import dataclass, fields
from typing import ClassVar

from ..fields import check_fields, documented, option


LOSS_TYPES = ("listwise", "beams")
SCORE_WEIGHTS = ("none", "softmax")
SCALE_REWARDS = ("group", "batch", "none")
GRPO_LOSS_TYPES = ("grpo", "dr_grpo")
IMPORTANCE_SAMPLING_LEVELS = ("step", "sequence")
#: Those of `leverplus_trl.rollouts.REWARDS`.
REWARD_NAMES = (
    *("accuracy", "correct", "hard_plus_soft", "separated", "gt_prob", "relevance_if_wrong", "info_score"),
    *("exact_match", "cover_exact_match", "token_f1", "num_demonstrations"),
)

#: Of fields whose defaults differ between the trainers.
_LEARNING_RATE = {"help": "Highest learning rate.", "min": 0}
_NUM_TRAIN_EPOCHS = {"help": "How often each query is seen.", "above": 0}
_METRIC_FOR_BEST_MODEL = {"help": "What the best checkpoint is best in."}
_GREATER_IS_BETTER = {"help": "Whether more of it is better."}


@documented
@dataclass
class TrainingFields:
    """What all selectors' trainers have: other defaults for fields of `transformers.TrainingArguments`."""

    #: What an evaluation measures, and checkpoints can be chosen by.
    measures: ClassVar[tuple[str, ...]] = ()

    output_dir: str = option("Where the selector goes.", path="folder")
    lr_scheduler_type: str = option("How the learning rate changes.", "cosine")
    warmup_steps: float = option("Warm-up: steps, or a share of all below 1.", 0.05, min=0)
    per_device_train_batch_size: int = option("Queries in a batch, on each device.", 32, min=1)
    per_device_eval_batch_size: int = option("The same while evaluating.", 64, min=1)
    eval_strategy: str = option("When to evaluate: no | steps | epoch.", "steps")
    eval_steps: float = option("Steps between evaluations, or a share of all below 1.", 0.1, above=0)
    save_strategy: str = option("When to save: no | steps | epoch | best.", "steps")
    save_steps: float = option("Steps between checkpoints, or a share of all below 1.", 0.1, above=0)
    save_total_limit: int = option("Checkpoints kept, besides the best one.", 1, min=1)
    logging_steps: float = option("Steps between logs, or a share of all below 1.", 0.02, above=0)
    load_best_model_at_end: bool = option("Keep the best checkpoint, not the last.", True)
    remove_unused_columns: bool = option(
        "Without effect: batches are gathered from tensors, not from columns.", False, hidden=True
    )
    dataloader_pin_memory: bool = option("Whether batches go to pinned memory.", False)
    hub_strategy: str = option("A selector is pushed once, when it is trained: end.", "end")
    label_smoothing_factor: float = option("Without effect on selectors.", 0.0, hidden=True)
    max_steps: int = option("Optimizer steps, in place of num_train_epochs.", -1, min=-1)
    logging_nan_inf_filter: bool = option(
        "Without effect: a loss that is NaN or infinite stops the run.", False, hidden=True
    )

    def check(self) -> None:
        """Raises `ValueError` for a value that is not finite, has no effect on selectors, or names no measure."""
        check_fields(self, next(kind for kind in type(self).__mro__ if kind.__module__ == __name__))
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{one.name} is {value}; expected a finite number.")
        self._check_best_model()
        if self.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor has no effect on selectors; leave it out (in `sft`, set label_smoothing)."
            )
        if self.hub_strategy != "end":
            raise ValueError(
                f"hub_strategy is {self.hub_strategy!r}, but a selector is pushed once, after training: leave it out."
            )

    def _check_best_model(self) -> None:
        if not self.load_best_model_at_end:
            return
        if self.eval_strategy == "no":
            raise ValueError(
                "eval_strategy is 'no', so that no checkpoint is known to be the best; set "
                "`load_best_model_at_end: false` to keep the last weights, or evaluate."
            )
        if str(self.metric_for_best_model).removeprefix("eval_") not in self.measures:
            raise ValueError(
                f"metric_for_best_model is {self.metric_for_best_model!r}, which no evaluation measures; expected one "
                f"of {', '.join(f'eval_{name}' for name in self.measures)}."
            )


@documented
@dataclass
class SFTFields(TrainingFields):
    """SFT: how the selector is trained on the scores."""

    measures: ClassVar[tuple[str, ...]] = (
        *("loss", "regret", "recall", "info_score", "info_score_coverage"),
        *("id_entropy", "position_entropy", "most_common_share", "swap_change_share"),
    )

    loss_type: str = option(
        "listwise | beams: what the policy is drawn to. listwise: cross-entropy to softmax(score / tau) over "
        "all candidates scored after a prefix; beams: cross-entropy to the best beams.",
        "listwise",
        choices=LOSS_TYPES,
    )
    tau: float = option(
        "Temperature of the targets, on the scale of the scores. Take about ten times as much for `score: "
        "logprob`, and more for a metric that is not in 0..1 (CIDEr).",
        0.03,
        above=0,
    )
    top_n: int = option("Beams of each query that the beams loss imitates.", 5, min=1)
    score_weights: str = option(
        "none | softmax: how the beams loss weighs the beams of a query. none weighs all alike, softmax by "
        "softmax(score / tau).",
        "none",
        choices=SCORE_WEIGHTS,
    )
    label_smoothing: float = option(
        "Share of each target that is spread over all candidates in question.", 0.0, min=0, below=1
    )
    # What follows are other defaults for fields of TrainingArguments: a selector trains from scratch.
    learning_rate: float = option(**_LEARNING_RATE, default=3e-3)
    weight_decay: float = option("Weight decay of matrices.", 1.0, min=0)
    num_train_epochs: float = option(**_NUM_TRAIN_EPOCHS, default=50.0)
    metric_for_best_model: str = option(**_METRIC_FOR_BEST_MODEL, default="eval_regret")
    greater_is_better: bool = option(**_GREATER_IS_BETTER, default=False)

    def check(self) -> None:
        """Raises `ValueError` for invalid values and invalid combinations of values."""
        super().check()
        if self.score_weights != "none" and self.loss_type != "beams":
            raise ValueError(
                f"score_weights is {self.score_weights!r}, but only loss_type 'beams' uses it, and loss_type is "
                f"{self.loss_type!r}; set loss_type: beams or leave score_weights out."
            )


@documented
@dataclass
class OfflineGRPOFields(TrainingFields):
    """GRPO: how the selector is trained on the rewards."""

    measures: ClassVar[tuple[str, ...]] = (
        *("expected_reward", "sft_expected_reward", "expected_reward_gain", "greedy_reward", "greedy_reward_coverage"),
        *("changed", "kl", "entropy", "id_entropy", "position_entropy", "most_common_share", "swap_change_share"),
    )

    reward_funcs: list[str] = option(
        "Rewards: names, or package.module:function. Names are those of `leverplus_trl.rollouts.REWARDS`; "
        "rewards are computed from the stored measures.",
        ["accuracy"],
        not_empty=True,
        unique=True,
    )
    reward_weights: list[float] | None = option("Weight of each; 1 if not given.", None, not_empty=True)
    scale_rewards: str = option(
        "group | batch | none: whose standard deviation rewards are divided by. batch counts all processes "
        "and accumulated micro-batches.",
        "group",
        choices=SCALE_REWARDS,
    )
    advantage_clip: float = option("Largest advantage, in either direction.", 5.0, above=0)
    rce_epochs: float = option(
        "Epochs of the warm-up, of all num_train_epochs. It is a reward-weighted cross-entropy (RCE), and "
        "comes first.",
        2.0,
        min=0,
    )
    rce_tau_start: float = option(
        "Temperature of the weights when it begins. It falls linearly to rce_tau_end.", 2.0, above=0
    )
    rce_tau_end: float = option("Temperature of the weights when it ends.", 0.5, above=0)
    curriculum_top_k: int = option(
        "Best sequences of a group that count at first. Those that tie with them count, too.", 3, min=1
    )
    curriculum_epochs: float = option("Epochs after the warm-up with these alone.", 1.0, min=0)
    num_iterations: int = option(
        "Optimizer steps in a row on each batch. With 1 all ratios are 1 and nothing is clipped.", 2, min=1
    )
    epsilon: float = option("How far below 1 a ratio may fall. Beyond, it is clipped.", 0.2, above=0, below=1)
    epsilon_high: float | None = option("How far above 1; epsilon if not given.", None, above=0)
    importance_sampling_level: str = option(
        "step | sequence: what has a ratio. An action is a step, not a token as in trl; the ratio of a "
        "sequence is the product of those of its steps.",
        "step",
        choices=IMPORTANCE_SAMPLING_LEVELS,
    )
    loss_type: str = option(
        "grpo | dr_grpo: mean of a sequence's steps, or their sum over a constant. They differ only for "
        "selectors with `stop`, whose sequences differ in length.",
        "grpo",
        choices=GRPO_LOSS_TYPES,
    )
    beta: float = option("Weight of the KL to the SFT policy, or its first value.", 0.04, min=0)
    adaptive_beta: bool = option(
        "Whether beta keeps the KL in kl_low..kl_high. The KL is measured in nats a step.", True
    )
    kl_low: float = option("Beta falls below this KL.", 0.01, min=0)
    kl_high: float = option("Beta rises above this KL.", 0.1, above=0)
    behaviour_weights: bool = option(
        "Weight sequences by pi / b where b is known. b is the probability with which their source drew them:"
        " samples of the selector, and random ones.",
        False,
    )
    behaviour_weight_cap: float = option("Largest such weight.", 2.0, above=0)
    disable_dropout: bool = option("Whether dropout is off. Ratios then compare policies, not dropout masks.", True)
    # What follows are other defaults for fields of TrainingArguments: a selector goes on from where SFT left it.
    learning_rate: float = option(**_LEARNING_RATE, default=3e-4)
    num_train_epochs: float = option(**_NUM_TRAIN_EPOCHS, default=10.0)
    metric_for_best_model: str = option(**_METRIC_FOR_BEST_MODEL, default="eval_expected_reward")
    greater_is_better: bool = option(**_GREATER_IS_BETTER, default=True)

    def check(self) -> None:
        """Raises `ValueError` for invalid values and invalid combinations of values."""
        super().check()
        self._check_together()
        self._check_stages()

    def _check_together(self) -> None:
        for name in self.reward_funcs:
            if name not in REWARD_NAMES and not re.fullmatch(r"[\w.]+:\w+", name):
                raise ValueError(
                    f"reward_funcs names {name!r}; expected one of {', '.join(REWARD_NAMES)}, or the import path "
                    "`package.module:function` of your own."
                )
        if self.reward_weights is not None and len(self.reward_weights) != len(self.reward_funcs):
            raise ValueError(
                f"reward_weights has {len(self.reward_weights)} values for the {len(self.reward_funcs)} rewards "
                f"{', '.join(self.reward_funcs)}; give one for each, or leave them out for 1 each."
            )
        if self.importance_sampling_level == "sequence" and self.loss_type == "dr_grpo":
            raise ValueError(
                "loss_type 'dr_grpo' sums over steps, but importance_sampling_level 'sequence' has one term for each "
                "sequence; set loss_type: grpo or importance_sampling_level: step."
            )
        if self.epsilon_high is not None and not self.epsilon_high >= self.epsilon:
            raise ValueError(
                f"epsilon_high is {self.epsilon_high}, below epsilon {self.epsilon}; expected at least epsilon: "
                "raise it, or leave it out to use epsilon."
            )
        if not self.rce_tau_end <= self.rce_tau_start:
            raise ValueError(
                f"rce_tau_end is {self.rce_tau_end}, above rce_tau_start {self.rce_tau_start}; tau must fall "
                "during the warm-up: exchange them."
            )
        if self.adaptive_beta and not 0.0 < self.kl_low < self.kl_high:
            raise ValueError(
                f"kl_low is {self.kl_low} and kl_high {self.kl_high}; with adaptive_beta expected 0 < kl_low < "
                "kl_high."
            )
        if self.adaptive_beta and self.beta == 0.0:
            raise ValueError(
                "beta is 0, which adaptive_beta can't change, since it multiplies beta; set adaptive_beta: false for "
                "training without KL, or a beta above 0."
            )

    def warm_up_steps(self, num_batches: int) -> int:
        """Optimizer steps of the warm-up if an epoch has `num_batches` batches."""
        return self.num_iterations * round(self.rce_epochs * num_batches)

    def check_max_steps(self, num_batches: int) -> None:
        """Raises `ValueError` if max_steps ends training within the warm-up, although num_train_epochs does not."""
        warm_up = self.warm_up_steps(num_batches)
        if 0 < self.max_steps <= warm_up and self.rce_epochs < self.num_train_epochs:
            raise ValueError(
                f"max_steps is {self.max_steps}, but the warm-up (rce_epochs {self.rce_epochs}, num_iterations "
                f"{self.num_iterations}) takes {'at least ' * (num_batches == 1)}{warm_up} steps: GRPO would never "
                "begin. Raise max_steps or lower rce_epochs."
            )

    def _check_stages(self) -> None:
        if self.max_steps > 0:  # overrides num_train_epochs; the number of batches is not known yet
            self.check_max_steps(1)
            return
        if not self.rce_epochs <= self.num_train_epochs:
            raise ValueError(
                f"rce_epochs is {self.rce_epochs}, but there are only {self.num_train_epochs} epochs "
                "(num_train_epochs), warm-up included; raise these or lower rce_epochs."
            )
        left = self.num_train_epochs - self.rce_epochs
        if 0.0 < left <= self.curriculum_epochs:
            raise ValueError(
                f"curriculum_epochs is {self.curriculum_epochs}, but only {left} epochs follow the warm-up, so "
                f"only the best {self.curriculum_top_k} sequences would ever count; lower curriculum_epochs or raise "
                "num_train_epochs."
            )
