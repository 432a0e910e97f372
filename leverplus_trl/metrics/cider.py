# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
CIDEr of captions, as the evaluation code of COCO captions computes it (CIDEr-D of `pycocoevalcap`).

A caption and each of its references are vectors of n-gram counts (n = 1..4), each count times log(number of examples
/ number of examples whose references contain the n-gram). Their similarity is the cosine, with the caption's counts
clipped to the reference's, times exp(-d^2 / 72), where d is the difference of their lengths in bigrams. CIDEr is 10
times the mean over references and n, so it is in 0..10. Papers report CIDEr times 100.

Document frequencies are those of the scored references, so only means on the same examples are comparable.

Source: Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015,
https://github.com/tylin/coco-caption
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .ptb_tokenizer import tokenize
from .texts import check_texts


MAX_N = 4
SIGMA = 6.0

NGrams = Counter[tuple[str, ...]]


@dataclass(frozen=True)
class DocumentFrequencies:
    """Number of examples, and for each n-gram the number of examples whose references contain it."""

    num_documents: int
    counts: NGrams

    def weight(self, ngram: tuple[str, ...]) -> float:
        """Weight of one occurrence of an n-gram; an n-gram of no reference weighs as much as that of one example."""
        return math.log(self.num_documents) - math.log(max(1, self.counts[ngram]))


def document_frequencies(references: Iterable[Sequence[str]]) -> DocumentFrequencies:
    """Document frequencies of a test set, from the reference captions of each example."""
    counts: NGrams = Counter()
    number = 0
    for captions in references:
        number += 1
        counts.update({ngram for caption in captions for ngram in _ngrams(caption)})
    if number == 0:
        raise ValueError("There are no references to count document frequencies over.")
    return DocumentFrequencies(number, counts)


def cider(prediction: str, references: list[str], frequencies: DocumentFrequencies) -> float:
    """CIDEr of one caption by captions of the same image and the whole test set's document frequencies: 0..10."""
    check_texts(prediction, references)
    caption = _vector(prediction, frequencies)
    similarities = [_similarity(caption, _vector(reference, frequencies)) for reference in references]
    return 10.0 * math.fsum(similarities) / len(similarities)


def _vector(caption: str, frequencies: DocumentFrequencies) -> tuple[list[dict[tuple[str, ...], float]], int]:
    """The weighed n-grams for each n, and the length in bigrams."""
    weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(MAX_N)]
    ngrams = _ngrams(caption)
    for ngram, count in ngrams.items():
        weights[len(ngram) - 1][ngram] = count * frequencies.weight(ngram)
    return weights, sum(count for ngram, count in ngrams.items() if len(ngram) == 2)


def _similarity(caption: tuple, reference: tuple) -> float:
    total = 0.0
    for mine, theirs in zip(caption[0], reference[0], strict=True):
        norms = [math.sqrt(math.fsum(weight**2 for weight in row.values())) for row in (mine, theirs)]
        if all(norms):
            shared = (min(mine[ngram], theirs[ngram]) * theirs[ngram] for ngram in mine.keys() & theirs.keys())
            total += math.fsum(shared) / (norms[0] * norms[1])
    difference = caption[1] - reference[1]
    return total / MAX_N * math.exp(-(difference**2) / (2 * SIGMA**2))


def _ngrams(caption: str) -> NGrams:
    words = tokenize(caption)
    return Counter(tuple(words[start : start + n]) for n in range(1, MAX_N + 1) for start in range(len(words) - n + 1))
