# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""What a user reads before any training on rollouts: do the groups differ within, and how much is there to gain?"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from .rollout_sources import GREEDY


#: Rewards that differ by less within a group teach nothing but rounding.
SPREAD = 1e-6
#: With fewer groups than this whose accuracies differ, training by accuracy has little to learn from.
FEW_GROUPS = 0.2


def summarize_rollouts(rows: Iterable[dict]) -> dict:
    """
    Summary of the rollouts of one split.

    Args:
        rows (`Iterable[dict]`):
            What [`answer_unit`] gives, of all queries.

    Returns:
        `dict`:

        - `num_groups`, `num_sequences`;
        - `num_groups_with_accuracy_spread`, `num_groups_with_gt_prob_spread`: groups in which the best differs from
          the worst; only these can teach by that reward;
        - `sources`: for each its `num_sequences`, `mean_accuracy`, and `best_accuracy`, the mean over queries of the
          best that it proposed; over *all* that it proposed, whoever's name the sequence stands under in the table;
        - `greedy_accuracy` (null without a selector), `best_accuracy`: the mean over queries of the best sequence of
          the group; `head_room`: their difference, what a selector could gain by always choosing the best of these.
    """
    counts, of_greedy, of_best = Counter(), array("d"), array("d")
    of_source, best_of_source = defaultdict(lambda: array("d")), defaultdict(lambda: array("d"))
    for row in rows:
        accuracies = row["accuracies"]
        accuracy = dict(zip(map(tuple, row["demonstration_ids"]), accuracies, strict=True))
        own: dict[str, list[float]] = {}
        for proposal in row["proposals"]:
            own.setdefault(proposal["source"], []).append(accuracy[tuple(proposal["demonstration_ids"])])
        for source, found in own.items():
            of_source[source].extend(found)
            best_of_source[source].append(max(found))
        of_greedy.extend(own.get(GREEDY, [])[:1])
        of_best.append(max(accuracies))
        counts.update(sequences=len(accuracies), accuracy=_differs(accuracies), gt_prob=_differs(row["gt_probs"]))
    greedy, best = fmean(of_greedy) if of_greedy else None, fmean(of_best)
    return {
        "num_groups": len(of_best),
        "num_sequences": counts["sequences"],
        "num_groups_with_accuracy_spread": counts["accuracy"],
        "num_groups_with_gt_prob_spread": counts["gt_prob"],
        "sources": {
            source: {
                "num_sequences": len(found),
                "mean_accuracy": fmean(found),
                "best_accuracy": fmean(best_of_source[source]),
            }
            for source, found in of_source.items()
        },
        "greedy_accuracy": greedy,
        "best_accuracy": best,
        "head_room": None if greedy is None else best - greedy,
    }


def _differs(values: Sequence[float]) -> bool:
    return max(values) - min(values) > SPREAD


def describe(summary: dict, split: str) -> str:
    """The summary of a split in words."""
    groups = summary["num_groups"]
    shares = {
        name: f"{summary[f'num_groups_with_{name}_spread']} ({summary[f'num_groups_with_{name}_spread'] / groups:.0%})"
        for name in ("accuracy", "gt_prob")
    }
    lines = [
        f"Rollouts of {split!r}: {groups} queries, {summary['num_sequences']} different sequences.",
        f"Queries whose sequences differ in accuracy: {shares['accuracy']}; in gt_prob: {shares['gt_prob']}. Only "
        "these can teach anything by that reward.",
        f"{'source':>16} {'sequences':>9} {'accuracy x 100':>14} {'best of the source':>18}",
    ]
    for source, found in summary["sources"].items():
        lines.append(
            f"{source:>16} {found['num_sequences']:>9} {100 * found['mean_accuracy']:>14.1f} "
            f"{100 * found['best_accuracy']:>18.1f}"
        )
    if summary["head_room"] is None:
        lines.append(
            f"The best sequence of each query reaches {100 * summary['best_accuracy']:.1f}. Without a selector there "
            "is no greedy choice to measure this against."
        )
    else:
        lines.append(
            f"The selector's greedy choice reaches {100 * summary['greedy_accuracy']:.1f}, the best sequence of each "
            f"query {100 * summary['best_accuracy']:.1f}: the head room is {100 * summary['head_room']:.1f} points."
        )
    if summary["num_groups_with_accuracy_spread"] < FEW_GROUPS * groups:
        lines.append(
            "Few queries have sequences that are answered better than others. Training by accuracy alone will hardly "
            "move the selector: add the reward gt_prob, or take more rollouts, higher temperatures, more random ones."
        )
    return "\n".join(lines)
