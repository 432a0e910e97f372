# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Prompts as pieces: header, demonstrations, query, turns, then the answer.

A piece does not depend on the rest of the prompt, so it is rendered, tokenised and preprocessed once for all prompts;
`TransformersVLM.prepare` tests whether a family's template and tokenizer allow that.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from ..tasks import BaseTask, Example
from ..tasks.arguments import template_fields
from ..tasks.images import LazyImages, Source, image_key
from .requests import ASSISTANT, Request, Turn
from .tokenization import UNLIKE, Boundaries, Ends


#: What a family makes inputs with: a processor, or the tokenizer of a model without images.
Processor = ProcessorMixin | PreTrainedTokenizerBase


class Piece(NamedTuple):
    """A part of a prompt: its text, with the placeholders of its images, and those images, decoded on access."""

    text: str
    images: LazyImages = LazyImages()


def images_of(task: BaseTask, *examples: Example) -> LazyImages:
    """The images that a task shows of some examples, in the order of the prompt."""
    shown = [(part["image"], e["id"]) for e in examples for part in task.content(e) if part["type"] == "image"]
    return LazyImages([image for image, _ in shown], [example_id for _, example_id in shown])


def probe_example(task: BaseTask) -> Example:
    """An example with every column that the task's template names, and an image that is not opened."""
    columns = {name: f"a {name}" for name in template_fields(task.template)}
    columns |= {"id": "probe", "image": {"bytes": b"", "path": None}, "question": "What is this?"}
    return columns | {"choices": ["one", "two"], "answer": "B", "answers": ["B"]}


def message(role: str, text: str) -> dict[str, Any]:
    """A message of a chat template, without images."""
    return {"role": role, "content": [{"type": "text", "text": text}]}


class ChatPrompt:
    """
    A conversation: each demonstration is a user's turn and the assistant's answer, the query is the last user's turn.

    `render(messages, add_generation_prompt)` is the chat template. Pieces are differences of renderings, so nothing
    needs to be known of it. A piece is rendered after a finished turn, because many templates write something before
    the first turn only.
    """

    def __init__(self, render: Callable[[list[dict], bool], str], task: BaseTask, system_prompt: str | None = None):
        self._render, self.task = render, task
        self._system = [message("system", system_prompt)] if system_prompt else []

    def _messages(self, example: Example, answered: bool, turns: Sequence[Turn] = ()) -> list[dict[str, Any]]:
        content = [{"type": "image"} if part["type"] == "image" else part for part in self.task.content(example)]
        replies = (Turn(ASSISTANT, self.task.target(example)),) if answered else turns
        return [{"role": "user", "content": content}, *(message(*turn) for turn in replies)]

    def _after_itself(self, example: Example, answered: bool, turns: Sequence[Turn] = ()) -> tuple[str, str]:
        """Renders an answered example, and the text that a second copy of it adds after the first."""
        first = self._system + self._messages(example, answered=True)
        before = self._render(first, False)
        whole = self._render(first + self._messages(example, answered, turns), not answered)
        if not whole.startswith(before):
            raise ValueError(
                "The chat template rewrites earlier turns when later ones are added, so demonstrations can't be told "
                "from the query. Use another template, or `prompt_format: plain`."
            )
        return before, whole[len(before) :]

    def header(self, example: Example) -> Piece:
        """The text before the first turn; `example` is only a probe and leaves no trace."""
        before, turn = self._after_itself(example, answered=True)
        return Piece(before.removesuffix(turn) if before.endswith(turn) else "")

    def demonstration(self, example: Example) -> Piece:
        return Piece(self._after_itself(example, answered=True)[1], images_of(self.task, example))

    def query(self, example: Example) -> Piece:
        return Piece(self._after_itself(example, answered=False)[1], images_of(self.task, example))

    def turns(self, example: Example, turns: Sequence[Turn]) -> Piece:
        """The text from the query to the next answer, with the turns after the query."""
        text = self._after_itself(example, False, turns)[1].removeprefix(self.query(example).text)
        for role, turn in turns:
            if role != ASSISTANT and turn.strip() not in text:
                raise ValueError(
                    f"The chat template does not show the {role}'s turn {turn!r} after query {example['id']!r}. Use "
                    "another template, or `prompt_format: plain`."
                )
        return Piece(text)

    def answer(self, example: Example) -> tuple[str, str]:
        """The answer after the query (with the space that some templates put before it), and the text that ends it."""
        query = self._after_itself(example, answered=False)[1]
        turn = self._after_itself(example, answered=True)[1]
        target, rest = self.task.target(example), turn.removeprefix(query)
        if not turn.startswith(query) or target not in rest:
            raise ValueError(
                f"The chat template does not show the answer {target!r} of example {example['id']!r} right after its "
                f"query: {query!r} is followed by {turn!r}. Use `prompt_format: plain`."
            )
        end = rest.index(target) + len(target)
        return rest[:end], rest[end:]

    def whole(self, demonstrations: Sequence[Example], query: Example, turns: Sequence[Turn] = ()) -> Piece:
        """The prompt in one rendering, which the pieces must add up to."""
        messages = [turn for example in demonstrations for turn in self._messages(example, answered=True)]
        text = self._render(self._system + messages + self._messages(query, False, turns), True)
        return Piece(text, images_of(self.task, *demonstrations, query))


