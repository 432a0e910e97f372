# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Rollouts of the simulated world: its rule answers sequences from the beams, from a selector, and random ones."""

import math

import numpy as np
from datasets import Dataset

from leverplus_trl.schema import ROLLOUTS


def rollouts_of(world, split, beams, greedy=None, size=12, num_beams=2, stop=False, threshold=None, seed=0):
    """
    Rollouts of all queries of a split: `num_beams` beams, what a selector chose (`greedy`, ids in prompt order), the
    rest random, of every length with `stop`. The accuracy is the probability of the right answer, or with a
    `threshold` whether it is above.
    """
    rng, rows = np.random.default_rng(seed), []
    for number, beam in enumerate(beams):
        query, ids = world.attributes[split][number], beam["candidate_ids"]
        proposed = {tuple(found): ("beam", None) for found in beam["demonstration_ids"][:num_beams]}
        if greedy is not None:
            proposed.setdefault(tuple(greedy[number]), ("greedy", None))
        while len(proposed) < size:
            length = int(rng.integers(0, world.num_shots + 1)) if stop else world.num_shots
            drawn = tuple(ids[place] for place in rng.permutation(len(ids))[:length])
            lengths = world.num_shots + 1 if stop else 1
            proposed.setdefault(drawn, ("random", -math.log(lengths * math.perm(len(ids), length))))
        pool = world.attributes["pool"][world.embeddings["pool"].rows(ids)]
        shown = dict(zip(ids, pool, strict=True))
        found = [world.probability(query, [shown[name] for name in sequence]) for sequence in proposed]
        rows.append(
            {
                "query_id": beam["query_id"],
                "split": split,
                "candidate_ids": ids,
                "zero_shot_score": beam["zero_shot_score"],
                "demonstration_ids": [list(sequence) for sequence in proposed],
                "sources": [source for source, _ in proposed.values()],
                "generations": [""] * size,
                "predictions": [""] * size,
                "accuracies": found if threshold is None else [float(value > threshold) for value in found],
                "gt_probs": found,
                "relevances": [0.0] * size,
                "answer_logprobs": [2 * math.log(value) for value in found],
                "num_answer_tokens": [2] * size,
                "behaviour_logprobs": [logprob for _, logprob in proposed.values()],
            }
        )
    return Dataset.from_list(rows, features=ROLLOUTS)
