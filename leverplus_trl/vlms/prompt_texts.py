# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The text of prompts in the pieces that a tokenizer must be given them in."""

from transformers import PreTrainedTokenizerBase

from ..tasks import BaseTask, Example
from ..tasks.arguments import template_fields
from .boundaries import UNLIKE, Boundaries, Ends
from .prompts import ChatPrompt, Piece, PlainPrompt
from .requests import Request, Turn


def probe_example(task: BaseTask) -> Example:
    """An example with every column that the task's template names, and an image that is not opened."""
    columns = {name: f"a {name}" for name in template_fields(task.template)}
    return columns | {
        "id": "probe",
        "image": {"bytes": b"", "path": None},
        "question": "What is this?",
        "choices": ["one", "two"],
        "answer": "B",
        "answers": ["B"],
    }


class PromptTexts:
    """
    Pieces of prompts and answers, with the start token that the tokenizer would write by itself. With
    `score_end_token` an answer includes the token that ends it.
    """

    def __init__(self, prompt: ChatPrompt | PlainPrompt, tokenizer: PreTrainedTokenizerBase, score_end_token: bool):
        self.prompt, self.tokenizer, self.score_end_token = prompt, tokenizer, score_end_token
        self.boundaries = Boundaries(tokenizer)
        self._neighbour: tuple[Example, str, str, str] | None = None
        begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        # Left to the tokenizer, every piece of a prompt would get one.
        self._start: str = tokenizer.bos_token if tokenizer.bos_token is not None and begins else ""

    def header(self, example: Example) -> Piece:
        """What stands before the first turn, the start token included; empty if there is nothing."""
        return Piece(self._with_start(self.prompt.header(example).text))

    def pieces(self, request: Request) -> list[Piece]:
        """A prompt piece by piece."""
        shown = [self.prompt.demonstration(example) for example in request.demonstrations]
        said = [self.prompt.turns(request.query, request.turns)] if request.turns else []
        pieces = (self.header(request.query), *shown, self.prompt.query(request.query), *said)
        return [piece for piece in pieces if piece.text]

    def whole(self, demonstrations: tuple[Example, ...], query: Example, turns: tuple[Turn, ...] = ()) -> Piece:
        """The same prompt in one piece."""
        whole = self.prompt.whole(demonstrations, query, turns)
        return Piece(self._with_start(whole.text), whole.images)

    def set_neighbour(self, example: Example) -> None:
        """An example to try beside others, one whose pieces add up to whole prompts."""
        pieces = self.header(example), self.prompt.demonstration(example), self.prompt.query(example)
        self._neighbour = example, *(piece.text for piece in pieces)

    def piece(self, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> Piece:
        """A demonstration (`answered`), or a query; or the turns after a query."""
        if turns:
            return self.prompt.turns(example, turns)
        return self.prompt.demonstration(example) if answered else self.prompt.query(example)

    def ends(self, piece: Piece, example: Example, answered: bool, turns: tuple[Turn, ...] = ()) -> Ends:
        """The ends of a [`piece`]; `UNLIKE` if a prompt renders it in another way."""
        if self._neighbour is not None:
            other, header, demonstration, query = self._neighbour
            text = self.prompt.query(example).text + piece.text if turns else piece.text
            if answered:  # first and in the middle
                prompts = {header + text + text + query: ((example, example), other)}
            else:
                prompts = {
                    header + text: ((), example, turns),
                    header + demonstration + text: ((other,), example, turns),
                }
            if any(self.whole(*request).text != expected for expected, request in prompts.items()):
                return UNLIKE
        return self.boundaries.ends(piece.text)

    def answer(self, query: Example) -> str:
        """What is scored behind the query."""
        answer, end = self.prompt.answer(query)
        return answer + self.tokenizer.decode(self._end_ids(end)) if self.score_end_token else answer

    def end_token_ids(self, query: Example) -> list[int]:
        """The tokens that end an answer in the prompt."""
        return self._end_ids(self.prompt.answer(query)[1])

    def _end_ids(self, end: str) -> list[int]:
        """The first token of an end that is more than a space."""
        ids = self.tokenizer(end, add_special_tokens=False)["input_ids"]
        return next(([token] for token in ids if self.tokenizer.decode([token]).strip(" ")), [])

    def _with_start(self, text: str) -> str:
        return text if text.startswith(self._start) else self._start + text
