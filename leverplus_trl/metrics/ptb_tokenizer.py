# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The words of a caption, as the evaluation code of COCO captions sees them: those of Stanford's PTBTokenizer (CoreNLP
3.4.1, options `-preserveLines -lowerCase`), which is a Java program, without the words that are punctuation.

That program is a generated lexer, and so is this module, in small. At each place the rule that matches the longest
text, including its right context, makes the next token; if two match equally far, the first does. Characters that no
rule matches (emoji, many marks of other scripts) are skipped. Then, as the official code does:

- a token is lower case, and quotes, dashes, fractions, currencies and brackets get their Penn Treebank names;
- a token of `_DROPPED` is left out. Brackets stay, as "-lrb-", "-rrb-" and the like: the official code lists them in
  capitals, so it never drops them;
- a no-break space in a token ("1 1/2") separates words.
"""

import re
from collections.abc import Callable
from functools import lru_cache


_DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])


# Java reads UTF-16, so a letter beyond the first 65,536 code points is no letter to it.
_IS_LETTER = "".join("x" if chr(code).isalpha() else " " for code in range(0x10000))
_LETTERS = "".join(f"\\u{run.start():04x}-\\u{run.end() - 1:04x}" for run in re.finditer("x+", _IS_LETTER))
#: Marks that are parts of words.
_MARKS = (
    r"\u00ad\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02ff\u0300-\u036f\u0375\u0384\u0385\u03f6\u0483-\u0487\u055a-\u055f"
    r"\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06ef\u06fd\u06fe\u070f"
    r"\u0711\u0730-\u074a\u07a6-\u07b0\u07eb-\u07f3\u0900-\u0903\u093c\u093e-\u094e\u0951-\u0955\u0962-\u0963\u0981-\u0983"
    r"\u09bc-\u09c4\u09c7\u09c8\u09cb-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc-\u0acf"
    r"\u0b82\u0bbe-\u0bc2\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d44\u0d46-\u0d48\u0e31\u0e34-\u0e3a"
    r"\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ecd"
)
_SYMBOLS = (
    r"[+%&~^|\\¦§¨©¬®¯°-º×÷\u0387\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u0600-\u0603\u0606-\u060a\u060c\u0614\u061b\u061e"
    r"\u066a\u066d\u0703-\u070d\u07f6-\u07f8\u0964\u0965\u0e4f\u1fbd\u2016\u2017\u2020-\u2023\u2030-\u2038\u203b"
    r"\u203e-\u2042\u2044\u207a-\u207f\u208a-\u208e\u2100-\u214f\u2190-\u2bff\u3012\u30fb\uff01-\uff0f\uff1a-\uff20"
    r"\uff3b-\uff40\uff5b-\uff65]"
)
_SPACE = r"[ \t\u00a0\u2000-\u200a\u3000]"
_SPACE_OR_LINE = r"[ \t\u00a0\u2000-\u200a\u3000\r\n\u2028\u2029\u000b\u000c\u0085]"
_APOSTROPHE = "(?:['\u0092\u2019]|(?i:&apos;))"
_ANY_APOSTROPHE = "(?:['`\u0091\u0092\u2018\u2019\u201b]|(?i:&apos;))"
_QUOTE = "[`\u0091-\u0094\u2018-\u201f\u2039\u203a«»]"
_LETTER = rf"(?:[{_LETTERS}{_MARKS}]|(?i:&[aeiou](?:acute|grave|uml);))"
_WORD = rf"{_LETTER}(?:{_LETTER}|\d)*(?:[.!?]{_LETTER}(?:{_LETTER}|\d)*)*"
_NUMBER = r"(?:\d*(?:[.:,\u00ad\u066b\u066c]\d+)+|\d+)"
_ACRONYM = (
    r"(?:(?i:canada|sino|korean|eu|japan|non)-(?i:u\.s)|(?i:u\.s\.-u\.s\.s\.r|u\.s\.-u\.k)|[A-Za-z](?:\.[A-Za-z])+)"
)
_HYPHENATED = rf"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:{_ACRONYM}\.|[A-Za-z0-9\u00ad]+))+"
_ALNUM = rf"[{_LETTERS}\d]"
_PART = rf"(?:[dDoOlL]{_ANY_APOSTROPHE}{_ALNUM})?{_ALNUM}+"
_SIDE = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_ENDING = rf"{_APOSTROPHE}(?:[msdMSD]|(?i:re|ve|ll))"
_NOT = rf"(?i:n{_ANY_APOSTROPHE}t)"
_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_ATTRIBUTE = rf"""{_NAME}(?:[ ]*=[ ]*(?:'[^'\r\n]*'|"[^"\r\n]*"))?"""
_TAG = rf"<(?:[!?][A-Za-z-][^>\r\n]*|{_NAME}(?:[ ]+{_ATTRIBUTE})*[ ]*/?|/{_NAME})[ ]*>"
_ABBREVIATION = "|".join(
    """
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri ala ariz calif colo conn ct dak fla
    ga ind kans? ky md mich minn mo mont neb nev okla penn tenn va vt wisc? wyo inc cos? corp pp?t(?-i:[ye])s? ltd plc
    rt bancorp bhd assn univ intl sys tel est ext sq jr bros ed\\.d ph\\.d esq etc al seq bldg sr blvd rd
    """.split()  # noqa: SIM905
)
#: These may stand before a capital letter without ending a sentence.
_TITLE = "|".join(
    """
    mr mrs ms drs? profs? sens? reps? attys? lt col gen messrs govs? adm rev maj sgt cpl pvt capt ste? ave pres lieut
    hon brig co?mdr pfc spc supts? det mt ft adj adv asst assoc ens insp mlle mme msgr sfc invt elec natl m(?-i:[ft])g
    dept vs alex wm jos cie cf treas ph
    """.split()  # noqa: SIM905
)
#: Before a capital letter only: "Wash.", but "wash" and ".".
_STATE = "[A](?i:z|rk)|[D](?i:el)|[I](?i:ll)|[L](?i:a)|[M](?i:ass|iss)|[O](?i:re)|[P](?i:a)|[T](?i:ex)|[W](?i:ash)"
#: The full stop behind an initial ends a sentence before these: "plan b. The" but "b. smith".
_OPENERS = (
    "About|According|Additionally|After|An|A|As|At|But|Earlier|Her|Here|He|However|If|In|It|Last|Many|More|Mr\\.|Ms\\.|"
    "Now|Once|One|Other|Our|She|Since|So|Some|Such|That|There|These|The|Then|They|This|We|When|While|What|Yet|You"
)
_FILES = (
    "bat|bmp|cgi|class|cpp|c|dll|docx|doc|exe|gif|gz|html|htm|h|jar|java|jpeg|jpg|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|"
    "tar|txt|wav|xml|x|zip"
)
_URL_END = r'[^ \t\n\f\r"<>|.!?(){},-]'


def _quoted(text: str) -> str:
    """Quotes as LaTeX writes them. Whether a straight quote opens or closes does not matter: both are dropped."""
    text = re.sub('(?i:&quot;)|[\u0094\u201d»"]', "''", re.sub("(?i:&apos;)|[\u0092\u2019\u203a]", "'", text))
    return re.sub("[\u0093\u201c«]", "``", re.sub("[\u0091\u2018\u201b\u2039]", "`", text))


def _without_soft_hyphens(text: str) -> str:
    return text.replace("\u00ad", "") or "-"


_NAMES = str.maketrans(
    {"(": "-lrb-", ")": "-rrb-", "¢": "cents", "£": "#", "\u0080": "$", "¤": "$", "\u20a0": "$", "€": "$"}
    | {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
)


def _named(text: str) -> str:
    return text.translate(_NAMES)


def _ampersand(text: str) -> str:
    return re.sub("(?i:&amp;)", "&", text)


#: Of each rule: the text of a token, its right context, and the token (or a function of the text).
_RULES: list[tuple[str, str, Callable[[str], str] | str]] = [
    (f"{_SPACE}+", "", ""),
    # Words that are cut in two: the rest is read again.
    ("(?i:can)", "(?i:not)", str),
    ("'(?i:t)", "(?i:was|is)", str),
    ("(?i:gon|wan)", "(?i:na)", str),
    ("(?i:got)", "(?i:ta)", str),
    ("(?i:lem|gim)", "(?i:me)", str),
    ("(?i:c[+][+]|[cf]#)", "", str),
    # Markup.
    (_TAG, "", str),
    ("(?i:&(?:md|mdash|ndash);)|[\u0096\u0097\u2013-\u2015]", "", "--"),
    ("(?i:&amp;)", "", "&"),
    ("(?i:&nbsp;)", "", ""),
    (r"(?i:&(?:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);)", "", str),
    # Words, and what is left of contractions.
    (_WORD, _ENDING, _without_soft_hyphens),
    (r"[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*", _NOT, _without_soft_hyphens),
    (_WORD, "", _without_soft_hyphens),
    (rf"{_APOSTROPHE}[nN]{_APOSTROPHE}?|[lLdDjJ]{_APOSTROPHE}|(?i:dunkin|somethin|ol){_APOSTROPHE}", "", str),
    (rf"{_APOSTROPHE}(?i:em|till?|cause)|{_APOSTROPHE}[2-9]0[sS]", "", str),
    (rf"[A-HJ-XZn]{_ANY_APOSTROPHE}[{_LETTERS}]{{2,}}", "", str),
    (rf"[{_LETTERS}]+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z][{_LETTERS}]*", "", str),
    (rf"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|o{_ANY_APOSTROPHE}o)", "", str),
    (f"[yY]{_APOSTROPHE}", f"[{_LETTERS}]", str),
    # Addresses.
    (rf'(?i:https?)://[^ \t\n\f\r"<>|(){{}}]+{_URL_END}', "", str),
    (
        rf'(?:(?i:www\.)(?:[^ \t\n\f\r"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}'
        rf"|(?:[^ \t\n\f\r\"`'<>|.!?(){{}},-_$]+\.)+(?i:com|net|org|edu))"
        rf'(?:/[^ \t\n\f\r"<>|()]+{_URL_END})?',
        "",
        str,
    ),
    (
        r'(?:<|(?i:&lt;))?[a-zA-Z0-9][^ \t\n\f\r"<>|()\u00a0{}]*@(?:[^ \t\n\f\r"<>|(){}.\u00a0]+\.)*'
        r'[^ \t\n\f\r"<>|(){}.\u00a0]+(?:>|(?i:&gt;))?',
        "",
        str,
    ),
    (rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{_LETTER}+", "", str),
    (_ENDING, "[^A-Za-z]", _quoted),
    (_NOT, "[^A-Za-z]", _quoted),
    # Numbers and money.
    (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", "", str),
    (rf"[-+]?{_NUMBER}", "", _without_soft_hyphens),
    ("[⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]+|[₀-₉]+)", "", str),
    (r"(?:\d{1,4}[- \u00a0])?\d{1,4}(?:\\?/|⁄)\d{1,4}", "", str),
    ("[¼½¾⅓-⅞]", "", _named),
    (rf"-(?i:rrb|lrb|rcb|lcb|rsb|lsb)-|(?i:c\.d\.s|pro-|anti-|cap{_APOSTROPHE}n|c{_APOSTROPHE}est)", "", str),
    ("(?i:s(?:&|&amp;)p-500|s(?:&|&amp;)ls)", "", _ampersand),
    (rf"{_SIDE}(?:\\?/{_SIDE}){{1,2}}", "", str),
    (r"[A-Z]*\$|#", "", str),
    ("[¢£¤¥\u0080\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5\uffe6]", "", _named),
    # Abbreviations.
    (rf"(?:[A-Za-z](?=\.)|{_ACRONYM}\.)", rf"\.?{_SPACE_OR_LINE}+(?:{_OPENERS}|{_TAG}){_SPACE_OR_LINE}", str),
    (rf"(?:(?i:{_ABBREVIATION})|{_STATE})\.", r"(?s:..)?", str),
    (rf"(?:(?i:{_TITLE})|{_ACRONYM}|[A-Za-z])\.", "", str),
    (rf"{_ALNUM}+(?:\.{_ALNUM}+)*\.(?i:{_FILES})", rf"{_SPACE_OR_LINE}|[.?!,]", str),
    (r"(?i:ca|figs?|prop|nos?|art|pp|op)\.", rf"{_SPACE_OR_LINE}?\d", str),
    (r"(?i:pt[eyEY]|co)\.", rf"{_SPACE}(?i:ltd|lim)", str),
    (_ACRONYM, _SPACE_OR_LINE, str),
    (rf"{_APOSTROPHE}[0-9][0-9]", _SPACE_OR_LINE, str),
    (rf"{_WORD}\.", r"[,;:\u3001]", _without_soft_hyphens),
    (
        r"(?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])[0-9]{3,4}[- \u00a0]?"
        r"[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
        "",
        _named,
    ),
    # Marks.
    ('"|(?i:&quot;)', "", "''"),
    ("<|(?i:&lt;)", "", "<"),
    (">|(?i:&gt;)", "", ">"),
    (r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", "[^A-Za-z0-9]", _named),
    (r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)", "", _named),
    (r"\{", "", "-lcb-"),
    (r"\}", "", "-rcb-"),
    (r"\[", "", "-lsb-"),
    (r"\]", "", "-rsb-"),
    ("[()]", "", _named),
    ("-{3,4}", "", "--"),
    ("-+", "", str),
    (r"\.{3,5}|\.[ \u00a0](?:\.[ \u00a0])+\.|[\u0085…]", "", "..."),
    (r"@+|#+|_+|\*+|(?:\\\*){1,3}", "", str),
    (r"[,;:\u3001]|[?!]+|[.¡¿\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002]|=|/", "", str),
    # Words that hold hyphens, digits, full stops.
    (_HYPHENATED, "", _without_soft_hyphens),
    (rf"{_HYPHENATED}\.", "[,;:\u3001]", _without_soft_hyphens),
    (rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})*\.", "[,;:\u3001]", str),
    (rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})*", "", str),
    (r"[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+\.", "[,;:\u3001]", _ampersand),
    (r"[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+", "", _ampersand),
    # Quotes.
    ("'", r"[A-Za-z][^ \t\n\r\u00a0]", _quoted),
    (f"''|{_QUOTE}{{1,2}}|{_APOSTROPHE}", "", _quoted),
    (_ENDING, "", _quoted),
    ("<<|>>", "", str),
    (_SYMBOLS, "", str),
]


@lru_cache(maxsize=1)
def _lexer() -> list[tuple[re.Pattern, Callable[[str], str] | str]]:
    return [(re.compile(f"({text})(?:{context})"), token) for text, context, token in _RULES]


#: What most captions consist of, for speed: a word of letters that no other rule can match, and the space after it.
_PLAIN = re.compile(r"(?!(?i:cannot|gonna|gotta|wanna|lemme|gimme)\b)([A-Za-z]+)[,;:]?[ \n]+")


def tokenize(caption: str) -> list[str]:
    """
    The words of a caption.

    The official code writes all captions into one file, and its lexer reads on into the next line: a caption that ends
    in "section b." has the word "b" if the next caption begins with "A ", else "b.". This function gives the words of
    a caption that is alone in the file.
    """
    text = caption.replace("\n", " ") + "\n"
    words: list[str] = []
    place = 0
    while place < len(text):
        if plain := _PLAIN.match(text, place):
            words.append(plain[1].lower())
            place = plain.end()
        else:
            token, place = _next(text, place)
            words += [] if token in _DROPPED else token.lower().split()
    return words


def _next(text: str, place: int) -> tuple[str, int]:
    """The token that starts at a place ("" for what is skipped), and where it ends."""
    best, token = None, ""
    for pattern, made in _lexer():
        found = pattern.match(text, place)
        if found and (best is None or found.end() > best.end()):
            best, token = found, made
    if best is None:
        return "", place + 1
    return token if isinstance(token, str) else token(best[1]), best.end(1)
