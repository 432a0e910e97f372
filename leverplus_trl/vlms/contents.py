# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Keys of examples in caches: their content as prompts show it, never their ids."""

import hashlib
import json

from ..tasks import BaseTask, Example
from ..tasks.images import Source, image_key
from .requests import Request, Turn


class ContentKeys:
    """
    Keys of examples. Two examples have the same key if, and only if, a prompt of the task shows the same of them. Each
    object is read once, until [`forget`] is called.
    """

    def __init__(self, task: BaseTask):
        self.task = task
        self.forget()

    def forget(self) -> None:
        """Forgets what was read, after which an object may hold other values."""
        # By identity, with the objects themselves, so that no identity is given away twice.
        self._examples: dict[int, tuple[Example, tuple[str], tuple[str, str]]] = {}
        self._images: dict[int, tuple[Source, str]] = {}

    def key(self, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> tuple:
        """Key of an example with its answer (`answered`), or without; and of the turns after it."""
        found = self._examples.get(id(example)) or self._read(example)
        return (found[2] if answered else found[1]) + turns

    def prompt(self, request: Request) -> tuple:
        """Key of a prompt without the query's answer."""
        shown = (self.key(example, answered=True) for example in request.demonstrations)
        return (*shown, self.key(request.query, answered=False, turns=request.turns))

    def _read(self, example: Example) -> tuple[Example, tuple[str], tuple[str, str]]:
        parts = [
            ("image", self._image(part["image"], example)) if part["type"] == "image" else ("text", part["text"])
            for part in self.task.content(example)
        ]
        shown = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self._examples[id(example)] = example, (shown,), (shown, self.task.target(example))
        return self._examples[id(example)]

    def _image(self, image: Source, example: Example) -> str:
        found = self._images.get(id(image))
        if found is None:
            try:
                found = self._images[id(image)] = image, image_key(image)
            except ValueError as error:
                raise ValueError(f"The image of example {example['id']!r} {error}") from error
        return found[1]
