# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The results as tables and sentences: Markdown, and the rows that the HTML page shows.

The best of a column is set in bold only when the test tells it from every other method, and a collapsed method is
called collapsed. The oracle knows the answers, so it is never the best.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..evaluation.methods import ORACLE, RANDOM, RANDOM_METHODS, SELECTOR, ZERO_SHOT, method_label, method_rank
from ..metrics import METRICS, Metric


ABSENT = "–"
#: Beside the baseline that selectors are compared with.
BEST = "best baseline"
#: A sentence names no more selectors than this.
NUM_SELECTORS_NAMED = 3
SCOPES = {
    "none": "no demonstrations",
    "candidates": "the same sampled candidates for every method",
    "pool": "the whole pool",
}


@dataclass(frozen=True)
class TableRow:
    """One method of the table: a row of `results.json` for each number of shots, or null where there is none."""

    method: str
    label: str
    scope: str
    cells: list[Mapping[str, object] | None]
    bold: list[bool]
    against: list[str]  # what stands beside each cell: the difference to the best baseline


def metric_of(results: Mapping) -> Metric:
    """The metric behind the accuracies of an evaluation."""
    return METRICS[results["metric"]]


def capital(text: str) -> str:
    """A text as a sentence begins, the rest as it is."""
    return text[:1].upper() + text[1:]


def amount(score: float, metric: Metric) -> str:
    """A score in a sentence: `85.0%`, or `CIDEr 93.8`."""
    return f"{percent(score)}%" if metric.in_percent else f"{metric.title} {percent(score)}"


def percent(value: float, signed: bool = False) -> str:
    """A share of 1 as percent, or a score times 100, with one decimal; a difference in points carries its sign."""
    rounded = round(100.0 * value, 1) + 0.0  # the sum turns -0.0 into 0.0
    return f"{rounded:+.1f}" if signed and rounded else f"{rounded:.1f}"


def interval(low: float, high: float, signed: bool = False) -> str:
    """An interval in percent: `[81.0, 89.3]`."""
    return f"[{percent(low, signed)}, {percent(high, signed)}]"


