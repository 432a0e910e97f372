# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Supervised training of selectors on what a VLM scored.

Where this departs from the papers (Lever-LM, Yang et al., NeurIPS 2024; Lever-Plus), and why:
- The default loss is `listwise`: after each expanded prefix the policy is drawn to softmax(score / tau) over *all*
  scored candidates. The papers imitate the best few beams (`loss_type: beams`). The best sequences are usually many
  and nearly tied, so that the top few are an arbitrary handful of them, and everything else that was paid for is
  thrown away.
- The whole tree of a query is one training example: query and candidates are encoded once for all its prefixes.
- Inputs are standardised and both towers start alike (see `PointerSelectorModel.fit_inputs`).
- The best checkpoint is the one of least *regret* on held-out queries: after each expanded prefix, the score of the
  best next choice minus the score of the policy's. All of these were scored, so nothing is missing from the mean. The
  mean InfoScore of greedy selections would be the natural measure, but it can be looked up only where the first picks
  happen to be in a beam, hence where the policy already agrees with the search: it rises when coverage falls. Recall
  of the best beam punishes picks that tie with it.
- A collapsed selector is called so at every evaluation.
"""

import logging
import math
from typing import Any

import torch
from transformers.trainer_utils import EvalPrediction

from ..selectors.base_selector import BaseSelectorModel
from ..selectors.collapse import measure_collapse
from ..selectors.encoder_lora import ENCODER_INPUTS
from ..selectors.processing_selector import SelectorProcessor
from .base_selector_dataset import ShuffledBlocks
from .base_selector_trainer import BaseSelectorTrainer
from .model_card import model_card
from .pixel_dataset import embed_inputs
from .sft_config import SelectorSFTConfig
from .sft_dataset import SelectorDataset
from .sft_losses import beam_weights, beams_loss, listwise_loss


logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]

SELECTOR_INPUTS = ("query_embeds", "candidate_embeds", "candidate_mask", "candidate_rows", *ENCODER_INPUTS)


class SelectorSFTTrainer(BaseSelectorTrainer):
    """
    Trains a selector on stored embeddings, beams and ledger with the stock training loop of transformers.

    Args:
        model ([`BaseSelectorModel`]):
            The selector.
        args ([`SelectorSFTConfig`]):
            Arguments.
        train_dataset ([`SelectorDataset`]):
            Queries to learn from.
        eval_dataset ([`SelectorDataset`], *optional*):
            Held-out queries.
        processing_class ([`SelectorProcessor`], *optional*, defaults to that of the training data):
            Saved beside the model.
        **kwargs:
            What else `transformers.Trainer` takes.
    """

    def __init__(
        self,
        model: BaseSelectorModel,
        args: SelectorSFTConfig,
        train_dataset: SelectorDataset,
        eval_dataset: SelectorDataset | None = None,
        processing_class: SelectorProcessor | None = None,
        **kwargs,
    ):
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=selection_metrics,
            **kwargs,
        )

    def _get_train_sampler(self, train_dataset: SelectorDataset | None = None) -> ShuffledBlocks:
        args, block_size = self.args, self.get_total_train_batch_size(self.args)
        seed = args.seed if args.data_seed is None else args.data_seed
        num_queries = len(train_dataset or self.train_dataset)
        steps = -(-num_queries // block_size)
        return ShuffledBlocks(num_queries, block_size, 1, seed, lambda: self.state.global_step // steps)

    def compute_loss(self, model, inputs: Batch, return_outputs: bool = False, num_items_in_batch=None):
        losses, logits = self._query_losses(model, inputs)  # [B], and what they are computed from
        return (losses.mean(), {"logits": logits}) if return_outputs else losses.mean()

    def _query_losses(self, model, inputs: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        args = self.args
        if args.loss_type == "listwise":
            logits = prefix_logits(model, inputs)
            weights = inputs["prefix_weights"]
            losses = listwise_loss(logits, inputs["prefix_scores"], weights, args.tau, args.label_smoothing, "none")
        else:
            positions = inputs["beam_positions"][:, : args.top_n]  # [B, N, S]
            scores = inputs["beam_scores"][:, : args.top_n]  # [B, N]
            logits = sequence_logits(model, inputs, positions)  # [B, N, S, A]
            weights = beam_weights(scores, args.top_n, args.score_weights, args.tau)
            stop = has_stop(logits, inputs)
            losses = beams_loss(logits, positions, weights, args.label_smoothing, stop, "none")
        return losses, logits

    @torch.no_grad()
    def prediction_step(
        self, model, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, Any, torch.Tensor | None]:
        """What [`selection_metrics`] is computed from; only `forward` is called, so every wrapper of a model works."""
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            inputs = embed_inputs(model, inputs)
            losses = self._query_losses(model, inputs)[0]  # [B]
            if prediction_loss_only:
                return losses.mean(), None, None
            # By query: of a mean the loop could not take out the queries that fill up the last batch of a process.
            measures = measure_batch(model, inputs) | {"loss": losses}
        # The loop computes metrics only of what has labels; these are not read.
        return None, measures, inputs["prefix_lengths"][:, 0]

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        if metrics.get(f"{prefix}_collapsed"):
            logger.warning("%s", self._collapse_warning(metrics, prefix))
        return metrics

    def _collapse_warning(self, metrics: dict[str, float], prefix: str) -> str:
        dataset = self.eval_dataset
        shots, candidates = dataset.scored.prefix_positions.shape[-1], dataset.candidate_rows.shape[1]
        scores = self.train_dataset.scored.prefix_scores[:, 0]  # [Q, K], after no pick
        top, low = scores.nan_to_num(-torch.inf).amax(-1), scores.nan_to_num(torch.inf).amin(-1)  # [Q] both
        spread = (top - low).median().item()
        if candidates <= 2 * shots:
            cause = f"there are only {candidates} candidates for {shots} shots, so hardly anything to choose: raise K"
        elif spread < self.args.tau:
            cause = (
                f"the scores of a query's candidates differ by {spread:.2g} (median), less than tau {self.args.tau}, "
                "so that the targets are nearly uniform: lower tau, or check that the VLM reacts to its demonstrations"
            )
        else:
            cause = (
                "either training has hardly begun, or the features of the query do not tell queries apart: train "
                "longer, check the embeddings"
            )
        swap = metrics.get(f"{prefix}_swap_change_share", float("nan"))
        return (
            f"The selector has collapsed: {metrics[f'{prefix}_most_common_share']:.0%} of its selections are one and "
            f"the same, and {swap:.0%} change when the query is swapped for another. Likely cause: {cause}."
        )

    def card_text(self) -> str:
        config = self.accelerator.unwrap_model(self.model).config
        metrics = next((entry for entry in reversed(self.state.log_history) if "eval_loss" in entry), {})
        return model_card(config, self.args, metrics, len(self.train_dataset))


def sequence_logits(model, inputs: Batch, positions: torch.Tensor) -> torch.Tensor:
    """The policy at each step of some sequences, from embeddings or from pixels and tokens."""
    given = {name: inputs[name] for name in SELECTOR_INPUTS if name in inputs}
    logits = model(**given, demonstration_positions=positions).logits
    # Half precision marks what can't be taken with a lowest number of its own, which is none of single precision.
    masked = logits <= torch.finfo(torch.float16).min
    return logits.float().masked_fill(masked, torch.finfo(torch.float32).min)


def has_stop(logits: torch.Tensor, inputs: Batch) -> bool:
    """Whether the last action is STOP; a wrapped model does not show its config."""
    return logits.shape[-1] > inputs["candidate_mask"].shape[-1]


def prefix_logits(model, inputs: Batch) -> torch.Tensor:
    """The policy after each prefix, `[B, P, A]`."""
    logits = sequence_logits(model, inputs, inputs["prefix_positions"])  # [B, P, S, A]
    last = inputs["prefix_lengths"][..., None, None].expand(-1, -1, 1, logits.shape[-1])  # [B, P, 1, A]
    return logits.gather(2, last).squeeze(2)  # [B, P, A]


def greedy_positions(model, inputs: Batch, num_shots: int) -> torch.Tensor:
    """Greedy selection `[B, S]` by calls of `forward` alone; -1 behind the end."""
    num_candidates = inputs["candidate_mask"].shape[-1]
    positions = torch.full_like(inputs["candidate_rows"][:, :1], -1).repeat(1, num_shots)  # [B, S]
    going_on = torch.ones_like(positions[:, 0], dtype=torch.bool)  # [B]
    for step in range(num_shots):
        actions = sequence_logits(model, inputs, positions)[:, step].argmax(-1)  # [B, S, A] -> [B]
        going_on = going_on & (actions < num_candidates)
        positions[:, step] = torch.where(going_on, actions, -1)
    return positions


def measure_batch(model, inputs: Batch) -> dict[str, torch.Tensor]:
    """What the measures of an evaluation are made of, one row a query."""
    prefixes, scores = inputs["prefix_positions"], inputs["prefix_scores"]  # [B, P, S], [B, P, A]
    num_shots = prefixes.shape[-1]
    positions = greedy_positions(model, inputs, num_shots)  # [B, S]
    others = inputs | {"query_embeds": inputs["swapped_query_embeds"]}
    swapped = greedy_positions(model, others, num_shots)  # [B, S]
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
    return {
        "positions": positions,
        "rows": _chosen_rows(inputs["candidate_rows"], positions),
        "swapped_rows": _chosen_rows(inputs["candidate_rows"], swapped),
        "regret": regret,
        "info_score": _looked_up(positions, prefixes, scores),
        "recall": torch.where(size > 0, hits / size.clamp(min=1), nothing),
    }


def _chosen_rows(candidate_rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Pool rows `[B, S]` of the chosen candidates, -1 where there is none."""
    return torch.where(positions >= 0, candidate_rows.gather(1, positions.clamp(min=0)), -1)


