# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Measures of supervised training: how good the selections are on held-out queries."""

import numpy as np
import torch
from transformers.trainer_utils import EvalPrediction

from .policy_measures import Batch, collapse_metrics, greedy_selections, query_means, sequence_logits


def prefix_logits(model, inputs: Batch) -> torch.Tensor:
    """Logits `[B, P, A]` after each prefix."""
    logits = sequence_logits(model, inputs, inputs["prefix_positions"])  # [B, P, S, A]
    last = inputs["prefix_lengths"][..., None, None].expand(-1, -1, 1, logits.shape[-1])  # [B, P, 1, A]
    return logits.gather(2, last).squeeze(2)  # [B, P, A]


def measure_batch(model, inputs: Batch) -> dict[str, torch.Tensor]:
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


def _looked_up(positions: torch.Tensor, prefixes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
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
