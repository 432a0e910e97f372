# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The results as tables and sentences: Markdown, the terminal's table, and the rows that the HTML page shows.

The best of a column is set in bold only when the test tells it from every other method, and a collapsed method is
called collapsed. The oracle knows the answers, so it is never the best.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..evaluation.methods import ORACLE, RANDOM, RANDOM_METHODS, SELECTOR, ZERO_SHOT, method_label, method_rank
from ..metrics import METRICS, Metric


ABSENT = "–"
#: Text beside the baseline that selectors are compared with.
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
    """A method of the table: a row of `results.json` for each number of shots, or null where there is none."""

    method: str
    label: str
    scope: str
    cells: list[Mapping[str, object] | None]
    bold: list[bool]
    against: list[str]  # text beside each cell: the difference to the best baseline


def metric_of(results: Mapping) -> Metric:
    """The metric of the accuracies of an evaluation."""
    return METRICS[results["metric"]]


def capital(text: str) -> str:
    """A text with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def percent(value: float, signed: bool = False) -> str:
    """A share of 1 as percent, or a score times 100, with one decimal; a difference in points carries its sign."""
    rounded = round(100.0 * value, 1) + 0.0  # the sum turns -0.0 into 0.0
    return f"{rounded:+.1f}" if signed and rounded else f"{rounded:.1f}"


def interval(low: float, high: float, signed: bool = False) -> str:
    """An interval in percent: `[81.0, 89.3]`."""
    return f"[{percent(low, signed)}, {percent(high, signed)}]"


def estimate(row: Mapping, name: str, ends: str = "ci", signed: bool = False) -> str:
    """A value of a row with its interval, in percent: `85.0 [81.0, 89.3]`."""
    return f"{percent(row[name], signed)} {interval(row[f'{ends}_low'], row[f'{ends}_high'], signed)}"


def small_p(value: float) -> str:
    """A p-value as it is printed."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def paired(comparison: Mapping | None, p_value: str = "p_holm") -> str:
    """The difference of a comparison with its p-value: `+5.0 [+1.0, +9.0], p = 0.012`."""
    if comparison is None:
        return ABSENT
    return f"{estimate(comparison, 'difference', signed=True)}, {small_p(comparison[p_value])}"


def in_shots(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def shots_of(results: Mapping) -> list[int]:
    """The numbers of shots of the table, without 0."""
    return sorted({row["shots"] for row in results["rows"] if row["shots"] > 0})


def prefixes_of(results: Mapping) -> list[tuple[int, Mapping]]:
    """`(number of queries, their results)`: the nested prefixes, if there are any, and all queries last."""
    parts = [(part["num_queries"], {**results, **part}) for part in results.get("prefixes", [])]
    return [*parts, (results["num_queries"], results)]


def average_rows(results: Mapping) -> dict[tuple[str, int], Mapping]:
    """A row for each method and number of shots: the average over seeds where there are several."""
    rows: dict[tuple[str, int], Mapping] = {}
    for row in results["rows"]:
        key = (row["method"], row["shots"])
        if key not in rows or row["seed"] is None:
            rows[key] = row
    return rows


def table_rows(results: Mapping) -> list[TableRow]:
    """Methods as rows, numbers of shots as columns; zero-shot, which has no shots, is in every column."""
    by_key, shots = average_rows(results), shots_of(results)
    clear = {(best["method"], best["shots"]) for best in results["best"] if best["clear"]}
    differences = {(best["method"], best["shots"]): paired(best) for best in results["best_baselines"]}
    differences |= {(baseline, at): BEST for at, baseline in _best_baselines(results).items()}
    rows = []
    for method in sorted({method for method, _ in by_key}, key=method_rank):
        cells = [by_key.get((method, 0 if method == ZERO_SHOT else at)) for at in shots]
        scope = next(row["scope"] for (other, _), row in by_key.items() if other == method)
        bold, against = [(method, at) in clear for at in shots], [differences.get((method, at), "") for at in shots]
        rows.append(TableRow(method, method_label(method), scope, cells, bold, against))
    return rows


def _best_baselines(results: Mapping) -> dict[int, str]:
    """The most accurate method at each number of shots that is neither a selector nor the oracle."""
    best = {comparison["shots"]: comparison["baseline"] for comparison in results["best_baselines"]}
    by_key = average_rows(results)
    for at in shots_of(results):
        rivals = [key for key in by_key if key[1] in (0, at) and key[0] not in (ORACLE, *results["selectors"])]
        if at not in best and rivals:
            best[at] = max(rivals, key=lambda key: by_key[key]["accuracy"])[0]
    return best


def markdown_table(results: Mapping) -> str:
    """The table of `results.json` as GitHub Markdown: accuracy in percent (CIDEr times 100) with its interval, and for
    selectors the paired difference to the best baseline."""
    shots = shots_of(results)
    heads = [f"{in_shots(at)} | vs best baseline" for at in shots]
    lines = ["| method | " + " | ".join(heads) + " |", "| --- |" + " --- | --- |" * len(shots)]
    for row in table_rows(results):
        cells = []
        for cell, bold, against in zip(row.cells, row.bold, row.against, strict=True):
            cells += [_accuracy(cell, bold), against or ABSENT] if cell else [ABSENT, ABSENT]
        lines.append("| " + " | ".join([escape_markdown(row.label), *cells]) + " |")
    return "\n".join(lines) + "\n"


def terminal_table(results: Mapping) -> str:
    """The table of `results.json` for a terminal, in aligned columns: accuracies with their intervals, the best
    baseline of each column with `*`, and under each selector its paired differences to that baseline, in points."""
    lines = [["", *map(in_shots, shots_of(results))]]
    for row in table_rows(results):
        cells = [_accuracy(cell) if cell else "" for cell in row.cells]
        marked = [f"{cell}*" if cell and best == BEST else cell for cell, best in zip(cells, row.against, strict=True)]
        lines.append([row.label, *marked])
        if row.method in results["selectors"]:
            lines.append(["  vs best baseline", *(against.partition(", p")[0] for against in row.against)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)) for line in lines]
    confidence = f"{results['interval']['confidence']:.0%} intervals"
    heading = f"{capital(metric_of(results).heading)}, {results['num_queries']} queries, {confidence}"
    return "\n".join([heading, *(line.rstrip() for line in padded), "* best baseline"]) + "\n"


