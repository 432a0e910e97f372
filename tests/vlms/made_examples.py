# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Examples and requests for tiny models."""

import numpy as np
from PIL import Image

from leverplus_trl.vlms import Request


ANSWERS = ["red circle", "blue star", "it"]


def picture_examples(count, size=28):
    """Examples with images of noise."""
    generator = np.random.default_rng(0)
    return [
        {
            "id": f"e{i}",
            "image": Image.fromarray(generator.integers(0, 255, (size, size, 3), dtype=np.uint8)),
            "question": f"what {'colour' if i % 2 else 'shape'} is it ?",
            "answer": ANSWERS[i % 3],
            "answers": [ANSWERS[i % 3]],
        }
        for i in range(count)
    ]


def requests_of(examples, seed=0, count=12, most=3):
    """Random requests of 0 to `most` demonstrations."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        picks = generator.permutation(len(examples))
        shots = int(generator.integers(0, most + 1))
        made.append(Request(tuple(examples[i] for i in picks[:shots]), examples[picks[-1]]))
    return made


def ragged_examples(count, seed=0):
    """Images of 28 to 112 pixels, one side or the other longer; questions of several lengths."""
    rng = np.random.default_rng(seed)
    questions = ["what colour is it ?", "what shape ?", "what is it ? red or blue , circle or star ?"]
    answers = [*ANSWERS, "red", "blue circle star"]
    examples = []
    for i in range(count):
        width, height = rng.integers(28, 113, 2)
        picture = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        answer = answers[i % len(answers)]
        examples.append(
            {"id": f"e{i}", "image": picture, "question": questions[i % 3], "answer": answer, "answers": [answer]}
        )
    return examples


def drawn_requests(rng, examples, count):
    """Depths of 0 to 4, most of them grown from an earlier one to the left or to the right, with one of three queries
    or another, other answers than their own, and some twice."""
    sequences, requests = [()], []
    for _ in range(count):
        before = sequences[rng.integers(0, len(sequences))] if rng.random() < 0.7 else ()
        example = examples[rng.integers(0, len(examples))]
        sequence = ((example, *before) if rng.random() < 0.5 else (*before, example))[: rng.integers(0, 5)]
        sequences.append(sequence)
        query = examples[rng.integers(0, 3 if rng.random() < 0.7 else len(examples))]
        if rng.random() < 0.3:
            query = {**query, "answer": str(rng.choice(["red", "blue star", "what a long answer this is"]))}
        requests.append(Request(sequence, query))
        if rng.random() < 0.2:
            requests.append(requests[rng.integers(0, len(requests))])
    return requests


def scores_of(runner, pool, queries, seen):
    """A score function for the search, which notes what it is told."""

    def score(sequences):
        requests = [Request(tuple(pool[i] for i in sequence), queries[query]) for query, sequence in sequences]
        found = [score.logprob / score.num_tokens for score in runner.answer_logprobs(requests)]
        seen.update(zip(sequences, found, strict=True))
        return found

    return score


def world_requests(world, count=24):
    """Random requests of the embedded world."""
    examples = [world["pool"][i] for i in range(30)] + [world["train"][i] for i in range(6)]
    return requests_of(examples, count=count)
