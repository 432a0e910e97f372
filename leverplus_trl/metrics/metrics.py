# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The metrics by name, what each needs of an example, and all that apply side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .accuracy.accuracy import accuracy
from .anls.anls import anls
from .cider.cider import DocumentFrequencies, cider, document_frequencies
from .cover_exact_match.cover_exact_match import cover_exact_match
from .exact_match.exact_match import exact_match
from .gsm8k_accuracy.gsm8k_accuracy import gsm8k_flexible, gsm8k_strict
from .mmbench_accuracy.mmbench_accuracy import mmbench_accuracy
from .okvqa_accuracy.okvqa_accuracy import okvqa_accuracy
from .option_accuracy.option_accuracy import option_accuracy
from .scienceqa_accuracy.scienceqa_accuracy import scienceqa_accuracy
from .token_f1.token_f1 import token_f1
from .vqa_accuracy.vqa_accuracy import MIN_ANSWERS, vqa_accuracy
from .vqa_accuracy_normalized.vqa_accuracy_normalized import vqa_accuracy_normalized


@dataclass(frozen=True)
class Metric:
    """
    A function that scores a prediction, what it needs, and how its scores are shown.

    Args:
        function (`Callable[..., float]`):
            Takes the prediction, then the example's `columns` in their order.
        columns (`tuple[str, ...]`, *optional*, defaults to `("answers",)`):
            Columns of the example that it reads.
        min_answers (`int`, *optional*, defaults to 1):
            With fewer answers than this it can't be 1.
        needs_corpus (`bool`, *optional*, defaults to `False`):
            Whether it also takes the document frequencies of a whole test set's answers.
        title (`str`, *optional*, defaults to `"accuracy"`):
            What a report calls its scores.
        in_percent (`bool`, *optional*, defaults to `True`):
            Whether its scores are in 0..1, 0 wrong and 1 right, and shown in %. Others are shown times 100, and none
            of them is right or wrong.
    """

    function: Callable[..., float]
    columns: tuple[str, ...] = ("answers",)
    min_answers: int = 1
    needs_corpus: bool = False
    title: str = "accuracy"
    in_percent: bool = True

    @property
    def heading(self) -> str:
        """What stands over its scores as they are shown: `accuracy in %`."""
        return f"{self.title} {'in %' if self.in_percent else 'times 100'}"

    def score(
        self, prediction: str, example: Mapping[str, Any], frequencies: DocumentFrequencies | None = None
    ) -> float:
        """Worth of a prediction; `frequencies` are read by a metric that `needs_corpus`."""
        arguments = [example[name] for name in self.columns]
        if self.needs_corpus:
            if frequencies is None:
                raise ValueError(
                    f"{self.function.__name__} needs the document frequencies of a whole test set's answers; give "
                    "them to the task with `use_references(examples)`."
                )
            arguments.append(frequencies)
        return self.function(prediction, *arguments)

    def applies(self, example: Mapping[str, Any]) -> bool:
        """Whether an example has what the metric needs."""
        return all(example.get(name) for name in self.columns) and len(example["answers"]) >= self.min_answers


_OPTIONS = ("answers", "choices")

METRICS: dict[str, Metric] = {
    "exact_match": Metric(exact_match),
    "cover_exact_match": Metric(cover_exact_match),
    "token_f1": Metric(token_f1),
    "accuracy": Metric(accuracy),
    "vqa_accuracy": Metric(vqa_accuracy, min_answers=MIN_ANSWERS),
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
    """
    Scores predictions by every metric that applies to all the examples they answer.

    Args:
        names (`Sequence[str]`):
            Metrics to consider, such as `task.metrics`.
        query_ids (`Sequence[str]`):
            The example that each prediction answers; one may be answered often (by several methods).
        predictions (`Sequence[str]`):
            The predictions.
        examples (`Mapping[str, Mapping]`):
            Examples by id. Document frequencies are counted over those that are answered.

    Returns:
        `dict[str, list[float]]`: for each metric that applies, the score of each prediction.

    Raises:
        `ValueError`: there is no prediction, a prediction for an unknown example, or an unknown metric.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"Unknown metric {unknown[0]!r}; expected some of {', '.join(METRICS)}.")
    if len(query_ids) == 0:
        raise ValueError("There are no predictions to score.")
    strangers = sorted({query_id for query_id in query_ids if query_id not in examples})
    if strangers:
        raise ValueError(
            f"{len(strangers)} of the ids that were answered are not among the {len(examples)} examples, e.g. "
            f"{strangers[:3]}. Name the dataset and split that the predictions were made on."
        )
    answered = {query_id: examples[query_id] for query_id in query_ids}
    found = {name: METRICS[name] for name in names if all(map(METRICS[name].applies, answered.values()))}
    frequencies = None
    if any(metric.needs_corpus for metric in found.values()):
        frequencies = document_frequencies(example["answers"] for example in answered.values())
    pairs = list(zip(predictions, query_ids, strict=True))
    return {
        name: [metric.score(said, answered[query_id], frequencies) for said, query_id in pairs]
        for name, metric in found.items()
    }
