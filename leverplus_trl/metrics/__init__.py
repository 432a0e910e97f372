# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The metrics by name, what each needs of an example, and all that apply side by side.

Each is a folder, so that `evaluate.load("leverplus_trl/metrics/anls")` finds it from the repository's root (elsewhere:
`evaluate.load(f"{leverplus_trl.metrics.__path__[0]}/anls")`), and a plain function in it; that of GSM8K gives both
`gsm8k_strict` and `gsm8k_flexible`.
"""

from ..lazy import lazy


__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "cider.cider": ("DocumentFrequencies", "document_frequencies"),
        "metrics": ("METRICS", "Metric", "all_metrics"),
        "names": ("METRIC_NAMES",),
    },
)
