# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The verdict on a trained selector, in one sentence: SFT against the best baseline, GRPO against its SFT selector."""

from collections.abc import Mapping

import numpy as np

from ..retrieval.sampler_arguments import RANDOM, SIMILARITIES
from ..retrieval.similarity_index import similarity_vectors
from .sft_dataset import SelectorDataset


#: The verdict without held-out queries.
NOT_MEASURED = (
    "How well the selector chooses was not measured, since eval_split is null; the stage evaluate measures it."
)


def baseline_regrets(dataset: SelectorDataset) -> dict[str, float]:
    """
    The regret of each baseline, on the same prefixes of the ledger as the selector's regret.

    Returns:
        `dict[str, float]`: for `"random"`, and for each similarity whose embeddings the dataset has, the mean
        difference between the InfoScore of the best next candidate and that of the baseline's choice.
    """
    scored = dataset.scored
    num_candidates = dataset.candidate_rows.shape[1]
    scores = scored.prefix_scores.numpy()[:, :, :num_candidates]  # [Q, P, K], without STOP
    known, weights = ~np.isnan(scores), scored.prefix_weights.numpy()  # [Q, P, K], [Q, P]
    filled = np.where(known, scores, 0.0)
    best = np.where(known, scores, -np.inf).max(-1)  # [Q, P]
    chosen = {RANDOM: filled.sum(-1) / np.maximum(known.sum(-1), 1)}
    for kind, modalities in SIMILARITIES.items():
        if all(getattr(table, name) is not None for table in (dataset.queries, dataset.pool) for name in modalities):
            queries = similarity_vectors(dataset.queries, kind, dataset.query_rows, weighted=True)  # [Q, D]
            pool = similarity_vectors(dataset.pool, kind)  # [N, D]
            near = np.stack([pool[rows] @ query for rows, query in zip(dataset.candidate_rows, queries, strict=True)])
            picks = np.where(known, near[:, None], -np.inf).argmax(-1)  # [Q, P]
            chosen[kind] = np.take_along_axis(filled, picks[..., None], -1).squeeze(-1)
    regrets = {}
    for name, values in chosen.items():
        regret = np.where(weights > 0, best - values, 0.0)  # [Q, P]
        regrets[name] = float(((regret * weights).sum(-1) / weights.sum(-1)).mean())
    return regrets


def sft_verdict(metrics: Mapping[str, float], regrets: Mapping[str, float], split: str, num_queries: int) -> str:
    """The verdict on a selector by the `metrics` of the trainer's evaluation and the [`baseline_regrets`], both on the
    `num_queries` queries of `split`."""
    best = min(regrets, key=regrets.get)
    regret, margin = metrics["eval_regret"], metrics.get("eval_regret_margin", float("inf"))
    result = "not clearly better than"
    if abs(regret - regrets[best]) > margin:
        result = "better than" if regret < regrets[best] else "worse than"
    return (
        f"The selector chooses {result} the best baseline, {best}: on {num_queries} queries of {split!r} its next "
        f"demonstration loses {regret:.3f} ± {margin:.3f} of InfoScore to the best candidate, that of {best} "
        f"{regrets[best]:.3f}."
    )


def grpo_verdict(metrics: Mapping[str, float], split: str, num_queries: int) -> str:
    """The verdict on offline RL by the `metrics` of the trainer's evaluation on `num_queries` queries of `split`."""
    gain, margin = metrics["eval_expected_reward_gain"], metrics.get("eval_expected_reward_gain_margin", float("inf"))
    result = "a gain" if gain > margin else "a loss" if gain < -margin else "not distinguishable from no change"
    return (
        f"Offline RL changed the expected reward by {gain:+.3f} ± {margin:.3f} on {num_queries} queries of {split!r}, "
        f"from {metrics['eval_sft_expected_reward']:.3f} to {metrics['eval_expected_reward']:.3f}: {result}."
    )
