# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The metrics: a file of plain functions each, and the table `METRICS` of them, to which a new metric adds a row.

A metric is a function of a prediction, the list of right answers and, for a multiple-choice question (whose answer is
a letter), the list of options, to a score. It raises `ValueError` without an answer or with a letter that no option
has, and `TypeError` for another type. `evaluate.load(leverplus_trl.metrics.__path__[0], NAME)` loads a metric.
"""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "cider": ("DocumentFrequencies", "document_frequencies"),
        "metric_table": ("METRICS", "Metric", "all_metrics"),
    },
)
