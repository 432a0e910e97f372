# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Supervised training of selectors on the scores of a VLM.

Departures from the papers (Lever-LM, Yang et al., NeurIPS 2024; Lever-Plus), and their reasons:
- The default loss is `listwise`: after each expanded prefix, the target is softmax(score / tau) over *all* scored
  candidates. The papers imitate the best few beams (`loss_type: beams`). Usually many sequences are nearly tied for
  the best, so the top few are arbitrary, and `beams` ignores all other scores.
- The whole tree of a query is one training example: query and candidates are encoded once for all its prefixes.
- Inputs are standardised, and both towers have the same initial weights (see `PointerSelectorModel.fit_inputs`).
- The best checkpoint has the lowest *regret* on held-out queries: after each expanded prefix, the score of the best
  next choice minus the score of the policy's choice. All of these scores are in the ledger. The mean InfoScore of
  greedy selections is known only where the first picks are in a beam, so it rises when coverage falls. Recall of the
  best beam punishes picks that tie with it.
- Every evaluation checks whether the selector has collapsed.
"""

import numpy as np
import torch
from torch import Tensor
from transformers.trainer_utils import EvalPrediction

from ..selectors.base_selector import action_mask, action_step_logprobs
from .base_selector_dataset import ShuffledBlocks
from .base_selector_trainer import BaseSelectorTrainer
from .model_card import model_card
from .pixel_dataset import Batch
from .policy_measures import collapse_metrics, greedy_selections, has_stop, query_means, sequence_logits


def listwise_loss(
    logits: Tensor, scores: Tensor, weights: Tensor, tau: float, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """
    Cross-entropy of the policy to softmax(score / tau), both over the candidates scored after a prefix: the sum over
    prefixes, weighted by `weights` `[B, P]`, and with `reduction="mean"` the mean over queries (`"none"`: `[B]`).

    `logits` `[B, P, A]` are the policy after each prefix, with the lowest number of the dtype for disallowed actions.
    `scores` `[B, P, A]` are InfoScores; candidates that were not scored (NaN) are left out. `label_smoothing` is the
    share of each target that is spread evenly over these candidates.
    """
    lowest = torch.finfo(logits.dtype).min
    counted = ~scores.isnan() & ~(logits <= lowest)  # [B, P, A]; logits that are NaN count, and make the loss NaN
    targets = (scores.nan_to_num(0.0) / tau).masked_fill(~counted, lowest).softmax(-1)  # [B, P, A]
    uniform = counted / counted.sum(-1, keepdim=True).clamp(min=1)  # [B, P, A]
    targets = (1.0 - label_smoothing) * targets + label_smoothing * uniform
    logprobs = logits.masked_fill(~counted, lowest).log_softmax(-1)  # [B, P, A]
    losses = -(targets * logprobs.masked_fill(~counted, 0.0)).sum(-1)  # [B, P]
    losses = (losses * weights).sum(-1)  # [B]
    return losses if reduction == "none" else losses.mean()


def beams_loss(
    logits: Tensor,
    positions: Tensor,
    weights: Tensor,
    label_smoothing: float = 0.0,
    stop: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """
    Cross-entropy to the beams, step by step in selection order (Lever-LM, Yang et al., NeurIPS 2024): the mean over
    the steps of a beam, weighted over beams by `weights` `[B, N]`. `reduction` is that of [`listwise_loss`].

    `logits` `[B, N, S, A]` are the policy at each step of a beam, with the lowest number of the dtype for disallowed
    actions; `positions` `[B, N, S]` are the beams, -1 padded. `label_smoothing` spreads targets over the allowed
    actions. With `stop` the last action is STOP, the target after a beam shorter than S.
    """
    logprobs = logits.log_softmax(-1)  # [B, N, S, A]
    allowed = ~(logits <= torch.finfo(logits.dtype).min)  # [B, N, S, A]; NaN stays in
    made = action_mask(positions, stop)  # [B, N, S]
    chosen = action_step_logprobs(logits, positions, stop)  # [B, N, S]
    spread = logprobs.masked_fill(~allowed, 0.0).sum(-1) / allowed.sum(-1).clamp(min=1)  # [B, N, S]
    losses = -((1.0 - label_smoothing) * chosen + label_smoothing * spread).masked_fill(~made, 0.0)  # [B, N, S]
    losses = losses.sum(-1) / made.sum(-1).clamp(min=1)  # [B, N]
    losses = (losses * weights).sum(-1)  # [B]
    return losses if reduction == "none" else losses.mean()


def beam_weights(scores: Tensor, top_n: int, kind: str, tau: float) -> Tensor:
    """Weights `[B, N]` of the best `top_n` beams of each query, with a sum of 1: equal weights (`kind` `"none"`) or
    softmax(score / tau) (`"softmax"`). `scores` `[B, N]` are best first, and NaN for padding."""
    counted = ~scores.isnan() & (torch.arange(scores.shape[1], device=scores.device) < top_n)  # [B, N]
    values = scores.nan_to_num(0.0) / tau if kind == "softmax" else torch.zeros_like(scores)
    return values.masked_fill(~counted, torch.finfo(scores.dtype).min).softmax(-1) * counted


def prefix_logits(model, inputs: Batch) -> Tensor:
    """Logits `[B, P, A]` after each prefix."""
    logits = sequence_logits(model, inputs, inputs["prefix_positions"])  # [B, P, S, A]
    last = inputs["prefix_lengths"][..., None, None].expand(-1, -1, 1, logits.shape[-1])  # [B, P, 1, A]
    return logits.gather(2, last).squeeze(2)  # [B, P, A]


def measure_batch(model, inputs: Batch) -> dict[str, Tensor]:
    """The inputs of [`selection_metrics`], one row for each query."""
    prefixes, scores = inputs["prefix_positions"], inputs["prefix_scores"]  # [B, P, S], [B, P, A]
    selections = greedy_selections(model, inputs, prefixes.shape[-1])
    positions = selections["positions"]  # [B, S]
    logits = prefix_logits(model, inputs)  # [B, P, A]
    scored = ~scores.isnan()
    picks = logits.masked_fill(~scored, -torch.inf).argmax(-1, keepdim=True)  # [B, P, 1]
    best = scores.masked_fill(~scored, -torch.inf).amax(-1)  # [B, P]
    weights = inputs["prefix_weights"]  # [B, P]
    regret = torch.where(weights > 0, best - scores.gather(-1, picks).squeeze(-1), 0.0)  # [B, P]
    regret = (regret * weights).sum(-1) / weights.sum(-1)  # [B]
    members = inputs["beam_positions"][:, 0]  # [B, S]
    hits = ((positions[:, :, None] == members[:, None]) & (members >= 0)[:, None]).any(1).sum(-1)  # [B]
    size = (members >= 0).sum(-1)  # [B]
    nothing = (positions < 0).all(-1).to(regret.dtype)  # [B]
    return selections | {
        "regret": regret,
        "info_score": _looked_up(positions, prefixes, scores),
        "recall": torch.where(size > 0, hits / size.clamp(min=1), nothing),
    }


def _looked_up(positions: Tensor, prefixes: Tensor, scores: Tensor) -> Tensor:
    """InfoScores `[B]` of the selections `[B, S]`; NaN where the ledger does not hold the selection. The ledger holds
    it if the selection without its last action is an expanded prefix."""
    num_shots = positions.shape[-1]
    full = positions[:, -1] >= 0  # [B]
    steps = torch.arange(num_shots, device=positions.device)
    start = torch.where((steps == num_shots - 1) & full[:, None], -1, positions)  # [B, S]
    last = torch.where(full, positions[:, -1], scores.shape[-1] - 1)  # [B]; STOP is the last action
    values = scores.gather(-1, last[:, None, None].expand(-1, prefixes.shape[1], -1)).squeeze(-1)  # [B, P]
    matches = (prefixes == start[:, None]).all(-1) & ~values.isnan()  # [B, P]; padding looks like the empty prefix
    return values.masked_fill(~matches, 0.0).sum(-1).masked_fill(~matches.any(-1), torch.nan)


def selection_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Metrics of an evaluation: how good the selections are, and whether the selector has collapsed."""
    measured = prediction.predictions
    covered = ~np.isnan(measured["info_score"])
    means = query_means({name: measured[name] for name in ("regret", "recall")})
    means |= query_means({"info_score": measured["info_score"][covered]})
    shares = {"loss": float(measured["loss"].mean()), "info_score_coverage": float(covered.mean())}
    return shares | means | collapse_metrics(measured)


