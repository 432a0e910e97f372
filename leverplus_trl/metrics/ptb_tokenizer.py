# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
The words of a caption for the evaluation code of COCO captions: those of Stanford's PTBTokenizer (a Java program,
CoreNLP 3.4.1, options `-preserveLines -lowerCase`), without the words that are punctuation.

The longest match of a rule, including its right context, makes the next token; of equal matches, the first. Characters
that no rule matches (emoji, many marks of other scripts) are skipped. Tokens become lower case, and quotes, dashes,
fractions, currencies and brackets get their Penn Treebank names. Brackets stay, as "-lrb-" and the like, because the
official code lists them in capitals. A no-break space in a token ("1 1/2") separates words.
"""

import re
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
#: These may precede a capital letter without ending a sentence.
_TITLE = "|".join(
    """
    mr mrs ms drs? profs? sens? reps? attys? lt col gen messrs govs? adm rev maj sgt cpl pvt capt ste? ave pres lieut
    hon brig co?mdr pfc spc supts? det mt ft adj adv asst assoc ens insp mlle mme msgr sfc invt elec natl m(?-i:[ft])g
    dept vs alex wm jos cie cf treas ph
    """.split()  # noqa: SIM905
)
#: Before a capital letter only: "Wash.", but "wash" and ".".
_STATE = "[A](?i:z|rk)|[D](?i:el)|[I](?i:ll)|[L](?i:a)|[M](?i:ass|iss)|[O](?i:re)|[P](?i:a)|[T](?i:ex)|[W](?i:ash)"
#: The full stop after an initial ends a sentence before these: "plan b. The" but "b. smith".
_OPENERS = (
    "About|According|Additionally|After|An|A|As|At|But|Earlier|Her|Here|He|However|If|In|It|Last|Many|More|Mr\\.|Ms\\.|"
    "Now|Once|One|Other|Our|She|Since|So|Some|Such|That|There|These|The|Then|They|This|We|When|While|What|Yet|You"
)
_FILES = (
    "bat|bmp|cgi|class|cpp|c|dll|docx|doc|exe|gif|gz|html|htm|h|jar|java|jpeg|jpg|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|"
    "tar|txt|wav|xml|x|zip"
)
_URL_END = r'[^ \t\n\f\r"<>|.!?(){},-]'


#: Substitutions in the text of a token, in this order. A straight quote opens or closes: both are dropped anyway.
_KEPT: dict[str, str] = {}
_QUOTES = {
    "(?i:&apos;)|[\u0092\u2019\u203a]": "'",
    '(?i:&quot;)|[\u0094\u201d»"]': "''",
    "[\u0091\u2018\u201b\u2039]": "`",
    "[\u0093\u201c«]": "``",
}
_SOFT_HYPHENS = {"\u00ad": "", "^$": "-"}
_AMPERSAND = {"(?i:&amp;)": "&"}
_NAMES = {r"\(": "-lrb-", r"\)": "-rrb-", "¢": "cents", "£": "#", "[\u0080¤\u20a0€]": "$"}
_NAMES |= {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}

#: Of each rule: the text of a token, its right context, and the token, or substitutions that make it of the text.
_RULES: list[tuple[str, str, str | dict[str, str]]] = [
    (f"{_SPACE}+", "", ""),
    # Words that are cut in two: the rest is read again.
    ("(?i:can)", "(?i:not)", _KEPT),
    ("'(?i:t)", "(?i:was|is)", _KEPT),
    ("(?i:gon|wan)", "(?i:na)", _KEPT),
    ("(?i:got)", "(?i:ta)", _KEPT),
    ("(?i:lem|gim)", "(?i:me)", _KEPT),
    ("(?i:c[+][+]|[cf]#)", "", _KEPT),
    # Markup.
    (_TAG, "", _KEPT),
    ("(?i:&(?:md|mdash|ndash);)|[\u0096\u0097\u2013-\u2015]", "", "--"),
    ("(?i:&amp;)", "", "&"),
    ("(?i:&nbsp;)", "", ""),
    (r"(?i:&(?:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);)", "", _KEPT),
    # Words, and what is left of contractions.
    (_WORD, _ENDING, _SOFT_HYPHENS),
    (r"[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*", _NOT, _SOFT_HYPHENS),
    (_WORD, "", _SOFT_HYPHENS),
    (rf"{_APOSTROPHE}[nN]{_APOSTROPHE}?|[lLdDjJ]{_APOSTROPHE}|(?i:dunkin|somethin|ol){_APOSTROPHE}", "", _KEPT),
    (rf"{_APOSTROPHE}(?i:em|till?|cause)|{_APOSTROPHE}[2-9]0[sS]", "", _KEPT),
    (rf"[A-HJ-XZn]{_ANY_APOSTROPHE}[{_LETTERS}]{{2,}}", "", _KEPT),
    (rf"[{_LETTERS}]+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z][{_LETTERS}]*", "", _KEPT),
    (rf"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|o{_ANY_APOSTROPHE}o)", "", _KEPT),
    (f"[yY]{_APOSTROPHE}", f"[{_LETTERS}]", _KEPT),
    # Addresses.
    (rf'(?i:https?)://[^ \t\n\f\r"<>|(){{}}]+{_URL_END}', "", _KEPT),
    (
        rf'(?:(?i:www\.)(?:[^ \t\n\f\r"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}'
        rf"|(?:[^ \t\n\f\r\"`'<>|.!?(){{}},-_$]+\.)+(?i:com|net|org|edu))"
        rf'(?:/[^ \t\n\f\r"<>|()]+{_URL_END})?',
        "",
        _KEPT,
    ),
    (
        r'(?:<|(?i:&lt;))?[a-zA-Z0-9][^ \t\n\f\r"<>|()\u00a0{}]*@(?:[^ \t\n\f\r"<>|(){}.\u00a0]+\.)*'
        r'[^ \t\n\f\r"<>|(){}.\u00a0]+(?:>|(?i:&gt;))?',
        "",
        _KEPT,
    ),
    (rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{_LETTER}+", "", _KEPT),
    (_ENDING, "[^A-Za-z]", _QUOTES),
    (_NOT, "[^A-Za-z]", _QUOTES),
    # Numbers and money.
    (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", "", _KEPT),
    (rf"[-+]?{_NUMBER}", "", _SOFT_HYPHENS),
    ("[⁺⁻₊₋]?(?:[⁰¹²³⁴-⁹]+|[₀-₉]+)", "", _KEPT),
    (r"(?:\d{1,4}[- \u00a0])?\d{1,4}(?:\\?/|⁄)\d{1,4}", "", _KEPT),
    ("[¼½¾⅓-⅞]", "", _NAMES),
    (rf"-(?i:rrb|lrb|rcb|lcb|rsb|lsb)-|(?i:c\.d\.s|pro-|anti-|cap{_APOSTROPHE}n|c{_APOSTROPHE}est)", "", _KEPT),
    ("(?i:s(?:&|&amp;)p-500|s(?:&|&amp;)ls)", "", _AMPERSAND),
    (rf"{_SIDE}(?:\\?/{_SIDE}){{1,2}}", "", _KEPT),
    (r"[A-Z]*\$|#", "", _KEPT),
    ("[¢£¤¥\u0080\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5\uffe6]", "", _NAMES),
    # Abbreviations.
    (rf"(?:[A-Za-z](?=\.)|{_ACRONYM}\.)", rf"\.?{_SPACE_OR_LINE}+(?:{_OPENERS}|{_TAG}){_SPACE_OR_LINE}", _KEPT),
    (rf"(?:(?i:{_ABBREVIATION})|{_STATE})\.", r"(?s:..)?", _KEPT),
    (rf"(?:(?i:{_TITLE})|{_ACRONYM}|[A-Za-z])\.", "", _KEPT),
    (rf"{_ALNUM}+(?:\.{_ALNUM}+)*\.(?i:{_FILES})", rf"{_SPACE_OR_LINE}|[.?!,]", _KEPT),
    (r"(?i:ca|figs?|prop|nos?|art|pp|op)\.", rf"{_SPACE_OR_LINE}?\d", _KEPT),
    (r"(?i:pt[eyEY]|co)\.", rf"{_SPACE}(?i:ltd|lim)", _KEPT),
    (_ACRONYM, _SPACE_OR_LINE, _KEPT),
    (rf"{_APOSTROPHE}[0-9][0-9]", _SPACE_OR_LINE, _KEPT),
    (rf"{_WORD}\.", r"[,;:\u3001]", _SOFT_HYPHENS),
    (
        r"(?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])[0-9]{3,4}[- \u00a0]?"
        r"[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
        "",
        _NAMES,
    ),
    # Marks.
    ('"|(?i:&quot;)', "", "''"),
    ("<|(?i:&lt;)", "", "<"),
    (">|(?i:&gt;)", "", ">"),
    (r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", "[^A-Za-z0-9]", _NAMES),
    (r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)", "", _NAMES),
    (r"\{", "", "-lcb-"),
    (r"\}", "", "-rcb-"),
    (r"\[", "", "-lsb-"),
    (r"\]", "", "-rsb-"),
    ("[()]", "", _NAMES),
    ("-{3,4}", "", "--"),
    ("-+", "", _KEPT),
    (r"\.{3,5}|\.[ \u00a0](?:\.[ \u00a0])+\.|[\u0085…]", "", "..."),
    (r"@+|#+|_+|\*+|(?:\\\*){1,3}", "", _KEPT),
    (r"[,;:\u3001]|[?!]+|[.¡¿\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002]|=|/", "", _KEPT),
    # Words that hold hyphens, digits, full stops.
    (_HYPHENATED, "", _SOFT_HYPHENS),
    (rf"{_HYPHENATED}\.", "[,;:\u3001]", _SOFT_HYPHENS),
    (rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})*\.", "[,;:\u3001]", _KEPT),
    (rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})*", "", _KEPT),
    (r"[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+\.", "[,;:\u3001]", _AMPERSAND),
    (r"[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+", "", _AMPERSAND),
    # Quotes.
    ("'", r"[A-Za-z][^ \t\n\r\u00a0]", _QUOTES),
    (f"''|{_QUOTE}{{1,2}}|{_APOSTROPHE}", "", _QUOTES),
    (_ENDING, "", _QUOTES),
    ("<<|>>", "", _KEPT),
    (_SYMBOLS, "", _KEPT),
]


@lru_cache(maxsize=1)
def _lexer() -> list[tuple[re.Pattern, str | dict[str, str]]]:
    return [(re.compile(f"({text})(?:{context})"), token) for text, context, token in _RULES]


#: What most captions consist of, for speed: a word of letters that no other rule can match, and the space after it.
_PLAIN = re.compile(r"(?!(?i:cannot|gonna|gotta|wanna|lemme|gimme)\b)([A-Za-z]+)[,;:]?[ \n]+")


def tokenize(caption: str) -> list[str]:
    """The words of a caption that is alone in its file. The official lexer reads on in the next caption, where a full
    stop after an initial depends on it."""
    text = caption.replace("\n", " ") + "\n"
    words: list[str] = []
    place = 0
    while place < len(text):
        if plain := _PLAIN.match(text, place):
            words.append(plain[1].lower())
            place = plain.end()
            continue
        longest, token = None, ""
        for pattern, candidate in _lexer():
            match = pattern.match(text, place)
            if match and (longest is None or match.end() > longest.end()):
                longest, token = match, candidate
        if longest is None:
            place += 1
            continue
        place = longest.end(1)
        if isinstance(token, dict):
            substitutions, token = token, longest[1]
            for mark, name in substitutions.items():
                token = re.sub(mark, name, token)
        if token not in _DROPPED:
            words += token.lower().split()
    return words
