# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Accuracy on ScienceQA, as its own evaluation of language models computes it (https://github.com/lupantech/ScienceQA,
`models/run_gpt3.py`).

The reply must say "The answer is X." exactly once, in these words and this case, X a capital letter. Quirks of the
pattern: *any* character may stand in place of the full stop, but one must, so a reply that ends in "The answer is B"
fails, and "The answer is Apple" says A.

Where that fails, or the letter is none of the choices', the official code guesses at random; here such a reply scores
what the guess scores on average, 1 / number of choices. So a model that answers in another form is at chance level:
let the demonstrations say "The answer is B." (`answer_template` of the task), or use `option_accuracy`.
"""

import re

from leverplus_trl.metrics.base_metric import LETTERS, OPTIONS, BaseMetric, check_options


_PATTERN = re.compile(r"The answer is ([A-Z]).")


def scienceqa_accuracy(prediction: str, answers: list[str], choices: list[str]) -> float:
    """
    Whether the reply names the right option, or what a guess is worth.

    Args:
        prediction (`str`):
            The whole reply.
        answers (`list[str]`):
            The letter of the right option, in a list.
        choices (`list[str]`):
            The text of every option.

    Returns:
        `float`: 1.0, 0.0, or 1 / number of choices.

    Raises:
        `ValueError`: no answer, no choices, or an answer that is not the letter of a choice.
        `TypeError`: the prediction is not a string, or a list is a string.
    """
    check_options(prediction, answers, choices)
    found = _PATTERN.findall(prediction.strip())
    if len(found) == 1 and found[0] in LETTERS[: len(choices)]:
        return float(found[0] in answers)
    return 1.0 / len(choices)


class ScienceqaAccuracy(BaseMetric):
    """ScienceQA accuracy as an `evaluate.Metric`."""

    result = "scienceqa_accuracy"
    references = OPTIONS
    url = "https://github.com/lupantech/ScienceQA"
    description = "Share of replies whose 'The answer is X.' is right; one without counts 1 / number of choices."
    citation = """
@inproceedings{lu2022learn,
    title={Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question Answering},
    author={Lu, Pan and Mishra, Swaroop and Xia, Tony and Qiu, Liang and Chang, Kai-Wei and Zhu, Song-Chun
            and Tafjord, Oyvind and Clark, Peter and Kalyan, Ashwin},
    booktitle={NeurIPS},
    year={2022}
}
"""
    arguments = """
Args:
    predictions (`list[str]`):
        One whole reply per question.
    references (`list[dict]`):
        `answers` (the letter of the right option, in a list) and `choices` (the text of every option) per question.

Returns:
    `scienceqa_accuracy` (mean, in 0..1) and `per_example` (list of 1.0, 0.0, or 1 / number of choices).

Example:
    >>> metric = evaluate.load("leverplus_trl/metrics/scienceqa_accuracy")
    >>> references = [{"answers": ["B"], "choices": ["a cat", "a dog"]}]
    >>> metric.compute(predictions=["The answer is B."], references=references)["scienceqa_accuracy"]
    1.0
"""

    def scores(self, predictions: list[str], references: list[dict]) -> list[float]:
        pairs = zip(predictions, references, strict=True)
        return [scienceqa_accuracy(said, right["answers"], right["choices"]) for said, right in pairs]
