# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""
Where the sequences of a query come from: the beams, the selector, similarity, chance.

What a query gets depends on the seed, the source and the query alone, never on the other queries or on the process
that asks.
"""

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
from ..vlms import AnswerLogprob
from .rollout_arguments import RolloutArguments


#: Sources in the order in which they are asked: of a sequence that two propose, the first one's name is kept.
GREEDY, BEAM, SAMPLE, ZERO_SHOT, RANDOM = "greedy", "beam", "sample", "zero_shot", "random"

Ids = tuple[str, ...]


@dataclass(frozen=True)
class Proposal:
    """
    A sequence that a source proposes.

    Args:
        source (`str`):
            `"greedy"`, `"beam"`, `"sample_<temperature>"`, the kind of a similarity, `"zero_shot"` or `"random"`.
        demonstration_ids (`tuple[str, ...]`):
            The sequence in prompt order.
        behaviour_logprob (`float`, *optional*):
            Log-probability of the sequence under the distribution it was drawn from: the selector at the temperature
            of a sample, and [`random_logprobs`] for a random one. The other sources draw nothing.
    """

    source: str
    demonstration_ids: Ids
    behaviour_logprob: float | None = None


def distinct(proposals: Iterable[Proposal]) -> list[Proposal]:
    """The proposals without repetitions: the first of equal sequences stays."""
    first: dict[Ids, Proposal] = {}
    for proposal in proposals:
        first.setdefault(proposal.demonstration_ids, proposal)
    return list(first.values())


def sequence_lengths(num_shots: int, stop: bool) -> list[int]:
    """Lengths of the sequences that are proposed, longest first; only a selector that can stop needs shorter ones."""
    return list(range(num_shots, 0, -1)) if stop else [num_shots]


def take_turns(lists: Sequence[Sequence[Ids]], count: int) -> list[Ids]:
    """The first of each list, then the second of each, and so on, up to `count`."""
    return [ids for rank in zip_longest(*lists) for ids in rank if ids is not None][:count]


def seed_of(*parts: object) -> int:
    """A seed of 63 bits for anything that `json.dumps` takes."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big") >> 1


class SearchedBeams:
    """
    What a search left of the queries of one split.

    Args:
        beams (`Dataset`):
            Table with the columns of `schema.BEAMS`.
        ledger (`Dataset`):
            Table with the columns of `schema.LEDGER`.
        num_shots (`int`):
            Length of the sequences in `beams`.
        score (`str`):
            Scale of InfoScore that the search was on.
    """

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
        """Every sequence of a query that was scored, the empty one included."""
        entries = self.ledger[self._entries.get(query_id, [])]
        return dict(zip(map(tuple, entries["demonstration_ids"]), ledger_prompts(entries), strict=True))

    def answer_logprobs(self, query_id: str) -> dict[Ids, AnswerLogprob]:
        """Their log-probabilities alone."""
        return {ids: AnswerLogprob(found.logprob, found.num_tokens) for ids, found in self.scored(query_id).items()}

    def best(self, query_id: str, length: int) -> list[Ids]:
        """The beams of a query, or for a length that the search only passed through, all it scored; best first."""
        if length == self.num_shots:
            return [tuple(ids) for ids in self.beams[self._row[query_id]]["demonstration_ids"]]
        scored = {ids: found for ids, found in self.scored(query_id).items() if len(ids) == length}
        return sorted(scored, key=lambda ids: -answer_score(scored[ids], self.score))


def similar_sequences(ranked: Sequence[str], lengths: Sequence[int], count: int) -> list[Ids]:
    """
    Sequences of the most similar candidates, the most similar next to the query.

    Each length in turn takes the top candidates; when all have had theirs, the same again without the best one.

    Args:
        ranked (`Sequence[str]`):
            Candidates, the most similar first.
        lengths (`Sequence[int]`):
            Lengths of the sequences.
        count (`int`):
            How many sequences; fewer only if the candidates run out.
    """
    found = []
    for number in range(count):
        skipped, length = number // len(lengths), lengths[number % len(lengths)]
        if skipped + length <= len(ranked):
            found.append(tuple(reversed(ranked[skipped : skipped + length])))
    return found


def random_sequences(
    candidates: Sequence[str], taken: Iterable[Ids], lengths: Sequence[int], count: int, seed: int
) -> list[Ids]:
    """
    Different ordered sequences of random candidates, none of which is taken.

    Of several lengths the one that is rarest so far comes next (the longest of such), so that a group covers them all.

    Args:
        candidates (`Sequence[str]`):
            What to draw from.
        taken (`Iterable[tuple[str, ...]]`):
            Sequences not to be drawn.
        lengths (`Sequence[int]`):
            Lengths of the sequences, longest first.
        count (`int`):
            How many; fewer only if there are no more.
        seed (`int`):
            Seed of the draws.
    """
    generator = np.random.default_rng(seed)
    taken = set(taken)
    used = {length: sum(len(ids) == length for ids in taken) for length in lengths}
    found: list[Ids] = []
    while len(found) < count:
        free = [length for length in lengths if used[length] < math.perm(len(candidates), length)]
        if not free:
            break
        length = min(free, key=used.__getitem__)
        drawn = None
        while drawn is None or drawn in taken:
            drawn = tuple(candidates[place] for place in generator.permutation(len(candidates))[:length])
        taken.add(drawn)
        used[length] += 1
        found.append(drawn)
    return found


