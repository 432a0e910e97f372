# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import json
import math
import os
import random
import shutil
import time

import pytest

from leverplus_trl.metrics.cider import cider, document_frequencies
from leverplus_trl.metrics.ptb_tokenizer import tokenize


def captions(seed, count):
    draw = random.Random(seed)
    words = "a man woman dog cat rides walks on the street beach red blue bus's isn't , .".split()  # noqa: SIM905
    references = [
        [" ".join(draw.choices(words, k=draw.randint(0, 14))) for _ in range(draw.randint(1, 5))] for _ in range(count)
    ]
    return [draw.choice([draw.choice(one), " ".join(draw.choices(words, k=8))]) for one in references], references


def test_by_hand():
    # Two examples, so a word of one weighs log 2, "a" of both 0. Vectors: unigrams dog: log 2; bigrams "a dog": log 2.
    frequencies = document_frequencies([["a dog"], ["a cat"]])
    assert frequencies.weight(("dog",)) == pytest.approx(math.log(2)) and frequencies.weight(("a",)) == 0
    assert frequencies.weight(("cow",)) == pytest.approx(math.log(2))  # unheard of, as rare as what is heard once
    # cosine 1 for n = 1 and 2, none for 3 and 4
    assert cider("a dog", ["a dog"], frequencies) == pytest.approx(10 * 2 / 4)
    # n = 1: counts 2 clipped to 1: log2 * log2 / (2 log2 * log2) = 1/2; n = 2: "a dog" of "a dog", "dog dog":
    # 1/sqrt(2); lengths of 2 and 1 bigrams
    expected = 10 * (1 / 2 + 1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    assert cider("a dog dog", ["a dog"], frequencies) == pytest.approx(expected)
    # the mean over references
    assert cider("a dog", ["a dog", "a cow"], frequencies) == pytest.approx(10 * 2 / 4 / 2)
    assert cider("", ["a dog"], frequencies) == 0


def test_scores_depend_on_the_corpus_and_one_example_has_none():
    alone = document_frequencies([["a dog"]])
    assert cider("a dog", ["a dog"], alone) == 0
    with pytest.raises(ValueError, match="no references"):
        document_frequencies([])
    with pytest.raises(ValueError, match="No answer"):
        cider("a dog", [], alone)


@pytest.mark.parametrize("count", [1, 2, 200])
def test_equals_pycocoevalcap(count):
    scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    predictions, references = captions(count, count)
    tokens = {place: [" ".join(tokenize(caption)) for caption in own] for place, own in enumerate(references)}
    said = {place: [" ".join(tokenize(caption))] for place, caption in enumerate(predictions)}
    _, official = scorer.compute_score(tokens, said)
    frequencies = document_frequencies(references)
    assert [cider(*pair, frequencies) for pair in zip(predictions, references, strict=True)] == pytest.approx(
        list(official), abs=1e-9
    )


# What Stanford's PTBTokenizer gave, punctuation dropped as the official code drops it.
TOKENS = {
    "A man's dog isn't running; it's sitting.": "a man 's dog is n't running it 's sitting",
    "Two (2) dogs -- one black, one white!": "two -lrb- 2 -rrb- dogs one black one white",
    'The "red" bus no. 10 at 3:30 p.m. on U.S. road': "the red bus no. 10 at 3:30 p.m. on u.s. road",
    "A black-and-white cat can't jump.": "a black-and-white cat ca n't jump",
    "I cannot see gonna do $5.00 50% of it": "i can not see gon na do $ 5.00 50 % of it",
    "A man...and a dog": "a man and a dog",
    "Women's tennis players' rackets": "women 's tennis players rackets",
    "it's 1,000 feet tall/wide": "it 's 1,000 feet tall/wide",
    "café naïve “quoted” text’s end": "café naïve quoted text 's end",
    "Dr. Smith goes to St. Louis.": "dr. smith goes to st. louis",
    "Man w/ hat - standing": "man w / hat standing",
    "don't DON'T wanna y'all we've": "do n't do n't wan na y' all we 've",
    "A [bracket] {curly} <angle>": "a -lsb- bracket -rsb- -lcb- curly -rcb- <angle>",
    "Hello!!! what??": "hello !!! what ??",
    "'tis the dog's 'quoted' thing": "'t is the dog 's quoted thing",
    "A stop sign.A bus": "a stop sign.a bus",
    "man ,woman": "man woman",
    "couldn't've": "could n't 've",
    "the 80's at 5 o'clock": "the 80 's at 5 o'clock",
    "vs. something etc.": "vs. something etc.",
    "": "",
}


@pytest.mark.parametrize("caption", TOKENS)
def test_words_are_those_of_the_ptb_tokenizer(caption):
    assert " ".join(tokenize(caption)) == TOKENS[caption]


# What `pycocoevalcap.tokenizer.ptbtokenizer.PTBTokenizer` gave for each set, in one run. Hostile: 797 abbreviations,
# initials, decades, sums of money, addresses, contractions, marks and scripts in five sentences. Held out: 200 lines
# of this project's Markdown and 200 captions with random edits, made after the rules were written.
with open(os.path.join(os.path.dirname(__file__), "ptb_captions.jsonl"), encoding="utf-8") as _file:
    CAPTIONS = [json.loads(line) for line in _file]

# The official lexer reads on into the next caption of its file, whose "A" ends a sentence: "b" is a word, not "b.".
READ_ON = {
    "A pizza watches the oLdĸ an in Ma×y.",
    'A K"ite eats the old tOra)in in the par‿k.',
    "A man waVtches the 2 izza in Ma¡y.",
    "A lapto\u202ep eats The 2 skateboard← in room 5=b.",
    "A giraffe eaTs the big cat in rOom 5‣b.",
}


@pytest.mark.parametrize(("name", "count", "differing"), [("hostile", 1203, set()), ("held_out", 400, READ_ON)])
def test_words_of_hostile_captions_are_those_of_the_ptb_tokenizer(name, count, differing):
    rows = [row for row in CAPTIONS if row["set"] == name]
    assert len({row["caption"] for row in rows}) == count
    assert {row["caption"] for row in rows if tokenize(row["caption"]) != row["words"].split()} == differing


def test_the_official_words_are_those_of_the_official_code():
    official = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    if shutil.which("java") is None:
        pytest.skip("the official tokenizer needs Java")
    for name in ("hostile", "held_out"):
        rows = [row for row in CAPTIONS if row["set"] == name]
        words = official.tokenize({place: [{"caption": row["caption"]}] for place, row in enumerate(rows)})
        assert [" ".join(words[place][0].split()) for place in range(len(rows))] == [row["words"] for row in rows]


@pytest.mark.parametrize("part", ["a,", "x@", "a-", "<a ", "1/", ".", "a.", "'", "😀"])
def test_long_texts_are_tokenised_in_a_second(part):
    start = time.perf_counter()
    words = tokenize(part * 3000 + " end")
    assert words[-1].endswith("end") and time.perf_counter() - start < 5
