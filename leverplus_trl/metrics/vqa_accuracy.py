# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
VQA accuracy, as the evaluation code of the VQA dataset computes it. Published numbers depend on its quirks:

- Line breaks and tabs become spaces, and the ends are stripped. Nothing else is done if all annotators gave the same
  text: then "A dog" does not match ten times "dog". `always_normalize` drops this exception.
- Otherwise prediction and answers lose punctuation, case and articles, number words become digits ("none" is 0, too),
  and the apostrophes of contractions are put back ("dont" becomes "don't").
- The prediction is compared with every set of annotators that leaves one out. It scores min(1, matches / 3) there, and
  the accuracy is the mean: with ten annotators 1, 2, 3 and 4 matches give 0.3, 0.6, 0.9 and 1. With fewer than four
  annotators no answer reaches 1: use `exact_match`.
- An answer that is or becomes empty ("the") is an answer like any other: an empty prediction matches it.

The official code is written for Python 2; here digits and white space are those of Unicode.

Source: Antol et al., "VQA: Visual Question Answering", ICCV 2015, https://visualqa.org/evaluation.html
"""

import re
import warnings

from .texts import check_texts


#: With fewer annotators no answer can reach 1.
MIN_ANSWERS = 4

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # neither the apostrophe nor the colon
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_DIGITS = {"none": "0"} | {word: str(value) for value, word in enumerate(_NUMBERS)}

# A contraction is recognised when exactly one of its apostrophes is missing. The official table leaves out what is a
# word without it, too ("were", "well", "shell", "id", "its"), and "lets" and "shes", which look like an oversight.
_CONTRACTIONS = """
'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't
needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'd've y'all'll you'd you'd've you'll you're you've
""".split()  # noqa: SIM905
_APOSTROPHES = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS
    for place, character in enumerate(word)
    if character == "'"
}
_APOSTROPHES["somebody'd"] = "somebodyd"  # the official table has this pair the wrong way round


def vqa_accuracy(prediction: str, answers: list[str], always_normalize: bool = False) -> float:
    """Accuracy of one answer by the answers of all annotators, with repetitions: 0..1."""
    return leave_one_out(*normalized(prediction, answers, always_normalize))


def vqa_accuracy_normalized(prediction: str, answers: list[str]) -> float:
    """VQA accuracy of answers that are always normalised, as many reimplementations compute it: 0..1."""
    return vqa_accuracy(prediction, answers, always_normalize=True)


def normalized(prediction: str, answers: list[str], always_normalize: bool = False) -> tuple[str, list[str]]:
    """Prediction and answers as they are compared, see [`vqa_accuracy`]."""
    check_texts(prediction, answers)
    prediction, *answers = (text.replace("\n", " ").replace("\t", " ").strip() for text in (prediction, *answers))
    if always_normalize or len(set(answers)) > 1:
        prediction, answers = normalize_answer(prediction), [normalize_answer(answer) for answer in answers]
    return prediction, answers


def leave_one_out(prediction: str, answers: list[str]) -> float:
    """Mean over annotators left out of min(1, answers of the others that equal the prediction / 3)."""
    if len(answers) < MIN_ANSWERS:
        warnings.warn(
            f"With {len(answers)} annotator(s) VQA accuracy can't exceed {len(answers) - 1}/3: use exact_match.",
            stacklevel=3,
        )
    matches = [answer == prediction for answer in answers]
    return sum(min(1.0, (sum(matches) - left_out) / 3) for left_out in matches) / len(matches)


def normalize_answer(answer: str) -> str:
    """
    Answer without punctuation, case, articles and number words, with the apostrophes of contractions put back. A mark
    that touches a space somewhere is dropped, as is every mark if a number has a comma; else it becomes a space.
    """
    text = answer
    has_digit_comma = re.search(r"\d,\d", answer) is not None
    for mark in _PUNCTUATION:
        dropped = has_digit_comma or f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if dropped else " ")
    # The official code passes re.UNICODE, which is 32, where `sub` takes a count.
    words = re.sub(r"\.(?!\d)", "", text, count=32).lower().split()
    words = [_DIGITS.get(word, word) for word in words]
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in ("a", "an", "the"))
