# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The rollouts table, and its summary: do the sequences of a query differ, and how much is there to gain?"""

import shutil
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from ..output_files import UNFINISHED, write_json
from ..schema import ROLLOUTS
from ..tables import write_tables
from ..work_units import UnitRows, join_units
from .rollout_sources import GREEDY


#: A smaller difference within a group is rounding.
SPREAD = 1e-6
#: With a smaller share of queries whose accuracies differ, training by accuracy has little to learn from.
FEW_GROUPS = 0.2
CARD = """\
What a frozen VLM answered after ordered demonstrations from many sources, and how good each answer was.

One row a query, whose lists hold one entry a sequence. `demonstration_ids` are in prompt order: left to right, the
last demonstration next to the query; ids are those of the examples. `sources` names the first source of the sequence.
`accuracies` are the task's metric in 0..1 (CIDEr: 0..10), `gt_probs` the accuracy to be expected of a sampled answer,
`relevances` the mean of word F1 and letter similarity to the annotators' answer that fits best, `answer_logprobs` sums
over the tokens of `answer`, and `behaviour_logprobs` the log-probability of the sequence under the distribution that
it was drawn from (null where nothing was drawn)."""


def write_rollout_dataset(
    folder: Path, files: dict[str, list[Path]], provenance: dict
) -> tuple[dict[str, dict], dict[str, int]]:
    """
    Writes the table of complete rollouts and `summary.json` to the folder, and deletes the units' files. `files` are
    those of each split, in query order.

    Returns:
        `tuple[dict, dict]`: the summary of each split (see [`summarize_rollouts`]), and how many sequences were
        answered, answers scored, and sequences taken from the ledger and from earlier rollouts, over all splits.
    """
    units, counts = folder / "units", Counter()
    for row in UnitRows([part for parts in files.values() for part in parts]):
        counts.update(row["counts"])
    summary = {split: summarize_rollouts(UnitRows(parts)) for split, parts in files.items()}
    tables = {
        split: join_units(parts, ROLLOUTS, units / f"{UNFINISHED}rollouts-{split}.arrow")
        for split, parts in files.items()
    }
    # The card comes last: a folder that has one is complete.
    write_json(folder / "summary.json", summary)
    write_tables(folder, {"rollouts": tables}, "Rollouts", CARD, provenance)
    del tables  # Windows does not delete files that are mapped into memory
    shutil.rmtree(units, ignore_errors=True)
    return summary, counts


def summarize_rollouts(rows: Iterable[dict]) -> dict:
    """
    Summary of the rollouts of one split, from the rows of [`answer_unit`].

    Returns:
        `dict`:

        - `num_groups`, `num_sequences`;
        - `num_groups_with_accuracy_spread`, `num_groups_with_gt_prob_spread`: groups in which the best differs from
          the worst; only these can teach by that reward;
        - `sources`: for each its `num_sequences`, `mean_accuracy`, and `best_accuracy`, the mean over queries of its
          best sequence; over *all* that it proposed, also where the table names another source;
        - `greedy_accuracy` (null without a selector), `best_accuracy`: the mean over queries of the best sequence of
          the group; `head_room`: their difference, what a selector could gain by always choosing the best sequence.
    """
    counts, of_greedy, of_best = Counter(), array("d"), array("d")
    of_source, best_of_source = defaultdict(lambda: array("d")), defaultdict(lambda: array("d"))
    for row in rows:
        accuracies, gt_probs = row["accuracies"], row["gt_probs"]
        accuracy = dict(zip(map(tuple, row["demonstration_ids"]), accuracies, strict=True))
        own: dict[str, list[float]] = {}
        for proposal in row["proposals"]:
            own.setdefault(proposal["source"], []).append(accuracy[tuple(proposal["demonstration_ids"])])
        for source, values in own.items():
            of_source[source].extend(values)
            best_of_source[source].append(max(values))
        of_greedy.extend(own.get(GREEDY, [])[:1])
        of_best.append(max(accuracies))
        counts["sequences"] += len(accuracies)
        counts["accuracy"] += max(accuracies) - min(accuracies) > SPREAD
        counts["gt_prob"] += max(gt_probs) - min(gt_probs) > SPREAD
    greedy, best = fmean(of_greedy) if of_greedy else None, fmean(of_best)
    return {
        "num_groups": len(of_best),
        "num_sequences": counts["sequences"],
        "num_groups_with_accuracy_spread": counts["accuracy"],
        "num_groups_with_gt_prob_spread": counts["gt_prob"],
        "sources": {
            source: {
                "num_sequences": len(values),
                "mean_accuracy": fmean(values),
                "best_accuracy": fmean(best_of_source[source]),
            }
            for source, values in of_source.items()
        },
        "greedy_accuracy": greedy,
        "best_accuracy": best,
        "head_room": None if greedy is None else best - greedy,
    }


def describe(summary: dict, split: str) -> str:
    """The summary of a split in words."""
    groups, best = summary["num_groups"], f"{100 * summary['best_accuracy']:.1f}"
    accuracy, gt_prob = (
        f"{summary[name]} ({summary[name] / groups:.0%})"
        for name in ("num_groups_with_accuracy_spread", "num_groups_with_gt_prob_spread")
    )
    lines = [
        f"Rollouts of {split!r}: {groups} queries, {summary['num_sequences']} different sequences.",
        f"Queries whose sequences differ in accuracy: {accuracy}; in gt_prob: {gt_prob}. Only these can teach "
        "anything by that reward.",
        f"{'source':>16} {'sequences':>9} {'accuracy x 100':>14} {'best of the source':>18}",
    ]
    for source, values in summary["sources"].items():
        lines.append(
            f"{source:>16} {values['num_sequences']:>9} {100 * values['mean_accuracy']:>14.1f} "
            f"{100 * values['best_accuracy']:>18.1f}"
        )
    if summary["head_room"] is None:
        lines.append(
            f"The best sequence of each query reaches {best}. Without a selector there is no greedy choice to compare."
        )
    else:
        lines.append(
            f"The selector's greedy choice reaches {100 * summary['greedy_accuracy']:.1f}, the best sequence of each "
            f"query {best}: the head room is {100 * summary['head_room']:.1f} points."
        )
    if summary["num_groups_with_accuracy_spread"] < FEW_GROUPS * groups:
        lines.append(
            "Few queries have sequences that are answered better than others. Training by accuracy alone will hardly "
            "move the selector: add the reward gt_prob, or take more rollouts, higher temperatures, more random ones."
        )
    return "\n".join(lines)
