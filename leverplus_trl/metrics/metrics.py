# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Every metric as an `evaluate.Metric`: `evaluate.load("leverplus_trl/metrics", "vqa_accuracy")`.

`evaluate` copies this file alone, finds it by the folder's name, and reads its imports line by line: so it imports the
package by its full name, one import a line.
"""

import inspect
import re
import warnings

import datasets
import evaluate

from leverplus_trl.metrics import METRICS, document_frequencies


class TableMetric(evaluate.Metric):
    """
    The metric of [`~leverplus_trl.metrics.METRICS`] that `config_name` names.

    `predictions` has a text for each example, `references` the list of its right answers (for multiple choice a dict
    of `answers` and `choices`); further options go to the metric's function. Returns the mean, by the metric's name
    (that of `vqa_accuracy` is `accuracy`), and `per_example`, the list of scores.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            message = f"There is no metric {self.config_name!r}; load one with evaluate.load(PATH, NAME), where NAME"
            raise ValueError(f"{message} is one of {', '.join(METRICS)}.")
        metric = METRICS[self.config_name]
        texts = datasets.Sequence(datasets.Value("string"))
        references = texts if len(metric.columns) == 1 else dict.fromkeys(metric.columns, texts)
        rules = inspect.getdoc(inspect.getmodule(metric.function))
        source = rules.partition("Source: ")[2]
        return evaluate.MetricInfo(
            description=f"{inspect.getdoc(metric.function)}\n\n{rules}",
            citation=source,
            inputs_description=inspect.getdoc(TableMetric),
            features=datasets.Features({"predictions": datasets.Value("string"), "references": references}),
            reference_urls=re.findall(r"https://[^\s;]+", source),
        )

    def _compute(self, predictions: list[str], references: list, **options) -> dict:
        if not predictions:
            raise ValueError("There are no predictions, so they have no mean; expected at least one.")
        metric, frequencies = METRICS[self.config_name], None
        examples = [{"answers": row} for row in references] if len(metric.columns) == 1 else references
        if metric.needs_corpus:
            if len(references) == 1:
                warnings.warn("CIDEr of a single example is 0: all references have all its words.", stacklevel=2)
            frequencies = document_frequencies(references)
        pairs = zip(predictions, examples, strict=True)
        scores = [metric.score(*pair, frequencies, **options) for pair in pairs]
        return {metric.result or self.config_name: sum(scores) / len(scores), "per_example": scores}
