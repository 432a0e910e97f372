# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Porter's stemming algorithm (M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980), as published.

A word is a run of consonants and vowels, [C](VC)^m[V]; m, its measure, says how much is left of it. Each step looks
for the longest suffix in its list and, if what stands before it fulfils the step's condition, puts another in its
place.
"""

import itertools


_STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "abli": "able",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
}
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4 = "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize".split()  # noqa: SIM905


def stem(word: str) -> str:
    """The stem of a lower-case word; words of one or two letters are left as they are."""
    if len(word) <= 2:
        return word
    word = _step_1(word)
    word = _replace(word, _STEP_2, 0)
    word = _replace(word, _STEP_3, 0)
    word = _step_4(word)
    return _step_5(word)


def _step_1(word: str) -> str:
    """Plurals, -ed and -ing, and a final y."""
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        word = word[:-1] if _measure(word[:-3]) > 0 else word
    else:
        suffix = next((suffix for suffix in ("ed", "ing") if word.endswith(suffix)), "")
        if suffix and _has_vowel(word.removesuffix(suffix)):
            word = _tidy(word.removesuffix(suffix))
    return word[:-1] + "i" if word.endswith("y") and _has_vowel(word[:-1]) else word


def _tidy(word: str) -> str:
    """What -ed or -ing was taken from: with its e back, or without its doubled consonant."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _ends_doubled(word) and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word) == 1 and _ends_cvc(word) else word


def _replace(word: str, suffixes: dict[str, str], above: int) -> str:
    suffix = max((suffix for suffix in suffixes if word.endswith(suffix)), key=len, default="")
    rest = word.removesuffix(suffix)
    return rest + suffixes[suffix] if suffix and _measure(rest) > above else word


def _step_4(word: str) -> str:
    suffix = max((suffix for suffix in _STEP_4 if word.endswith(suffix)), key=len, default="")
    rest = word.removesuffix(suffix)
    return rest if _measure(rest) > 1 and (suffix != "ion" or rest.endswith(("s", "t"))) else word


def _step_5(word: str) -> str:
    """A final e, and a doubled l."""
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _ends_cvc(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word


def _is_consonant(word: str, place: int) -> bool:
    if word[place] == "y":
        return place == 0 or not _is_consonant(word, place - 1)
    return word[place] not in "aeiou"


def _measure(word: str) -> int:
    """How often a vowel is followed by a consonant."""
    kinds = [_is_consonant(word, place) for place in range(len(word))]
    return sum(after and not before for before, after in itertools.pairwise(kinds))


def _has_vowel(word: str) -> bool:
    return not all(_is_consonant(word, place) for place in range(len(word)))


def _ends_doubled(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _is_consonant(word, len(word) - 1)


def _ends_cvc(word: str) -> bool:
    """Whether it ends in consonant, vowel, consonant, the last none of w, x, y."""
    kinds = [_is_consonant(word, place) for place in range(len(word))]
    return kinds[-3:] == [True, False, True] and word[-1] not in "wxy"
