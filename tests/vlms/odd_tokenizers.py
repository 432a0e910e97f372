# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Tokenizers of many kinds, and odd texts to try them on."""

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AddedToken, PreTrainedTokenizerFast
from vlms.tiny_models import CHATML


GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
    r"|\s+"
)  # Llama 3's, too
QWEN2 = GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")

ATOMS = [
    "a",
    "b",
    "what",
    "red",
    "is",
    "it",
    " ",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "?",
    "!",
    ".",
    "'",
    "'s",
    "’",
]
ATOMS += [
    "\u0301",
    "e",
    "é",
    "\u00a0",
    "\u200b",
    "\u3000",
    "ﬁ",
    "Ü",
    "😀",
    "👍🏽",
    "中",
    "文字",
    "。",
    "-",
    "/",
    "\\",
    "_",
]
ATOMS += ["1", "23", "456", "7890", "x\n", "  \n", "it ?", "red\n"]
MARKS = ["<|im_end|>", "<|left|>", "<|right|>", "<|im_"]  # special tokens, and a part of one


def odd_text(rng, most: int, atoms=ATOMS) -> str:
    return "".join(atoms[i] for i in rng.integers(0, len(atoms), rng.integers(1, most + 1)))


def _trained(tokenizer: Tokenizer, trainer_class, chat_template=None, **settings) -> PreTrainedTokenizerFast:
    # Pieces of all kinds are seen often enough to be merged.
    lines = [one + other for one in ATOMS for other in ATOMS] + [" ".join(ATOMS), "what is it ?\n\nred\n\n"] * 20
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<unk>"]
    tokenizer.train_from_iterator(lines, trainer_class(special_tokens=special, show_progress=False, **settings))
    found = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>", chat_template=chat_template
    )
    # Such tokens take the white space on one side with them.
    found.add_tokens([AddedToken("<|left|>", lstrip=True), AddedToken("<|right|>", rstrip=True)])
    return found


def byte_level(*patterns: str, normalizer=None, chat_template=CHATML, **settings) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(**settings))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not patterns)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, last])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(tokenizer, trainers.BpeTrainer, chat_template, vocab_size=800, initial_alphabet=alphabet)


def sentencepiece(prepend_scheme: str, unigram: bool = False) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram() if unigram else models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    if unigram:
        return _trained(tokenizer, trainers.UnigramTrainer, vocab_size=500, unk_token="<unk>")
    return _trained(tokenizer, trainers.BpeTrainer, vocab_size=500)


def without_words(normalizer) -> PreTrainedTokenizerFast:
    """Merges anything with anything, spaces included."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Replace("▁", " ")
    return _trained(tokenizer, trainers.BpeTrainer, vocab_size=500)


TOKENIZERS = {
    "gpt2": lambda: byte_level(),
    "gpt4": lambda: byte_level(GPT4),
    "llama3": lambda: byte_level(GPT4, ignore_merges=True),
    "qwen2": lambda: byte_level(QWEN2, normalizer=normalizers.NFC()),
    "gpt4o": lambda: byte_level(GPT4O),
    "deepseek": lambda: byte_level(*DEEPSEEK),
    "metaspace": lambda: sentencepiece("never"),
    "metaspace_first": lambda: sentencepiece("first"),
    "unigram": lambda: sentencepiece("never", unigram=True),
    "gemma": lambda: without_words(normalizers.Replace(" ", "▁")),
    "llama2": lambda: without_words(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])),
}
