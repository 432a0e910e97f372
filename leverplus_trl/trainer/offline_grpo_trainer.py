# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Offline reinforcement learning of selectors on stored rollouts.

Where this departs from the papers (GRPO, Shao et al., 2024; RCE and its use for demonstrations, Lever-Plus) and from
trl's `GRPOTrainer`, and why:
- Nothing is generated: the sequences of a group and their rewards are stored, so a reward never asks the VLM again.
- pi_old is the policy before the `num_iterations` updates on a batch, not the SFT policy as in the reference code:
  against that one, ratios run into the clip and the policy stops.
- The KL is exact, over all actions that can be taken at each step of the stored sequences; there are few. trl
  estimates it from the chosen tokens. beta adapts to keep it in a range.
- The ratio of a sequence is the product of those of its steps, not their geometric mean (GSPO): sequences are short.
- Standard deviations are those of the group itself; an estimate for a larger one would scale the advantages of small
  groups down.
- A group whose rewards are all equal is skipped altogether, KL included: it is no reason to change anything.
- At first only the best sequences of a group count, with the advantages they have in the whole group: among
  themselves the best ones are mostly equal, and would teach nothing.
- Dropout is off, so that ratios compare policies and not dropout masks.
- The SFT policy competes for the best checkpoint. If nothing beats it on held-out queries, it is what is kept.
- A policy that does not move is called so, with the likely cause.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy, get_last_checkpoint
from trl.trainer.utils import disable_dropout_in_model

from ..selectors.base_selector import BaseSelectorModel, action_mask, action_step_logprobs
from ..selectors.processing_selector import SelectorProcessor
from .adaptive_beta import AdaptiveBeta
from .base_selector_dataset import RepeatedBlocks
from .base_selector_trainer import BaseSelectorTrainer
from .model_card import grpo_card
from .offline_grpo_config import OfflineGRPOConfig
from .offline_grpo_losses import (
    batch_std,
    behaviour_weights,
    entropy,
    exact_kl,
    expected_reward,
    group_mean_std,
    grpo_loss,
    has_spread,
    rce_loss,
    rce_weights,
    standardised_advantages,
    top_sequences,
)
from .offline_grpo_measures import (
    STILL_ADVANTAGES,
    STILL_CHANGED,
    measure_groups,
    rollout_metrics,
    set_reference,
    why_still,
)
from .pixel_dataset import PixelDataset, embed_inputs
from .rollout_dataset import RolloutDataset
from .sft_trainer import greedy_positions, sequence_logits


logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]


class CompeteWithSFT(TrainerCallback):
    """Evaluates the SFT policy before the first step, as the one to beat."""

    def __init__(self, trainer: "OfflineGRPOTrainer"):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        measured = args.eval_strategy != IntervalStrategy.NO and args.metric_for_best_model
        if state.global_step == 0 and measured:
            state.best_metric = self.trainer.evaluate()[self.trainer.best_metric_name]


