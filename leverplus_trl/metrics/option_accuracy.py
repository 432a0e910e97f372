# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Accuracy of multiple-choice answers, however a reply names its option: by the first of these rules that applies.

1. The last `\boxed{...}` or `<answer>...</answer>` of the reply names an option by these rules.
2. The reply is the text of an option, apart from case and white space, and longer than a letter.
3. The reply, or its first line, is a letter, with or without brackets or quotes, and with a full stop, comma, colon or
   bracket after it or not: "B", "b", "(B)", "B.". No other line is another letter.
4. It begins with a capital letter in brackets, or with one and a full stop, colon or bracket: "(B) a dog", "B. a dog".
5. It says "answer is B", "answer: (B)" or "option B", "answer" and "option" in any case; the last time counts.
6. Its last line is a letter, as in 3.
7. Its words are those of the text of one option.
8. It contains the text of exactly one option, as words; of two, one inside the other, the longer counts.

Rules 3 to 6 read the reply without marks of emphasis in Markdown, LaTeX and HTML: "**B**", "`B`", "$B$", "\text{B}",
"<b>B</b>". A reply that names no option, or a letter that no option has, is wrong. No benchmark uses exactly these
rules: `scienceqa_accuracy` and `mmbench_accuracy` follow the code of a benchmark.
"""

import re
import unicodedata

from .texts import LETTERS, check_options, fold


_OPENING, _CLOSING = r"[(\[{<（【「\"'“‘*_`]*\s*", r"\s*[)\]}>）】」\"'”’.,:;!。：，、．]*"
_WHOLE = re.compile(rf"(?:(?i:option)\s+)?{_OPENING}([A-Za-z]){_CLOSING}")
_BEGINNING = re.compile(r"[(\[（【]\s*([A-Z])\s*[)\]）】]|([A-Z])(?:[.:)](?!\w)|[．：）、])")
# No word begins with the letter: "C++" and "A-frame" are texts of options.
_STATED = re.compile(
    rf"(?i:\banswer(?:\s+is|\s*[:：])\s*:?|\boption\b)\s*(?i:option\b\s*)?{_OPENING}([A-Z])\b(?!['’]\w|[+#]|-\w)"
)
_MARKED = re.compile(r"\\+(?:boxed|fbox)\s*\{|<answer>", re.IGNORECASE)
_EMPHASIS = [
    (re.compile(r"\\+(?:text\w*|math\w+|emph|underline|boldsymbol|bm)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"(?<![*\w])(\*{1,3})(?=\S)([^*\n]+)(?<=\S)\1(?![*\w])"), r"\2"),
    (re.compile(r"(?<!\w)(_{1,3})(?=\S)([^\n]+?)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"^\s*`{3}\w*\s*$", re.MULTILINE), ""),
    (re.compile(r"(`{1,3})(?=\S)([^`\n]+)(?<=\S)\1"), r"\2"),
    (re.compile(r"(\${1,2})([^$\n]+)\1|\\+[(\[](.+?)\\+[)\]]"), r"\2\3"),
    (re.compile(r"<(b|strong|i|em|u|code|p|span|mark|div|h[1-6])(?:\s[^<>]*)?>(.*?)</\1>", re.DOTALL), r"\2"),
    (re.compile(r"^\s*(?:[-*+>•]|#{1,6})\s+", re.MULTILINE), ""),  # items, quotations and headings
]


def option_accuracy(prediction: str, answers: list[str], choices: list[str]) -> float:
    """Whether a reply names the right option: 1.0 or 0.0."""
    check_options(prediction, answers, choices)
    return float(named_option(prediction, choices) in answers)


def named_option(reply: str, choices: list[str]) -> str | None:
    """The letter of the option that a reply names, or None."""
    reply, *texts = (unicodedata.normalize("NFC", text).strip() for text in (reply, *choices))
    marked = _last_marked(reply)
    named = named_option(marked, choices) if marked else None
    if named is None and len(reply) > 1:
        named = _only_one([fold(reply) == fold(text) for text in texts])
    if named is None:
        plain = _without_emphasis(reply)
        letter = _named_letter(plain)
        if letter:
            return letter if letter in LETTERS[: len(choices)] else None
        named = _option_by_words(reply, texts) or _option_by_words(plain, texts)
    return named


def _only_one(right: list[bool]) -> str | None:
    return LETTERS[right.index(True)] if right.count(True) == 1 else None


def _last_marked(reply: str) -> str | None:
    r"""The content of the last `\boxed{...}` or `<answer>...</answer>`."""
    starts = list(_MARKED.finditer(reply))
    if not starts:
        return None
    rest = reply[starts[-1].end() :]
    if starts[-1][0].endswith(">"):
        return re.split("</answer>", rest, flags=re.IGNORECASE)[0]
    depth = 1
    for place, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[:place]
    return rest


def _without_emphasis(reply: str) -> str:
    while True:
        plain = reply
        for mark, inside in _EMPHASIS:
            plain = mark.sub(inside, plain).strip()
        if plain == reply:
            return plain
        reply = plain


def _named_letter(reply: str) -> str | None:
    if whole := _WHOLE.fullmatch(reply):
        return whole[1].upper()
    lines = [_WHOLE.fullmatch(line.strip()) for line in reply.splitlines()] or [None]
    alone = len({line[1].upper() for line in lines if line}) == 1
    if alone and lines[0]:
        return lines[0][1].upper()
    if beginning := _BEGINNING.match(reply):
        return beginning[1] or beginning[2]
    if stated := _STATED.findall(reply):
        return stated[-1]
    return lines[-1][1].upper() if alone and lines[-1] else None


def _option_by_words(reply: str, choices: list[str]) -> str | None:
    reply, *texts = (" ".join(re.findall(r"\w+", text.lower())) for text in (reply, *choices))
    if reply and reply in texts:
        return _only_one([text == reply for text in texts])
    matches = [text for text in texts if text and f" {text} " in f" {reply} "]
    longest = max(matches, key=len, default="")
    if all(f" {text} " in f" {longest} " for text in matches):
        return _only_one([bool(text) and text == longest for text in texts])
    return None
