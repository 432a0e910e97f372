# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The metrics: a file of plain functions each, and one table of them.

A metric is a function of a prediction (a string), the right answers (a list of strings; for a multiple-choice question
the letter of the right option) and, for a multiple-choice question, the text of every option, to a score. It raises
`ValueError` without an answer or with a letter that no option has, and `TypeError` for an argument of another type.

A new metric is its function and a row of `METRICS`, whose names also load it for `evaluate`:
`evaluate.load("leverplus_trl/metrics", NAME)` (elsewhere `evaluate.load(leverplus_trl.metrics.__path__[0], NAME)`).
"""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "cider": ("DocumentFrequencies", "document_frequencies"),
        "metric_table": ("METRICS", "Metric", "all_metrics"),
    },
)
