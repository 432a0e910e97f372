# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""From a predictions table to `results.json`: accuracies with intervals, paired comparisons, what has collapsed.

How the numbers are made:
- `diff_to_random` is paired, query by query, with random selection at the same shots and in the same scope: `random`
  for methods that rank the sampled candidates, `random_pool` for those that rank the whole pool. It is null where
  there is no such row, and for random itself and zero-shot.
- A method with several seeds has a row a seed and one row with `seed` null: the average over queries and seeds, whose
  interval is about other queries and other seeds. Whatever is compared is this average. The interval of one seed is
  about other queries alone.
- Intervals and tests are those of `significance.py`; `interval` names them. A difference is called one (`clear`,
  `significant`, the report's words) if the test says so, whatever the interval.
- Intervals and `p_value` are those of each comparison by itself. `diff_p_holm` and `p_holm` are corrected for their
  number: over the differences to random that a table shows, and over all `comparisons`, where two selectors that are
  compared in both directions count once.
- A heuristic is called the best by its accuracy on the very queries of the table, which favours the heuristic.
- `oracle` knows the answers, so others are compared with it but it is never called the best. `regret` is its accuracy
  minus the row's. It took the sequence with the best score, so another can answer better: a regret may be negative.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import Dataset

from ..activity import doing
from ..metrics import METRICS
from ..output_files import write_atomically
from ..provenance import json_hash
from .diagnostics import diagnose
from .methods import SELECTOR, ZERO_SHOT
from .runs import RunKey, Runs, by_method, read_order_probes, read_runs
from .scores import check_scores, metric_rows, metric_scores, replace_accuracies
from .significance import CONFIDENCE, NUM_RESAMPLES, interval_name
from .table import IntervalSettings, make_table


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
    Turns a predictions table into the content of `results.json`.

    Args:
        predictions (`Dataset`):
            Table with the columns of `schema.PREDICTIONS`: one row a method, number of shots, seed and query. Every
            method must have answered the same queries, and zero-shot must be among them.
        name (`str`):
            Name of the evaluation.
        dataset (`str`):
            Dataset that the queries and demonstrations come from.
        vlm (`str`):
            Model that answered.
        task (`str`):
            Name of the task.
        metric (`str`):
            Name of the metric behind `accuracy`.
        provenance (`Mapping[str, object]`, *optional*):
            What made the predictions.
        collapse (`Sequence[Mapping[str, object]]`, *optional*):
            Collapse measures of runs, each with at least `"method"`, `"shots"`, `"seed"` and `"swap_change_share"`.
            For a run that is not named, the share of its most common selection decides alone, see
            [`~leverplus_trl.selectors.collapse.is_collapsed`].
        selectors (`Sequence[str]`, *optional*, defaults to `("selector",)`):
            Methods that are trained selectors: each is compared with every other method at the same shots, and with
            zero-shot.
        queries (`Dataset`, *optional*):
            The examples that were asked, for `metrics`, `num_queries` and, with the pool, the audit of leaks.
        pool (`Dataset`, *optional*):
            The examples that were chosen from.
        metrics (`Sequence[str]`, *optional*):
            Further metrics to score the predictions by, side by side, as far as they apply.
        num_queries (`Sequence[int]`, *optional*):
            Numbers of queries: for each, the results of the first so many of `queries`, as if no others had been
            asked (but for `swap_change_share`, which is that of all).
        order_probes (`Dataset`, *optional*):
            Answers behind the demonstrations of some methods in another order, as a predictions table.
        num_resamples (`int`, *optional*, defaults to 10,000):
            Bootstrap resamples, for metrics outside 0..1 such as CIDEr.
        confidence (`float`, *optional*, defaults to 0.95):
            Confidence of the intervals.
        seed (`int`, *optional*, defaults to 0):
            Seed of the bootstrap.

    Returns:
        `dict`: JSON-ready. `rows` (one a method, shots and seed), `comparisons`, `best_baselines` (each
        selector against the best baseline at the same shots), `best` (at each number of shots the best method, and
        whether the test tells it from every other method), `metrics` (`{name: {"rows": ...}}`),
        `collapse`, `query_set` (hash of the query ids), `test_set` (of ids, questions and answers), `prefixes` (the
        same for fewer queries), `diagnostics` (see [`~leverplus_trl.evaluation.diagnostics.diagnose`]).

    Raises:
        `ValueError`: an empty table, a missing column, several splits, a duplicate row, an accuracy that is not a
        finite number or not what the metric gives, a confidence that is not in 0..1, methods answered on
        different queries, no zero-shot, a prediction for an unknown query, or collapse measures of a run that there
        is not.
    """
    if queries is None and (metrics or num_queries):
        raise ValueError("`metrics` and `num_queries` need the examples that were asked: give `queries`.")
    runs = read_runs(predictions)
    probes = order_probes and read_order_probes(order_probes, runs)
    swap_change_shares = _swap_change_shares(collapse, runs)
    settings = IntervalSettings(num_resamples, confidence, seed)
    asked = list(runs[next(key for key in runs if key[0] == ZERO_SHOT)].accuracies)
    examples: dict[str, Mapping] = {}
    if queries is not None:
        examples = {row["id"]: row for row in queries.remove_columns("image")}
        _check_known(asked, examples)
        answered = set(asked)
        asked = [query_id for query_id in examples if query_id in answered]
    names = []
    if examples and (metrics or METRICS[metric].needs_corpus):
        names = list(dict.fromkeys([metric, *metrics]))

    def numbers(size: int) -> dict[str, object]:
        chosen = asked[:size]
        part = {key: run.of(chosen) for key, run in runs.items()}
        scores = metric_scores(names, part, examples)
        if metric in scores and METRICS[metric].needs_corpus:
            part = replace_accuracies(part, scores[metric])
        if metric in scores and size == len(asked):
            check_scores(runs, scores[metric], metric)
        return {
            **describe_test_set(chosen, examples),
            **make_table(part, swap_change_shares, selectors, settings),
            "metrics": {other: {"rows": metric_rows(found, settings)} for other, found in scores.items()},
        }

    everything = numbers(len(asked))
    choices = _num_choices(predictions, pool)
    return {
        "stage": "evaluate",
        "name": name,
        "dataset": dataset,
        "vlm": vlm,
        "task": task,
        "metric": metric,
        "split": predictions[0]["split"],
        **everything,
        "interval": {**_interval_names(runs), **vars(settings)},
        "selectors": [name for name in selectors if any(method == name for method, _, _ in runs)],
        "collapse": list(collapse),
        "prefixes": [numbers(size) for size in sorted(set(num_queries)) if size < len(asked)],
        "diagnostics": diagnose(runs, everything["rows"], choices, settings, probes, queries, pool),
        "provenance": dict(provenance or {}),
    }


def _interval_names(runs: Runs) -> dict[str, str]:
    accuracies = [accuracy for run in runs.values() for accuracy in run.accuracies.values()]
    names = {"kind": interval_name(accuracies), "difference": "score (Tango)", "test": "sign flips"}
    if any(len(seeds) > 1 for seeds in by_method(runs).values()):
        several = names["kind"].replace("Clopper-Pearson", "Agresti-Coull, effective counts")
        names |= {"seeds": f"{several}; two-way variance of queries and seeds, t"}
    return names


def _swap_change_shares(collapse: Sequence[Mapping[str, object]], runs: Runs) -> dict[RunKey, float]:
    found = {(one["method"], one["shots"], one["seed"]): one["swap_change_share"] for one in collapse}
    strangers = sorted(found.keys() - runs.keys())
    if strangers:
        raise ValueError(f"There are collapse measures, but no predictions, of (method, shots, seed) {strangers[0]}.")
    return found


def _check_known(asked: Sequence[str], examples: Mapping[str, Mapping]) -> None:
    strangers = sorted(set(asked) - examples.keys())
    if strangers:
        raise ValueError(
            f"{len(strangers)} of the ids that were answered are not among the {len(examples)} examples, e.g. "
            f"{strangers[:3]}. Name the dataset and split that the predictions were made on."
        )


def describe_test_set(asked: Sequence[str], examples: Mapping[str, Mapping]) -> dict[str, object]:
    """How many queries, and hashes: of their ids, and of what is asked and counts as right."""
    said = [[examples[one]["question"], examples[one]["answers"]] for one in sorted(asked) if examples]
    return {
        "num_queries": len(asked),
        "query_set": json_hash(sorted(asked)),
        "test_set": json_hash([sorted(asked), said]) if examples else None,
    }


def _num_choices(predictions: Dataset, pool: Dataset | None) -> dict[str, int]:
    zero_shot = [row for row, method in enumerate(predictions["method"]) if method == ZERO_SHOT]
    lists = predictions.select(zero_shot)["candidate_ids"]
    candidates = len({one for ids in lists for one in ids or ()})
    return {"candidates": candidates, "pool": candidates if pool is None else len(pool)}


def check_same_test_set(results: Mapping[str, Mapping]) -> None:
    """
    Checks that several results can stand in one table.

    Args:
        results (`Mapping[str, Mapping]`):
            Contents of `results.json` files by what they are called, such as their paths.

    Raises:
        `ValueError`: their queries, the questions and answers of these, or the metric differ.
    """
    for key, meaning in {
        "metric": "scored by different metrics",
        "query_set": "of different test sets (hashes of the query ids)",
        "test_set": "of different test sets (hashes of ids, questions and answers)",
    }.items():
        said = {label: one.get(key) for label, one in results.items() if one.get(key) is not None}
        if len(set(said.values())) > 1:
            listed = "; ".join(f"{name}: {one} ({results[name]['num_queries']} queries)" for name, one in said.items())
            raise ValueError(
                f"These results are {meaning}, so one table can't hold them: {listed}. Evaluate the same queries "
                "(`dataset`, `eval_split`, `num_queries`), or make a report of each."
            )


def write_results(results: Mapping[str, object], path: Path) -> None:
    """Writes `results.json`; numbers that JSON has no word for (NaN, infinity) raise `ValueError`."""
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def read_results(path: str | Path) -> dict[str, object]:
    """
    Reads `results.json`.

    Raises:
        `FileNotFoundError`: there is no such file.
        `ValueError`: the file is not whole JSON, or not what [`summarize`] makes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No results at {path}: run the evaluate stage first, or name the folder it wrote.")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not whole JSON ({error}). The evaluate stage writes it whole or not at all, so it was cut off "
            "later, by a copy or a full disk: copy it again, or delete it and run `leverplus merge --output_dir "
            f"{path.parent}`, which makes it from the predictions."
        ) from error
    absent = [key for key in RESULT_KEYS if not isinstance(results, dict) or key not in results]
    if absent:
        raise ValueError(f"{path} is not a result of the evaluate stage: it lacks {absent}.")
    return results
