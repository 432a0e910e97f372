# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""On the world of numbers: an untrained selector is enough to draw from."""

import math
import random
from collections import Counter
from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from trainer.simulated_world import SimulatedWorld

from leverplus_trl.beams import selection_order
from leverplus_trl.retrieval import rank_candidates
from leverplus_trl.rollouts.rollout_arguments import RolloutArguments
from leverplus_trl.rollouts.rollout_sources import (
    Proposal,
    RolloutSources,
    SearchedBeams,
    distinct,
    random_logprobs,
    random_sequences,
    seed_of,
    sequence_lengths,
    similar_sequences,
    take_turns,
)
from leverplus_trl.selectors import (
    GPT2SelectorConfig,
    GPT2SelectorModel,
    PointerSelectorConfig,
    PointerSelectorModel,
    SelectorProcessor,
)
from leverplus_trl.selectors.base_selector import action_step_logprobs


class Sources:
    """A world with queries, and the sources of a small recipe for it."""

    def __init__(self, insertion="left", stop=False, num_candidates=12, kind=PointerSelectorConfig, **world):
        self.world = SimulatedWorld(pool=40, num_candidates=num_candidates, insertion=insertion, **world)
        self.beams, self.ledger = self.world.queries("train", 9)
        self.ids = list(self.beams["query_id"])
        torch.manual_seed(0)
        values = {"hidden_size": 16, "num_heads": 2, "image_embed_dim": 16, "text_embed_dim": 8}
        values |= {"pool_size": 40} if kind is GPT2SelectorConfig else {}
        config = kind(**values, insertion=insertion, stop=stop)
        model = (GPT2SelectorModel if kind is GPT2SelectorConfig else PointerSelectorModel)(config)
        self.selector = SimpleNamespace(
            model=model.eval(),
            processor=SelectorProcessor(config.query_features, config.candidate_features),
            pool_embeddings=self.world.embeddings["pool"],
        )

    def __call__(self, selector=True, score="prob", **arguments):
        given = {
            "num_shots": self.world.num_shots,
            "similarities": ["image_text_sim"],
            "beams": "b",
            "output_dir": "o",
        }
        arguments = given | arguments
        args = RolloutArguments(selector="s" if selector else None, **arguments)
        searched = {"train": SearchedBeams(self.beams, self.ledger, self.world.num_shots, score)}
        embeddings = self.world.embeddings["pool"], {"train": self.world.embeddings["train"]}
        return RolloutSources(args, searched, self.selector if selector else None, *embeddings)


@pytest.fixture(scope="module")
def small():
    return Sources()


@pytest.fixture(scope="module")
def stopping():
    return Sources(stop=True)


def test_groups_are_full_of_different_sequences_of_candidates(small):
    for query_id, proposals in zip(small.ids, small().propose("train", small.ids), strict=True):
        group = [proposal.demonstration_ids for proposal in distinct(proposals)]
        assert len(group) == len(set(group)) == 16
        candidates = set(small.beams[small.ids.index(query_id)]["candidate_ids"])
        assert all(len(ids) == len(set(ids)) == 2 and set(ids) <= candidates for ids in group)
        proposed = Counter(proposal.source for proposal in proposals)
        assert proposed.pop("random") == 16 - len({p.demonstration_ids for p in proposals if p.source != "random"})
        assert proposed == {"greedy": 1, "beam": 4, "sample_1.0": 3, "sample_1.3": 3, "image_text_sim": 1}


def test_the_first_source_keeps_a_sequence():
    proposals = [Proposal("greedy", ("a",)), Proposal("beam", ("b",)), Proposal("sample_1.0", ("a",), -1.0)]
    assert distinct([*proposals, Proposal("random", ("c",))]) == [*proposals[:2], Proposal("random", ("c",))]


def test_a_query_gets_the_same_whoever_is_asked_with_it(small):
    together = small().propose("train", small.ids)
    alone = [small().propose("train", [query_id])[0] for query_id in reversed(small.ids)]
    assert together == alone[::-1]  # to the last bit of the log-probabilities
    other = small(rollout_seed=1).propose("train", small.ids)
    for source, same in (("greedy", True), ("beam", True), ("sample_1.0", False), ("random", False)):
        picked = [[p for own in table for p in own if p.source == source] for table in (together, other)]
        assert (picked[0] == picked[1]) is same


@pytest.mark.parametrize("insertion", ["left", "right"])
@pytest.mark.parametrize("kind", [PointerSelectorConfig, GPT2SelectorConfig])
def test_samples_stand_in_prompt_order_with_their_log_probability_at_that_temperature(insertion, kind):
    world = Sources(insertion=insertion, kind=kind)
    model, processor = world.selector.model, world.selector.processor
    for row, proposals in enumerate(world().propose("train", world.ids)):
        candidates = world.beams[row]["candidate_ids"]
        inputs = processor(
            world.world.embeddings["train"], [world.ids[row]], world.world.embeddings["pool"], [candidates]
        )
        for proposal in proposals:
            if proposal.source == "greedy" or proposal.source.startswith("sample"):
                chosen = selection_order(proposal.demonstration_ids, insertion)
                positions = torch.tensor([[candidates.index(name) for name in chosen]])
                with torch.no_grad():
                    logits = model(**inputs, demonstration_positions=positions).logits
                if proposal.source == "greedy":
                    assert logits.argmax(-1).tolist() == positions.tolist() and proposal.behaviour_logprob is None
                else:
                    tempered = logits / float(proposal.source.split("_")[1])
                    expected = action_step_logprobs(tempered.double(), positions, stop=False).sum()
                    assert proposal.behaviour_logprob == pytest.approx(expected.item(), abs=1e-4)