def random_logprobs(drawn: Sequence[Ids], num_candidates: int) -> list[float]:
    """
    Log-probabilities of random sequences of one query, under the mixture they come from.

    Lengths take turns and are not drawn, so that the source is the mixture of the uniform distributions over the
    sequences of each length, weighted by how many of the query's draws have that length (the balance heuristic of
    Veach and Guibas, 1995). Its probabilities sum to 1 over all sequences. A sequence that was rejected because
    another source had proposed it counts as one that could have been drawn.

    Args:
        drawn (`Sequence[tuple[str, ...]]`):
            What [`random_sequences`] returned.
        num_candidates (`int`):
            K, the number of candidates they were drawn from.
    """
    counts = Counter(map(len, drawn))
    return [math.log(counts[len(ids)] / len(drawn)) - math.log(math.perm(num_candidates, len(ids))) for ids in drawn]


@dataclass
class RolloutSources:
    """
    All sources together.

    Args:
        args ([`RolloutArguments`]):
            Number of sequences from each source; `num_shots` is set, and `similarities: null` means none.
        searched (`dict[str, SearchedBeams]`):
            Beams and ledger, by split.
        selector ([`DemonstrationSelector`], *optional*):
            What is sampled.
        pool ([`ExampleEmbeddings`], *optional*):
            Embeddings of the pool; similarities need them.
        queries (`dict[str, ExampleEmbeddings]`, *optional*):
            Embeddings of the queries, by split; similarities and the selector need them.
        read (`dict[str, ExampleEmbeddings]`, *optional*, defaults to `queries`):
            Embeddings of the queries for a selector whose encoder has adapters.
    """

    args: RolloutArguments
    searched: dict[str, SearchedBeams]
    selector: DemonstrationSelector | None = None
    pool: ExampleEmbeddings | None = None
    queries: dict[str, ExampleEmbeddings] | None = None
    read: dict[str, ExampleEmbeddings] | None = None

    @property
    def stop(self) -> bool:
        """Whether sequences of every length are proposed, the empty one included."""
        return self.selector is not None and self.selector.model.config.stop

    def propose(self, split: str, query_ids: Sequence[str]) -> list[list[Proposal]]:
        """
        What the sources propose for some queries.

        Returns:
            `list[list[Proposal]]`: for each query the proposals in the order of the sources, repetitions included, so
            that every source can be judged by all it said. Without repetitions (see [`distinct`]) they are
            `num_rollouts`, or all the different sequences there are.
        """
        candidates = [self.searched[split].candidate_ids(query_id) for query_id in query_ids]
        ranked = {
            kind: rank_candidates(self.queries[split], query_ids, self.pool, candidates, kind)
            for kind in (self.args.similarities or () if self.args.num_similar else ())
        }
        return [
            self._propose(split, query_id, own, {kind: rows[row] for kind, rows in ranked.items()})
            for row, (query_id, own) in enumerate(zip(query_ids, candidates, strict=True))
        ]

    def _propose(
        self, split: str, query_id: str, candidates: list[str], ranked: dict[str, list[str]]
    ) -> list[Proposal]:
        args = self.args
        lengths = sequence_lengths(args.num_shots, self.stop)
        proposals = []
        if self.selector is not None:
            greedy, _ = self._select(split, query_id, candidates, 1, strategy="greedy")[0]
            proposals.append(Proposal(GREEDY, greedy))
        if args.num_beam_sequences:
            best = [self.searched[split].best(query_id, length) for length in lengths]
            proposals += [Proposal(BEAM, ids) for ids in take_turns(best, args.num_beam_sequences)]
        if self.selector is not None and args.num_samples:
            proposals += self._samples(split, query_id, candidates)
        for kind, ids in ranked.items():
            proposals += [Proposal(kind, found) for found in similar_sequences(ids, lengths, args.num_similar)]
        if self.stop:
            proposals.append(Proposal(ZERO_SHOT, ()))
        taken = {proposal.demonstration_ids for proposal in proposals}
        seed = seed_of(args.rollout_seed, RANDOM, query_id)
        drawn = random_sequences(candidates, taken, lengths, args.num_rollouts - len(taken), seed)
        logprobs = random_logprobs(drawn, len(candidates))
        return proposals + [Proposal(RANDOM, *one) for one in zip(drawn, logprobs, strict=True)]

    def _samples(self, split: str, query_id: str, candidates: list[str]) -> list[Proposal]:
        """The selector's draws at each temperature."""
        proposals = []
        for temperature in self.args.temperatures:
            source = f"{SAMPLE}_{temperature}"
            generator = torch.Generator(self.selector.model.device)
            generator.manual_seed(seed_of(self.args.rollout_seed, source, query_id))
            strategy = {"strategy": "sample", "temperature": temperature, "generator": generator}
            drawn = self._select(split, query_id, candidates, self.args.num_samples, **strategy)
            proposals += [Proposal(source, ids, logprob) for ids, logprob in drawn]
        return proposals

    def _select(
        self, split: str, query_id: str, candidates: list[str], count: int, **strategy
    ) -> list[tuple[Ids, float]]:
        """
        Sequences in prompt order that the selector chooses for one query, and their behaviour log-probabilities.

        One query at a time: the shapes of the forward, and so the last bits, don't depend on who else is asked.
        """
        model, config = self.selector.model, self.selector.model.config
        inputs = self.selector.processor(
            (self.read or self.queries)[split], [query_id] * count, self.selector.pool_embeddings, [candidates] * count
        ).to(model.device)
        found = model.select(**inputs, num_shots=self.args.num_shots, **strategy)
        chosen = []
        rows = zip(found.demonstration_positions.tolist(), found.behaviour_logprobs.tolist(), strict=True)
        for positions, logprob in rows:
            ids = [candidates[position] for position in positions if position >= 0]
            chosen.append((tuple(selection_order(ids, config.insertion)), logprob))
        return chosen
