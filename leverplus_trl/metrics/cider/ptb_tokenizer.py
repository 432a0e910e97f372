# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
The words of a caption, as the evaluation code of COCO captions sees them: those of Stanford's PTBTokenizer (CoreNLP
3.4.1, options `-preserveLines -lowerCase`), which is a Java program, without the words that are punctuation.

These rules give the same words on plain captions. Where they may differ is what captions hardly have: abbreviations
other than those below, smileys, markup, formulas, scripts other than Latin.

- Case is folded; typographic quotes are plain ones.
- Contractions are taken apart ("isn't" is "is", "n't"; "man's" is "man", "'s"; "cannot" is "can", "not").
- Full stops, commas, colons, semicolons, dashes, quotes, and single exclamation and question marks are dropped. Kept
  are the full stops of abbreviations, what stands inside numbers ("3:30", "1,000") and words ("t-shirt"), and a run of
  exclamation or question marks.
- Brackets are kept, as "-lrb-", "-rrb-" and the like. The official code means to drop them, but looks for them in
  capitals.
"""

import re


_QUOTES = str.maketrans({"‘": "'", "’": "'", "‛": "'", "´": "'", "“": '"', "”": '"', "„": '"'})
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_DROPPED = set("'\"`.?!,:;…–—")
_ABBREVIATIONS = "|".join(
    """
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri mr mrs ms mme mlle dr prof rev hon
    gov pres sen rep gen maj col capt lt sgt adm cmdr supt messrs jr sr esq st mt ft rd ave blvd bldg dept univ inc co
    corp ltd bros assn vs etc est al sq tel ext ct calif fla ga ariz mich va vt
    """.split()  # noqa: SIM905
)
_TOKEN = re.compile(
    rf"""
    (?:[a-z]\.){{2,}}                            # u.s., p.m.
    | \b[a-z]\.(?!\w|\s+(?-i:[A-Z]))             # "j. smith", but not "plan b. Then"
    | \b(?:{_ABBREVIATIONS})\.(?!\w)
    | \b(?:no|fig|pp|ca|op)\.(?=\s*\d)
    | 't(?:is|was)\b | '(?:em|n|s|m|d|re|ve|ll)'?(?!\w)
    | @[a-z]\w* | </?[a-z][^<>]*>
    | \d+(?:[.,:/]\d+)*(?:[-\w]*\w)?(?:'[a-z]+)? # 1,000, 3:30, 1/2, 10-year-old, 80's
    | [^\W_]+(?:[-'/@.&_][^\W_]+)*               # words, joined by a mark that stands between letters
    | !+\??[!?]* | \?[!?]*
    | \.{{2,}} | -{{2,}}
    | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SUFFIX = re.compile(r"(.+?)(n't|'(?:s|m|d|re|ve|ll))")
_APART = {
    "cannot": ["can", "not"],
    "gonna": ["gon", "na"],
    "gotta": ["got", "ta"],
    "wanna": ["wan", "na"],
    "gimme": ["gim", "me"],
    "lemme": ["lem", "me"],
    "rock'n'roll": ["rock", "'n'", "roll"],
    "'tis": ["'t", "is"],
    "'twas": ["'t", "was"],
    "y'all": ["y'", "all"],
}


def tokenize(caption: str) -> list[str]:
    """The words of a caption."""
    words: list[str] = []
    for token in map(str.lower, _TOKEN.findall(caption.translate(_QUOTES))):
        if token in _DROPPED or set(token) <= {"-"} or (set(token) == {"."}):
            continue
        words += _apart(_BRACKETS.get(token, token))
    return words


def _apart(word: str) -> list[str]:
    if word in _APART:
        return _APART[word]
    found = _SUFFIX.fullmatch(word)
    return [*_apart(found.group(1)), found.group(2)] if found else [word]
