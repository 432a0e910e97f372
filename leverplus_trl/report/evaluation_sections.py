# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The sections on evaluations: accuracy by number of shots, trained selectors, further metrics, and diagnostics."""

from collections.abc import Mapping, Sequence

from ..evaluation.methods import ZERO_SHOT, method_label
from ..evaluation.runs import by_seed, read_runs
from ..evaluation.significance import columns, paired_difference, paired_p_value
from ..evaluation.table import unordered_pair
from ..metrics import METRICS
from .comparison import PublishedFigures
from .evaluations import Evaluation
from .plots import plot_accuracy_by_shots
from .sections import Chart, Row, Section, Table
from .tables import ABSENT, average_rows, capital, estimate, in_shots, metric_of, paired, percent, shots_of, table_rows


#: Measure -> heading; shown where the evaluation has it.
SELECTED = {
    "leaked": "leaked",
    "same_image": "same image",
    "near_duplicate_image": "near-duplicate image",
    "same_question": "same question",
    "selection_entropy": "selection entropy",
    "repeated_share": "selection shared with another query",
    "identical_across_seeds": "same across seeds",
}
EFFECT = {
    "regret": "regret",
    "hurt_share": "hurt",
    "helped_share": "helped",
    "oracle_gate_gain": "gate that knows",
    "gate_gain": "gate by confidence",
    "gate_kept_share": "kept by it",
    "copied_share": "copied answers",
    "copied_accuracy": "right if copied",
    "other_accuracy": "right if not",
}
#: Differences -> the prefix of the ends of their intervals.
ENDS = {"regret": "regret_ci", "gate_gain": "gate_ci"}
NUM_OVERLAPS_SHOWN = 20


def shots_section(evaluations: Sequence[Evaluation], published: PublishedFigures | None = None) -> Section:
    """Accuracy by number of shots as charts, and the gain of the most shots over the fewest, paired by query."""
    charts, tables, paragraphs = [], [], []
    for number, evaluation in enumerate(evaluations, 1):
        title = metric_of(evaluation.results).title
        description = (
            f"{title} of each method by number of shots, with {evaluation.results['interval']['confidence']:.0%} "
            "intervals; the dotted line and its band are zero-shot. The table has the numbers."
        )
        charts.append(
            Chart(
                "accuracy_by_shots.png" if len(evaluations) == 1 else f"accuracy_by_shots_{number}.png",
                plot_accuracy_by_shots(evaluation.results),
                evaluation.named(f"{capital(title)} by number of shots"),
                evaluation.named(description),
            )
        )
        if len(shots_of(evaluation.results)) > 1:
            tables.append(_more_shots(evaluation))
    if published:
        means = ", ".join(f"{accuracy:.1f} at {shots}" for shots, accuracy in published.mean_by_shots().items())
        paragraphs = [f"The mean of the published cells with a selector: {means} (shots); not measured here."]
    return Section("Number of shots", "shots", paragraphs, charts, tables)


def _more_shots(evaluation: Evaluation) -> Table:
    by_query = by_seed({key: run.accuracies for key, run in read_runs(evaluation.predictions).items()})
    confidence = evaluation.results["interval"]["confidence"]
    rows = []
    for row in table_rows(evaluation.results):
        cells = zip(shots_of(evaluation.results), row.cells, strict=True)
        accuracies = {at: cell["accuracy"] for at, cell in cells if cell}
        if row.method == ZERO_SHOT or len(accuracies) < 2:
            continue
        fewest, most = min(accuracies), max(accuracies)
        best = min(at for at, accuracy in accuracies.items() if accuracy == max(accuracies.values()))
        pair = by_query[row.method, most], by_query[row.method, fewest]
        difference, p_value = paired_difference(*pair, confidence), paired_p_value(*pair)
        verdict = "can't tell"
        if p_value <= 1.0 - confidence:
            verdict = "help" if difference.mean > 0.0 else "hurt"
        first, last, highest = (f"{percent(accuracies[at])} ({at})" for at in (fewest, most, best))
        gain = paired(columns(difference, "difference") | {"p_value": p_value}, "p_value")
        rows.append(evaluation.row(row.method, first, last, gain, verdict, highest))
    head = ["method", "fewest shots", "most shots", "difference, paired", "more demonstrations", "best at"]
    caption = f"{capital(metric_of(evaluation.results).heading)}, with the number of shots in brackets."
    return evaluation.table(caption, head, rows)