def _accuracy(cell: Mapping, bold: bool = False) -> str:
    number, ends = estimate(cell, "accuracy").split(" ", 1)
    text = f"**{number}** {ends}" if bold else f"{number} {ends}"
    return f"{text} (collapsed)" if cell["collapsed"] else text


def escape_markdown(text: str) -> str:
    """Text that neither breaks a Markdown table nor turns into markup."""
    text = html.escape(" ".join(text.split()), quote=False)
    for sign in "\\|`*_[]":
        text = text.replace(sign, f"\\{sign}")
    return text


def notes(results: Mapping) -> list[str]:
    """Sentences that a reader of the table must know: how intervals are made, what has collapsed."""
    made, metric = results["interval"], metric_of(results)
    sentences = [
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
        sentences.append(
            "The best baseline is the best on these very queries, which favours it. p: the chance of a difference at "
            "least as large if there were none, corrected for all comparisons (Holm). Intervals are not corrected."
        )
    rows = average_rows(results).values()
    if any(row["ci_low"] == row["ci_high"] for row in rows):
        sentences.append(
            f"An interval without width means that every query got the same {metric.title}: a bootstrap can't show "
            "what never happened, so such an interval is too narrow."
        )
    for method in dict.fromkeys(row["method"] for row in rows if row["collapsed"]):
        at = [row["shots"] for row in rows if row["method"] == method and row["collapsed"]]
        sentences.append(
            f"{method_label(method)} has collapsed (shots: {_listed(at)}): it chooses (nearly) the same for every "
            f"query, so its {metric.title} says nothing about selection."
        )
    averaged = {row["method"] for row in rows if row["seed"] is None}
    if averaged:
        sentences.append(
            f"Averages over seeds: {_labels(averaged)}. Their intervals and tests are about other seeds, too "
            f"({made['seeds']})."
        )
    single = {row["method"] for row in rows if row["seed"] is not None} & {*RANDOM_METHODS, *results["selectors"]}
    if single:
        sentences.append(f"One seed: {_labels(single)}. What another seed would give is not in the intervals.")
    return sentences


def _labels(methods: Iterable[str]) -> str:
    return _listed(map(method_label, sorted(methods, key=method_rank)))


def _listed(items: Iterable) -> str:
    *texts, last = map(str, items)
    return f"{', '.join(texts)} and {last}" if texts else last


def headline_shots(results: Mapping) -> int | None:
    """The most shots that a selector and the oracle have; without either, the most shots."""
    keys = average_rows(results).keys()
    of_selector = [shots for method, shots in keys if method in results["selectors"]] or shots_of(results)
    beside_oracle = [shots for shots in of_selector if (ORACLE, shots) in keys]
    return max(beside_oracle or of_selector, default=None)


def findings(results: Mapping) -> list[str]:
    """The result in sentences with numbers: first at [`headline_shots`], then at the other numbers of shots, each with
    zero-shot, random and oracle."""
    first = headline_shots(results)
    return [_findings_at(results, shots) for shots in sorted(shots_of(results), key=lambda at: (at != first, at))]


def _findings_at(results: Mapping, shots: int) -> str:
    rows, metric = average_rows(results), metric_of(results)
    compared = [(rows[best["method"], shots], best) for best in results["best_baselines"] if best["shots"] == shots]
    num_selectors, named = len(compared), results["selectors"]
    if num_selectors > NUM_SELECTORS_NAMED:  # the tables hold the rest
        compared = sorted(compared, key=lambda pair: -pair[0]["accuracy"])[:NUM_SELECTORS_NAMED]
        named = [row["method"] for row, _ in compared]
    alone = [_scored(name, rows[name, shots], metric) for name in results["selectors"] if (name, shots) in rows]
    if len(compared) > 1:
        sentences = [_findings_together(compared, num_selectors, metric)]
    elif compared:
        sentences = [_finding(*compared[0], results["interval"]["confidence"], metric)]
    elif alone:
        sentences = [f"With {in_shots(shots)} no heuristic was evaluated beside the selectors: {_listed(alone)}."]
    else:
        sentences = [f"At {in_shots(shots)} no trained selector was evaluated."]
    if len(results["selectors"]) > 1:
        first, *others = results["selectors"]
        by_pair = {(row["method"], row["baseline"]): row for row in results["comparisons"] if row["shots"] == shots}
        differences = [
            f"{method_label(name)} {estimate(by_pair[name, first], 'difference', signed=True)}"
            for name in others
            if name in named and (name, first) in by_pair
        ]
        if differences:
            sentences.append(f"Against {method_label(first)}, in points: {_listed(differences)}.")
    keys = [key for key in ((ZERO_SHOT, 0), (RANDOM, shots), (ORACLE, shots)) if key in rows]
    marks = _listed(_scored(key[0], rows[key], metric) for key in keys)
    return " ".join([*sentences, f"For comparison: {marks}."])


def _amount(score: float, metric: Metric) -> str:
    """A score in a sentence: `85.0%`, or `CIDEr 93.8`."""
    return f"{percent(score)}%" if metric.in_percent else f"{metric.title} {percent(score)}"


def _scored(method: str, row: Mapping, metric: Metric) -> str:
    return f"{method_label(method)} {_amount(row['accuracy'], metric)}"


def _findings_together(compared: Sequence[tuple[Mapping, Mapping]], num_selectors: int, metric: Metric) -> str:
    """Several selectors, all or the best, and the heuristic that is best at their number of shots."""
    row, best = compared[0]
    selectors = [
        f"{_scored(row['method'], row, metric)}, {estimate(best, 'difference', signed=True)}"
        f"{' but collapsed' * bool(row['collapsed'])}"
        for row, best in compared
    ]
    which, rest = "The selectors", ""
    if len(compared) < num_selectors:
        which, rest = f"The best {len(compared)} of {num_selectors} selectors", " (the tables show the others)"
    return (
        f"With {in_shots(row['shots'])} the best baseline, {method_label(best['baseline'])}, reaches "
        f"{_amount(best['baseline_accuracy'], metric)} on {row['num_queries']} queries. {which}, with their paired "
        f"differences to it in points: {'; '.join(selectors)}{rest}."
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
    difference = estimate(best, "difference", signed=True).replace(" ", " points ", 1)
    return (
        f"With {in_shots(row['shots'])} {subject} reaches {_amount(row['accuracy'], metric)} ({confidence:.0%} "
        f"interval {percent(row['ci_low'])} to {percent(row['ci_high'])}) on {row['num_queries']} queries; the best "
        f"baseline, {method_label(best['baseline'])}, {_amount(best['baseline_accuracy'], metric)}. The paired "
        f"difference is {difference}, {small_p(best['p_value'])}: {verdict}.{collapsed}"
    )