class SelectorSFTTrainer(BaseSelectorTrainer):
    """Trains a selector on stored embeddings, beams and ledger, in the training loop of transformers. The arguments
    are those of [`BaseSelectorTrainer`], with [`SelectorSFTConfig`] and [`SelectorDataset`]s."""

    _block_sampler = ShuffledBlocks
    selection_metrics = staticmethod(selection_metrics)

    def compute_loss(self, model, inputs: Batch, return_outputs: bool = False, num_items_in_batch=None):
        losses, logits = self._query_losses(model, inputs)  # [B], [B, P, A] or [B, N, S, A]
        return (losses.mean(), {"logits": logits}) if return_outputs else losses.mean()

    def _query_losses(self, model, inputs: Batch) -> tuple[Tensor, Tensor]:
        args = self.args
        if args.loss_type == "listwise":
            logits = prefix_logits(model, inputs)
            scores, weights = inputs["prefix_scores"], inputs["prefix_weights"]
            return listwise_loss(logits, scores, weights, args.tau, args.label_smoothing, "none"), logits
        positions = inputs["beam_positions"][:, : args.top_n]  # [B, N, S]
        logits = sequence_logits(model, inputs, positions)  # [B, N, S, A]
        weights = beam_weights(inputs["beam_scores"][:, : args.top_n], args.top_n, args.score_weights, args.tau)
        return beams_loss(logits, positions, weights, args.label_smoothing, has_stop(logits, inputs), "none"), logits

    def query_measures(self, model, inputs: Batch) -> Batch:
        # Losses by query: the loop drops the queries that fill up the last batch of a process.
        return measure_batch(model, inputs) | {"loss": self._query_losses(model, inputs)[0]}

    def collapse_advice(self) -> str:
        dataset = self.eval_dataset
        shots, candidates = dataset.scored.prefix_positions.shape[-1], dataset.candidate_rows.shape[1]
        scores = self.train_dataset.scored.prefix_scores[:, 0]  # [Q, K], after no pick
        top, low = scores.nan_to_num(-torch.inf).amax(-1), scores.nan_to_num(torch.inf).amin(-1)  # [Q] both
        spread = (top - low).median().item()
        cause = (
            "either training has hardly begun, or the features of the queries are too similar: train longer, or check "
            "the embeddings"
        )
        if candidates <= 2 * shots:
            cause = f"there are only {candidates} candidates for {shots} shots: raise num_candidates"
        elif spread < self.args.tau:
            cause = (
                f"the scores of a query's candidates differ by {spread:.2g} (median), less than tau {self.args.tau}, "
                "so the targets are nearly uniform: lower tau, or check that the VLM reacts to its demonstrations"
            )
        return f"Likely cause: {cause}."

    def card_text(self) -> str:
        config = self.accelerator.unwrap_model(self.model).config
        return model_card(config, self.args, self.last_logged("eval_loss"), len(self.train_dataset))