def selectors_section(evaluations: Sequence[Evaluation]) -> Section | None:
    """Differences of the selectors to the best baseline, to the first selector and to zero-shot, and the accuracy of
    each seed; `None` where no selector was evaluated."""
    measured = [evaluation for evaluation in evaluations if evaluation.results["selectors"]]
    tables = [table for evaluation in measured for table in _selector_tables(evaluation)]
    if not tables:
        return None
    title = metric_of(measured[0].results).title  # the same for all
    results = [evaluation.results for evaluation in measured]
    sizes = " and ".join(str(len(set(map(unordered_pair, content["comparisons"])))) for content in results)
    confidences = " and ".join(dict.fromkeys(f"{content['interval']['confidence']:.0%}" for content in results))
    notes = [
        f"Differences in points of {title}, paired query by query and averaged over seeds, with "
        f"their {confidences} intervals. p is corrected (Holm) for all {sizes} comparisons of a selector with another "
        "method in results.json, of which these are some; intervals are not. The best baseline is the best on these "
        "very queries, which favours it."
    ]
    return Section("Trained selectors", "selectors", tables=tables, notes=notes)


def _selector_tables(evaluation: Evaluation) -> list[Table]:
    results, shots = evaluation.results, shots_of(evaluation.results)
    selectors = results["selectors"]
    best = {(row["method"], row["shots"]): row for row in results["best_baselines"]}
    head = ["method", *map(in_shots, shots)]
    best_head = list(head)
    for row in best.values():  # which heuristic it is, is the same for every selector
        reached = f"{method_label(row['baseline'])} {percent(row['baseline_accuracy'])}"
        best_head[1 + shots.index(row["shots"])] = f"{in_shots(row['shots'])} ({reached})"
    against = [("the best baseline", best_head, best)]
    for baseline in dict.fromkeys([ZERO_SHOT, *selectors[:1]]):
        rows = {(row["method"], row["shots"]): row for row in results["comparisons"] if row["baseline"] == baseline}
        against.append((method_label(baseline), head, rows))
    tables = []
    for name, heads, by_key in against:
        compared = [method for method in selectors if any((method, at) in by_key for at in shots)]
        rows = [evaluation.row(method, *(paired(by_key.get((method, at))) for at in shots)) for method in compared]
        tables += [evaluation.table(f"Against {name}.", heads, rows)] if rows else []
    rows = []
    for method in dict.fromkeys(method for (method, _), row in average_rows(results).items() if row["seed"] is None):
        of_seeds = [row for row in results["rows"] if row["method"] == method and row["seed"] is not None]
        cells = [" / ".join(percent(row["accuracy"]) for row in of_seeds if row["shots"] == at) for at in shots]
        rows.append(evaluation.row(method, *(cell or ABSENT for cell in cells)))
    caption = f"Each seed by itself: {metric_of(results).heading}."
    return tables + ([evaluation.table(caption, head, rows)] if rows else [])


def metrics_section(evaluations: Sequence[Evaluation]) -> Section | None:
    """The same predictions by every metric that applies; `None` where there is only one."""
    tables = []
    for evaluation in evaluations:
        results, scores = evaluation.results, {}
        for name, content in (results.get("metrics") or {}).items():
            scores[name] = average_rows(content)
        if len(scores) < 2:
            continue
        names = [f"{name} (in the tables)" if name == results["metric"] else name for name in scores]
        rows = []
        for method, shots in average_rows(results):
            if shots in (0, *shots_of(results)):
                by_metric = [rows_of.get((method, shots)) for rows_of in scores.values()]
                cells = [estimate(row, "score") if row else ABSENT for row in by_metric]
                rows.append(evaluation.row(method, str(shots), *cells))
        others = "".join(f" ({name}: times 100)" for name in scores if not METRICS[name].in_percent)
        caption = f"Scores in %{others}, with 95% intervals."
        tables.append(evaluation.table(caption, ["method", "shots", *names], rows))
    if not tables:
        return None
    notes = ["All columns score the same predictions; a metric by its official code has a name of its own."]
    return Section("The same predictions by other metrics", "metrics", tables=tables, notes=notes)


