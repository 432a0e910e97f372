# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
From a predictions table to `results.json`: accuracies with intervals, paired comparisons, collapsed methods.

- `diff_to_random` is paired, query by query, with random selection at the same shots and in the same scope: `random`
  for methods that rank the sampled candidates, `random_pool` for those that rank the whole pool. It is null without
  such a row, and for random itself and zero-shot.
- A method with several seeds has a row a seed and a row with `seed` null, which comparisons use: the average over
  queries and seeds, whose interval is about other queries and other seeds.
- `clear` and `significant` are the verdicts of the test of `significance.py`, which does not use the interval.
  `diff_p_holm` and `p_holm` are corrected for the number of tests: over the differences to random that a table shows,
  and over all `comparisons`, where two selectors that are compared in both directions count once. Intervals and
  `p_value` are not.
- The best heuristic is the best on the very queries of the table, which favours it.
- `oracle` knows the answers, so others are compared with it but it is never called the best. `regret` is its accuracy
  minus the row's. It took the sequence with the best score, so another can answer better: a regret may be negative.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datasets import Dataset

from ..log import doing
from ..metrics import METRICS
from ..output_files import write_atomically
from ..provenance import json_hash
from .diagnostics import diagnose
from .methods import SELECTOR, ZERO_SHOT
from .runs import Runs, by_method, check_scores, example_rows, metric_rows, metric_scores, read_order_probes, read_runs
from .significance import CONFIDENCE, NUM_RESAMPLES, IntervalSettings, interval_name
from .table import make_table


#: What [`summarize`] makes.
RESULT_KEYS = (
    *("stage", "name", "dataset", "vlm", "task", "metric", "split", "num_queries", "query_set", "test_set"),
    *("rows", "comparisons", "best_baselines", "best", "metrics", "interval", "selectors", "collapse", "prefixes"),
    *("diagnostics", "provenance"),
)


@doing("making the results")
def summarize(
    predictions: Dataset,
    *,
    name: str,
    dataset: str,
    vlm: str,
    task: str,
    metric: str,
    provenance: Mapping[str, object] | None = None,
    collapse: Sequence[Mapping[str, object]] = (),
    selectors: Sequence[str] = (SELECTOR,),
    queries: Dataset | None = None,
    pool: Dataset | None = None,
    metrics: Sequence[str] = (),
    num_queries: Sequence[int] = (),
    order_probes: Dataset | None = None,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, object]:
    """
    Turns a predictions table, columns of `schema.PREDICTIONS`, into the content of `results.json`.

    Args:
        collapse (`Sequence[Mapping[str, object]]`, *optional*):
            Collapse measures of runs: `"method"`, `"shots"`, `"seed"` and `"swap_change_share"`. For other runs the
            share of the most common selection decides alone, see [`~leverplus_trl.selectors.collapse.is_collapsed`].
        selectors (`Sequence[str]`, *optional*, defaults to `("selector",)`):
            Trained selectors, which are compared with every other method at the same shots, and with zero-shot.
        queries, pool (`Dataset`, *optional*):
            The examples that were answered, for `metrics`, `num_queries` and the audit of leaks, and the examples that
            were chosen from, for that audit.
        metrics (`Sequence[str]`, *optional*):
            Further metrics to score the predictions by, as far as they apply.
        num_queries (`Sequence[int]`, *optional*):
            For each number, `prefixes` holds the results of the first so many of `queries`, as if these were all (but
            for `swap_change_share`, which is that of all).
        order_probes (`Dataset`, *optional*):
            Answers with the demonstrations of some methods in another order, as a predictions table.

    Returns:
        `dict`: JSON-ready, the keys of `RESULT_KEYS`. `best_baselines` compares each selector with the best baseline,
        `best` the best method at each number of shots with the method that is hardest to tell from it. `query_set` is
        a hash of the query ids, `test_set` a hash of ids, questions and answers.

    Raises:
        `ValueError`: predictions that [`~leverplus_trl.evaluation.runs.read_runs`] refuses, an accuracy that is not
        what the metric gives, settings out of range, or a query or run that is not among the predictions.
    """
    if queries is None and (metrics or num_queries):
        raise ValueError("`metrics` and `num_queries` need the examples that were answered: give `queries`.")
    runs = read_runs(predictions)
    probes = order_probes and read_order_probes(order_probes, runs)
    swap_change_shares = {(row["method"], row["shots"], row["seed"]): row["swap_change_share"] for row in collapse}
    strangers = sorted(swap_change_shares.keys() - runs.keys())
    if strangers:
        raise ValueError(f"There are collapse measures, but no predictions, of (method, shots, seed) {strangers[0]}.")
    settings = IntervalSettings(num_resamples, confidence, seed)
    zero_shot = next(run for (method, _, _), run in runs.items() if method == ZERO_SHOT)
    query_ids, examples, names = list(zero_shot.accuracies), {}, []
    if queries is not None:
        rows = sorted(example_rows(queries, query_ids, "queries"))
        examples = {row["id"]: row for row in queries.remove_columns("image").select(rows)}
        query_ids = list(examples)
        if metrics or METRICS[metric].needs_corpus:
            names = list(dict.fromkeys([metric, *metrics]))

    def results_of(size: int) -> dict[str, object]:
        first = query_ids[:size]
        part = {key: run.of(first) for key, run in runs.items()}
        scores = metric_scores(names, part, examples) if names else {}
        if metric in scores and size == len(query_ids):
            check_scores(runs, scores[metric], metric)
        if metric in scores and METRICS[metric].needs_corpus:
            part = {key: replace(run, accuracies=scores[metric][key]) for key, run in part.items()}
        table = make_table(part, swap_change_shares, selectors, settings)
        by_metric = {other: {"rows": metric_rows(values, settings)} for other, values in scores.items()}
        return describe_test_set(first, examples) | table | {"metrics": by_metric}

    everything = results_of(len(query_ids))
    about = {"stage": "evaluate", "name": name, "dataset": dataset, "vlm": vlm, "task": task, "metric": metric}
    return {
        **about,
        "split": predictions[0]["split"],
        **everything,
        "interval": _interval_names(runs) | vars(settings),
        "selectors": [name for name in selectors if any(method == name for method, _, _ in runs)],
        "collapse": list(collapse),
        "prefixes": [results_of(size) for size in sorted(set(num_queries)) if size < len(query_ids)],
        "diagnostics": diagnose(runs, everything["rows"], predictions, settings, probes, queries, pool),
        "provenance": dict(provenance or {}),
    }


