# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Visual question answering: the input is an image and a question, the output a short answer."""

from typing import Any

from datasets import Dataset

from .base_task import BaseTask, Example, refuse
from .images import undecoded


NO_IMAGE = (
    "Map the column of images with `columns: {image: THEIR_NAME}`, or set `task` to one without images: "
    "text_classification, multiple_choice or math_word_problem."
)


class VQATask(BaseTask):
    """The image precedes the question. The prediction is the first line of the reply."""

    default_metric = "vqa_accuracy"
    metrics = (
        "vqa_accuracy",
        "vqa_accuracy_normalized",
        "okvqa_accuracy",
        "anls",
        "exact_match",
        "cover_exact_match",
        "token_f1",
    )

    def content(self, example: Example) -> list[dict[str, Any]]:
        if example["image"] is None:
            raise ValueError(f"Example {example['id']!r} has no image, which vqa and captioning need. {NO_IMAGE}")
        return [{"type": "image", "image": example["image"]}, *super().content(example)]

    def check_examples(self, examples: Dataset, split: str) -> None:
        super().check_examples(examples, split)
        images = undecoded(examples.select_columns(["id", "image"]))
        missing = [row["id"] for row in images if row["image"] is None]
        refuse(missing, len(examples), f"examples of split {split!r} have no image", NO_IMAGE)

    def postprocess(self, generation: str) -> str:
        return generation.strip().split("\n")[0].strip()
