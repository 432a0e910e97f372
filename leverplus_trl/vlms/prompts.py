# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Prompts as pieces: header, demonstrations, query, answer; for chat templates and for plain text.

A prompt is the header, each demonstration, then the query; the answer follows directly. A piece does not depend on the
rest of the prompt, so it is rendered, tokenised and preprocessed once for all prompts; `TransformersVLM.prepare` tests
whether a family's template and tokenizer allow that.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..tasks import BaseTask, Example
from ..tasks.images import LazyImages
from .requests import ASSISTANT, Turn


class Piece(NamedTuple):
    """A part of a prompt: its text, with the placeholders of its images, and those images, decoded when taken out."""

    text: str
    images: LazyImages = LazyImages()


def images_of(task: BaseTask, *examples: Example) -> LazyImages:
    """The images that a task shows of some examples, in the order of the prompt."""
    shown = [(part["image"], e["id"]) for e in examples for part in task.content(e) if part["type"] == "image"]
    return LazyImages([image for image, _ in shown], [example_id for _, example_id in shown])


def plain_turns(turns: Sequence[Turn], before: str, end: str) -> str:
    """Turns without a chat template: those of the assistant as answers, the others as questions."""
    text, last = "", ASSISTANT
    for role, said in turns:
        if role == ASSISTANT:
            text += before + said.strip() + end
        else:
            text += said if last == ASSISTANT else end + said
        last = role
    return text


class ChatPrompt:
    """
    A conversation: each demonstration is a user's turn and the assistant's answer, the query is the last user's turn.

    Pieces are found as differences of renderings, so nothing needs to be known of the template. A piece is rendered
    behind one finished turn, because many templates write something before the first turn only.

    Args:
        render (`Callable`):
            `render(messages, add_generation_prompt)` -> `str`, the processor's or tokenizer's chat template.
        system_prompt (`str`, *optional*):
            First message of every conversation.
    """

    def __init__(self, render: Callable[[list[dict], bool], str], task: BaseTask, system_prompt: str | None = None):
        self._render = render
        self.task = task
        self._system = (
            [{"role": "system", "content": [{"type": "text", "text": system_prompt}]}] if system_prompt else []
        )

    def _turns(self, example: Example, answered: bool, turns: Sequence[Turn] = ()) -> list[dict[str, Any]]:
        content = [{"type": "image"} if part["type"] == "image" else part for part in self.task.content(example)]
        said = (Turn(ASSISTANT, self.task.target(example)),) if answered else turns
        return [
            {"role": "user", "content": content},
            *({"role": role, "content": [{"type": "text", "text": text}]} for role, text in said),
        ]

    def _behind_itself(self, example: Example, answered: bool, turns: Sequence[Turn] = ()) -> tuple[str, str]:
        """Renders an answered example, and the text that a second copy of it adds after the first."""
        first = self._system + self._turns(example, answered=True)
        before = self._render(first, False)
        whole = self._render(first + self._turns(example, answered, turns), not answered)
        if not whole.startswith(before):
            raise ValueError(
                "The chat template rewrites earlier turns when later ones are added, so demonstrations can't be told "
                "from the query. Use another template, or `prompt_format: plain`."
            )
        return before, whole[len(before) :]

    def header(self, example: Example) -> Piece:
        """What stands before the first turn; `example` is only a probe and leaves no trace."""
        before, turn = self._behind_itself(example, answered=True)
        return Piece(before.removesuffix(turn)) if before.endswith(turn) else Piece("")

    def demonstration(self, example: Example) -> Piece:
        return Piece(self._behind_itself(example, answered=True)[1], images_of(self.task, example))

    def query(self, example: Example) -> Piece:
        return Piece(self._behind_itself(example, answered=False)[1], images_of(self.task, example))

    def turns(self, example: Example, turns: Sequence[Turn]) -> Piece:
        """What stands between a query and the next answer, if there are turns after the query."""
        text = self._behind_itself(example, False, turns)[1].removeprefix(self.query(example).text)
        hidden = next((turn for turn in turns if turn.role != ASSISTANT and turn.text.strip() not in text), None)
        if hidden is not None:
            raise ValueError(
                f"The chat template does not show the {hidden.role}'s turn {hidden.text!r} after query "
                f"{example['id']!r}. Use another template, or `prompt_format: plain`."
            )
        return Piece(text)

    def answer(self, example: Example) -> tuple[str, str]:
        """The answer as it stands behind the query (with the space that some templates put before it), and what ends
        it."""
        query = self._behind_itself(example, answered=False)[1]
        turn = self._behind_itself(example, answered=True)[1]
        target = self.task.target(example)
        if not turn.startswith(query) or target not in turn[len(query) :]:
            raise ValueError(
                f"The chat template does not show the answer {target!r} of example {example['id']!r} where it asks "
                f"for it: {query!r} is followed by {turn!r}. Use `prompt_format: plain`."
            )
        rest = turn[len(query) :]
        end = rest.index(target) + len(target)
        return rest[:end], rest[end:]

    def whole(self, demonstrations: Sequence[Example], query: Example, turns: Sequence[Turn] = ()) -> Piece:
        """The prompt in one rendering: what the pieces must add up to."""
        messages = self._system + [turn for example in demonstrations for turn in self._turns(example, answered=True)]
        text = self._render(messages + self._turns(query, False, turns), True)
        return Piece(text, images_of(self.task, *demonstrations, query))


class PlainPrompt:
    """
    Lines of text for models without a chat template: `<question> <answer>` and a line break, then the query's
    question.

    Args:
        system_prompt (`str`, *optional*):
            First line of every prompt.
    """

    separator = "\n"

    def __init__(self, task: BaseTask, system_prompt: str | None = None):
        self.task = task
        self._header = Piece(system_prompt + self.separator if system_prompt else "")

    def header(self, example: Example) -> Piece:
        return self._header

    def query(self, example: Example) -> Piece:
        content = self.task.content(example)
        if any(part["type"] != "text" for part in content):
            raise ValueError(f"Example {example['id']!r} has an image, and a plain text prompt has no place for it.")
        text = "".join(part["text"] for part in content)
        if not text.strip():
            raise ValueError(f"Example {example['id']!r} has an empty question, all that a plain prompt would show.")
        return Piece(text)

    def answer(self, example: Example) -> tuple[str, str]:
        return " " + self.task.target(example), self.separator

    def turns(self, example: Example, turns: Sequence[Turn]) -> Piece:
        return Piece(plain_turns(turns, " ", self.separator))

    def demonstration(self, example: Example) -> Piece:
        return Piece(self.query(example).text + "".join(self.answer(example)))

    def whole(self, demonstrations: Sequence[Example], query: Example, turns: Sequence[Turn] = ()) -> Piece:
        shown = (self.demonstration(example) for example in demonstrations)
        pieces = [self._header, *shown, self.query(query), self.turns(query, turns)]
        return Piece("".join(piece.text for piece in pieces))
