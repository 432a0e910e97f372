# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The section of the diagnostics: whether a selection depends on the query, order, leaks, harm."""

from collections.abc import Mapping, Sequence

from ..evaluation.methods import method_label
from .evaluations import Evaluation
from .sections import Row, Section, Table
from .tables import ABSENT, average_rows, estimate, metric_of, paired, percent


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
