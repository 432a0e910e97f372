# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Image captioning: the input is an image, the output a sentence, which is compared with several references."""

from .vqa import VQATask


class CaptioningTask(VQATask):
    """The question is an instruction, and `answers` holds all reference captions. CIDEr (0..10) weighs words by their
    rarity in the references of the scored examples: call `use_references(examples)` before `accuracy`."""

    default_metric = "cider"
    metrics = ("cider",)
