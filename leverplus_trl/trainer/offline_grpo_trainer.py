# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Offline reinforcement learning of selectors on stored rollouts.

Departures from the papers (GRPO, Shao et al., 2024; RCE and its use for demonstrations, Lever-Plus) and from TRL's
`GRPOTrainer`, and their reasons:
- Nothing is generated: the sequences of a group and their rewards are stored, so a new reward needs no VLM.
- pi_old is the policy before the `num_iterations` updates on a batch. The reference code uses the SFT policy, against
  which the ratios reach the clip and the policy stops moving.
- The KL is exact: it sums over all allowed actions at each step of the stored sequences, which are few. TRL estimates
  it from the chosen tokens. beta adapts to keep the KL in a range.
- The ratio of a sequence is the product of the ratios of its steps, not their geometric mean (GSPO), since sequences
  are short.
- Standard deviations have no Bessel correction, which would shrink the advantages of small groups.
- A group whose rewards are all equal is skipped, KL included.
- The curriculum starts with the best sequences of each group, with their advantages in the whole group: among
  themselves their rewards are mostly equal.
- Dropout is off, so that ratios compare policies and not dropout masks.
- The SFT policy is evaluated first, as a candidate for the best checkpoint. If no later checkpoint is better on the
  held-out queries, its weights are kept.
