# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The beams and ledger tables, joined from the units' files into a dataset folder."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ..output_files import UNFINISHED
from ..schema import BEAMS, LEDGER
from ..tables import write_tables
from ..work_units import join_units


CARD = """\
Scores of a frozen VLM for ordered demonstrations.

- `beams`: for each query the best sequences of a beam search, best first, with their InfoScores.
- `ledger`: every scored sequence, with the log-probability of the right answer, summed over its tokens (the row
  without demonstrations is the zero-shot prompt). `accuracy` is the task's metric of the generated answer; it is null
  unless the search used it (`score: metric`).

The InfoScore of a sequence is its score minus that of the zero-shot prompt, on the scale `score` of the recipe: the
length-normalised probability of the right answer (`prob`), its logarithm (`logprob`), or `accuracy` (`metric`).

`demonstration_ids` are in prompt order: left to right, the last demonstration is next to the query. Ids are those of
the examples."""


def write_beam_dataset(folder: Path, files: dict[str, list[Path]], provenance: dict) -> None:
    """Writes the tables of a completed search, and deletes the units' files `files` (by split, in query order)."""
    units = folder / "units"
    tables = {
        config: {
            split: join_units(parts, features, units / f"{UNFINISHED}{config}-{split}.arrow", rows)
            for split, parts in files.items()
        }
        for config, features, rows in (("beams", BEAMS, lambda unit: unit), ("ledger", LEDGER, _ledger_rows))
    }
    write_tables(folder, tables, "Beams and ledger", CARD, provenance)
    del tables  # Windows does not delete files that are mapped into memory
    shutil.rmtree(units, ignore_errors=True)


def _ledger_rows(unit: pa.Table) -> pa.Table:
    """A row for each scored sequence, from a row for each query."""
    entries = unit["ledger"].combine_chunks()
    table = pa.Table.from_struct_array(entries.flatten())
    queries = unit.select(["query_id", "split"]).take(pc.list_parent_indices(entries))
    return pa.Table.from_arrays([*queries.columns, *table.columns], [*queries.column_names, *table.column_names])
