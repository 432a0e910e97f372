# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What an accuracy hides, as the evaluation measured it: whether the query is read, order, leaks, harm."""

from collections.abc import Mapping, Sequence

from ..evaluation.methods import method_label
from ..metrics import METRICS, Metric
from .evaluations import Evaluation
from .sections import Row, Section, Table
from .tables import ABSENT, average_rows, interval, metric_of, percent, shots_of, small_p


#: measure -> heading; shown where the evaluation has it
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
#: differences -> the ends of their intervals
ENDS = {"regret": ("regret_ci_low", "regret_ci_high"), "gate_gain": ("gate_ci_low", "gate_ci_high")}


def diagnostics_section(evaluations: Sequence[Evaluation]) -> Section | None:
    """The diagnostics of all evaluations that have them; `None` where none has."""
    measured = [one for one in evaluations if one.results.get("diagnostics")]
    if not measured:
        return None
    tables, warnings = [], []
    for one in measured:
        found = one.results["diagnostics"]
        warnings += [one.named(text) for text in found["warnings"]]
        tables += _measures(one, found["rows"])
        tables += [_order(one, found["order"])] if found["order"] else []
        tables += [_overlaps(one, found["overlaps"])] if found["overlaps"] else []
        tables += [_leaks(one, found["leaks"])] if found["leaks"] else []
    notes = _notes(metric_of(measured[0].results))  # one metric for all
    verdicts = ((one, one.results["diagnostics"].get("leak_verdict")) for one in measured)
    notes += [one.named(verdict) for one, verdict in verdicts if verdict]
    return Section("Diagnostics", "diagnostics", tables=tables, notes=notes, warnings=warnings)


def _notes(metric: Metric) -> list[str]:
    scale = "In %." if metric.in_percent else f"Shares are in %; {metric.title}, and points of it, times 100."
    return [
        f"{scale} Leaked: queries with a demonstration that asks the same about the same or nearly the same image. "
        "Selection entropy: 0 if one example is always chosen, 100 if all are chosen alike.",
        "Regret: points below the oracle, with its interval. Hurt and helped: queries whose "
        f"{metric.title} is lower or higher than zero-shot. Gate that knows: points gained by falling back to "
        "zero-shot wherever that is better, which needs the answers: a bound, not a method. Gate by "
        "confidence: points that falling back to zero-shot would have gained wherever the VLM is sure enough of its "
        "zero-shot answer; how sure is enough is learned from other queries than those it is applied to. Its interval "
        "takes what was learned as given, so it is somewhat too narrow. Kept by it: queries that stay with zero-shot. "
        "Copied answers: predictions that equal the answer of a demonstration in the prompt.",
    ]


def _measures(one: Evaluation, measured: Sequence[Mapping]) -> list[Table]:
    """What was selected, and what that does: two tables, since one would be wider than the page."""
    metric, accuracies = metric_of(one.results), average_rows(one.results)
    rows = [accuracies.get((row["method"], row["shots"]), {}) | row for row in measured]
    tables = []
    for caption, headings in (("What is selected.", SELECTED), ("What that does to the answers.", EFFECT)):
        names = [name for name in headings if any(row.get(name) is not None for row in rows)]
        if not metric.in_percent:
            headings = {name: heading.replace("right", metric.title) for name, heading in headings.items()}
        cells = [
            Row(
                [method_label(row["method"]), str(row["shots"]), *(_cell(row, name) for name in names)],
                "selector" if row["method"] in one.results["selectors"] else "",
            )
            for row in rows
        ]
        head = ["method", "shots", *(headings[name] for name in names)]
        tables += [Table(one.named(caption), head, [("", cells)])] if names else []
    return tables


def _cell(row: Mapping, name: str) -> str:
    if row.get(name) is None:
        return ABSENT
    if name in ENDS:
        return f"{percent(row[name], True)} {interval(*(row[end] for end in ENDS[name]), True)}"
    return percent(row[name])


def _order(one: Evaluation, probes: Sequence[Mapping]) -> Table:
    rows = [
        Row(
            [
                method_label(probe["method"]),
                str(probe["shots"]),
                str(probe["num_probes"]),
                percent(probe["changed_share"]),
                percent(probe["accuracy"]),
                percent(probe["shuffled_accuracy"]),
                f"{percent(probe['difference'], True)} {interval(probe['ci_low'], probe['ci_high'], True)}, "
                f"{small_p(probe['p_value'])}",
            ]
        )
        for probe in probes
    ]
    head = ["method", "shots", "queries", "answers changed", "as chosen", "shuffled", "difference, paired"]
    metric = metric_of(one.results)
    scale = "in %" if metric.in_percent else f"shares in %, {metric.heading}"
    return Table(one.named(f"The same demonstrations in another order, {scale}."), head, [("", rows)])


def _overlaps(one: Evaluation, overlaps: Sequence[Mapping]) -> Table:
    rows = [
        Row(
            [
                " = ".join(map(method_label, overlap["methods"])) if overlap["same"] else
                " and ".join(map(method_label, overlap["methods"])),
                str(overlap["shots"]),
                "always: they are the same method" if overlap["same"] else percent(overlap["share"]),
            ]
        )
        for overlap in sorted(overlaps, key=lambda overlap: -overlap["share"])[:20]
    ]  # fmt: skip
    head = ["methods", "shots", "queries with the same selection"]
    return Table(
        one.named("Methods that select the same, in the same order (the 20 closest pairs)."), head, [("", rows)]
    )


def _leaks(one: Evaluation, leaks: Sequence[Mapping]) -> Table:
    rows = [Row([leak["query_id"], leak["demonstration_id"], leak["kind"].replace("_", " ")]) for leak in leaks]
    return Table(
        one.named("Pairs that give away the query (the first)."), ["query", "demonstration", "kind"], [("", rows)]
    )


def metrics_section(evaluations: Sequence[Evaluation]) -> Section | None:
    """The same predictions by every metric that applies; `None` where there is only one."""
    tables = []
    for one in evaluations:
        found = one.results.get("metrics") or {}
        if len(found) < 2:
            continue
        head = [
            "method",
            "shots",
            *(f"{name} (in the tables)" if name == one.results["metric"] else name for name in found),
        ]
        scores = {name: average_rows(of) for name, of in found.items()}
        keys = [key for key in average_rows(one.results) if key[1] in (0, *shots_of(one.results))]
        rows = [
            Row(
                [method_label(method), str(shots)] + [_score(scores[name].get((method, shots))) for name in found],
                "selector" if method in one.results["selectors"] else "",
            )
            for method, shots in keys
        ]
        others = "".join(f" ({name}: times 100)" for name in found if not METRICS[name].in_percent)
        tables.append(Table(one.named(f"Scores in %{others}, with 95% intervals."), head, [("", rows)]))
    if not tables:
        return None
    notes = ["All columns score the same predictions; a metric by its official code stands under its own name."]
    return Section("The same predictions by other metrics", "metrics", tables=tables, notes=notes)


def _score(row: Mapping | None) -> str:
    return f"{percent(row['score'])} {interval(row['ci_low'], row['ci_high'])}" if row else ABSENT
