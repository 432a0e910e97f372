# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The table of the metrics: their functions, what each reads of an example, and how its scores are shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .anls import anls
from .cider import DocumentFrequencies, cider, document_frequencies
from .exact_match import accuracy, cover_exact_match, exact_match
from .gsm8k_accuracy import gsm8k_flexible, gsm8k_strict
from .mmbench_accuracy import mmbench_accuracy
from .okvqa_accuracy import okvqa_accuracy
from .option_accuracy import option_accuracy
from .scienceqa_accuracy import scienceqa_accuracy
from .token_f1 import token_f1
from .vqa_accuracy import MIN_ANSWERS, vqa_accuracy, vqa_accuracy_normalized


@dataclass(frozen=True)
class Metric:
    """A function that scores a prediction, what it reads, and how its scores are shown."""

    function: Callable[..., float]  #: Takes the prediction, then the example's `columns` in their order.
    columns: tuple[str, ...] = ("answers",)
    min_answers: int = 1  #: With fewer answers no prediction scores 1.
    needs_corpus: bool = False  #: Whether it also takes the document frequencies of a whole test set's answers.
    title: str = "accuracy"  #: Name of its scores in a report.
    in_percent: bool = True  #: Whether scores are in 0..1 and shown in %; others are shown times 100.
    result: str | None = None  #: Key of the mean in the result of `evaluate`, if it is not the metric's name.

    @property
    def heading(self) -> str:
        return f"{self.title} {'in %' if self.in_percent else 'times 100'}"

    def score(
        self,
        prediction: str,
        example: Mapping[str, Any],
        frequencies: DocumentFrequencies | None = None,
        **options: Any,
    ) -> float:
        """Score of a prediction. The function takes `frequencies` if the metric `needs_corpus`, and the `options`."""
        arguments = [example[name] for name in self.columns]
        if self.needs_corpus:
            if frequencies is None:
                message = f"{self.function.__name__} needs the document frequencies of a whole test set's answers"
                raise ValueError(f"{message}; give them to the task with `use_references(examples)`.")
            arguments.append(frequencies)
        return self.function(prediction, *arguments, **options)

    def applies(self, example: Mapping[str, Any]) -> bool:
        """Whether an example has what the metric needs."""
        return all(example.get(name) for name in self.columns) and len(example["answers"]) >= self.min_answers


_OPTIONS = ("answers", "choices")

METRICS: dict[str, Metric] = {
    "exact_match": Metric(exact_match),
    "cover_exact_match": Metric(cover_exact_match),
    "token_f1": Metric(token_f1),
    "accuracy": Metric(accuracy),
    "vqa_accuracy": Metric(vqa_accuracy, min_answers=MIN_ANSWERS, result="accuracy"),
    "vqa_accuracy_normalized": Metric(vqa_accuracy_normalized, min_answers=MIN_ANSWERS),
    "okvqa_accuracy": Metric(okvqa_accuracy, min_answers=MIN_ANSWERS),
    "anls": Metric(anls),
    "cider": Metric(cider, needs_corpus=True, title="CIDEr", in_percent=False),
    "option_accuracy": Metric(option_accuracy, _OPTIONS),
    "scienceqa_accuracy": Metric(scienceqa_accuracy, _OPTIONS),
    "mmbench_accuracy": Metric(mmbench_accuracy, _OPTIONS),
    "gsm8k_strict": Metric(gsm8k_strict),
    "gsm8k_flexible": Metric(gsm8k_flexible),
}


def all_metrics(
    names: Sequence[str],
    query_ids: Sequence[str],
    predictions: Sequence[str],
    examples: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[float]]:
    """The scores of predictions by each metric of `names` that applies to all their examples, `query_ids`."""
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"Unknown metric {unknown[0]!r}; expected some of {', '.join(METRICS)}.")
    if len(query_ids) == 0:
        raise ValueError("There are no predictions to score.")
    strangers = sorted({query_id for query_id in query_ids if query_id not in examples})
    if strangers:
        message = f"{len(strangers)} of the ids that were answered are not among the {len(examples)} examples, e.g. "
        raise ValueError(f"{message}{strangers[:3]}. Name the dataset and split that the predictions were made on.")
    answered = {query_id: examples[query_id] for query_id in query_ids}
    metrics = {name: METRICS[name] for name in names if all(map(METRICS[name].applies, answered.values()))}
    frequencies = None
    if any(metric.needs_corpus for metric in metrics.values()):
        frequencies = document_frequencies(example["answers"] for example in answered.values())
    pairs = [(prediction, answered[query_id]) for prediction, query_id in zip(predictions, query_ids, strict=True)]
    return {name: [metric.score(*pair, frequencies) for pair in pairs] for name, metric in metrics.items()}
