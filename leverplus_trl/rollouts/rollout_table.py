# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""The rollouts table and its summary: from the units' files to a dataset folder."""

import shutil
from collections import Counter
from pathlib import Path

from ..output_files import UNFINISHED, write_json
from ..schema import ROLLOUTS
from ..tables import write_tables
from ..work_units import UnitRows, join_units
from .rollout_summary import summarize_rollouts


CARD = """\
What a frozen VLM answered behind ordered demonstrations from many sources, and how good each answer was.

One row a query, whose lists hold one entry a sequence. `demonstration_ids` stand in prompt order: left to right, the
last one next to the query; ids are those of the examples. `sources` names the first source that proposed the sequence.
`accuracies` are the task's metric in 0..1 (CIDEr: 0..10), `gt_probs` the accuracy to be expected of a sampled answer,
`relevances` the mean of word F1 and letter similarity to the annotators' answer that fits best, `answer_logprobs` sums
over the tokens of `answer`, and `behaviour_logprobs` the log-probability of the sequence under the distribution that
it was drawn from (null where nothing was drawn)."""


def write_rollout_dataset(
    folder: Path, files: dict[str, list[Path]], provenance: dict
) -> tuple[dict[str, dict], dict[str, int]]:
    """
    Writes the table of rollouts that are complete, with `summary.json` beside it, and then drops the units' files.

    Args:
        folder (`Path`):
            The dataset folder.
        files (`dict[str, list[Path]]`):
            The units' files of each split, in query order.
        provenance (`dict`):
            What made them.

    Returns:
        `tuple[dict, dict]`: the summary of each split (see [`summarize_rollouts`]), and over all of them how many
        sequences were answered, answers scored, and sequences known from the ledger and from earlier rollouts.
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