def small_p(value: float) -> str:
    """A p-value as it is printed."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def shots_of(results: Mapping) -> list[int]:
    """The numbers of shots of the table, without 0."""
    return sorted({row["shots"] for row in results["rows"] if row["shots"] > 0})


def prefixes_of(results: Mapping) -> list[tuple[int, Mapping]]:
    """`(number of queries, their results)`: the nested prefixes, if any were asked for, and all queries last."""
    parts = [(part["num_queries"], {**results, **part}) for part in results.get("prefixes", [])]
    return [*parts, (results["num_queries"], results)]


def average_rows(results: Mapping) -> dict[tuple[str, int], Mapping]:
    """One row a method and number of shots: the average over seeds where there are several."""
    rows: dict[tuple[str, int], Mapping] = {}
    for row in results["rows"]:
        key = (row["method"], row["shots"])
        if key not in rows or row["seed"] is None:
            rows[key] = row
    return rows


def table_rows(results: Mapping) -> list[TableRow]:
    """Methods as rows, numbers of shots as columns; zero-shot, which has no shots, stands in every column."""
    by_key = average_rows(results)
    clear = {(best["method"], best["shots"]) for best in results["best"] if best["clear"]}
    shots, best = shots_of(results), best_baselines(results)
    differences = {(one["method"], one["shots"]): one for one in results["best_baselines"]}
    rows = []
    for method in sorted({method for method, _ in by_key}, key=method_rank):
        cells = [by_key.get((method, 0 if method == ZERO_SHOT else at)) for at in shots]
        scope = next(row["scope"] for (other, _), row in by_key.items() if other == method)
        against = [BEST if method == best.get(at) else _difference(differences.get((method, at))) for at in shots]
        bold = [(method, at) in clear for at in shots]
        rows.append(TableRow(method, method_label(method), scope, cells, bold, against))
    return rows


def best_baselines(results: Mapping) -> dict[int, str]:
    """The most accurate method at each number of shots that is neither a selector nor the oracle."""
    found = {one["shots"]: one["baseline"] for one in results["best_baselines"]}
    by_key = average_rows(results)
    for at in shots_of(results):
        rivals = [key for key in by_key if key[1] in (0, at) and key[0] not in (ORACLE, *results["selectors"])]
        if at not in found and rivals:
            found[at] = max(rivals, key=lambda key: by_key[key]["accuracy"])[0]
    return found


def markdown_table(results: Mapping) -> str:
    """
    The table as GitHub Markdown: accuracy in percent with its interval, and for selectors the paired difference to the
    best baseline. CIDEr is shown times 100.

    Args:
        results (`Mapping`):
            Content of `results.json`, as [`~leverplus_trl.evaluation.evaluation.summarize`] makes it.
    """
    shots = shots_of(results)
    heads = [f"{_shots(at)} | vs best baseline" for at in shots]
    lines = ["| method | " + " | ".join(heads) + " |", "| --- |" + " --- | --- |" * len(shots)]
    for row in table_rows(results):
        cells = []
        for cell, bold, against in zip(row.cells, row.bold, row.against, strict=True):
            cells += [_accuracy(cell, bold), against or ABSENT] if cell else [ABSENT, ABSENT]
        lines.append("| " + " | ".join([escape_markdown(row.label), *cells]) + " |")
    return "\n".join(lines) + "\n"


def terminal_table(results: Mapping) -> str:
    """
    The table for a terminal, in aligned columns: accuracies with their intervals, the best baseline of each column
    marked by `*`, and under each selector its paired differences to that baseline, in points.

    Args:
        results (`Mapping`):
            Content of `results.json`.
    """
    shots = shots_of(results)
    lines = [["", *map(_shots, shots)]]
    for row in table_rows(results):
        marks = ["*" if against == BEST else "" for against in row.against]
        cells = [
            f"{_accuracy(cell, False)}{mark}" if cell else "" for cell, mark in zip(row.cells, marks, strict=True)
        ]
        lines.append([row.label, *cells])
        if row.method in results["selectors"]:
            lines.append(["  vs best baseline", *(against.partition(", p")[0] for against in row.against)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)) for line in lines]
    confidence = f"{results['interval']['confidence']:.0%} intervals"
    heading = f"{capital(metric_of(results).heading)}, {results['num_queries']} queries, {confidence}"
    return "\n".join([heading, *(line.rstrip() for line in padded), "* best baseline"]) + "\n"


def _shots(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def _accuracy(cell: Mapping, bold: bool) -> str:
    number = percent(cell["accuracy"])
    text = f"{f'**{number}**' if bold else number} {interval(cell['ci_low'], cell['ci_high'])}"
    return f"{text} (collapsed)" if cell["collapsed"] else text


def _difference(one: Mapping | None) -> str:
    """A comparison with the best baseline; empty if there is none."""
    if one is None:
        return ""
    points = f"{percent(one['difference'], True)} {interval(one['ci_low'], one['ci_high'], True)}"
    return f"{points}, {small_p(one['p_holm'])}"


def escape_markdown(text: str) -> str:
    """Text that neither breaks a Markdown table nor turns into markup."""
    text = html.escape(" ".join(text.split()), quote=False)
    for sign in "\\|`*_[]":
        text = text.replace(sign, f"\\{sign}")
    return text


def notes(results: Mapping) -> list[str]:
    """What a reader of the table must know: how intervals are made, what has collapsed."""
    made, metric = results["interval"], metric_of(results)
    found = [
        f"{capital(metric.title)} ({results['metric']}) {'in percent' if metric.in_percent else 'times 100'} over "
        f"{results['num_queries']} queries, in brackets its "
        f"{made['confidence']:.0%} interval ({made['kind']}). A selector's difference to the best baseline of its "
        f"column is paired, query by query ({made['difference']} interval). Bold: the best of its "
        "column, if a test of the paired difference tells it from every other method but the oracle "
        f"({made['test']}, p ≤ {1.0 - made['confidence']:.2g} each).",
        "The test decides what is called a difference. It is exact over queries, so the end of an interval can leave "
        "out 0 a little before the test does.",
        "Zero-shot has no shots; it is repeated in every column to compare with.",
    ]
    if results["best_baselines"]:
        found.append(
            "The best baseline is the best on these very queries, which favours it. p: the chance of a difference at "
            "least as large if there were none, corrected for all comparisons (Holm). Intervals are not corrected."
        )
    rows = average_rows(results).values()
    if any(row["ci_low"] == row["ci_high"] for row in rows):
        found.append(
            f"An interval without width means that every query got the same {metric.title}: a bootstrap can't show "
            "what never happened, so such an interval is too narrow."
        )
    for method in dict.fromkeys(row["method"] for row in rows if row["collapsed"]):
        at = [row["shots"] for row in rows if row["method"] == method and row["collapsed"]]
        found.append(
            f"{method_label(method)} has collapsed (shots: {_listed(at)}): it chooses (nearly) the same whatever "
            f"the query, so its {metric.title} says nothing about selection."
        )
    seeds = {row["method"] for row in rows if row["seed"] is None}
    if seeds:
        names = _listed(map(method_label, sorted(seeds, key=method_rank)))
        found.append(
            f"Averages over seeds: {names}. Their intervals and tests are about other seeds, too ({made['seeds']})."
        )
    single = {row["method"] for row in rows if row["seed"] is not None} & {*RANDOM_METHODS, *results["selectors"]}
    if single:
        names = _listed(map(method_label, sorted(single, key=method_rank)))
        found.append(f"One seed: {names}. What another seed would give is not in the intervals.")
    return found


def _listed(items) -> str:
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " and " + texts[-1]


def headline_shots(results: Mapping) -> int | None:
    """The most shots at which a selector stands beside the oracle; without either, the most shots."""
    keys = average_rows(results).keys()
    of_selector = [shots for method, shots in keys if method in results["selectors"]] or shots_of(results)
    beside_oracle = [shots for shots in of_selector if (ORACLE, shots) in keys]
    return max(beside_oracle or of_selector, default=None)


def findings(results: Mapping) -> list[str]:
    """
    The result in sentences with numbers: first at [`headline_shots`], then at the other numbers of shots, each with
    zero-shot, random and oracle beside it.
    """
    first = headline_shots(results)
    rows, metric = average_rows(results), metric_of(results)
    sentences = []
    for shots in sorted(shots_of(results), key=lambda at: (at != first, at)):
        marks = [
            f"{method_label(method)} {amount(rows[method, at]['accuracy'], metric)}"
            for method, at in ((ZERO_SHOT, 0), (RANDOM, shots), (ORACLE, shots))
            if (method, at) in rows
        ]
        compared = [best for best in results["best_baselines"] if best["shots"] == shots]
        found = [(rows[best["method"], shots], best) for best in compared]
        num_selectors, named = len(found), results["selectors"]
        if num_selectors > NUM_SELECTORS_NAMED:  # the tables hold the rest
            found = sorted(found, key=lambda one: -one[0]["accuracy"])[:NUM_SELECTORS_NAMED]
            named = [row["method"] for row, _ in found]
        if len(found) > 1:
            said = [_findings_together(found, num_selectors, metric)]
        elif found:
            said = [_finding(*found[0], results["interval"]["confidence"], metric)]
        else:
            alone = [
                f"{method_label(name)} {amount(rows[name, shots]['accuracy'], metric)}"
                for name in results["selectors"]
                if (name, shots) in rows
            ]
            said = [f"At {_shots(shots)} no trained selector was evaluated."]
            if alone:
                said = [f"With {_shots(shots)} no heuristic was evaluated beside the selectors: {_listed(alone)}."]
        said += _among_selectors(results, shots, named)
        sentences.append(" ".join([*said, f"For comparison: {_listed(marks)}."]))
    return sentences


def _among_selectors(results: Mapping, shots: int, named: Sequence[str]) -> list[str]:
    """Those of `named` against the first selector."""
    if len(results["selectors"]) < 2:
        return []
    first, *others = results["selectors"]
    found = {(one["method"], one["baseline"]): one for one in results["comparisons"] if one["shots"] == shots}
    differences = [
        f"{method_label(name)} {percent(one['difference'], True)} {interval(one['ci_low'], one['ci_high'], True)}"
        for name in others
        if name in named and (one := found.get((name, first)))
    ]
    return [f"Against {method_label(first)}, in points: {_listed(differences)}."] if differences else []


def _findings_together(found: Sequence[tuple[Mapping, Mapping]], num_selectors: int, metric: Metric) -> str:
    """Several selectors, all or the best, beside the heuristic that is best at their number of shots."""
    row, best = found[0]
    said = [
        f"{method_label(row['method'])} {amount(row['accuracy'], metric)}, {percent(best['difference'], True)} "
        f"{interval(best['ci_low'], best['ci_high'], True)}{' but collapsed' * bool(row['collapsed'])}"
        for row, best in found
    ]
    which, rest = "The selectors", ""
    if len(found) < num_selectors:
        which, rest = f"The best {len(found)} of {num_selectors} selectors", " (the others stand in the tables)"
    return (
        f"With {_shots(row['shots'])} the best baseline, {method_label(best['baseline'])}, reaches "
        f"{amount(best['baseline_accuracy'], metric)} on {row['num_queries']} queries. {which}, with their paired "
        f"differences to it in points: {'; '.join(said)}{rest}."
    )


def _finding(row: Mapping, best: Mapping, confidence: float, metric: Metric) -> str:
    name = method_label(row["method"])
    verdict = "the two can't be told apart"
    if best["p_value"] <= 1.0 - confidence:
        verdict = f"{name} is better" if best["difference"] > 0.0 else f"{name} falls short of that heuristic"
        if not best["significant"]:
            verdict += f", but not after correction for all comparisons ({small_p(best['p_holm'])})"
    collapsed = f" But {name} has collapsed: it chooses (nearly) the same for every query." if row["collapsed"] else ""
    subject = "the selector" if name == SELECTOR else name
    return (
        f"With {_shots(row['shots'])} {subject} reaches {amount(row['accuracy'], metric)} ({confidence:.0%} interval "
        f"{percent(row['ci_low'])} to {percent(row['ci_high'])}) on {row['num_queries']} queries; the best baseline, "
        f"{method_label(best['baseline'])}, {amount(best['baseline_accuracy'], metric)}. The paired difference is "
        f"{percent(best['difference'], True)} points {interval(best['ci_low'], best['ci_high'], True)}, "
        f"{small_p(best['p_value'])}: {verdict}.{collapsed}"
    )