def test_beams_are_those_of_the_table_and_shorter_ones_the_best_of_the_ledger(small):
    for row, proposals in enumerate(small(num_beam_sequences=3).propose("train", small.ids)):
        ids = [p.demonstration_ids for p in proposals if p.source == "beam"]
        assert ids == [tuple(sequence) for sequence in small.beams[row]["demonstration_ids"][:3]]
    short = small(num_shots=1, num_beam_sequences=2, num_rollouts=12)
    for row, proposals in enumerate(short.propose("train", small.ids)):
        found = [p.demonstration_ids for p in proposals if p.source == "beam"]
        entries = [e for e in small.ledger if e["query_id"] == small.ids[row] and len(e["demonstration_ids"]) == 1]
        best = sorted(entries, key=lambda entry: -entry["answer_logprob"])[:2]
        assert found == [tuple(entry["demonstration_ids"]) for entry in best]
        assert len(distinct(proposals)) == 12  # of 12 candidates there are no more


def test_shorter_beams_are_ranked_on_the_scale_of_the_search(small):
    rng = random.Random(0)
    ledger = small.ledger.remove_columns("accuracy")
    ledger = ledger.add_column("accuracy", [float(rng.randrange(100)) for _ in ledger])
    searched = SearchedBeams(small.beams, ledger, 2, "metric")
    for query_id in small.ids:
        worth = {
            tuple(entry["demonstration_ids"]): entry["accuracy"] for entry in ledger if entry["query_id"] == query_id
        }
        best = searched.best(query_id, 1)
        assert [worth[ids] for ids in best] == sorted((worth[ids] for ids in worth if len(ids) == 1), reverse=True)
        assert best != SearchedBeams(small.beams, ledger, 2, "prob").best(query_id, 1)


def test_the_most_similar_stands_next_to_the_query(small):
    kinds = ["image_sim", "text_sim"]
    found = small(similarities=kinds, num_similar=2, num_samples=0).propose("train", small.ids)
    candidates = small.beams["candidate_ids"][:]
    for kind in kinds:
        embeddings = small.world.embeddings
        ranked = rank_candidates(embeddings["train"], small.ids, embeddings["pool"], candidates, kind)
        for order, proposals in zip(ranked, found, strict=True):
            ids = [p.demonstration_ids for p in proposals if p.source == kind]
            assert ids == [(order[1], order[0]), (order[2], order[1])]


def test_random_sequences_are_uniform_over_ordered_sequences(small):
    proposals = small().propose("train", small.ids)
    drawn = [p for own in proposals for p in own if p.source == "random"]
    assert drawn and all(p.behaviour_logprob == pytest.approx(-math.log(12 * 11)) for p in drawn)
    counts = Counter(random_sequences("abc", [], [2], 1, seed_of(0, n))[0] for n in range(3000))
    assert len(counts) == 6 and all(abs(count - 500) < 100 for count in counts.values())  # five standard deviations


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize(("candidates", "num_shots"), [("abc", 1), ("abc", 2), ("abcd", 3), ("abcde", 2), ("ab", 3)])
def test_random_densities_sum_to_one_over_all_sequences(candidates, num_shots, stop):
    lengths = sequence_lengths(num_shots, stop)
    every = [ids for length in lengths for ids in permutations(candidates, length)]
    found = random_sequences(candidates, [()], lengths, len(every), seed=0)
    assert sorted(found) == sorted(every)
    assert math.fsum(map(math.exp, random_logprobs(found, len(candidates)))) == pytest.approx(1.0 if every else 0.0)
    for count in range(1, len(every) + 1):  # also where other sources took some, and where not all are drawn
        drawn = random_sequences(candidates, every[:1], lengths, count, seed=count)
        logprob_of = dict(zip(map(len, drawn), random_logprobs(drawn, len(candidates)), strict=True))
        total = math.fsum(math.exp(logprob_of[len(ids)]) for ids in every if len(ids) in logprob_of)
        assert not drawn or total == pytest.approx(1.0)
    if not stop and every:
        assert set(random_logprobs(found, len(candidates))) == {-math.log(math.perm(len(candidates), num_shots))}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
