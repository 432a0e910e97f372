# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
A world in numbers alone: vectors for embeddings, a rule for the VLM, and the beams and ledger that a search would
leave.

Examples show a colour and a shape before a background, and ask for one or for both. A demonstration helps if it names
what the query asks for; a frame in the picture tells whether its annotator was careless, and then it misleads. Queries
of a fourth kind are answered best without demonstrations. The
embeddings are sums of random vectors, one per attribute, with backgrounds that weigh more than what counts.
"""

import math

import numpy as np
from datasets import Dataset

from leverplus_trl.retrieval.embeddings import ExampleEmbeddings
from leverplus_trl.schema import BEAMS, LEDGER


VALUES, BACKGROUNDS = 4, 4
COLOUR, SHAPE, BOTH, KNOWN = range(4)
GUESS, WRONG, RIGHT = 0.02, 0.005, 0.95


class SimulatedWorld:
    def __init__(self, pool=200, num_candidates=24, num_shots=2, beam_size=4, insertion="left", known=0.0, seed=0):
        self.rng = np.random.default_rng(seed)
        self.num_candidates, self.num_shots, self.beam_size = num_candidates, num_shots, beam_size
        self.insertion = insertion
        self.image_parts = [self.rng.normal(size=(size, 16)) for size in (VALUES, VALUES, BACKGROUNDS, 2)]
        self.text_parts = self.rng.normal(size=(3, 8))
        self.known, self.known_rng = known, np.random.default_rng([seed, 1])
        self.text_parts = np.concatenate([self.text_parts, self.known_rng.normal(size=(1, 8))])
        self.offset = 2.0 * self.rng.normal(size=16)  # embeddings of a trained encoder share a large mean
        self.attributes = {"pool": self._draw(pool, careless=0.34)}
        self.embeddings = {"pool": self._embed("pool")}

    def _draw(self, count, careless):
        values = [VALUES, VALUES, BACKGROUNDS]
        attributes = [self.rng.integers(0, size, count) for size in values]
        return np.stack([*attributes, self.rng.random(count) < careless, self.rng.integers(0, 3, count)], axis=1)

    def _embed(self, split):
        colour, shape, background, careless, kind = self.attributes[split].T
        image = sum(
            weight * parts[values]
            for parts, values, weight in zip(
                self.image_parts, (colour, shape, background, careless), (1, 1, 1.5, 1), strict=True
            )
        )
        image = image + self.offset + 0.3 * self.rng.normal(size=image.shape)
        text = self.text_parts[kind] + 0.1 * self.rng.normal(size=(len(kind), 8))
        ids = [f"{split}-{row}" for row in range(len(kind))]
        image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
        return ExampleEmbeddings(ids, image.astype(np.float32), text.astype(np.float32))

    def probability(self, query, prompt):
        """Probability of the right answer to a query, given the attributes of demonstrations in prompt order."""
        if query[4] == KNOWN:
            return RIGHT - 0.3 * len(prompt)
        words = []
        for attribute, kind in ((0, COLOUR), (1, SHAPE)):
            if query[4] not in (kind, BOTH):
                continue
            shown = [d for d in prompt if d[4] in (kind, BOTH) and d[attribute] == query[attribute]]
            # the demonstration next to the query outweighs the others
            words.append(GUESS if not shown else WRONG if shown[-1][3] else RIGHT - 0.05 * (len(shown) - 1))
        return math.prod(words) ** (1 / len(words))

    def queries(self, split, count):
        """Draws queries that are never careless, and searches: gives the beams and the ledger."""
        self.attributes[split] = self._draw(count, careless=0.0)
        self.attributes[split][self.known_rng.random(count) < self.known, 4] = KNOWN
        self.embeddings[split] = self._embed(split)
        beams, ledger = [], []
        for row in range(count):
            candidates = self.rng.permutation(len(self.attributes["pool"]))[: self.num_candidates].tolist()
            beams.append(self._search(split, row, candidates, ledger))
        return Dataset.from_list(beams, features=BEAMS), Dataset.from_list(ledger, features=LEDGER)

    def _search(self, split, row, candidates, ledger):
        query, query_id = self.attributes[split][row], f"{split}-{row}"
        zero_shot = self.probability(query, [])
        entry = {"query_id": query_id, "split": split, "num_answer_tokens": 2, "accuracy": None}
        ledger.append({**entry, "demonstration_ids": [], "answer_logprob": 2 * math.log(zero_shot)})
        kept = [()]
        for _ in range(self.num_shots):
            scored = {}
            for prefix in kept:
                for candidate in candidates:
                    if candidate in prefix:
                        continue
                    sequence = (candidate, *prefix) if self.insertion == "left" else (*prefix, candidate)
                    scored[sequence] = self.probability(query, self.attributes["pool"][list(sequence)])
                    ids = [f"pool-{name}" for name in sequence]
                    logprob = 2 * math.log(scored[sequence])
                    ledger.append({**entry, "demonstration_ids": ids, "answer_logprob": logprob})
            kept = sorted(scored, key=scored.get, reverse=True)[: self.beam_size]
        return {
            "query_id": query_id,
            "split": split,
            "candidate_ids": [f"pool-{name}" for name in candidates],
            "demonstration_ids": [[f"pool-{name}" for name in sequence] for sequence in kept],
            "scores": [scored[sequence] - zero_shot for sequence in kept],
            "step_scores": [[] for _ in kept],
            "zero_shot_score": zero_shot,
        }

    def mean_probability(self, split, selections):
        """Mean probability of the right answers with these demonstrations, ids in prompt order."""
        pool, rows = self.attributes["pool"], self.embeddings["pool"].rows
        chosen = zip(self.attributes[split], selections, strict=True)
        return float(np.mean([self.probability(query, pool[rows(ids)]) for query, ids in chosen]))
