# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Whether the pieces of a prompt tokenise one by one as the whole prompt does."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from .requests import Request


logger = logging.getLogger(__name__)

#: Pre-tokenizers end a word here, whatever stands on either side: white space behind a letter or digit, and a space
#: behind anything but white space.
CUT = re.compile(r"(?<=[^\W_])[ \t\r\n]|(?<=\S) ")
#: Prompts that are named.
MAX_NAMED = 10


class Ends(NamedTuple):
    """The parts of a piece that decide how its neighbours tokenise: its text up to the first cut and from the last cut
    on. Without a cut both are the whole text, and its neighbours may touch."""

    head: str
    tail: str
    has_cut: bool


#: Ends of a piece that a prompt renders in another way than by itself.
UNLIKE = Ends("", "", False)


class Boundaries:
    """
    Compares the tokens of joined pieces with those of the pieces.

    Tokenizers cut a text into words (at special tokens, then by a regular expression that looks at most one character
    ahead), and each word into tokens. So the text between two cuts tokenises alike in any text, and comparing the last
    cut of a piece with the first of the next is as good as comparing whole prompts, and is done once for each pair.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        added = sorted(filter(None, tokenizer.get_added_vocab()), key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, added)) or "(?!)")
        self._ids = lru_cache(2**12)(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        self._join = lru_cache(2**16)(
            lambda texts: self._ids("".join(texts)) == [i for t in texts for i in self._ids(t)]
        )

    def ends(self, text: str) -> Ends:
        """The ends of a piece; its whole text where the tokenizer does not cut as expected."""
        special = [match.span() for match in self._added.finditer(text)]
        cuts = [match.start() for match in CUT.finditer(text)]
        cuts = [cut for cut in cuts if not any(start < cut < end for start, end in special)]
        first = min([*cuts[:1], *(end for _, end in special[:1])], default=None)
        last = max([*cuts[-1:], *(start for start, _ in special[-1:])], default=None)
        if first is None:
            return Ends(text, text, False)
        head, tail, ids = text[:first], text[last:], self._ids(text)
        of_head, of_tail = self._ids(head), self._ids(tail)
        if ids[: len(of_head)] == of_head and ids[len(ids) - len(of_tail) :] == of_tail:
            return Ends(head, tail, True)
        return Ends(text, text, False)

    def add_up(self, pieces: Sequence[Ends]) -> bool:
        """Whether the tokens of pieces, one after the other, are those of their joined text."""
        joined = [pieces[0].tail]
        for piece in pieces[1:]:
            if piece is UNLIKE:
                return False
            joined.append(piece.head)
            if piece.has_cut:
                if not self._join(tuple(joined)):
                    return False
                joined = [piece.tail]
        return pieces[0] is not UNLIKE and (len(joined) == 1 or self._join(tuple(joined)))


@dataclass
class WholePrompts:
    """How many prompts were processed whole because their pieces tokenise differently, and which."""

    num_prompts: int = 0
    num_whole: int = 0
    names: list[str] = field(default_factory=list)

    def count(self, requests: Sequence[Request], whole: Sequence[Request]) -> None:
        self.num_prompts += len(requests)
        if whole and not self.num_whole:
            logger.warning(
                "The prompt of %s tokenises otherwise in pieces than as a whole, so it is processed whole, without "
                "sharing anything with others. So is every prompt of that kind.",
                _name(whole[0]),
            )
        self.num_whole += len(whole)
        self._note([_name(request) for request in whole])

    def _note(self, names: Sequence[str]) -> None:
        self.names = list(dict.fromkeys([*self.names, *names]))[: MAX_NAMED + 1]

    def __add__(self, other: "WholePrompts") -> "WholePrompts":
        both = WholePrompts(self.num_prompts + other.num_prompts, self.num_whole + other.num_whole)
        both._note([*self.names, *other.names])
        return both

    def __str__(self) -> str:
        return (
            f"{self.num_whole:,} of {self.num_prompts:,} prompts were processed whole, since they tokenise otherwise "
            f"in pieces: {'; '.join(self.names[:MAX_NAMED])}{' and others' * (len(self.names) > MAX_NAMED)}."
        )


def _name(request: Request) -> str:
    shown = [example["id"] for example in request.demonstrations]
    return f"query {request.query['id']!r} with demonstrations {shown}" if shown else f"query {request.query['id']!r}"