def _interval_names(runs: Runs) -> dict[str, str]:
    accuracies = [accuracy for run in runs.values() for accuracy in run.accuracies.values()]
    names = {"kind": interval_name(accuracies), "difference": "score (Tango)", "test": "sign flips"}
    if any(len(seeds) > 1 for seeds in by_method(runs).values()):
        several = names["kind"].replace("Clopper-Pearson", "Agresti-Coull, effective counts")
        names |= {"seeds": f"{several}; two-way variance of queries and seeds, t"}
    return names


def describe_test_set(query_ids: Sequence[str], examples: Mapping[str, Mapping]) -> dict[str, object]:
    """The number of queries, and hashes: of their ids, and of ids, questions and answers."""
    query_ids = sorted(query_ids)
    texts = [[examples[query_id]["question"], examples[query_id]["answers"]] for query_id in query_ids if examples]
    test_set = json_hash([query_ids, texts]) if examples else None
    return {"num_queries": len(query_ids), "query_set": json_hash(query_ids), "test_set": test_set}


def check_same_test_set(results: Mapping[str, Mapping]) -> None:
    """Raises `ValueError` if the contents of `results.json` files, by label, can't be in one table: their queries, the
    questions and answers of these, or the metric differ."""
    for key, meaning in {
        "metric": "scored by different metrics",
        "query_set": "of different test sets (hashes of the query ids)",
        "test_set": "of different test sets (hashes of ids, questions and answers)",
    }.items():
        values = {label: content.get(key) for label, content in results.items() if content.get(key) is not None}
        if len(set(values.values())) > 1:
            listed = "; ".join(
                f"{name}: {value} ({results[name]['num_queries']} queries)" for name, value in values.items()
            )
            raise ValueError(
                f"These results are {meaning}, so one table can't hold them: {listed}. Evaluate the same queries "
                "(`dataset`, `eval_split`, `num_queries`), or make a report of each."
            )


def write_results(results: Mapping[str, object], path: Path) -> None:
    """Writes `results.json`; numbers that JSON can't express (NaN, infinity) raise `ValueError`."""
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def read_results(path: str | Path) -> dict[str, object]:
    """Reads `results.json`; raises `FileNotFoundError` without it, and `ValueError` if it is not complete JSON, or not
    what [`summarize`] makes."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No results at {path}: run the evaluate stage first, or name the folder it wrote.")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not whole JSON ({error}): it was cut off or edited. Copy it again, or delete it "
            f"and run `leverplus merge --output_dir {path.parent}`, which makes it from the predictions."
        ) from error
    absent = [key for key in RESULT_KEYS if not isinstance(results, dict) or key not in results]
    if absent:
        raise ValueError(f"{path} is not a result of the evaluate stage: it lacks {absent}.")
    return results
