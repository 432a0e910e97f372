# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a tokenizer does with texts: pieces that tokenise otherwise when joined, control tokens, padding."""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from .requests import Request


logger = logging.getLogger(__name__)

#: Where pre-tokenizers end a word in any text: white space after a letter or digit, and a space after anything but
#: white space.
CUT = re.compile(r"(?<=[^\W_])[ \t\r\n]|(?<=\S) ")
#: How many prompts that were processed whole are named.
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
    ahead), and each word into tokens. So the text between two cuts has the same tokens in any text. It is enough to
    compare the text from the last cut of a piece to the first cut of the next, once for each pair.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._added = _any_of(filter(None, tokenizer.get_added_vocab()))
        self._ids = lru_cache(2**12)(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        self._join = lru_cache(2**16)(
            lambda texts: self._ids("".join(texts)) == [i for text in texts for i in self._ids(text)]
        )

    def ends(self, text: str) -> Ends:
        """The ends of a piece; its whole text where the tokenizer does not cut as expected."""
        special = [match.span() for match in self._added.finditer(text)]
        cuts = [match.start() for match in CUT.finditer(text)]
        cuts = [cut for cut in cuts if not any(start < cut < end for start, end in special)]
        if cuts or special:
            first = min([*cuts[:1], *(end for _, end in special[:1])])
            last = max([*cuts[-1:], *(start for start, _ in special[-1:])])
            head, tail, ids = text[:first], text[last:], self._ids(text)
            of_head, of_tail = self._ids(head), self._ids(tail)
            if ids[: len(of_head)] == of_head and ids[len(ids) - len(of_tail) :] == of_tail:
                return Ends(head, tail, True)
        return Ends(text, text, False)

    def add_up(self, pieces: Sequence[Ends]) -> bool:
        """Whether the tokens of pieces are those of their joined text."""
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
        """Adds `requests`, of which `whole` were processed whole; warns of the first of these."""
        names = []
        for demonstrations, query, _ in whole:
            shown = [example["id"] for example in demonstrations]
            names.append(f"query {query['id']!r}" + (f" with demonstrations {shown}" if shown else ""))
        if whole and not self.num_whole:
            logger.warning(
                "The prompt of %s tokenises otherwise in pieces than as a whole, so it is processed whole, without "
                "sharing anything with others. So is every prompt of that kind.",
                names[0],
            )
        self.add(WholePrompts(len(requests), len(whole), names))

    def add(self, other: "WholePrompts") -> None:
        """Adds the counts of another process."""
        self.num_prompts += other.num_prompts
        self.num_whole += other.num_whole
        self.names = list(dict.fromkeys([*self.names, *other.names]))[: MAX_NAMED + 1]

    def __str__(self) -> str:
        return (
            f"{self.num_whole:,} of {self.num_prompts:,} prompts were processed whole, since they tokenise otherwise "
            f"in pieces: {'; '.join(self.names[:MAX_NAMED])}{' and others' * (len(self.names) > MAX_NAMED)}."
        )


def control_tokens(
    tokenizer: PreTrainedTokenizerBase, template: str = "", placeholders: Iterable[str | None] = ()
) -> list[str]:
    """
    Tokens that mean something else than their letters, so that a question with such a token forges a turn or an image.

    These are the special tokens, the `placeholders` of images, and added tokens that the chat template holds; but not
    tokens of letters and white space alone, nor "<unk>".
    """
    added = tokenizer.added_tokens_decoder.values()
    tokens = {token.content for token in added if token.special or token.content in template}
    tokens |= {*tokenizer.all_special_tokens, *placeholders} - {None}
    # Datasets write "<unk>" for words. The unknown token of GPT-2 and SmolLM2 is "<|endoftext|>", a control token.
    words = {tokenizer.unk_token} if "unk" in str(tokenizer.unk_token).lower() else set()
    return sorted(token for token in tokens - words if not re.fullmatch(r"[\w\s]*", token))


class ForgedTokens:
    """Searches texts for control tokens; `tokens` are a tokenizer's [`control_tokens`]."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tokens: Iterable[str]):
        self.tokenizer, vocabulary = tokenizer, tokenizer.get_vocab()
        self._ids = {token: vocabulary.get(token) for token in tokens}  # none where only the processor knows it
        self._pattern = _any_of(self._ids)

    def find(self, text: str, template: str = "") -> str | None:
        """A control token that the tokenizer reads in a text, and that the text holds more often than its template."""
        if self._pattern.search(text) is None:
            return None
        read = {None, *self.tokenizer(text, add_special_tokens=False)["input_ids"]}
        more = Counter(self._pattern.findall(text)) - Counter(self._pattern.findall(template))
        return next((token for token in more if self._ids[token] in read), None)


def _any_of(tokens: Iterable[str]) -> re.Pattern:
    """Matches any of the tokens, the longest first."""
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)")


def padding_id(tokenizer: PreTrainedTokenizerBase, num_embeddings: int) -> int:
    """The pad token, the end token, another special token or token 0: the first that has an embedding. Padding is
    masked, so any token will do."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, *tokenizer.all_special_ids)
    return next((token for token in candidates if token is not None and token < num_embeddings), 0)


def bare(text: str) -> str:
    """A text without what tokenizers may change unnoticed: white space, invisible characters, Unicode form."""
    text = unicodedata.normalize("NFKC", text)
    return "".join(char for char in text if not char.isspace() and unicodedata.category(char) != "Cf")
