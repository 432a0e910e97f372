# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Estimates the gain of a gate: it keeps the zero-shot answer if the VLM's confidence in it is high enough.

The rule: keep the zero-shot answer if the VLM's confidence in it (`inference.confidences`) is at least t, else answer
behind the method's demonstrations. A zero-shot answer without a confidence is never kept.

The threshold t is learned from right answers, so it is judged on queries that it was not learned from (cross-fitting,
Stone 1974, "Cross-validatory choice and assessment of statistical predictions"): queries fall into folds by a hash of
their ids, and each fold is gated by the t that is best on all others. The interval takes the thresholds as given, so
it is somewhat too narrow.
"""

import hashlib
import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from .runs import Run
from .table import IntervalSettings


NUM_FOLDS = 5
#: What [`gate`] measures, see [`~leverplus_trl.evaluation.diagnostics.diagnose`].
MEASURES = ("gate_gain", "gate_ci_low", "gate_ci_high", "gate_kept_share")


def fold_of(query_id: str) -> int:
    """The fold of a query: the same in every evaluation that asks it."""
    return int.from_bytes(hashlib.sha256(query_id.encode()).digest()[:8], "big") % NUM_FOLDS


def best_threshold(confidences: Sequence[float], gains: Sequence[float]) -> float:
    """
    The threshold with the largest mean accuracy.

    Args:
        confidences (`Sequence[float]`):
            The VLM's confidence in its zero-shot answers, one a query.
        gains (`Sequence[float]`):
            By how much the zero-shot answer is better than the one behind demonstrations.

    Returns:
        `float`: halfway between two neighbouring confidences, or 0, which keeps every zero-shot answer, or infinity,
        which keeps none; of several that are as good, the highest.
    """
    order = np.lexsort((gains, confidences))[::-1]  # the surest first; the order of the queries can't matter
    sure, gained = np.asarray(confidences)[order], np.asarray(gains)[order]  # [N], [N]
    # Rounded, since 0.3 - 0.1 - 0.2 is not 0.
    totals = np.cumsum(gained).round(9)  # [N]; of keeping the n + 1 surest
    cuts = np.flatnonzero(np.append(sure[:-1] > sure[1:], sure.size > 0))  # [T]; behind these a threshold can stand
    if cuts.size == 0 or totals[cuts].max() <= 0.0:
        return math.inf
    cut = cuts[totals[cuts].argmax()]  # of equal ones the first: the highest threshold
    return float((sure[cut] + sure[cut + 1]) / 2.0) if cut + 1 < sure.size else 0.0


def kept_queries(run: Run, zero_shot: Run) -> set[str]:
    """
    The queries whose zero-shot answer is kept, each by a threshold that the queries of the other folds chose.

    Args:
        run (`Run`):
            A method's answers.
        zero_shot (`Run`):
            Answers without demonstrations, with confidences.
    """
    known = {query_id: sure for query_id, sure in zero_shot.confidences.items() if sure is not None}
    kept = set()
    for fold in range(NUM_FOLDS):
        others = [query_id for query_id in known if fold_of(query_id) != fold]
        gains = [zero_shot.accuracies[query_id] - run.accuracies[query_id] for query_id in others]
        threshold = best_threshold([known[query_id] for query_id in others], gains)
        kept |= {query_id for query_id, sure in known.items() if fold_of(query_id) == fold and sure >= threshold}
    return kept


def gate(seeds: Sequence[Run], zero_shot: Run, settings: IntervalSettings) -> dict[str, float | None]:
    """
    What the gate gains on a method's own answers.

    Args:
        seeds (`Sequence[Run]`):
            The method's runs, gated one by one.
        zero_shot (`Run`):
            Answers without demonstrations to the same queries.
        settings (`IntervalSettings`):
            Settings of the interval.

    Returns:
        `dict`: [`MEASURES`], averaged over the runs; all null without confidences, or with fewer queries than folds.
    """
    asked = list(zero_shot.accuracies)
    if len(asked) < NUM_FOLDS or all(sure is None for sure in zero_shot.confidences.values()):
        return dict.fromkeys(MEASURES)
    kept = [kept_queries(run, zero_shot) for run in seeds]
    # What a seed gains is one number, so its answers and what is gated of them are not two methods.
    gains = {
        query_id: [
            zero_shot.accuracies[query_id] - run.accuracies[query_id] if query_id in of_seed else 0.0
            for run, of_seed in zip(seeds, kept, strict=True)
        ]
        for query_id in asked
    }
    gain = settings.difference(gains, dict.fromkeys(asked, 0.0))
    share = fmean(len(of_seed) / len(asked) for of_seed in kept)
    return dict(zip(MEASURES, (gain.mean, gain.low, gain.high, share), strict=True))
