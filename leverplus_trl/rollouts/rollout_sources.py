# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Where the sequences of a query come from: the beams, the selector, similarity, and random draws. They depend on the
seed, the source and the query alone, not on the other queries or on the process."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from datasets import Dataset

from ..beams.beam_search import selection_order
from ..beams.info_score import ScoredPrompt, answer_score, ledger_prompts
from ..retrieval import ExampleEmbeddings, rank_candidates
from ..selectors import DemonstrationSelector
from .rollout_arguments import RolloutArguments


#: Sources in their order: a sequence that two sources propose has the name of the first.
GREEDY, BEAM, SAMPLE, ZERO_SHOT, RANDOM = "greedy", "beam", "sample", "zero_shot", "random"

Ids = tuple[str, ...]


@dataclass(frozen=True)
class Proposal:
    """A sequence that a source proposes."""

    #: `"greedy"`, `"beam"`, `"sample_<temperature>"`, the kind of a similarity, `"zero_shot"` or `"random"`.
    source: str
    #: In prompt order.
    demonstration_ids: Ids
    #: Log-probability under the distribution that the sequence was drawn from: the selector at the temperature of a
    #: sample, and [`random_logprobs`] for a random sequence. The other sources draw nothing.
    behaviour_logprob: float | None = None


def distinct(proposals: Iterable[Proposal]) -> list[Proposal]:
    """The proposals without repetitions: the first of equal sequences stays."""
    first: dict[Ids, Proposal] = {}
    for proposal in proposals:
        first.setdefault(proposal.demonstration_ids, proposal)
    return list(first.values())


def sequence_lengths(num_shots: int, stop: bool) -> list[int]:
    """Lengths of the sequences, longest first; only a selector that can stop needs shorter sequences."""
    return list(range(num_shots, 0, -1)) if stop else [num_shots]


def take_turns(lists: Sequence[Sequence[Ids]], count: int) -> list[Ids]:
    """The first of each list, then the second of each, and so on, up to `count`."""
    return [ids for rank in zip_longest(*lists) for ids in rank if ids is not None][:count]


