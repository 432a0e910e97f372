# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import copy
import re
import string

import pytest
from metrics.generated_answers import generated_answers

from leverplus_trl.metrics.mmbench_accuracy import mmbench_accuracy
from leverplus_trl.metrics.mmbench_accuracy import named_option as mmbench_option
from leverplus_trl.metrics.option_accuracy import named_option, option_accuracy
from leverplus_trl.metrics.scienceqa_accuracy import scienceqa_accuracy


CHOICES = ["a cat", "a red dog", "a dog", "none of these"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("The answer is B.", 1),
        ("The answer is B. BECAUSE: dogs bark.", 1),
        ("The answer is A.", 0),
        ("The answer is B", 1 / 4),  # the pattern wants a character behind the letter
        ("The answer is Brown", 1),  # any character
        ("The answer is B. The answer is B.", 1 / 4),  # exactly once
        ("The answer is E.", 1 / 4),  # no such choice: a guess
        ("the answer is B.", 1 / 4),
        ("B", 1 / 4),
        ("", 1 / 4),
    ],
)
def test_scienceqa(reply, expected):
    assert scienceqa_accuracy(reply, ["B"], CHOICES) == expected


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B. a red dog", "B"),
        ("Answer: C.", "C"),
        ("C it is, and I am as sure of it as can be", None),  # not among the last four words, no text of an option
        ("A or B", None),
        ("A dog", "A"),  # the article
        ("I see a CAT", "A"),  # by its text
        ("it is a red dog", "B"),
        ("a dog, not a cat", None),  # two texts
        ("Well, the correct answer is **D** since there are no such animals here", "D"),
        ("the answer is clear", "C"),  # the first letter of "clear"
        ("I'm sorry, but without the image provided I can't. B", None),
        ("Z", None),
        ("Failed to obtain answer via API. B", None),
        ("", None),
        ("a cat " * 20, None),  # too long for its text to count
    ],
)
def test_mmbench(reply, option):
    assert mmbench_option(reply, CHOICES) == option
    for letter in "ABCD":
        assert mmbench_accuracy(reply, [letter], CHOICES) == (letter == option)


def official_mmbench(answer, choices):
    """The rules of VLMEvalKit's `can_infer`, written down a second time."""
    by_text_only = "Failed to obtain answer via API" in answer
    if not by_text_only:
        refusals = ["Sorry, I can't help with images of people yet.", "I can't process this file."]
        refusals += ["I'm sorry, but without the image provided", "Cannot determine the answer"]
        if [refusal for refusal in refusals if refusal in answer]:
            return "Z"
        cleaned = copy.copy(answer)
        for mark in ".()[],:;!*#{}":
            cleaned = " ".join(cleaned.split(mark))
        tokens = cleaned.split()
        named = {letter for letter in choices if letter in tokens}
        if len(named) == 1:
            (letter,) = named
            if len(tokens) - tokens.index(letter) < 5:
                return letter
        elif not named and "Z" in tokens:
            return "Z"
        verbose = re.search(r"answer\s+is\s+\**([ABCDabcd])", re.sub("(?i)answer(\\s+)is", r"answer\1is", answer))
        if verbose and verbose[1].upper() in choices:
            return verbose[1].upper()
    lowered = {letter: text.lower() for letter, text in choices.items()}
    if len(answer.lower()) <= 2 * len("".join(lowered.values())):
        inside = [letter for letter, text in lowered.items() if text in answer.lower()]
        if len(inside) == 1:
            return inside[0]
    return False


def test_mmbench_parity_on_1000_replies():
    frames = [
        "{}",
        "{}.",
        "({}) {}",
        "The answer is {}.",
        "{}: {}",
        "Answer is **{}** because",
        "Z {}",
        "it's {} , {}",
    ]
    texts = generated_answers(1000)
    choices = ["dog", "Red", "10:30", "1,000 cats"]
    options = dict(zip(string.ascii_uppercase, choices, strict=False))
    seen = set()
    for place, text in enumerate(texts):
        frame = frames[place % len(frames)]
        reply = frame.format(*(["ABCDE"[place % 5], text] if place % 3 else [text, text]))
        expected = official_mmbench(reply, options)
        assert (mmbench_option(reply, choices) or "Z") == (expected or "Z"), reply
        seen.add(expected)
    assert seen >= {"A", "B", "C", "D", "Z", False}


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(C)", "C"),
        ("c).", "C"),
        ("B. a cat", "B"),  # the letter counts before the text
        ("(B) it is", "B"),
        ("The answer is B", "B"),
        ("Answer: (D)", "D"),
        ("So it can't be A. Hence the correct answer is option C, the dog.", "C"),
        ("The answer is a cat", "A"),
        ("A red dog", "B"),  # a text that begins with a letter, and holds a shorter one
        ("it's a dog!", "C"),
        ("None of these.", "D"),
        ("a cat and a dog", None),
        ("E", None),
        ("I don't know", None),
        ("", None),
    ],
)
def test_options_however_named(reply, option):
    assert named_option(reply, CHOICES) == option
    assert option_accuracy(reply, ["C"], CHOICES) == (option == "C")


