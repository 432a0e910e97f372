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

from typing import Any

import torch

from .base_selector_dataset import ShuffledBlocks
from .base_selector_trainer import BaseSelectorTrainer
from .model_card import model_card
from .pixel_dataset import embed_inputs
from .policy_measures import Batch, has_stop, sequence_logits
from .sft_losses import beam_weights, beams_loss, listwise_loss
from .sft_measures import measure_batch, prefix_logits, selection_metrics


class SelectorSFTTrainer(BaseSelectorTrainer):
    """
    Trains a selector on stored embeddings, beams and ledger, in the training loop of transformers.

    Args:
        model ([`BaseSelectorModel`]):
            The selector.
        args ([`SelectorSFTConfig`]):
            Arguments.
        train_dataset ([`SelectorDataset`], or [`PixelDataset`] of it):
            Training queries.
        eval_dataset ([`SelectorDataset`], or [`PixelDataset`] of it, *optional*):
            Held-out queries.
        processing_class ([`SelectorProcessor`], *optional*, defaults to that of the training data):
            Saved with the model.
        **kwargs:
            Other arguments of `transformers.Trainer`.
    """

    _block_sampler = ShuffledBlocks
    selection_metrics = staticmethod(selection_metrics)

    def compute_loss(self, model, inputs: Batch, return_outputs: bool = False, num_items_in_batch=None):
        losses, logits = self._query_losses(model, inputs)  # [B], [B, P, A] or [B, N, S, A]
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
        """The inputs of [`selection_metrics`]."""
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            inputs = embed_inputs(model, inputs)
            losses = self._query_losses(model, inputs)[0]  # [B]
            if prediction_loss_only:
                return losses.mean(), None, None
            # Losses by query: the loop drops the queries that fill up the last batch of a process.
            measures = measure_batch(model, inputs) | {"loss": losses}
        # The loop computes metrics only if there are labels; these are not read.
        return None, measures, inputs["prefix_lengths"][:, 0]

    def collapse_advice(self) -> str:
        dataset = self.eval_dataset
        shots, candidates = dataset.scored.prefix_positions.shape[-1], dataset.candidate_rows.shape[1]
        scores = self.train_dataset.scored.prefix_scores[:, 0]  # [Q, K], after no pick
        top, low = scores.nan_to_num(-torch.inf).amax(-1), scores.nan_to_num(torch.inf).amin(-1)  # [Q] both
        spread = (top - low).median().item()
        if candidates <= 2 * shots:
            cause = f"there are only {candidates} candidates for {shots} shots: raise num_candidates"
        elif spread < self.args.tau:
            cause = (
                f"the scores of a query's candidates differ by {spread:.2g} (median), less than tau {self.args.tau}, "
                "so the targets are nearly uniform: lower tau, or check that the VLM reacts to its demonstrations"
            )
        else:
            cause = (
                "either training has hardly begun, or the features of the queries are too similar: train longer, or "
                "check the embeddings"
            )
        return f"Likely cause: {cause}."

    def card_text(self) -> str:
        config = self.accelerator.unwrap_model(self.model).config
        return model_card(config, self.args, self.last_logged("eval_loss"), len(self.train_dataset))
