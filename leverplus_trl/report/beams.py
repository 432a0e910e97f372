# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What the search showed before any training: can choosing matter, does order, are there hubs?"""

import json
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset

from ..beams.beam_analysis import ANALYSIS, NOTICEABLE, WORDS, analyze_tables, can_matter
from ..schema import LEDGER
from ..tables import table_provenance
from .evaluations import read_splits
from .plots import plot_score_by_beam_position, scores_by_beam_position
from .sections import Chart, Row, Section, Table
from .tables import ABSENT


NUM_HUBS_SHOWN = 5


def read_analysis(path_or_id: str, beams: Dataset) -> dict[str, object]:
    """
    The analysis of a search: `analysis.json` of its folder, or, for beams that come without it, made from the tables.

    Args:
        path_or_id (`str`):
            Folder or hub id of the beams.
        beams (`Dataset`):
            All its beams.

    Raises:
        `ValueError`: `analysis.json` is not whole.
    """
    path = Path(path_or_id) / ANALYSIS
    if path.is_file():
        try:
            analysis = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not whole JSON ({error}); delete it, and it is made anew.") from error
        return analysis
    recipe = table_provenance(path_or_id)["recipe"]
    return analyze_tables(beams, read_splits(path_or_id, "ledger", LEDGER), recipe["insertion"], recipe["score"])


def beams_section(beams: Dataset, analysis: Mapping) -> Section:
    """
    The section on the beams.

    Args:
        beams (`Dataset`):
            Columns of `schema.BEAMS`.
        analysis (`Mapping`):
            What [`read_analysis`] returns.
    """
    by_split = scores_by_beam_position(beams)
    ends = " ".join(
        f"{split}: {means[0].mean:.3f} at position 1, {means[-1].mean:.3f} at position {len(means)}."
        for split, means in by_split.items()
    )
    chart = Chart(
        "score_by_beam_position.png",
        plot_score_by_beam_position(by_split),
        "Mean score by beam position",
        "Mean score of the sequences that the beam search kept, best first, with 95% intervals over queries. " + ends,
    )
    splits = analysis["splits"]
    words = WORDS[next(iter(splits.values()))["scale"]]  # one search, one scale
    return Section(
        "Before training: the beams",
        "beams",
        [f"{name}: {can_matter(split)}" for name, split in splits.items()],
        [chart],
        [_steps(splits), _orders(splits), _hubs(splits)],
        [
            f"All numbers but the chart's are {words.numbers}, or differences of such. A difference counts as "
            f"noticeable from {NOTICEABLE} on; order is decisive if {words.succeeds} in some orders only. Only what "
            "the search scored is compared: beyond the first step these are continuations of good beginnings, and "
            "sets of which two orders came up."
        ],
    )


def _steps(splits: Mapping) -> Table:
    groups = []
    for name, split in splits.items():
        rows = [
            Row(
                [
                    str(one["shots"]),
                    f"{one['mean']:+.3f}",
                    f"{one['best']:+.3f}",
                    f"{one['choice']:.3f}",
                    f"{one['spread']:.3f}",
                ]
            )
            for one in split["steps"]
        ]
        groups.append((f"{name}: {split['num_queries']} queries, zero-shot {split['zero_shot']:.3f}", rows))
    head = ["position", "average candidate", "best candidate", "what choosing is worth", "standard deviation"]
    return Table("What the choice at each position changes, against no demonstrations.", head, groups)


def _orders(splits: Mapping) -> Table:
    rows = []
    for name, split in splits.items():
        order = split["order"]
        cells = [ABSENT] * 4
        if order:
            cells = [f"{order['num_sets']:,}", f"{order['difference']:.3f}", f"{order['noticeable']:.1%}"]
            cells.append(f"{order['decisive']:.1%}")
        constant = split["constant"]
        rows.append(Row([name, *cells, f"{max(0.0, constant['share']):.0%}" if constant else ABSENT]))
    head = ["split", "sets in several orders", "best − worst order", "noticeable", "decisive"]
    head.append("one ranking for all queries gets")
    return Table("Does order matter, and does the query?", head, [("", rows)])


def _hubs(splits: Mapping) -> Table:
    groups = []
    for name, split in splits.items():
        hubs = split["hubs"]
        title = (
            f"{name}: {hubs['num_chosen']:,} of {hubs['num_offered']:,} candidates are ever in a best sequence; the "
            f"most frequent 1% of the candidates make up {hubs['hundredth_share']:.1%} of the picks"
        )
        rows = [
            Row([one["id"], str(one["chosen"]), str(one["offered"]), f"{one['share']:.1%}"])
            for one in hubs["top"][:NUM_HUBS_SHOWN]
        ]
        groups.append((title, rows))
    head = ["candidate", "in best sequences", "offered to queries", "share of queries"]
    return Table("Which candidates are chosen for everything?", head, groups)
