# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The card of a trained selector, and the verdict on it in one sentence."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..retrieval.sampler_arguments import RANDOM, SIMILARITIES
from ..retrieval.similarity_index import similarity_vectors
from ..selectors.base_selector_config import BaseSelectorConfig, cell, selector_card
from .offline_grpo_config import OfflineGRPOConfig
from .sft_config import SelectorSFTConfig
from .sft_dataset import SelectorDataset


_SELECTIONS = {
    "eval_swap_change_share": "share of selections that change with the query",
    "eval_most_common_share": "share of the most common selection",
}
#: The metrics of an SFT card, and their descriptions.
MEASURES = {
    "eval_regret": "regret: InfoScore lost against the best next choice, averaged over expanded prefixes",
    "eval_recall": "recall of the demonstrations of the best beam",
    "eval_info_score": "mean InfoScore of the greedy selections that are in the ledger",
    "eval_info_score_coverage": "share of the greedy selections that are in the ledger",
    **_SELECTIONS,
    "eval_loss": "loss",
}
#: The metrics of a GRPO card.
GRPO_MEASURES = {
    "eval_expected_reward": "expected reward of the stored sequences",
    "eval_sft_expected_reward": "the same under the SFT selector it started from",
    "eval_expected_reward_gain": "difference between the two, by query",
    "eval_greedy_reward": "mean reward of the greedy selections that are among the stored sequences",
    "eval_greedy_reward_coverage": "share of the greedy selections that are among them",
    "eval_changed": "share of the greedy selections that differ from those of the SFT selector",
    "eval_kl": "KL to the SFT selector, in nats per step",
    **_SELECTIONS,
}
#: The verdict without held-out queries.
NOT_MEASURED = (
    "How well the selector chooses was not measured, since eval_split is null; the stage evaluate measures it."
)


def model_card(config: BaseSelectorConfig, args: SelectorSFTConfig, metrics: dict[str, Any], num_queries: int) -> str:
    """The README.md of a selector trained with SFT on `num_queries` queries. `metrics` are the values of its last
    evaluation, named as in `trainer_state.json`."""
    made_with = {"training queries": num_queries, "loss": args.loss_type, "tau": args.tau}
    return selector_card(config, made_with, {"On held-out queries": measures_table(metrics, MEASURES)})


def grpo_card(
    config: BaseSelectorConfig,
    args: OfflineGRPOConfig,
    metrics: dict[str, Any],
    num_queries: int,
    mean_rewards: dict[str, float],
    kept_sft: bool,
) -> str:
    """The README.md of a selector trained with GRPO. `mean_rewards` are those of the training sequences, by source;
    `kept_sft` says that no checkpoint beat the SFT policy, whose weights were kept."""
    made_by = config.trained_on or {}
    rewards = zip(args.reward_weights or [1.0] * len(args.reward_funcs), args.reward_funcs, strict=True)
    rl = {
        "queries": num_queries,
        "rollouts": made_by.get("rollouts"),
        "SFT selector": made_by.get("selector"),
        "reward": " + ".join(f"{weight:g} x {name}" for weight, name in rewards),
        "epochs": f"{args.num_train_epochs:g}, of which {args.rce_epochs:g} by reward-weighted cross-entropy (RCE)",
        "loss": f"{args.loss_type}, ratios of each {args.importance_sampling_level}, scale_rewards "
        f"{args.scale_rewards}, {args.num_iterations} steps on each batch",
        "beta": f"{args.beta:g}{', adaptive' * args.adaptive_beta}",
        "learning rate": args.learning_rate,
    }
    means = {cell(source): f"{reward:.4f}" for source, reward in mean_rewards.items()}
    note = "**Nothing beat the SFT selector on them: these are its weights.**\n\n" if kept_sft else ""
    sections = {
        "Trained by reward": _table(("", ""), {name: cell(value) for name, value in rl.items() if value is not None}),
        "Rewards of the training sequences": _table(("source", "mean reward"), means),
        "On held-out queries": note + measures_table(metrics, GRPO_MEASURES),
    }
    return selector_card(config, sections=sections)


def measures_table(metrics: dict[str, Any], measures: dict[str, str]) -> str:
    """A Markdown table of the metrics that `measures` describes (`{name: description}`). Metrics with a margin
    (`<name>_margin`) are shown with their 95% interval."""
    rows = {}
    for name, text in measures.items():
        if name in metrics:
            margin = f" ± {metrics[f'{name}_margin']:.4f}" if f"{name}_margin" in metrics else ""
            rows[text] = f"{metrics[name]:.4f}{margin}"
    if not rows:
        return "There were none."
    table = _table(("measure", "value"), rows)
    if metrics.get("eval_collapsed"):
        table = f"**It has collapsed: it selects nearly the same demonstrations for every query.**\n\n{table}"
    return f"{table}\n\n± is a 95% interval over queries (1.96 standard errors)." if "±" in table else table


def _table(header: tuple[str, str], rows: dict[str, str]) -> str:
    lines = [header, ("---", "---"), *rows.items()]
    return "\n".join(f"| {name} | {value} |" for name, value in lines)


def baseline_regrets(dataset: SelectorDataset) -> dict[str, float]:
    """The regret of `"random"` and of each similarity whose embeddings the dataset has: the mean difference between
    the InfoScore of the best next candidate and that of the baseline's choice, after the prefixes in the ledger."""
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
    """SFT against the best baseline: by the `metrics` of the trainer's evaluation and the [`baseline_regrets`], both
    on the `num_queries` queries of `split`."""
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
    """GRPO against its SFT selector: by the `metrics` of the trainer's evaluation."""
    gain, margin = metrics["eval_expected_reward_gain"], metrics.get("eval_expected_reward_gain_margin", float("inf"))
    result = "not distinguishable from no change"
    if abs(gain) > margin:
        result = "a gain" if gain > 0 else "a loss"
    return (
        f"Offline RL changed the expected reward by {gain:+.3f} ± {margin:.3f} on {num_queries} queries of {split!r}, "
        f"from {metrics['eval_sft_expected_reward']:.3f} to {metrics['eval_expected_reward']:.3f}: {result}."
    )
