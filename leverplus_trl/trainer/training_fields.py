# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The recipe keys that selectors' trainers add to `transformers.TrainingArguments`, or have another default for. They
are apart from the configs, since importing `TrainingArguments` takes seconds."""

import math
import re
from dataclasses import dataclass, fields
from typing import ClassVar

from ..fields import check_fields, documented, option


#: Those of `leverplus_trl.rollouts.REWARDS`.
REWARD_NAMES = (
    *("accuracy", "correct", "hard_plus_soft", "separated", "gt_prob", "relevance_if_wrong", "info_score"),
    *("exact_match", "cover_exact_match", "token_f1", "num_demonstrations"),
)


@documented
@dataclass
class TrainingFields:
    """What all selectors' trainers have: other defaults for fields of `transformers.TrainingArguments`."""

    #: The measures of an evaluation, by which checkpoints can be chosen.
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
    remove_unused_columns: bool = option("Without effect: batches are made of tensors.", False, hidden=True)
    dataloader_pin_memory: bool = option("Whether batches go to pinned memory.", False)
    hub_strategy: str = option("A selector is pushed once, when it is trained: end.", "end")
    label_smoothing_factor: float = option("Without effect on selectors.", 0.0, hidden=True)
    max_steps: int = option("Optimizer steps, in place of num_train_epochs.", -1, min=-1)
    logging_nan_inf_filter: bool = option("Without effect: such a loss stops the run.", False, hidden=True)

    def check(self) -> None:
        """Raises `ValueError` for invalid values, and for invalid combinations of values."""
        check_fields(self, next(kind for kind in type(self).__mro__ if kind.__module__ == __name__))
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} is {value}; expected a finite number.")
        if self.load_best_model_at_end and self.eval_strategy == "no":
            raise ValueError(
                "eval_strategy is 'no', so that no checkpoint is known to be the best; set "
                "load_best_model_at_end: false, or evaluate."
            )
        best = self.metric_for_best_model
        if self.load_best_model_at_end and str(best).removeprefix("eval_") not in self.measures:
            names = ", ".join(f"eval_{name}" for name in self.measures)
            raise ValueError(
                f"metric_for_best_model is {best!r}, which no evaluation measures; expected one of {names}."
            )
        if self.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor has no effect on selectors: leave it out (in `sft`, set label_smoothing)."
            )
        if self.hub_strategy != "end":
            raise ValueError(f"hub_strategy is {self.hub_strategy!r}, but a selector is pushed at the end: set end.")