def _looked_up(positions: torch.Tensor, prefixes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """
    InfoScores `[B]` of selections `[B, S]`; NaN where the ledger does not hold them. It does if everything but the
    last action is an expanded prefix.
    """
    num_shots = positions.shape[-1]
    full = positions[:, -1] >= 0  # [B]
    steps = torch.arange(num_shots, device=positions.device)
    start = torch.where((steps == num_shots - 1) & full[:, None], -1, positions)  # [B, S]
    last = torch.where(full, positions[:, -1], scores.shape[-1] - 1)  # [B]; ending is the last action
    values = scores.gather(-1, last[:, None, None].expand(-1, prefixes.shape[1], -1)).squeeze(-1)  # [B, P]
    found = (prefixes == start[:, None]).all(-1) & ~values.isnan()  # [B, P]; padding looks like the empty prefix
    return values.masked_fill(~found, 0.0).sum(-1).masked_fill(~found.any(-1), torch.nan)


def selection_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Measures of an evaluation: how good the selections are, and whether the selector has collapsed."""
    found = prediction.predictions
    covered = found["info_score"] == found["info_score"]
    swapped = found["swapped_rows"] if len(found["rows"]) > 1 else None
    collapse = measure_collapse(found["rows"].tolist(), found["positions"].tolist(), swapped)
    metrics = {
        "loss": float(found["loss"].mean()),
        "regret": float(found["regret"].mean()),
        "recall": float(found["recall"].mean()),
        "info_score_coverage": float(covered.mean()),
        "id_entropy": collapse.id_entropy,
        "position_entropy": collapse.position_entropy,
        "most_common_share": collapse.most_common_share,
        "collapsed": float(collapse.collapsed),
    }
    if covered.any():
        metrics["info_score"] = float(found["info_score"][covered].mean())
    if collapse.swap_change_share is not None:
        metrics["swap_change_share"] = collapse.swap_change_share
    measured = {"regret": found["regret"], "recall": found["recall"], "info_score": found["info_score"][covered]}
    for name, values in measured.items():
        if len(values) > 1:  # half of a 95% interval over queries, by the normal approximation
            metrics[f"{name}_margin"] = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return metrics