class OfflineGRPOTrainer(BaseSelectorTrainer):
    """
    Trains a selector by reward: a warm-up by reward-weighted cross-entropy (RCE), then a clipped group-relative policy
    gradient (GRPO) with KL to the policy it starts from.

    Args:
        model ([`BaseSelectorModel`]):
            The selector with its SFT weights, which become the reference policy.
        args ([`OfflineGRPOConfig`]):
            Arguments.
        train_dataset ([`RolloutDataset`], or [`PixelDataset`] around one):
            Queries to learn from.
        eval_dataset ([`RolloutDataset`], or [`PixelDataset`] around one, *optional*):
            Held-out queries, which choose the best weights.
        processing_class ([`SelectorProcessor`], *optional*, defaults to that of the training data):
            Saved beside the model.
        **kwargs:
            What else `transformers.Trainer` takes.
    """

    def __init__(
        self,
        model: BaseSelectorModel,
        args: OfflineGRPOConfig,
        train_dataset: RolloutDataset | PixelDataset,
        eval_dataset: RolloutDataset | PixelDataset | None = None,
        processing_class: SelectorProcessor | None = None,
        **kwargs,
    ):
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=rollout_metrics,
            **kwargs,
        )
        self._check_length()
        if args.disable_dropout:
            disable_dropout_in_model(model)
        with self.compute_loss_context_manager():  # in the precision of training: else rounding looks like change
            for dataset in (train_dataset, eval_dataset):
                if dataset is not None:
                    set_reference(model, dataset, args.eval_batch_size)
        self._sft_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        self._stop = model.config.stop
        self._old_policy: list[torch.Tensor] = []  # [B, G, S] of each micro-batch of the block that is being used
        self._sums: dict[str, torch.Tensor] = {}  # sum and count of each measure since the last log
        self._step_kl: list[torch.Tensor] = []
        self._warned: set[str] = set()
        self.add_callback(AdaptiveBeta(args.beta, args.kl_low, args.kl_high))
        self.add_callback(CompeteWithSFT(self))

    def _check_length(self) -> None:
        args, warm_up = self.args, self._num_steps(self.args.rce_epochs)
        if args.rce_epochs > 0 and warm_up == 0:
            raise ValueError(
                f"rce_epochs is {args.rce_epochs}, which is less than half a batch of these {len(self.train_dataset)} "
                "queries, so there would be no warm-up; set 0 or more."
            )
        args.check_max_steps(-(-len(self.train_dataset) // self.get_total_train_batch_size(args)))

    @property
    def adaptive_beta(self) -> AdaptiveBeta:
        """Looked up, since transformers may put a restored one in its place."""
        return next(one for one in self.callback_handler.callbacks if isinstance(one, AdaptiveBeta))

    @property
    def best_metric_name(self) -> str:
        return f"eval_{self.args.metric_for_best_model.removeprefix('eval_')}"

    def _get_train_sampler(self, train_dataset: RolloutDataset | None = None) -> RepeatedBlocks:
        args, block_size = self.args, self.get_total_train_batch_size(self.args)
        seed = args.seed if args.data_seed is None else args.data_seed
        num_queries = len(train_dataset or self.train_dataset)
        return RepeatedBlocks(num_queries, block_size, args.num_iterations, seed, self._epoch)

    def _num_steps(self, epochs: float) -> int:
        """Optimizer steps of some epochs, in whole blocks."""
        blocks = -(-len(self.train_dataset) // self.get_total_train_batch_size(self.args))
        return self.args.num_iterations * round(epochs * blocks)

    def _epoch(self) -> int:
        return self.state.global_step // self._num_steps(1)

    def tau(self) -> float | None:
        """Temperature of the warm-up at this step; `None` when it is over."""
        args, steps = self.args, self._num_steps(self.args.rce_epochs)
        if self.state.global_step >= steps:
            return None
        share = self.state.global_step / max(steps - 1, 1)
        return args.rce_tau_start + share * (args.rce_tau_end - args.rce_tau_start)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
        self._old_policy = self._load_old_policy(Path(resume_from_checkpoint)) if resume_from_checkpoint else []
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        self._warn_if_it_never_moved()
        if self.args.load_best_model_at_end and self.state.best_global_step is None:
            self._go_back_to_sft()
        return output

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Any]:
        """The micro-batches of one optimizer step, with what they share: the policy before the updates on this block,
        and the standard deviation of its rewards."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.args.scale_rewards == "batch":
            both = torch.stack([torch.cat([batch[name] for batch in batches]) for name in ("rewards", "group_mask")])
            rewards, mask = self.accelerator.gather(both.transpose(0, 1).contiguous()).unbind(1)  # [B, G] both
            for batch in batches:
                batch["std_of_batch"] = batch_std(rewards, mask.bool())
        if self.state.global_step % self.args.num_iterations == 0:
            self._old_policy = []
        for batch, old_step_logprobs in zip(batches, self._old_policy, strict=False):
            batch["old_step_logprobs"] = old_step_logprobs
        return batches, num_items

    def compute_loss(self, model, inputs: Batch, return_outputs: bool = False, num_items_in_batch=None):
        self._record_changed(model, inputs)
        rewards, mask, tau = inputs["rewards"], inputs["group_mask"], self.tau()  # [B, G] both
        positions = inputs["demonstration_positions"]  # [B, G, S]
        logits = sequence_logits(model, inputs, positions)  # [B, G, S, A]
        step_logprobs = action_step_logprobs(logits, positions, self._stop)  # [B, G, S]
        acted = action_mask(positions, self._stop) & mask.unsqueeze(-1)  # [B, G, S]
        kl = exact_kl(logits, inputs["reference_logits"], acted)  # [B]
        if tau is None:
            loss = self._grpo_loss(inputs, step_logprobs, acted)
            loss = loss + self.adaptive_beta.beta * (kl * has_spread(rewards, mask)).mean()
        else:
            loss = rce_loss(step_logprobs.sum(-1), rce_weights(rewards, mask, tau))
        self._record_policy(inputs, logits.detach(), step_logprobs.detach(), acted, kl.detach())
        self._adapt_beta(kl.detach())
        return (loss, {"logits": logits}) if return_outputs else loss

    def _grpo_loss(self, inputs: Batch, step_logprobs: torch.Tensor, acted: torch.Tensor) -> torch.Tensor:
        args, rewards, mask = self.args, inputs["rewards"], inputs["group_mask"]  # [B, G] both
        old_step_logprobs = inputs.get("old_step_logprobs")
        if old_step_logprobs is None:  # first use of the block
            old_step_logprobs = step_logprobs.detach()
            self._old_policy.append(old_step_logprobs)
        advantages = self._advantages(inputs)  # [B, G]
        if args.behaviour_weights:
            known = inputs["behaviour_logprobs"]  # [B, G]
            weights = behaviour_weights(old_step_logprobs.sum(-1), known, args.behaviour_weight_cap)  # [B, G]
            advantages = advantages * weights
            self._record("behaviour_weight", weights[mask & ~known.isnan()])
        if self.state.global_step < self._num_steps(args.rce_epochs + args.curriculum_epochs):
            mask = top_sequences(rewards, mask, args.curriculum_top_k)
        mask = mask & has_spread(rewards, mask=inputs["group_mask"]).unsqueeze(-1)  # [B, G]
        loss, clipped = grpo_loss(
            step_logprobs,
            old_step_logprobs,
            advantages,
            acted,
            mask,
            args.epsilon,
            args.epsilon_high,
            args.importance_sampling_level,
            args.loss_type,
        )
        counted = acted & mask.unsqueeze(-1)  # [B, G, S]
        num_ratios = counted.any(-1) if args.importance_sampling_level == "sequence" else counted
        self._record("clip_ratio", clipped, num_ratios.sum())
        return loss

    def _advantages(self, inputs: Batch) -> torch.Tensor:
        args = self.args
        options = (args.scale_rewards, args.advantage_clip, inputs.get("std_of_batch"))
        return standardised_advantages(inputs["rewards"], inputs["group_mask"], *options)  # [B, G]

    def _adapt_beta(self, kl: torch.Tensor) -> None:
        """With the last micro-batch of a step beta follows the KL of the whole step, on all processes."""
        self._step_kl.append(kl)
        if not self.accelerator.sync_gradients:
            return
        of_step = torch.cat(self._step_kl).mean()
        self._step_kl = []
        if self.args.adaptive_beta and self.tau() is None:
            self.adaptive_beta.update(self.accelerator.reduce(of_step, reduction="mean").item())

    def _record(self, name: str, values: torch.Tensor, weight: torch.Tensor | float = 1.0) -> None:
        found = weight * torch.stack(
            [values.sum().float(), values.new_tensor(values.numel(), dtype=torch.float)]
        )  # [2]
        self._sums[name] = self._sums[name] + found if name in self._sums else found

    def _record_changed(self, model, inputs: Batch) -> None:
        """Greedy selection takes as many forwards as there are shots: only before a log, and before this step's own
        forward, since wrapped models may refresh their buffers."""
        if self.args.logging_strategy != IntervalStrategy.STEPS:
            return
        if (self.state.global_step + 1) % self.state.logging_steps == 0:
            sft = inputs["reference_positions"]  # [B, S]
            model.eval()
            with torch.no_grad():
                positions = greedy_positions(model, embed_inputs(model, inputs), sft.shape[-1])  # [B, S]
            model.train()
            self._record("changed", (positions != sft).any(-1))

    def _record_policy(
        self, inputs: Batch, logits: torch.Tensor, step_logprobs: torch.Tensor, acted: torch.Tensor, kl: torch.Tensor
    ) -> None:
        rewards, mask = inputs["rewards"], inputs["group_mask"]  # [B, G] both
        self._record("reward", rewards[mask])
        self._record("reward_std", group_mean_std(rewards, mask)[1])
        self._record("frac_reward_zero_std", ~has_spread(rewards, mask))
        self._record("advantage_std", group_mean_std(self._advantages(inputs), mask)[1])
        self._record("expected_reward", expected_reward(step_logprobs.sum(-1), rewards, mask))
        self._record("kl", kl)
        self._record("entropy", entropy(logits, acted))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._sums:
            names = sorted(self._sums)
            sums = self.accelerator.reduce(
                torch.stack([self._sums[name] for name in names]), reduction="sum"
            )  # [N, 2]
            logs |= {
                name: (total / max(count, 1.0)) for name, (total, count) in zip(names, sums.tolist(), strict=True)
            }
            logs["beta"] = self.adaptive_beta.beta
            tau = self.tau()
            if tau is not None:
                logs["tau"] = tau
            self._sums = {}
            if logs["advantage_std"] < STILL_ADVANTAGES:
                self._warn_still(f"The advantages spread by {logs['advantage_std']:.2g}", logs)
        super().log(logs, start_time)

    @torch.no_grad()
    def prediction_step(
        self, model, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, Any, torch.Tensor]:
        """What [`rollout_metrics`] is computed from; there is no loss, since GRPO's says nothing about progress."""
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            measures = measure_groups(model, inputs)
        # The loop computes metrics only of what has labels; these are not read.
        return None, measures, inputs["rewards"]

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        if metrics.get("eval_collapsed"):
            logger.warning(
                "The selector has collapsed: %.0f%% of its selections are one and the same. Go back to an earlier "
                "checkpoint, or hold the policy nearer to the SFT policy (a lower kl_high).",
                100 * metrics["eval_most_common_share"],
            )
        warmed_up = 0 < self._num_steps(self.args.rce_epochs) <= self.state.global_step
        if self.is_in_train and warmed_up and metrics.get("eval_changed", 1.0) < STILL_CHANGED:
            said = f"{metrics['eval_changed']:.1%} of the held-out selections have changed since SFT"
            self._warn_still(said, self._last_logged("reward"))
        return metrics

    def _last_logged(self, name: str) -> dict[str, float]:
        return next((entry for entry in reversed(self.state.log_history) if name in entry), {})

    def _warn_still(self, said: str, logged: dict[str, float]) -> None:
        cause = why_still(logged, self.args, self.state.global_step)
        kind = re.sub(r"\d", "", cause)  # the same cause with other numbers is said once
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning("THE POLICY DOES NOT MOVE. %s. Likely cause: %s.", said, cause)

    def _warn_if_it_never_moved(self) -> None:
        changed = [entry.get("changed", entry.get("eval_changed")) for entry in self.state.log_history]
        changed = [share for share in changed if share is not None]
        if changed and max(changed) < STILL_CHANGED:
            said = f"At no time more than {max(changed):.1%} of the selections differed from those after SFT"
            self._warn_still(said, self._last_logged("reward"))

    def _go_back_to_sft(self) -> None:
        name = self.best_metric_name
        scores = [entry[name] for entry in self.state.log_history if name in entry and entry["step"] > 0]
        reached = max(scores, default=None) if self.args.greater_is_better else min(scores, default=None)
        logger.warning(
            "NOTHING BEAT THE SFT POLICY: its %s on held-out queries is %.4f, the best after it %s. The SFT weights "
            "are kept; what was trained is thrown away.",
            name,
            self.state.best_metric,
            "was never measured" if reached is None else f"{reached:.4f}",
        )
        self.load_weights(self._sft_weights)

    def _save_checkpoint(self, model, trial) -> None:
        if self._old_policy and self.state.global_step % self.args.num_iterations:
            # In the middle of a block: a resumed run goes on with the same old policy. Written first, since a
            # checkpoint with a trainer's state counts as whole.
            folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            tensors = {f"{number:06d}": tensor.cpu() for number, tensor in enumerate(self._old_policy)}
            save_file(tensors, self._old_policy_file(folder))
        super()._save_checkpoint(model, trial)

    def _old_policy_file(self, folder: Path) -> Path:
        return folder / f"old_policy_{self.args.process_index}.safetensors"

    def _load_old_policy(self, folder: Path) -> list[torch.Tensor]:
        file = self._old_policy_file(folder)
        if not file.exists():
            return []
        return [tensor.to(self.args.device) for _, tensor in sorted(load_file(file).items())]

    def card_text(self) -> str:
        config = self.accelerator.unwrap_model(self.model).config
        metrics = self._last_logged("eval_expected_reward")
        kept_sft = self.args.load_best_model_at_end and self.state.best_global_step is None
        mean_rewards = self.train_dataset.groups.mean_rewards()
        return grpo_card(config, self.args, metrics, len(self.train_dataset), mean_rewards, kept_sft)