@documented
@dataclass
class SFTFields(TrainingFields):
    """SFT: how the selector is trained on the scores."""

    measures: ClassVar[tuple[str, ...]] = (
        *("loss", "regret", "recall", "info_score", "info_score_coverage"),
        *("id_entropy", "position_entropy", "most_common_share", "swap_change_share"),
    )

    loss_type: str = option(
        "listwise | beams: the targets of the policy. listwise: cross-entropy to softmax(score / tau) over all "
        "candidates scored after a prefix; beams: cross-entropy to the best beams.",
        "listwise",
        choices=("listwise", "beams"),
    )
    tau: float = option(
        "Temperature of the targets, on the scale of the scores. Take about ten times as much for `score: logprob`, "
        "and more for a metric that is not in 0..1 (CIDEr).",
        0.03,
        above=0,
    )
    top_n: int = option("Beams of each query that the beams loss imitates.", 5, min=1)
    score_weights: str = option(
        "none | softmax: weights of the beams in the beams loss. none: equal; softmax: softmax(score / tau).",
        "none",
        choices=("none", "softmax"),
    )
    label_smoothing: float = option("Share of each target spread over all its candidates.", 0.0, min=0, below=1)
    # Other defaults for fields of TrainingArguments: a selector trains from scratch.
    learning_rate: float = option("Highest learning rate.", 3e-3, min=0)
    weight_decay: float = option("Weight decay of matrices.", 1.0, min=0)
    num_train_epochs: float = option("How often each query is seen.", 50.0, above=0)
    metric_for_best_model: str = option("The metric that chooses the best checkpoint.", "eval_regret")
    greater_is_better: bool = option("Whether more of it is better.", False)

    def check(self) -> None:
        """As [`TrainingFields.check`]."""
        super().check()
        if self.score_weights != "none" and self.loss_type != "beams":
            raise ValueError(
                f"score_weights is {self.score_weights!r}, but loss_type is {self.loss_type!r}; set loss_type: beams "
                "or leave score_weights out."
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
        "Rewards: names of `leverplus_trl.rollouts.REWARDS`, or package.module:function.",
        ["accuracy"],
        not_empty=True,
        unique=True,
    )
    reward_weights: list[float] | None = option("Weight of each; 1 if not given.", None, not_empty=True)
    scale_rewards: str = option(
        "group | batch | none: whose standard deviation rewards are divided by. batch counts all processes and "
        "accumulated micro-batches.",
        "group",
        choices=("group", "batch", "none"),
    )
    advantage_clip: float = option("Largest advantage, in either direction.", 5.0, above=0)
    rce_epochs: float = option("Epochs of the warm-up by reward-weighted cross-entropy (RCE), of all.", 2.0, min=0)
    rce_tau_start: float = option("First temperature of its weights; it falls linearly.", 2.0, above=0)
    rce_tau_end: float = option("Last temperature of its weights.", 0.5, above=0)
    curriculum_top_k: int = option("Best sequences of a group that count at first, and their ties.", 3, min=1)
    curriculum_epochs: float = option("Epochs after the warm-up with these alone.", 1.0, min=0)
    num_iterations: int = option("Optimizer steps in a row on each batch. With 1 nothing is clipped.", 2, min=1)
    epsilon: float = option("How far below 1 a ratio may fall before it is clipped.", 0.2, above=0, below=1)
    epsilon_high: float | None = option("How far above 1; epsilon if not given.", None, above=0)
    importance_sampling_level: str = option(
        "step | sequence: what has a ratio. An action is a step, not a token as in trl; the ratio of a sequence is "
        "the product of those of its steps.",
        "step",
        choices=("step", "sequence"),
    )
    loss_type: str = option(
        "grpo | dr_grpo: mean of a sequence's steps, or their sum over a constant. They differ only for selectors "
        "with `stop`, whose sequences differ in length.",
        "grpo",
        choices=("grpo", "dr_grpo"),
    )
    beta: float = option("Weight of the KL to the SFT policy, or its first value.", 0.04, min=0)
    adaptive_beta: bool = option("Whether beta keeps the KL (nats a step) in kl_low..kl_high.", True)
    kl_low: float = option("Beta falls below this KL.", 0.01, min=0)
    kl_high: float = option("Beta rises above this KL.", 0.1, above=0)
    behaviour_weights: bool = option(
        "Weight sequences by pi / b where b is known. b is the probability with which their source drew them: samples "
        "of the selector, and random sequences.",
        False,
    )
    behaviour_weight_cap: float = option("Largest such weight.", 2.0, above=0)
    disable_dropout: bool = option("Whether dropout is off. Ratios then compare policies, not dropout masks.", True)
    # Other defaults for fields of TrainingArguments: a selector goes on from where SFT left it.
    learning_rate: float = option("Highest learning rate.", 3e-4, min=0)
    num_train_epochs: float = option("How often each query is seen.", 10.0, above=0)
    metric_for_best_model: str = option("The metric that chooses the best checkpoint.", "eval_expected_reward")
    greater_is_better: bool = option("Whether more of it is better.", True)

    def check(self) -> None:
        """As [`TrainingFields.check`]."""
        super().check()
        for name in self.reward_funcs:
            if name not in REWARD_NAMES and not re.fullmatch(r"[\w.]+:\w+", name):
                expected = f"{', '.join(REWARD_NAMES)}, or your own `package.module:function`"
                raise ValueError(f"reward_funcs names {name!r}; expected one of {expected}.")
        if self.reward_weights is not None and len(self.reward_weights) != len(self.reward_funcs):
            raise ValueError(
                f"reward_weights has {len(self.reward_weights)} values for the {len(self.reward_funcs)} rewards "
                f"{', '.join(self.reward_funcs)}; expected one for each, or none at all."
            )
        if self.importance_sampling_level == "sequence" and self.loss_type == "dr_grpo":
            raise ValueError(
                "loss_type 'dr_grpo' sums over steps, and importance_sampling_level 'sequence' has one term for each "
                "sequence: set loss_type: grpo, or importance_sampling_level: step."
            )
        if self.epsilon_high is not None and self.epsilon_high < self.epsilon:
            raise ValueError(f"epsilon_high is {self.epsilon_high}, below epsilon {self.epsilon}: raise it.")
        if self.rce_tau_end > self.rce_tau_start:
            raise ValueError(
                f"rce_tau_end is {self.rce_tau_end}, above rce_tau_start {self.rce_tau_start}: exchange them."
            )
        if self.adaptive_beta and not 0.0 < self.kl_low < self.kl_high:
            raise ValueError(f"kl_low is {self.kl_low} and kl_high {self.kl_high}; expected 0 < kl_low < kl_high.")
        if self.adaptive_beta and self.beta == 0.0:
            raise ValueError("beta is 0, which adaptive_beta can't change; set adaptive_beta: false, or beta above 0.")
        if self.max_steps > 0:  # overrides num_train_epochs; the number of batches is not known yet
            self.check_max_steps(1)
            return
        left = self.num_train_epochs - self.rce_epochs
        if left < 0.0:
            raise ValueError(
                f"rce_epochs is {self.rce_epochs}, but there are only {self.num_train_epochs} epochs "
                "(num_train_epochs): lower it, or raise these."
            )
        if 0.0 < left <= self.curriculum_epochs:
            raise ValueError(
                f"curriculum_epochs is {self.curriculum_epochs}, but only {left} epochs follow the warm-up, so only "
                f"the best {self.curriculum_top_k} sequences would count; lower it or raise num_train_epochs."
            )

    def check_max_steps(self, num_batches: int) -> None:
        """Raises `ValueError` if max_steps ends training within the warm-up, although num_train_epochs does not.
        `num_batches` are the batches of an epoch."""
        warm_up = self.num_iterations * round(self.rce_epochs * num_batches)
        if 0 < self.max_steps <= warm_up and self.rce_epochs < self.num_train_epochs:
            raise ValueError(
                f"max_steps is {self.max_steps}, but the warm-up (rce_epochs {self.rce_epochs}, num_iterations "
                f"{self.num_iterations}) takes {'at least ' * (num_batches == 1)}{warm_up} steps: GRPO would never "
                "begin. Raise max_steps or lower rce_epochs."
            )
