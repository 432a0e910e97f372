# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The beams and ledger tables: from the units' files to a dataset folder, and back."""

import shutil
from pathlib import Path

from datasets import Dataset

from ..schema import BEAMS, LEDGER
from ..tables import write_tables
from ..work_units import read_unit


CARD = """\
What a frozen VLM makes of ordered demonstrations.

- `beams`: for each query the best sequences of a beam search, best first, with their InfoScores.
- `ledger`: every sequence that was scored on the way, with the log-probability of the right answer, summed over its
  tokens (the row without demonstrations is the zero-shot prompt). `accuracy` is the task's metric of the answer that
  the VLM generated; it is null unless the search was one for it (`score: metric`).

An InfoScore is what a sequence is worth minus what the zero-shot prompt is, on the scale `score` of the recipe: the
length-normalised probability of the right answer (`prob`), its logarithm (`logprob`), or `accuracy` (`metric`).

`demonstration_ids` stand in prompt order: left to right, the last one next to the query. Ids are those of the
examples."""


def write_beam_dataset(folder: Path, files: dict[str, list[Path]], provenance: dict) -> None:
    """
    Writes the two tables of a search that is complete, and then drops the units' files.

    Args:
        folder (`Path`):
            The dataset folder.
        files (`dict[str, list[Path]]`):
            The units' files of each split, in query order.
        provenance (`dict`):
            What made them.
    """
    beams, ledger = {}, {}
    for split, parts in files.items():
        rows = [row for part in parts for row in read_unit(part).to_pylist()]
        entries = [
            {"query_id": row["query_id"], "split": split, **entry} for row in rows for entry in row.pop("ledger")
        ]
        beams[split] = Dataset.from_list(rows, features=BEAMS)
        ledger[split] = Dataset.from_list(entries, features=LEDGER)
    write_tables(folder, {"beams": beams, "ledger": ledger}, "Beams and ledger", CARD, provenance)
    shutil.rmtree(folder / "units", ignore_errors=True)