def seed_of(*parts: object) -> int:
    """A seed of 63 bits for anything that `json.dumps` takes."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big") >> 1


class SearchedBeams:
    """The beams and the ledger of one split, by query; `num_shots` is the length of the beams' sequences, and `score`
    the scale of InfoScore of the search."""

    def __init__(self, beams: Dataset, ledger: Dataset, num_shots: int, score: str):
        self.beams, self.ledger, self.num_shots, self.score = beams, ledger, num_shots, score
        self._row = {query_id: row for row, query_id in enumerate(beams["query_id"])}
        self._entries: dict[str, list[int]] = {}
        for row, query_id in enumerate(ledger["query_id"]):
            self._entries.setdefault(query_id, []).append(row)

    def __contains__(self, query_id: str) -> bool:
        return query_id in self._row

    def candidate_ids(self, query_id: str) -> list[str]:
        return self.beams[self._row[query_id]]["candidate_ids"]

    def scored(self, query_id: str) -> dict[Ids, ScoredPrompt]:
        """Every scored sequence of a query, the empty sequence included."""
        entries = self.ledger[self._entries.get(query_id, [])]
        return dict(zip(map(tuple, entries["demonstration_ids"]), ledger_prompts(entries), strict=True))

    def best(self, query_id: str, length: int) -> list[Ids]:
        """The beams of a query; of another length than `num_shots`, all scored sequences, best first."""
        if length == self.num_shots:
            return [tuple(ids) for ids in self.beams[self._row[query_id]]["demonstration_ids"]]
        scored = {ids: prompt for ids, prompt in self.scored(query_id).items() if len(ids) == length}
        return sorted(scored, key=lambda ids: -answer_score(scored[ids], self.score))


def similar_sequences(ranked: Sequence[str], lengths: Sequence[int], count: int) -> list[Ids]:
    """Up to `count` sequences of the most similar candidates, the most similar next to the query. Each length in turn
    takes the top of `ranked`; after all lengths, the best candidate is left out and the turns begin again."""
    sequences = []
    for number in range(count):
        skipped, length = number // len(lengths), lengths[number % len(lengths)]
        if skipped + length <= len(ranked):
            sequences.append(tuple(reversed(ranked[skipped : skipped + length])))
    return sequences


def random_sequences(
    candidates: Sequence[str], taken: Iterable[Ids], lengths: Sequence[int], count: int, seed: int
) -> list[Ids]:
    """Different ordered sequences of random candidates, none of which is in `taken`; fewer than `count` only if there
    are no more. The next has the rarest of the `lengths` (longest first) so far, so that a group covers all."""
    generator = np.random.default_rng(seed)
    taken = set(taken)
    used = {length: sum(len(ids) == length for ids in taken) for length in lengths}
    sequences: list[Ids] = []
    while len(sequences) < count:
        free = [length for length in lengths if used[length] < math.perm(len(candidates), length)]
        if not free:
            break
        length = min(free, key=used.__getitem__)
        drawn = None
        while drawn is None or drawn in taken:
            drawn = tuple(candidates[place] for place in generator.permutation(len(candidates))[:length])
        taken.add(drawn)
        used[length] += 1
        sequences.append(drawn)
    return sequences


def random_logprobs(drawn: Sequence[Ids], num_candidates: int) -> list[float]:
    """
    Log-probabilities of the [`random_sequences`] of a query, drawn from `num_candidates` candidates.

    Lengths take turns and are not drawn, so the source is the mixture of the uniform distributions over the sequences
    of each length, weighted by how many of the draws have that length (the balance heuristic of Veach and Guibas,
    1995). Its probabilities sum to 1 over all sequences. A sequence that was rejected because another source had
    proposed it counts as a possible draw.
    """
    counts = Counter(map(len, drawn))
    return [math.log(counts[len(ids)] / len(drawn)) - math.log(math.perm(num_candidates, len(ids))) for ids in drawn]


@dataclass
class RolloutSources:
    """All sources together; `searched` and the embeddings of the queries are given by split."""

    args: RolloutArguments  # `num_shots` is set, and `similarities: null` means none
    searched: dict[str, SearchedBeams]
    selector: DemonstrationSelector | None = None
    #: Embeddings of the pool and of the queries: similarities need both, the selector `queries`.
    pool: ExampleEmbeddings | None = None
    queries: dict[str, ExampleEmbeddings] | None = None
    #: Embeddings of the queries for a selector whose encoder has adapters.
    read: dict[str, ExampleEmbeddings] | None = None

    def propose(self, split: str, query_ids: Sequence[str]) -> list[list[Proposal]]:
        """
        The proposals for some queries, in the order of the sources. Repetitions are included, since each source is
        measured by all its proposals. Without them (see [`distinct`]) a query has `num_rollouts`, or all the different
        sequences there are.
        """
        candidates = [self.searched[split].candidate_ids(query_id) for query_id in query_ids]
        kinds = self.args.similarities if self.args.num_similar else None
        ranked = {
            kind: rank_candidates(self.queries[split], query_ids, self.pool, candidates, kind) for kind in kinds or ()
        }
        return [
            self._propose(split, query_id, own, {kind: rows[row] for kind, rows in ranked.items()})
            for row, (query_id, own) in enumerate(zip(query_ids, candidates, strict=True))
        ]

    def _propose(
        self, split: str, query_id: str, candidates: list[str], ranked: dict[str, list[str]]
    ) -> list[Proposal]:
        args, proposals = self.args, []
        stop = self.selector is not None and self.selector.model.config.stop
        lengths = sequence_lengths(args.num_shots, stop)
        if self.selector is not None:
            greedy, _ = self._select(split, query_id, candidates, 1, strategy="greedy")[0]
            proposals.append(Proposal(GREEDY, greedy))
        if args.num_beam_sequences:
            best = [self.searched[split].best(query_id, length) for length in lengths]
            proposals += [Proposal(BEAM, ids) for ids in take_turns(best, args.num_beam_sequences)]
        if self.selector is not None and args.num_samples:
            for temperature in args.temperatures:
                source = f"{SAMPLE}_{temperature}"
                generator = torch.Generator(self.selector.model.device)
                generator.manual_seed(seed_of(args.rollout_seed, source, query_id))
                strategy = {"strategy": "sample", "temperature": temperature, "generator": generator}
                samples = self._select(split, query_id, candidates, args.num_samples, **strategy)
                proposals += [Proposal(source, ids, logprob) for ids, logprob in samples]
        for kind, order in ranked.items():
            proposals += [Proposal(kind, ids) for ids in similar_sequences(order, lengths, args.num_similar)]
        if stop:
            proposals.append(Proposal(ZERO_SHOT, ()))
        taken = {proposal.demonstration_ids for proposal in proposals}
        seed = seed_of(args.rollout_seed, RANDOM, query_id)
        drawn = random_sequences(candidates, taken, lengths, args.num_rollouts - len(taken), seed)
        return proposals + list(map(Proposal, [RANDOM] * len(drawn), drawn, random_logprobs(drawn, len(candidates))))

    def _select(
        self, split: str, query_id: str, candidates: list[str], count: int, **strategy
    ) -> list[tuple[Ids, float]]:
        """Sequences in prompt order that the selector chooses for a query, and their behaviour log-probabilities. With
        one query in a call, the shapes of the forward, and so the last bits, do not depend on other queries."""
        model, embeddings = self.selector.model, (self.read or self.queries)[split]
        rows = [query_id] * count, self.selector.pool_embeddings, [candidates] * count
        inputs = self.selector.processor(embeddings, *rows).to(model.device)
        selection = model.select(**inputs, num_shots=self.args.num_shots, **strategy)
        positions = selection.demonstration_positions.tolist()
        chosen = [[candidates[place] for place in row if place >= 0] for row in positions]
        prompts = [tuple(selection_order(ids, model.config.insertion)) for ids in chosen]
        return list(zip(prompts, selection.behaviour_logprobs.tolist(), strict=True))
