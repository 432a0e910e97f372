# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Tokens with a meaning of their own: control tokens, which texts may not hold, and padding."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from .requests import ASSISTANT, ROLES, Request


def control_tokens(
    tokenizer: PreTrainedTokenizerBase, template: str = "", placeholders: Iterable[str | None] = ()
) -> list[str]:
    """
    Tokens that stand for something else than their letters: in a question they would forge a turn or an image.

    These are the special tokens, and added tokens that the chat template holds. Not among them are tokens of letters
    and white space alone, nor "<unk>".

    Args:
        template (`str`, *optional*):
            The chat template.
        placeholders (`Iterable[str or None]`, *optional*):
            The tokens that stand for images.
    """
    added = tokenizer.added_tokens_decoder.values()
    found = {token.content for token in added if token.special or token.content in template}
    found |= {*tokenizer.all_special_tokens, *placeholders} - {None}
    # Data sets write "<unk>" for words; what GPT-2 and SmolLM2 call so is "<|endoftext|>".
    words = {tokenizer.unk_token} if "unk" in str(tokenizer.unk_token).lower() else set()
    return sorted(token for token in found - words if not re.fullmatch(r"[\w\s]*", token))


class ForgedTokens:
    """Finds control tokens in texts; `tokens` are a tokenizer's [`control_tokens`]."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tokens: Iterable[str]):
        self.tokenizer, vocabulary = tokenizer, tokenizer.get_vocab()
        self._ids = {token: vocabulary.get(token) for token in tokens}  # none where only the processor knows it
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def find(self, text: str, template: str = "") -> str | None:
        """A control token that is read in a text, and more often than its template holds it."""
        if self._pattern.search(text) is None:
            return None
        read = {None, *self.tokenizer(text, add_special_tokens=False)["input_ids"]}
        more = Counter(self._pattern.findall(text)) - Counter(self._pattern.findall(template))
        return next((token for token in more if self._ids[token] in read), None)


def check_turns(requests: Sequence[Request], own: ForgedTokens, others: ForgedTokens, vlm: str) -> None:
    """
    Checks the turns after queries. Those of the assistant may not hold the tokens of `own` (it may write marks of the
    chat template, such as `<tool_call>`, but no special token), those of others not the tokens of `others`.

    Raises:
        `ValueError`: roles that are unknown or out of order, a turn that asks nothing, or a text with a control token.
    """
    for request in requests:
        where, roles = f"after query {request.query['id']!r}", [turn.role for turn in request.turns]
        follow_itself = (ASSISTANT, ASSISTANT) in pairwise(roles)
        if roles[0] != ASSISTANT or roles[-1] == ASSISTANT or follow_itself or not {*roles} <= {*ROLES}:
            raise ValueError(
                f"The turns {where} have the roles {roles}; expected {ASSISTANT!r} first, and {ROLES[1]!r} or "
                f"{ROLES[2]!r} after it and last."
            )
        for role, text in request.turns:
            if role != ASSISTANT and not text.strip():
                raise ValueError(f"The {role}'s turn {where} is empty; expected a text.")
            token = (own if role == ASSISTANT else others).find(text)
            if token is not None:
                raise ValueError(
                    f"The {role}'s turn {text!r} {where} holds {token!r}, which the tokenizer of {vlm!r} "
                    "takes for the mark of a turn or an image. Remove it from the text."
                )


def padding_id(tokenizer: PreTrainedTokenizerBase, num_embeddings: int) -> int:
    """The first that has an embedding: the pad token, the end token, another special token, token 0. Any token will
    do, since padding is masked."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, *tokenizer.all_special_ids)
    return next((token for token in candidates if token is not None and token < num_embeddings), 0)


def bare(text: str) -> str:
    """A text without what tokenizers may change of it unnoticed: white space, invisible characters, Unicode form."""
    kept = (c for c in unicodedata.normalize("NFKC", text) if not c.isspace() and unicodedata.category(c) != "Cf")
    return "".join(kept)