# Replies that public bug reports of other evaluations show, and their relatives.
# ("¶" is a line break.)
MARKED = r"""
**B** | *B* | ***B*** | __B__ | _B_ | `B` | **B.** | **(B)** | **B | [B] | {B} | "B" | “B” | 'B' | （B） | B,
B! | <b>B</b> | <strong>B.</strong> a dog | <p><b>B</b></p> | <answer>B</answer>
maybe A <answer> (B) </answer> | B。 | \boxed{B} | \\boxed{B} | \boxed { B } | $\boxed{B}$ | \(\boxed{B}\)
\[\boxed{B}\] | $B$ | $$B$$ | \textbf{B} | \boxed{\text{B}} | \boxed{\text{B: a red dog}} | \boxed{a red dog}
first \boxed{C} then \boxed{B} | \boxed{B | \text{(B)} | ```¶B¶``` | Answer: **(B)** | **Answer:** B
**Answer**: B | **Answer: B** | ANSWER: **B** | Answer: $B$ | Answer:B | Answer：B | The answer is: B
The answer is **B**. | The answer is¶¶B | ### Answer: B | ### B | - B | > **B** | Option **B** | **Option B**
**option (B)** because a cat is no dog | **B** a red dog | **B. a red dog** | **B**. a red dog | `B`: so
**Answer: B**¶since \boxed{\langle H\rangle \ll E} | B¶¶A cat is a cat. | B¶Explanation: option A is wrong.
B¶B¶B | A cat and a dog.¶¶B | A cat and a dog.¶**B** | **B**¶¶It is not A. | __a red dog__ | <b>a red dog</b>
"""


@pytest.mark.parametrize("reply", [reply for line in MARKED.strip().splitlines() for reply in line.split(" | ")])
def test_options_in_marks_of_markdown_latex_and_html(reply):
    reply = reply.replace("¶", "\n")
    assert named_option(reply, CHOICES) == "B"
    assert (option_accuracy(reply, ["B"], CHOICES), option_accuracy(reply, ["A"], CHOICES)) == (1, 0)


@pytest.mark.parametrize(
    "reply",
    [
        "A car is here",
        "A cow and a horse",
        "**A** or **B**",
        "**A** car",
        "A\nB\nC\nD",
        "The options are:\nA\nB",
        r"\boxed{4}",
        r"\boxed{\frac{A}{B}}",
        "**E**",
        r"\boxed{E}",
        "A-frame",
        "C++",
        "the answer is A-frame houses",
        "The answer is C++.",
        "2 * A * 3",
        "**Note**: unclear",
        "options A and B",
        "A\u0301",
        "**",
        "``",
        "\\boxed{}",
        "<answer></answer>",
    ],
)
def test_marks_name_no_option_by_themselves(reply):
    assert named_option(reply, CHOICES) is None


@pytest.mark.parametrize(
    ("reply", "choices", "option"),
    [
        ("C++", ["C", "C++", "C#"], "B"),
        ("A*", ["Dijkstra", "A*"], "B"),
        ("**A***", ["Dijkstra", "A*"], "B"),
        ("<p>", ["<a>", "<p>"], "B"),
        ("__init__", ["init", "__init__"], "B"),
        ("$10", ["$5", "$10"], "B"),
        ("A", ["B", "A"], "A"),  # a letter is a letter
        ("cafe\u0301", ["bar", "caf\u00e9"], "B"),
        ("the cafe\u0301 it is", ["bar", "caf\u00e9"], "B"),
        ("", ["?", "dog"], None),
    ],
)
def test_options_that_look_like_marks(reply, choices, option):
    assert named_option(reply, choices) == option


def test_official_metrics_of_options_read_no_marks():
    assert mmbench_option("`B`", CHOICES) is None and mmbench_option("**B**", CHOICES) == "B"
    assert scienceqa_accuracy("The answer is **B**.", ["B"], CHOICES) == 1 / 4


@pytest.mark.parametrize("accuracy", [scienceqa_accuracy, mmbench_accuracy, option_accuracy])
def test_bad_input(accuracy):
    with pytest.raises(ValueError, match="The right answer is 'E'; expected the letter"):
        accuracy("B", ["E"], CHOICES)
    with pytest.raises(ValueError, match="The right answer is '1'"):
        accuracy("B", ["1"], CHOICES)
    with pytest.raises(ValueError, match="There are 0 choices"):
        accuracy("B", ["A"], [])
    with pytest.raises(ValueError, match="No answer to judge"):
        accuracy("B", [], CHOICES)
    with pytest.raises(TypeError, match="list of choices"):
        accuracy("B", ["A"], "a cat")