class PlainPrompt:
    """Lines of text for models without a chat template: `<question> <answer>` and a line break, then the query's
    question. A `system_prompt` is the first line."""

    #: The text before an answer, after an answer, and after the system prompt.
    before, end, header_end = " ", "\n", "\n"

    def __init__(self, task: BaseTask, system_prompt: str | None = None):
        self.task = task
        self._header = Piece(system_prompt + self.header_end if system_prompt else "")

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
        return self.before + self.task.target(example), self.end

    def turns(self, example: Example, turns: Sequence[Turn]) -> Piece:
        """Turns of the assistant as answers, the others as questions."""
        text, last = "", ASSISTANT
        for role, turn in turns:
            if role == ASSISTANT:
                text += self.before + turn.strip() + self.end
            else:
                text += turn if last == ASSISTANT else self.end + turn
            last = role
        return Piece(text)

    def demonstration(self, example: Example) -> Piece:
        query = self.query(example)
        return Piece(query.text + "".join(self.answer(example)), query.images)

    def whole(self, demonstrations: Sequence[Example], query: Example, turns: Sequence[Turn] = ()) -> Piece:
        shown = (self.demonstration(example) for example in demonstrations)
        pieces = [self._header, *shown, self.query(query), self.turns(query, turns)]
        return Piece("".join(piece.text for piece in pieces), images_of(self.task, *demonstrations, query))


Prompt = ChatPrompt | PlainPrompt


class PromptTexts:
    """Pieces of prompts and answers, with the start token that the tokenizer would write by itself. With
    `score_end_token` an answer includes the token that ends it."""

    def __init__(self, prompt: Prompt, tokenizer: PreTrainedTokenizerBase, score_end_token: bool):
        self.prompt, self.tokenizer, self.score_end_token = prompt, tokenizer, score_end_token
        self.boundaries = Boundaries(tokenizer)
        self._neighbour: tuple[Example, str, str, str] | None = None
        begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        # The tokenizer would write a start token before every piece of a prompt.
        self._start: str = tokenizer.bos_token if tokenizer.bos_token is not None and begins else ""

    def header(self, example: Example) -> Piece:
        """The text before the first turn, with the start token; may be empty."""
        return Piece(self._with_start(self.prompt.header(example).text))

    def whole(self, demonstrations: tuple[Example, ...], query: Example, turns: tuple[Turn, ...] = ()) -> Piece:
        """A prompt in one piece."""
        whole = self.prompt.whole(demonstrations, query, turns)
        return Piece(self._with_start(whole.text), whole.images)

    def _with_start(self, text: str) -> str:
        return text if text.startswith(self._start) else self._start + text

    def piece(self, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> Piece:
        """A demonstration (`answered`), or a query; or the turns after a query."""
        if turns:
            return self.prompt.turns(example, turns)
        return self.prompt.demonstration(example) if answered else self.prompt.query(example)

    def set_neighbour(self, example: Example) -> None:
        """Sets an example whose pieces add up to whole prompts, to try beside others."""
        pieces = self.header(example), self.prompt.demonstration(example), self.prompt.query(example)
        self._neighbour = example, *(piece.text for piece in pieces)

    def ends(self, piece: Piece, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> Ends:
        """The ends of a [`piece`]; `UNLIKE` if a prompt renders it in another way."""
        if self._neighbour is not None:
            other, header, demonstration, query = self._neighbour
            text = self.prompt.query(example).text + piece.text if turns else piece.text
            if answered:  # first and in the middle
                prompts = {header + text + text + query: Request((example, example), other)}
            else:
                prompts = {header + text: Request((), example, turns)}
                prompts[header + demonstration + text] = Request((other,), example, turns)
            if any(self.whole(*request).text != expected for expected, request in prompts.items()):
                return UNLIKE
        return self.boundaries.ends(piece.text)

    def answer(self, query: Example) -> str:
        """The text that is scored after the query."""
        answer, end = self.prompt.answer(query)
        return answer + self.tokenizer.decode(self._end_ids(end)) if self.score_end_token else answer

    def end_token_ids(self, query: Example) -> list[int]:
        """The tokens that end an answer in the prompt."""
        return self._end_ids(self.prompt.answer(query)[1])

    def _end_ids(self, end: str) -> list[int]:
        """The first token of an end that is more than a space."""
        ids = self.tokenizer(end, add_special_tokens=False)["input_ids"]
        return next(([token] for token in ids if self.tokenizer.decode([token]).strip(" ")), [])


class ContentKeys:
    """Keys of examples in caches. Two examples have the same key if, and only if, a prompt of the task shows the same
    content of them; ids do not count. Each object is read once, until [`forget`] is called."""

    def __init__(self, task: BaseTask):
        self.task = task
        self.forget()

    def forget(self) -> None:
        # By identity, with the objects themselves, so that no identity is given away twice.
        self._examples: dict[int, tuple[Example, str, str]] = {}
        self._images: dict[int, tuple[Source, str]] = {}

    def key(self, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> tuple:
        """Key of an example with its answer (`answered`) or without, and of the turns after it."""
        _, shown, target = self._examples.get(id(example)) or self._read(example)
        return (shown, target, *turns) if answered else (shown, *turns)

    def prompt(self, request: Request) -> tuple:
        """Key of a prompt without the query's answer."""
        shown = (self.key(example, answered=True) for example in request.demonstrations)
        return (*shown, self.key(request.query, answered=False, turns=request.turns))

    def _read(self, example: Example) -> tuple[Example, str, str]:
        parts = []
        for part in self.task.content(example):
            is_image = part["type"] == "image"
            parts.append(("image", self._image_key(part["image"], example)) if is_image else ("text", part["text"]))
        shown = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self._examples[id(example)] = example, shown, self.task.target(example)
        return self._examples[id(example)]

    def _image_key(self, image: Source, example: Example) -> str:
        if id(image) not in self._images:
            try:
                self._images[id(image)] = image, image_key(image)
            except ValueError as error:
                raise ValueError(f"The image of example {example['id']!r} {error}") from error
        return self._images[id(image)][1]
