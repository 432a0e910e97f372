# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The trained selectors: paired with what they have to beat, corrected for the number of comparisons, and by seed."""

from collections.abc import Callable, Mapping, Sequence

from ..evaluation.methods import ZERO_SHOT, method_label
from ..evaluation.table import unordered_pair
from .evaluations import Evaluation
from .sections import Row, Section, Table
from .tables import ABSENT, average_rows, interval, metric_of, percent, shots_of, small_p


def selectors_section(evaluations: Sequence[Evaluation]) -> Section | None:
    """Differences of the selectors to the best baseline, to the first selector and to zero-shot, and what each seed
    reached by itself; `None` where no selector was evaluated."""
    tables = []
    measured = [one for one in evaluations if one.results["selectors"]]
    for one in measured:
        results = one.results
        by_pair = {(each["method"], each["baseline"], each["shots"]): each for each in results["comparisons"]}
        best = {(each["method"], each["shots"]): each for each in results["best_baselines"]}
        tables += [_paired(one, "the best baseline", best.get), _against(one, ZERO_SHOT, by_pair)]
        tables += [_against(one, results["selectors"][0], by_pair)] if len(results["selectors"]) > 1 else []
        tables.append(_seeds(one))
    found = [table for table in tables if table]
    if not found:
        return None
    title = metric_of(measured[0].results).title  # one metric for all
    sizes = " and ".join(str(len(set(map(unordered_pair, one.results["comparisons"])))) for one in measured)
    confidences = " and ".join(dict.fromkeys(f"{one.results['interval']['confidence']:.0%}" for one in measured))
    notes = [
        f"Differences in points of {title}, paired query by query and averaged over seeds, with "
        f"their {confidences} intervals. p is corrected (Holm) for all {sizes} comparisons of a selector with another "
        "method in results.json, of which these are some; intervals are not. The best baseline is the best on these "
        "very queries, which favours it.",
    ]
    return Section("Trained selectors", "selectors", tables=found, notes=notes)


def _against(one: Evaluation, baseline: str, by_pair: Mapping[tuple[str, str, int], Mapping]) -> Table | None:
    return _paired(one, method_label(baseline), lambda key: by_pair.get((key[0], baseline, key[1])))


def _paired(one: Evaluation, baseline: str, find: Callable[[tuple[str, int]], Mapping | None]) -> Table | None:
    shots = shots_of(one.results)
    rows, heads = [], _head(shots)
    for method in one.results["selectors"]:
        found = [find((method, at)) for at in shots]
        if any(found):
            rows.append(Row([method_label(method), *map(_cell, found)], "selector"))
        for place, cell in enumerate(found, 1):
            if cell and "baseline_accuracy" in cell:  # which heuristic it is, is the same for every selector
                reached = percent(cell["baseline_accuracy"])
                heads[place] = f"{_head(shots)[place]} ({method_label(cell['baseline'])} {reached})"
    return Table(one.named(f"Against {baseline}."), heads, [("", rows)]) if rows else None


def _cell(found: Mapping | None) -> str:
    if found is None:
        return ABSENT
    points = f"{percent(found['difference'], True)} {interval(found['ci_low'], found['ci_high'], True)}"
    return f"{points}, {small_p(found['p_holm'])}"


def _seeds(one: Evaluation) -> Table | None:
    """The accuracies of the seeds by themselves, in their order, for methods with several."""
    shots = shots_of(one.results)
    several = [method for (method, _), row in average_rows(one.results).items() if row["seed"] is None]
    rows = []
    for method in dict.fromkeys(several):
        cells = []
        for at in shots:
            of_seeds = [
                percent(row["accuracy"])
                for row in one.results["rows"]
                if (row["method"], row["shots"]) == (method, at) and row["seed"] is not None
            ]
            cells.append(" / ".join(of_seeds) or ABSENT)
        rows.append(Row([method_label(method), *cells], "selector" if method in one.results["selectors"] else ""))
    caption = f"Each seed by itself: {metric_of(one.results).heading}."
    return Table(one.named(caption), _head(shots), [("", rows)]) if rows else None


def _head(shots: Sequence[int]) -> list[str]:
    return ["method", *(f"{at} shot{'s' * (at != 1)}" for at in shots)]
