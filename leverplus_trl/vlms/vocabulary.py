# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What a tokenizer's tokens mean to a model: marks that texts may not hold, tokens without embeddings, padding."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from .prompt_texts import probe_example
from .requests import ASSISTANT, ROLES, Request


if TYPE_CHECKING:
    from .base_vlm import BaseVLM


def control_tokens(
    tokenizer: PreTrainedTokenizerBase, template: str = "", placeholders: Iterable[str | None] = ()
) -> list[str]:
    """
    Tokens that stand for something else than their letters: in a question they would forge a turn or an image.

    These are the special tokens, and added tokens that the chat template holds. Not among them are tokens of letters
    and white space alone, nor "<unk>".

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The tokenizer.
        template (`str`, *optional*):
            The chat template.
        placeholders (`Iterable[str or None]`, *optional*):
            What stands for images.
    """
    added = tokenizer.added_tokens_decoder.values()
    found = {token.content for token in added if token.special or token.content in template}
    found |= {*tokenizer.all_special_tokens, *placeholders} - {None}
    # Data sets write "<unk>" for words; what GPT-2 and SmolLM2 call so is "<|endoftext|>".
    words = {tokenizer.unk_token} if "unk" in str(tokenizer.unk_token).lower() else set()
    return sorted(token for token in found - words if not re.fullmatch(r"[\w\s]*", token))


class ForgedTokens:
    """
    Finds control tokens in texts.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The tokenizer.
        tokens (`Iterable[str]`):
            Its [`control_tokens`].
    """

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


def check_turns(vlm: "BaseVLM", requests: Sequence[Request]) -> None:
    """
    Checks the turns after queries, before any prompt is run.

    Raises:
        `ValueError`: roles that are unknown or out of order, a turn that asks nothing, or a text with a control token.
            What the VLM itself said may hold marks of the chat template (`<tool_call>`), but no special token.
    """
    requests = [request for request in requests if request.turns]
    if not requests:
        return
    special = control_tokens(vlm.tokenizer, placeholders=vlm.placeholders())
    own, others = ForgedTokens(vlm.tokenizer, special), ForgedTokens(vlm.tokenizer, vlm.control_tokens)
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
                    f"The {role}'s turn {text!r} {where} holds {token!r}, which the tokenizer of {vlm.args.vlm!r} "
                    "takes for the mark of a turn or an image. Remove it from the text."
                )


def padding_id(tokenizer: PreTrainedTokenizerBase, num_embeddings: int) -> int:
    """
    A token to pad with that has an embedding; any will do, since padding is masked.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The tokenizer; its pad token, else its end token, else another special token is taken, else token 0.
        num_embeddings (`int`):
            Rows of the model's embeddings.
    """
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, *tokenizer.all_special_ids)
    return next((token for token in candidates if token is not None and token < num_embeddings), 0)


def check_embeddings(vlm: "BaseVLM", num_embeddings: int) -> None:
    """Raises `ValueError` if a token that can come up in a prompt is beyond the rows of the model's embeddings."""
    vocabulary = sorted(vlm.tokenizer.get_vocab().items(), key=lambda item: item[1])
    lacking = {token: number for token, number in vocabulary if number >= num_embeddings}
    # No text may hold a control token: of these only what the prompt itself writes comes up.
    reached = [token for token in lacking if token not in vlm.control_tokens]
    if lacking and not reached:
        probe = probe_example(vlm.task) | ({} if vlm.placeholders() else {"image": None})
        text = vlm.texts.whole((probe,), probe).text + "".join(vlm.prompt.answer(probe))
        written = vlm.tokenizer(text, add_special_tokens=False)["input_ids"]
        reached = [token for token, number in lacking.items() if number in written]
    if reached:
        raise ValueError(
            f"The tokenizer of {vlm.args.vlm!r} has {len(vlm.tokenizer)} tokens, the model {num_embeddings} "
            f"embeddings: {reached[0]!r} with the id {lacking[reached[0]]} has none. Use the tokenizer that belongs "
            "to the model, or resize its embeddings (`resize_token_embeddings`) and train them."
        )


def bare(text: str) -> str:
    """A text without what tokenizers may change of it unnoticed: white space, invisible characters, Unicode form."""
    kept = (c for c in unicodedata.normalize("NFKC", text) if not c.isspace() and unicodedata.category(c) != "Cf")
    return "".join(kept)