def diagnostics_section(evaluations: Sequence[Evaluation]) -> Section | None:
    """The diagnostics of all evaluations that have them; `None` where none has."""
    tables, warnings, verdicts = [], [], []
    measured = [evaluation for evaluation in evaluations if evaluation.results.get("diagnostics")]
    for evaluation in measured:
        diagnostics = evaluation.results["diagnostics"]
        warnings += map(evaluation.named, diagnostics["warnings"])
        tables += _measures(evaluation, diagnostics["rows"])
        for key, make in (("order", _order), ("overlaps", _overlaps), ("leaks", _leaks)):
            tables += [make(evaluation, diagnostics[key])] if diagnostics[key] else []
        verdicts += [evaluation.named(diagnostics["leak_verdict"])] if diagnostics.get("leak_verdict") else []
    if not measured:
        return None
    metric = metric_of(measured[0].results)  # the same for all
    scale = "In %." if metric.in_percent else f"Shares are in %; {metric.title}, and points of it, times 100."
    notes = [
        f"{scale} Leaked: queries with a demonstration that asks the same about the same or nearly the same image. "
        "Selection entropy: 0 if one example is always chosen, 100 if all are chosen alike.",
        "Regret: points below the oracle, with its interval. Hurt and helped: queries whose "
        f"{metric.title} is lower or higher than zero-shot. Gate that knows: points gained by falling back to "
        "zero-shot wherever that is better, which needs the answers: a bound, not a method. Gate by "
        "confidence: points that falling back to zero-shot would have gained wherever the VLM is sure enough of its "
        "zero-shot answer; how sure is enough is learned from other queries than those it is applied to. Its interval "
        "takes what was learned as given, so it is somewhat too narrow. Kept by it: queries that stay with zero-shot. "
        "Copied answers: predictions that equal the answer of a demonstration in the prompt.",
        *verdicts,
    ]
    return Section("Diagnostics", "diagnostics", tables=tables, notes=notes, warnings=warnings)


def _measures(evaluation: Evaluation, measured: Sequence[Mapping]) -> list[Table]:
    """Selections, and their effects on the answers: two tables, since one would be wider than the page."""
    metric, accuracies = metric_of(evaluation.results), average_rows(evaluation.results)
    rows = [accuracies.get((row["method"], row["shots"]), {}) | row for row in measured]
    tables = []
    for caption, headings in (("What is selected.", SELECTED), ("What that does to the answers.", EFFECT)):
        names = [name for name in headings if any(row.get(name) is not None for row in rows)]
        in_words = [headings[name] for name in names]
        if not metric.in_percent:
            in_words = [heading.replace("right", metric.title) for heading in in_words]
        cells = [
            evaluation.row(row["method"], str(row["shots"]), *(_cell(row, name) for name in names)) for row in rows
        ]
        tables += [evaluation.table(caption, ["method", "shots", *in_words], cells)] if names else []
    return tables


def _cell(row: Mapping, name: str) -> str:
    if row.get(name) is None:
        return ABSENT
    return estimate(row, name, ENDS[name], signed=True) if name in ENDS else percent(row[name])


def _order(evaluation: Evaluation, probes: Sequence[Mapping]) -> Table:
    rows = []
    for probe in probes:
        cells = [method_label(probe["method"]), str(probe["shots"]), str(probe["num_probes"])]
        cells += [percent(probe[name]) for name in ("changed_share", "accuracy", "shuffled_accuracy")]
        rows.append(Row([*cells, paired(probe, "p_value")]))
    head = ["method", "shots", "queries", "answers changed", "as chosen", "shuffled", "difference, paired"]
    metric = metric_of(evaluation.results)
    scale = "in %" if metric.in_percent else f"shares in %, {metric.heading}"
    return evaluation.table(f"The same demonstrations in another order, {scale}.", head, rows)


def _overlaps(evaluation: Evaluation, overlaps: Sequence[Mapping]) -> Table:
    rows = []
    for overlap in sorted(overlaps, key=lambda overlap: -overlap["share"])[:NUM_OVERLAPS_SHOWN]:
        methods = (" = " if overlap["same"] else " and ").join(map(method_label, overlap["methods"]))
        share = "always: they are the same method" if overlap["same"] else percent(overlap["share"])
        rows.append(Row([methods, str(overlap["shots"]), share]))
    caption = f"Methods that select the same, in the same order (the {NUM_OVERLAPS_SHOWN} closest pairs)."
    return evaluation.table(caption, ["methods", "shots", "queries with the same selection"], rows)


def _leaks(evaluation: Evaluation, leaks: Sequence[Mapping]) -> Table:
    rows = [Row([leak["query_id"], leak["demonstration_id"], leak["kind"].replace("_", " ")]) for leak in leaks]
    return evaluation.table("Pairs that give away the query (the first).", ["query", "demonstration", "kind"], rows)
