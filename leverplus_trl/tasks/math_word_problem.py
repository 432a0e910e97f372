# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Math word problems (GSM8K): the input is a text, the output reasoning and a number."""

import re

from datasets import Dataset

from .base_task import BaseTask, refuse, text_before


class MathWordProblemTask(BaseTask):
    """`answer` is the solution that demonstrations show, with "#### number" in its last line. The prediction is the
    reply up to the first stop string. Set `max_new_tokens` to 256 or more, so that the reasoning fits."""

    default_metric = "gsm8k_strict"
    metrics = ("gsm8k_strict", "gsm8k_flexible")
    default_stop_strings = ("Question:", "</s>", "<|im_end|>")  #: Those of lm-evaluation-harness.

    def check_examples(self, examples: Dataset, split: str) -> None:
        super().check_examples(examples, split)
        rows = zip(examples["id"], examples["answer"], strict=True)
        lacking = [identifier for identifier, answer in rows if not re.search(r"#### -?[0-9$]", answer)]
        problem = f"answers of split {split!r} have no '#### number'"
        refuse(lacking, len(examples), problem, "Map the column with the whole solution to `answer`.")

    def postprocess(self, generation: str) -> str:
        return text_before(generation, self.stop_strings).strip()
