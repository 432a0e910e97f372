# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Image captioning: an image in, a sentence out, held against several people's."""

from .vqa import VQATask


class CaptioningTask(VQATask):
    """
    An image with a request in place of a question; all reference captions stand in `answers`.

    CIDEr weighs words by how rare they are in the references of the examples that are scored: call
    `use_references(examples)` before `accuracy`. Its values are in 0..10.
    """

    default_metric = "cider"
    metrics = ("cider",)
