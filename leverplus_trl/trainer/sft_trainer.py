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
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_utils import EvalPrediction

from ..selectors.collapse import measure_collapse
from ..selectors.configuration_pointer_selector import PointerSelectorConfig
from ..selectors.modeling_pointer_selector import PointerSelectorModel
from ..selectors.processing_pointer_selector import PointerSelectorProcessor
from .model_card import model_card
from .sft_config import SelectorSFTConfig
from .sft_dataset import SelectorDataset
from .sft_losses import beam_weights, beams_loss, listwise_loss


logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]


class SelectorSFTTrainer(Trainer):
    """
    Trains a selector on stored embeddings, beams and ledger with the stock training loop of transformers.

    Args:
        model ([`PointerSelectorModel`]):
            The selector.
        args ([`SelectorSFTConfig`]):
            Arguments.
        train_dataset ([`SelectorDataset`]):
            Queries to learn from.
        eval_dataset ([`SelectorDataset`], *optional*):
            Held-out queries.
        processing_class ([`PointerSelectorProcessor`], *optional*, defaults to that of the training data):
            Saved beside the model.
        **kwargs:
            What else `transformers.Trainer` takes.
    """

    def __init__(
        self,
        model: PointerSelectorModel,
        args: SelectorSFTConfig,
        train_dataset: SelectorDataset,
        eval_dataset: SelectorDataset | None = None,
        processing_class: PointerSelectorProcessor | None = None,
        **kwargs,
    ):
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=_as_is,
            compute_metrics=selection_metrics,
            **kwargs,
        )
        # Not given to the base class, which takes every processor for one that has a tokenizer.
        self.selector_processor = processing_class or train_dataset.processor

    def compute_loss(self, model, inputs: Batch, return_outputs: bool = False, num_items_in_batch=None):
        args = self.args
        if args.loss_type == "listwise":
            logits = prefix_logits(model, inputs)
            weights = inputs["prefix_weights"]
            loss = listwise_loss(logits, inputs["prefix_scores"], weights, args.tau, args.label_smoothing)
        else:
            positions = inputs["beam_positions"][:, : args.top_n]  # [B, N, S]
            scores = inputs["beam_scores"][:, : args.top_n]  # [B, N]
            logits = _forward(model, inputs, positions)  # [B, N, S, K]
            weights = beam_weights(scores, args.top_n, args.score_weights, args.tau)
            loss = beams_loss(logits, positions, weights, args.label_smoothing)
        return (loss, {"logits": logits}) if return_outputs else loss

    @torch.no_grad()
    def prediction_step(
        self, model, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor, Any, torch.Tensor | None]:
        """Loss, and what [`selection_metrics`] is computed from; only `forward` is called, so every wrapper of a model
        works."""
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs).detach()
            if prediction_loss_only:
                return loss, None, None
            measures = measure_batch(model, inputs)
        # The loop computes metrics only of what has labels; these are not read.
        return loss, measures, inputs["prefix_lengths"][:, 0]

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        if metrics.get(f"{prefix}_collapsed"):
            logger.warning("%s", self._collapse_warning(metrics, prefix))
        return metrics

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Matrices alone decay: the temperature is a scale, which decay would drag to 1."""
        return [name for name in super().get_decay_parameter_names(model) if model.get_parameter(name).dim() > 1]

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

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        self.selector_processor.save_pretrained(folder)
        # A pickle of arguments that the recipe and the trainer's state hold in plain text.
        (folder / "training_args.bin").unlink(missing_ok=True)

    def create_model_card(self, *args, **kwargs) -> None:
        """Writes the card of the selector, README.md, to the output folder."""
        if self.is_world_process_zero():
            config: PointerSelectorConfig = self.accelerator.unwrap_model(self.model).config
            metrics = next((entry for entry in reversed(self.state.log_history) if "eval_loss" in entry), {})
            text = model_card(config, self.args, metrics, len(self.train_dataset))
            (Path(self.args.output_dir) / "README.md").write_text(text, encoding="utf-8")


def _as_is(batch: Batch) -> Batch:
    return batch


def _forward(model, inputs: Batch, positions: torch.Tensor) -> torch.Tensor:
    return model(inputs["query_embeds"], inputs["candidate_embeds"], inputs["candidate_mask"], positions).logits


def prefix_logits(model, inputs: Batch) -> torch.Tensor:
    """The policy after each prefix, `[B, P, K]`."""
    logits = _forward(model, inputs, inputs["prefix_positions"])  # [B, P, S, K]
    last = inputs["prefix_lengths"][..., None, None].expand(-1, -1, 1, logits.shape[-1])  # [B, P, 1, K]
    return logits.gather(2, last).squeeze(2)  # [B, P, K]


def greedy_positions(model, query_embeds: torch.Tensor, inputs: Batch, num_shots: int) -> torch.Tensor:
    """Greedy selection `[B, S]` by calls of `forward` alone."""
    positions = torch.full((len(query_embeds), num_shots), -1, device=query_embeds.device)
    for step in range(num_shots):
        logits = model(
            query_embeds, inputs["candidate_embeds"], inputs["candidate_mask"], positions
        ).logits  # [B, S, K]
        positions[:, step] = logits[:, step].argmax(-1)
    return positions


def measure_batch(model, inputs: Batch) -> dict[str, torch.Tensor]:
    """What the measures of an evaluation are made of, one row a query."""
    prefixes, scores = inputs["prefix_positions"], inputs["prefix_scores"]  # [B, P, S], [B, P, K]
    num_shots = prefixes.shape[-1]
    positions = greedy_positions(model, inputs["query_embeds"], inputs, num_shots)  # [B, S]
    swapped = greedy_positions(model, inputs["swapped_query_embeds"], inputs, num_shots)  # [B, S]
    logits = prefix_logits(model, inputs)  # [B, P, K]
    scored = ~scores.isnan()
    picks = logits.masked_fill(~scored, -torch.inf).argmax(-1, keepdim=True)  # [B, P, 1]
    best = scores.masked_fill(~scored, -torch.inf).amax(-1)  # [B, P]
    weights = inputs["prefix_weights"]  # [B, P]
    regret = torch.where(weights > 0, best - scores.gather(-1, picks).squeeze(-1), 0.0)  # [B, P]
    regret = (regret * weights).sum(-1) / weights.sum(-1)  # [B]
    # The ledger holds the selection's score if all its picks but the last are an expanded prefix.
    start = positions.clone()
    start[:, -1] = -1
    found = (prefixes == start[:, None]).all(-1)  # [B, P]
    last = positions[:, None, -1:].expand(-1, prefixes.shape[1], -1)  # [B, P, 1]
    info_score = scores.gather(-1, last).squeeze(-1).masked_fill(~found, 0.0).sum(-1)  # [B]
    info_score = info_score.masked_fill(~found.any(-1), torch.nan)
    members = inputs["beam_positions"][:, 0]  # [B, S]
    hits = ((positions[:, :, None] == members[:, None]) & (members >= 0)[:, None]).any(1)  # [B, S]
    return {
        "positions": positions,
        "rows": inputs["candidate_rows"].gather(1, positions),
        "swapped_rows": inputs["candidate_rows"].gather(1, swapped),
        "regret": regret,
        "info_score": info_score,
        "recall": hits.sum(-1) / (members >= 0).sum(-1),
    }


def selection_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Measures of an evaluation: how good the selections are, and whether the selector has collapsed."""
    found = prediction.predictions
    covered = found["info_score"] == found["info_score"]
    swapped = found["swapped_rows"] if len(found["rows"]) > 1 else None
    collapse = measure_collapse(found["rows"].tolist(), found["positions"].tolist(), swapped)
    metrics = {
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
    return metrics