- A policy that does not move is reported, with the likely cause.
"""

import logging
import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy, get_last_checkpoint
from trl.trainer.utils import disable_dropout_in_model

from ..selectors import BaseSelectorModel, action_mask, action_step_logprobs
from . import offline_grpo_losses as losses
from . import policy_measures as measures
from .base_selector_dataset import RepeatedBlocks
from .base_selector_trainer import BaseSelectorTrainer
from .model_card import grpo_card
from .offline_grpo_config import OfflineGRPOConfig
from .pixel_dataset import Batch, PixelDataset, embed_inputs
from .policy_measures import sequence_logits
from .rollout_dataset import RolloutDataset


logger = logging.getLogger(__name__)

#: The factor by which beta changes in a step, and the range of beta.
BETA_FACTOR, BETA_RANGE = 1.3, (1e-4, 10.0)


class AdaptiveBeta(TrainerCallback, ExportableState):
    """The weight of the KL, `beta` at first. It rises while the KL is above `kl_high`, falls while the KL is below
    `kl_low`, and returns to its first value in between: a beta that stayed high would pull the policy back to the SFT
    policy. Checkpoints store the value."""

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
        return {"args": dict(vars(self)), "attributes": {}}

    def on_train_begin(self, args, state, control, **kwargs):
        # transformers restores callbacks only with `restore_callback_states_from_checkpoint`.
        self.beta = state.stateful_callbacks[type(self).__name__]["args"]["beta"]


class CompeteWithSFT(TrainerCallback):
    """Evaluates the SFT policy before the first step: a checkpoint must beat its metric."""

    def __init__(self, trainer: "OfflineGRPOTrainer"):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0 and args.eval_strategy != IntervalStrategy.NO and args.metric_for_best_model:
            state.best_metric = self.trainer.evaluate()[self.trainer.best_metric_name]


class OfflineGRPOTrainer(BaseSelectorTrainer):
    """
    Trains a selector by reward: a warm-up with reward-weighted cross-entropy (RCE), then a clipped group-relative
    policy gradient (GRPO) with a KL penalty to the SFT policy.

    The arguments are those of [`BaseSelectorTrainer`], with [`OfflineGRPOConfig`] and [`RolloutDataset`]s. The weights
    of `model` are the SFT policy; `eval_dataset` chooses the best checkpoint.
    """

    _block_sampler = RepeatedBlocks
    selection_metrics = staticmethod(measures.rollout_metrics)
    query_measures = staticmethod(measures.measure_groups)

    def __init__(
        self,
        model: BaseSelectorModel,
        args: OfflineGRPOConfig,
        train_dataset: RolloutDataset | PixelDataset,
        eval_dataset: RolloutDataset | PixelDataset | None = None,
        **kwargs,
    ):
        super().__init__(model, args, train_dataset, eval_dataset, **kwargs)
        self.num_iterations = args.num_iterations
        if args.rce_epochs > 0 and self._num_steps(args.rce_epochs) == 0:
            raise ValueError(
                f"rce_epochs is {args.rce_epochs}, which is less than half a batch of these {len(train_dataset)} "
                "queries, so there would be no warm-up; set it to 0 or raise it."
            )
        args.check_max_steps(-(-len(train_dataset) // self.get_total_train_batch_size(args)))
        if args.disable_dropout:
            disable_dropout_in_model(model)
        with self.compute_loss_context_manager():  # the precision of training, or rounding would look like a change
            for dataset in (train_dataset, eval_dataset):
                if dataset is not None:
                    measures.set_reference(model, dataset, args.eval_batch_size)
        self._sft_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        self._stop = model.config.stop
        self._old_policy: list[Tensor] = []  # [B, G, S] for each micro-batch of the current block
        self._sums: dict[str, Tensor] = {}  # sum and count of each measure since the last log
        self._step_kl: list[Tensor] = []
        self._warned: set[str] = set()
        self.add_callback(AdaptiveBeta(args.beta, args.kl_low, args.kl_high))
        self.add_callback(CompeteWithSFT(self))

    @property
    def adaptive_beta(self) -> AdaptiveBeta:
        """The callback, looked up, since transformers may replace it after a resume."""
        return next(item for item in self.callback_handler.callbacks if isinstance(item, AdaptiveBeta))

    def tau(self) -> float | None:
        """Temperature of the warm-up at this step; `None` after the warm-up."""
        args, steps = self.args, self._num_steps(self.args.rce_epochs)
        if self.state.global_step >= steps:
            return None
        share = self.state.global_step / max(steps - 1, 1)
        return args.rce_tau_start + share * (args.rce_tau_end - args.rce_tau_start)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
        self._old_policy = []
        if resume_from_checkpoint and (file := self._old_policy_file(Path(resume_from_checkpoint))).exists():
            self._old_policy = [tensor.to(self.args.device) for _, tensor in sorted(load_file(file).items())]
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        changed = [entry.get("changed", entry.get("eval_changed")) for entry in self.state.log_history]
        most = max((share for share in changed if share is not None), default=1.0)
        if most < measures.STILL_CHANGED:
            self._warn_still(f"At most {most:.1%} of the selections differed from those after SFT at any time")
        if self.args.load_best_model_at_end and self.state.best_global_step is None:
            self._go_back_to_sft()
        return output

    def _go_back_to_sft(self) -> None:
        name = self.best_metric_name
        scores = [entry[name] for entry in self.state.log_history if name in entry and entry["step"] > 0]
        reached = max(scores, default=None) if self.args.greater_is_better else min(scores, default=None)
        logger.warning(
            "NOTHING BEAT THE SFT POLICY: its %s on held-out queries is %.4f, the best after it %s. The SFT weights "
            "are kept, and the weights trained since are discarded.",
            name,
            self.state.best_metric,
            "was never measured" if reached is None else f"{reached:.4f}",
        )
        gathered = nullcontext()
        if self.is_deepspeed_enabled and self.accelerator.state.deepspeed_plugin.zero_stage == 3:
            from deepspeed import zero

            gathered = zero.GatheredParameters(list(self.model.parameters()), modifier_rank=0)
        with gathered:
            self.model.load_state_dict(self._sft_weights)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Any]:
        """The micro-batches of one optimizer step, with the old policy and the standard deviation of the rewards of
        their block."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.args.scale_rewards == "batch":
            both = torch.stack([torch.cat([batch[name] for batch in batches]) for name in ("rewards", "group_mask")])
            rewards, mask = self.accelerator.gather(both.transpose(0, 1).contiguous()).unbind(1)  # [B, G] both
            for batch in batches:
                batch["std_of_batch"] = losses.batch_std(rewards, mask.bool())
        if self.state.global_step % self.num_iterations == 0:
            self._old_policy = []
        for batch, old_step_logprobs in zip(batches, self._old_policy, strict=False):
            batch["old_step_logprobs"] = old_step_logprobs
        return batches, num_items

    def compute_loss(self, model, inputs: Batch, return_outputs: bool = False, num_items_in_batch=None):
        self._record_changed(model, inputs)
        args, rewards, mask, tau = self.args, inputs["rewards"], inputs["group_mask"], self.tau()  # [B, G] both
        positions = inputs["demonstration_positions"]  # [B, G, S]
        logits = sequence_logits(model, inputs, positions)  # [B, G, S, A]
        step_logprobs = action_step_logprobs(logits, positions, self._stop)  # [B, G, S]
        acted = action_mask(positions, self._stop) & mask.unsqueeze(-1)  # [B, G, S]
        kl = losses.exact_kl(logits, inputs["reference_logits"], acted)  # [B]
        scale = args.scale_rewards, args.advantage_clip, inputs.get("std_of_batch")
        advantages = losses.standardised_advantages(rewards, mask, *scale)  # [B, G]
        taught = losses.has_spread(rewards, mask)  # [B]
        if tau is None:
            loss = self._grpo_loss(inputs, step_logprobs, acted, advantages)
            loss = loss + self.adaptive_beta.beta * (kl * taught).mean()
        else:
            loss = losses.rce_loss(step_logprobs.sum(-1), losses.rce_weights(rewards, mask, tau))
        with torch.no_grad():
            self._record("reward", rewards[mask])
            self._record("reward_std", losses.group_mean_std(rewards, mask)[1])
            self._record("frac_reward_zero_std", ~taught)
            self._record("advantage_std", losses.group_mean_std(advantages, mask)[1])
            self._record("expected_reward", losses.expected_reward(step_logprobs.sum(-1), rewards, mask))
            self._record("kl", kl)
            self._record("entropy", losses.entropy(logits, acted))
        self._step_kl.append(kl.detach())
        if self.accelerator.sync_gradients:  # the last micro-batch of the step
            mean_kl = torch.cat(self._step_kl).mean()
            self._step_kl = []
            if args.adaptive_beta and tau is None:
                self.adaptive_beta.update(self.accelerator.reduce(mean_kl, reduction="mean").item())
        return (loss, {"logits": logits}) if return_outputs else loss

    def _grpo_loss(self, inputs: Batch, step_logprobs: Tensor, acted: Tensor, advantages: Tensor) -> Tensor:
        args, rewards, mask = self.args, inputs["rewards"], inputs["group_mask"]  # [B, G] both
        old_step_logprobs = inputs.get("old_step_logprobs")
        if old_step_logprobs is None:  # first use of the block
            old_step_logprobs = step_logprobs.detach()
            self._old_policy.append(old_step_logprobs)
        if args.behaviour_weights:
            known = inputs["behaviour_logprobs"]  # [B, G]
            weights = losses.behaviour_weights(old_step_logprobs.sum(-1), known, args.behaviour_weight_cap)  # [B, G]
            advantages = advantages * weights
            self._record("behaviour_weight", weights[mask & ~known.isnan()])
        if self.state.global_step < self._num_steps(args.rce_epochs + args.curriculum_epochs):
            mask = losses.top_sequences(rewards, mask, args.curriculum_top_k)
        mask = mask & losses.has_spread(rewards, mask=inputs["group_mask"]).unsqueeze(-1)  # [B, G]
        ratios = args.epsilon, args.epsilon_high, args.importance_sampling_level, args.loss_type
        loss, clipped = losses.grpo_loss(step_logprobs, old_step_logprobs, advantages, acted, mask, *ratios)
        counted = acted & mask.unsqueeze(-1)  # [B, G, S]
        num_ratios = counted.any(-1) if args.importance_sampling_level == "sequence" else counted
        self._record("clip_ratio", clipped, num_ratios.sum())
        return loss

    def _record(self, name: str, values: Tensor, weight: Tensor | float = 1.0) -> None:
        count = values.new_tensor(values.numel(), dtype=torch.float)
        sums = weight * torch.stack([values.sum().float(), count])  # [2]
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def _record_changed(self, model, inputs: Batch) -> None:
        """Records which greedy selections differ from those after SFT, in steps that are logged. This comes before the
        forward of the step, since wrapped models may refresh their buffers."""
        if self.args.logging_strategy != IntervalStrategy.STEPS:
            return
        if (self.state.global_step + 1) % self.state.logging_steps == 0:
            sft = inputs["reference_positions"]  # [B, S]
            model.eval()
            with torch.no_grad():
                positions = measures.greedy_positions(model, embed_inputs(model, inputs), sft.shape[-1])  # [B, S]
            model.train()
            self._record("changed", (positions != sft).any(-1))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._sums:
            names = sorted(self._sums)
            stacked = torch.stack([self._sums[name] for name in names])  # [N, 2]
            sums = self.accelerator.reduce(stacked, reduction="sum").tolist()
            logs |= {name: total / max(count, 1.0) for name, (total, count) in zip(names, sums, strict=True)}
            logs["beta"] = self.adaptive_beta.beta
            tau = self.tau()
            if tau is not None:
                logs["tau"] = tau
            self._sums = {}
            if logs["advantage_std"] < measures.STILL_ADVANTAGES:
                self._warn_still(f"The advantages spread by {logs['advantage_std']:.2g}", logs)
        super().log(logs, start_time)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        warmed_up = 0 < self._num_steps(self.args.rce_epochs) <= self.state.global_step
        if self.is_in_train and warmed_up and metrics.get("eval_changed", 1.0) < measures.STILL_CHANGED:
            self._warn_still(f"{metrics['eval_changed']:.1%} of the held-out selections have changed since SFT")
        return metrics

    def collapse_advice(self) -> str:
        return "Use an earlier checkpoint, or keep the policy closer to the SFT policy (a lower kl_high)."

    def _warn_still(self, evidence: str, logged: dict[str, float] | None = None) -> None:
        logged = self.last_logged("reward") if logged is None else logged
        cause = measures.why_still(logged, self.args, self.state.global_step)
        kind = re.sub(r"\d", "", cause)  # one warning for a cause, whatever its numbers
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning("THE POLICY DOES NOT MOVE. %s. Likely cause: %s.", evidence, cause)

    def _save_checkpoint(self, model, trial) -> None:
        if self._old_policy and self.state.global_step % self.num_iterations:
            # In the middle of a block, a resumed run needs the same old policy. It is written first, since the
            # trainer's state marks a checkpoint as complete.
            folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            tensors = {f"{number:06d}": tensor.cpu() for number, tensor in enumerate(self._old_policy)}
            save_file(tensors, self._old_policy_file(folder))
        super()._save_checkpoint(model, trial)

    def _old_policy_file(self, folder: Path) -> Path:
        return folder / f"old_policy_{self.args.process_index}.safetensors"

    def card_text(self) -> str:
        config = self.accelerator.unwrap_model(self.model).config
        metrics = self.last_logged("eval_expected_reward")
        kept_sft = self.args.load_best_model_at_end and self.state.best_global_step is None
        mean_rewards = self.train_dataset.groups.mean_rewards()
        return grpo_card(config, self.args, metrics, len(self.train_dataset), mean_rewards, kept_sft)
