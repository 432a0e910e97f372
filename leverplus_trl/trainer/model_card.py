# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The card of a trained selector."""

from typing import Any

from ..selectors.base_selector_config import BaseSelectorConfig
from ..selectors.selector_card import cell, selector_card
from .offline_grpo_config import OfflineGRPOConfig
from .sft_config import SelectorSFTConfig


#: The metrics of an SFT card, and their descriptions.
MEASURES = {
    "eval_regret": "regret: InfoScore lost against the best next choice, averaged over expanded prefixes",
    "eval_recall": "recall of the demonstrations of the best beam",
    "eval_info_score": "mean InfoScore of the greedy selections that are in the ledger",
    "eval_info_score_coverage": "share of the greedy selections that are in the ledger",
    "eval_swap_change_share": "share of selections that change with the query",
    "eval_most_common_share": "share of the most common selection",
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
    "eval_swap_change_share": "share of selections that change with the query",
    "eval_most_common_share": "share of the most common selection",
}


def model_card(config: BaseSelectorConfig, args: SelectorSFTConfig, metrics: dict[str, Any], num_queries: int) -> str:
    """The README.md of a selector trained with SFT on `num_queries` queries. `metrics` are the values of its last
    evaluation, named as in `trainer_state.json`."""
    made_with = {"training queries": num_queries, "loss": args.loss_type, "tau": args.tau}
    return selector_card(config, made_with, {"On held-out queries": _held_out(metrics, MEASURES)})


def grpo_card(
    config: BaseSelectorConfig,
    args: OfflineGRPOConfig,
    metrics: dict[str, Any],
    num_queries: int,
    mean_rewards: dict[str, float],
    kept_sft: bool = False,
) -> str:
    """The README.md of a selector trained with GRPO. `mean_rewards` are those of the training sequences, by source;
    `kept_sft` says that no checkpoint beat the SFT policy, whose weights were kept."""
    made_by = config.trained_on or {}
    weights = args.reward_weights or [1.0] * len(args.reward_funcs)
    rewards = zip(weights, args.reward_funcs, strict=True)
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
    table = _held_out(metrics, GRPO_MEASURES)
    if kept_sft:
        table = f"**Nothing beat the SFT selector on them: these are its weights.**\n\n{table}"
    sections = {
        "Trained by reward": _table(("", ""), {name: cell(value) for name, value in rl.items() if value is not None}),
        "Rewards of the training sequences": _table(
            ("source", "mean reward"), {cell(source): f"{reward:.4f}" for source, reward in mean_rewards.items()}
        ),
        "On held-out queries": table,
    }
    return selector_card(config, sections=sections)


def _held_out(metrics: dict[str, Any], measures: dict[str, str]) -> str:
    table = measures_table(metrics, measures)
    if metrics.get("eval_collapsed"):
        return f"**It has collapsed: it selects nearly the same demonstrations for every query.**\n\n{table}"
    return table


def measures_table(metrics: dict[str, Any], measures: dict[str, str]) -> str:
    """A Markdown table of the metrics that `measures` describes (`{name: description}`). Metrics with a margin
    (`<name>_margin`) are shown with their 95% interval."""
    rows = {}
    for name, text in measures.items():
        if name in metrics:
            margin = metrics.get(f"{name}_margin")
            rows[text] = f"{metrics[name]:.4f}{f' ± {margin:.4f}' if margin is not None else ''}"
    if not rows:
        return "There were none."
    table = _table(("measure", "value"), rows)
    return f"{table}\n\n± is a 95% interval over queries (1.96 standard errors)." if "±" in table else table


def _table(header: tuple[str, str], rows: dict[str, str]) -> str:
    lines = [header, ("---", "---"), *rows.items()]
    return "\n".join(f"| {name} | {value} |" for name, value in lines)
