# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
CIDEr of captions, as the evaluation code of COCO captions computes it (CIDEr-D of `pycocoevalcap`).

A caption and each of its references are vectors of n-gram counts (n = 1..4), each count weighed by log(number of
examples / number of examples in whose references the n-gram stands). Their similarity is the cosine, with a caption's
counts clipped to the reference's, times exp(-d^2 / 72), d the difference of their lengths; CIDEr is 10 times the mean
over references and n. A caption that repeats its references scores up to 10; papers give it times 100, and a good
captioner is near 1.2. The rules, quirks included:

- Document frequencies are those of the references that are scored: *the same caption scores differently in another
  test set*. So a mean is only comparable on the same examples, and one example by itself scores 0.
- Lengths are counted in bigrams.
- The words are those of Stanford's PTBTokenizer, see `ptb_tokenizer`.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from leverplus_trl.metrics.base_metric import BaseMetric, check_texts

from .ptb_tokenizer import tokenize


MAX_N = 4
SIGMA = 6.0

NGrams = Counter[tuple[str, ...]]


@dataclass(frozen=True)
class DocumentFrequencies:
    """
    In how many examples' references each n-gram stands.

    Args:
        num_documents (`int`):
            Number of examples.
        counts (`Counter[tuple[str, ...]]`):
            For each n-gram, in how many of them it stands.
    """

    num_documents: int
    counts: NGrams

    def weight(self, ngram: tuple[str, ...]) -> float:
        """How much one occurrence of an n-gram counts; one that no reference has, as much as one that one has."""
        return math.log(self.num_documents) - math.log(max(1, self.counts[ngram]))


def document_frequencies(references: Iterable[Sequence[str]]) -> DocumentFrequencies:
    """
    Counts the n-grams of a corpus.

    Args:
        references (`Iterable[Sequence[str]]`):
            The reference captions of each example.

    Raises:
        `ValueError`: there is no example.
    """
    counts: NGrams = Counter()
    number = 0
    for captions in references:
        number += 1
        counts.update({ngram for caption in captions for ngram in _ngrams(caption)})
    if number == 0:
        raise ValueError("There are no references to count document frequencies over.")
    return DocumentFrequencies(number, counts)


def cider(prediction: str, references: list[str], frequencies: DocumentFrequencies) -> float:
    """
    CIDEr of one caption.

    Args:
        prediction (`str`):
            The caption to judge.
        references (`list[str]`):
            Captions of the same image.
        frequencies ([`DocumentFrequencies`]):
            Those of the references of the whole test set, see [`document_frequencies`].

    Returns:
        `float` in 0..10.

    Raises:
        `ValueError`: there is no reference.
        `TypeError`: the prediction is not a string, or the references are one string in place of a list.
    """
    check_texts(prediction, references)
    said = _Vector.of(_ngrams(prediction), frequencies)
    similarities = [said.similarity(_Vector.of(_ngrams(caption), frequencies)) for caption in references]
    return 10.0 * math.fsum(similarities) / len(similarities)


@dataclass(frozen=True)
class _Vector:
    """A caption's weighed n-grams, their norms for each n, and its length in bigrams."""

    weights: tuple[dict[tuple[str, ...], float], ...]
    norms: tuple[float, ...]
    length: int

    @classmethod
    def of(cls, ngrams: NGrams, frequencies: DocumentFrequencies) -> "_Vector":
        weights: tuple[dict, ...] = tuple({} for _ in range(MAX_N))
        for ngram, count in ngrams.items():
            weights[len(ngram) - 1][ngram] = count * frequencies.weight(ngram)
        norms = tuple(math.sqrt(math.fsum(weight**2 for weight in row.values())) for row in weights)
        return cls(weights, norms, sum(count for ngram, count in ngrams.items() if len(ngram) == 2))

    def similarity(self, reference: "_Vector") -> float:
        total = 0.0
        for mine, theirs, norm, other in zip(
            self.weights, reference.weights, self.norms, reference.norms, strict=True
        ):
            if norm and other:
                shared = (min(mine[ngram], theirs[ngram]) * theirs[ngram] for ngram in mine.keys() & theirs.keys())
                total += math.fsum(shared) / (norm * other)
        difference = self.length - reference.length
        return total / MAX_N * math.exp(-(difference**2) / (2 * SIGMA**2))


def _ngrams(caption: str) -> NGrams:
    words = tokenize(caption)
    return Counter(tuple(words[start : start + n]) for n in range(1, MAX_N + 1) for start in range(len(words) - n + 1))


class Cider(BaseMetric):
    """CIDEr as an `evaluate.Metric`."""

    result = "cider"
    url = "https://github.com/tylin/coco-caption"
    description = "CIDEr-D of captions; document frequencies are those of the references."
    citation = """
@inproceedings{vedantam2015cider,
    title={{CIDEr}: Consensus-based Image Description Evaluation},
    author={Vedantam, Ramakrishna and Zitnick, C. Lawrence and Parikh, Devi},
    booktitle={CVPR},
    year={2015}
}
"""
    arguments = """
Args:
    predictions (`list[str]`):
        One caption per image.
    references (`list[list[str]]`):
        The reference captions per image. All of the test set: document frequencies are counted over them.

Returns:
    `cider` (mean, in 0..10) and `per_example` (list of scores, in 0..10).
"""

    def scores(self, predictions: list[str], references: list[list[str]]) -> list[float]:
        if len(references) == 1:
            warnings.warn(
                "CIDEr of a single example is 0: its words are in all the references there are.", stacklevel=2
            )
        frequencies = document_frequencies(references)
        return [cider(*pair, frequencies) for pair in zip(predictions, references, strict=True)]
