# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Image captioning: the input is an image, the output a sentence, which is compared with several references."""

from .vqa import VQATask


class CaptioningTask(VQATask):
    """The question is an instruction, `answers` all reference captions. Call `use_references` before `accuracy`."""

    default_metric = "cider"
    metrics = ("cider",)