@pytest.mark.parametrize("stop", [False, True])
def test_densities_of_samples_sum_to_one_over_all_sequences(stop, temperature):
    sources = Sources(stop=stop)
    query_id, three = sources.ids[0], sources.beams[0]["candidate_ids"][:3]
    every = [ids for length in ((0, 1, 2) if stop else (2,)) for ids in permutations(three, length)]
    positions = torch.full((len(every), 2), -1)
    for row, ids in enumerate(every):  # prompt order; the first choice stands next to the query
        positions[row, : len(ids)] = torch.tensor([three.index(name) for name in reversed(ids)])
    embeddings = sources.world.embeddings
    rows = [query_id] * len(every), embeddings["pool"], [three] * len(every)
    inputs = sources.selector.processor(embeddings["train"], *rows)
    with torch.no_grad():
        logits = sources.selector.model(**inputs, demonstration_positions=positions).logits
    expected = action_step_logprobs(logits.double() / temperature, positions, stop).sum(-1)
    assert expected.exp().sum().item() == pytest.approx(1.0, abs=1e-9)
    density = dict(zip(every, expected.tolist(), strict=True))
    how = {"strategy": "sample", "temperature": temperature, "generator": torch.Generator().manual_seed(0)}
    drawn = sources()._select("train", query_id, three, 2000, **how)
    assert {ids for ids, logprob in density.items() if logprob > -3.0} <= {ids for ids, _ in drawn}
    for ids, logprob in drawn:  # also of a sequence that is drawn again
        assert logprob == pytest.approx(density[ids], abs=1e-4)


def test_random_sequences_end_where_there_are_no_more():
    taken = [("a", "b"), ("c",)]
    found = random_sequences("abc", taken, [2, 1], 50, seed=3)
    assert Counter(map(len, found)) == {2: 5, 1: 2} and not set(found) & set(taken) and len(set(found)) == 7
    assert [len(ids) for ids in random_sequences("abcdef", [("a", "b")] * 2, [2, 1], 4, seed=0)] == [1, 2, 1, 2]
    assert random_sequences("abc", [], [2], -3, seed=0) == []


def test_without_a_selector_nothing_is_sampled(small):
    for proposals in small(selector=False).propose("train", small.ids):
        assert {p.source for p in proposals} == {"beam", "image_text_sim", "random"}
        assert len(distinct(proposals)) == 16


def test_a_selector_that_can_stop_gets_every_length(stopping):
    sources = stopping()
    for proposals in sources.propose("train", stopping.ids):
        group = distinct(proposals)
        lengths = Counter(len(proposal.demonstration_ids) for proposal in group)
        assert len(group) == 16 and lengths[0] == 1 and lengths[1] >= 2 and lengths[2] >= 4
        assert [len(p.demonstration_ids) for p in proposals if p.source == "beam"] == [2, 1, 2, 1, 2]
        assert sum(p.source == "zero_shot" and p.behaviour_logprob is None for p in proposals) == 1
        drawn = {len(p.demonstration_ids): p.behaviour_logprob for p in proposals if p.source == "random"}
        assert math.fsum(math.perm(12, n) * math.exp(logprob) for n, logprob in drawn.items()) == pytest.approx(1.0)
    assert sequence_lengths(3, stop=True) == [3, 2, 1] and sequence_lengths(3, stop=False) == [3]


def test_turns_and_windows():
    assert take_turns([["ab", "cd"], ["e"], ["f", "g", "h"]], 5) == ["ab", "e", "f", "cd", "g"]
    assert similar_sequences("abcd", [2, 1], 5) == [("b", "a"), ("a",), ("c", "b"), ("b",), ("d", "c")]
    assert similar_sequences("abc", [3], 3) == [("c", "b", "a")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_beam_sequences": -1}, "num_beam_sequences is -1; expected a whole number of at least 0"),
        ({"num_samples": -2}, "num_samples is -2"),
        ({"num_similar": -1}, "num_similar is -1"),
        ({"num_rollouts": 1}, "num_rollouts is 1; expected a whole number of at least 2"),
        ({"num_shots": 0}, "num_shots is 0"),
        ({"unit_size": 0}, "unit_size is 0"),
        ({"num_queries": 0}, "num_queries is 0"),
        (
            {"similarities": ["audio_sim"]},
            "Item 1 of similarities is 'audio_sim'; expected one of text_sim, im",
        ),
        ({"similarities": ["text_sim", "text_sim"]}, "names something twice"),
        ({"temperatures": [1.0, float("nan")]}, r"Item 2 of temperatures is nan; expected a number above 0"),
        ({"temperatures": [float("inf")]}, "of temperatures is inf; expected a number above 0"),
        ({"temperatures": [1.0, 0.0]}, r"Item 2 of temperatures is 0.0; expected a number above 0"),
        ({"query_splits": []}, "at least one"),
        ({"num_rollouts": 12}, r"num_rollouts is 12, but the sources are asked for 13 .*\(num_beam_sequences 5, .*"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RolloutArguments(beams="b", output_dir="o", selector="s", **arguments)


def test_whole_numbers_are_temperatures_too():
    assert RolloutArguments(beams="b", output_dir="o", temperatures=[1, 2]).temperatures == [1.0, 2.0]


def test_zero_shot_needs_room_beside_the_other_sources():
    args = RolloutArguments(beams="b", output_dir="o", selector="s", num_rollouts=13)
    with pytest.raises(ValueError, match=r"asked for 14 sequences .*zero-shot 1"):
        args.check_room(stop=True)
