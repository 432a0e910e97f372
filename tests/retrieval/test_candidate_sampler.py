# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest

from leverplus_trl.recipe_parser import RecipeParser
from leverplus_trl.retrieval.candidate_sampler import SAMPLERS, CandidateSampler, SamplerArguments
from leverplus_trl.retrieval.embeddings import ExampleEmbeddings
from leverplus_trl.retrieval.similarity_index import rank_pool


def random_embeddings(ids: list[str], seed: int, image: bool = True) -> ExampleEmbeddings:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(2, len(ids), 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return ExampleEmbeddings(ids, image=rows[0] if image else None, text=rows[1])


POOL = random_embeddings([f"p{number}" for number in range(40)], 0)
QUERY_IDS = [f"q{number}" for number in range(25)]
QUERIES = random_embeddings(QUERY_IDS, 1)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_candidates", [1, 7, 16, 39])
def test_exactly_k_others_without_duplicates(sampler, num_candidates):
    # the queries are the pool itself, so each has 39 others
    candidates = CandidateSampler(POOL, sampler, num_candidates).sample(POOL.ids, POOL)
    for query_id, chosen in zip(POOL.ids, candidates, strict=True):
        assert len(chosen) == len(set(chosen)) == num_candidates
        assert query_id not in chosen and set(chosen) <= set(POOL.ids)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_query_gets_the_same_whoever_else_asks(sampler):
    candidates = dict(zip(QUERY_IDS, CandidateSampler(POOL, sampler, 12, 5).sample(QUERY_IDS, QUERIES), strict=True))
    subset = [QUERY_IDS[number] for number in (9, 3, 21)]
    assert CandidateSampler(POOL, sampler, 12, 5).sample(subset, QUERIES) == [candidates[name] for name in subset]
    shuffled = ExampleEmbeddings(QUERY_IDS[::-1], image=QUERIES.image[::-1], text=QUERIES.text[::-1])
    assert CandidateSampler(POOL, sampler, 12, 5).sample(["q4"], shuffled) == [candidates["q4"]]


def test_seed_and_query_decide_what_is_random():
    first = CandidateSampler(POOL.ids, "random", 10, 0).sample(QUERY_IDS)
    assert first != CandidateSampler(POOL.ids, "random", 10, 1).sample(QUERY_IDS)
    assert len({tuple(chosen) for chosen in first}) == len(QUERY_IDS)
    similar = CandidateSampler(POOL, "image_text_sim", 10, 0).sample(QUERY_IDS, QUERIES)
    assert similar == CandidateSampler(POOL, "image_text_sim", 10, 1).sample(QUERY_IDS, QUERIES)


def test_random_is_uniform():
    ids = [f"p{number}" for number in range(8)]
    query_ids = [f"q{number}" for number in range(4000)]
    candidates = CandidateSampler([*ids, "q0"], "random", 3).sample(query_ids)
    counts = {name: sum(name in chosen for chosen in candidates) for name in [*ids, "q0"]}
    assert set(counts) == {*ids, "q0"}
    # 4,000 * 3 / 9 = 1,333 expected, standard deviation 30
    assert all(abs(count - 1333) < 150 for count in counts.values())
    firsts = [chosen[0] for chosen in candidates]
    assert all(abs(firsts.count(name) - 444) < 100 for name in ids)


@pytest.mark.parametrize("kind", ["text_sim", "image_sim", "image_text_sim"])
def test_similarity_samplers_take_the_nearest(kind):
    assert CandidateSampler(POOL, kind, 9).sample(QUERY_IDS, QUERIES) == rank_pool(QUERIES, QUERY_IDS, POOL, kind, 9)


@pytest.mark.parametrize(("num_candidates", "quarter"), [(16, 4), (10, 2), (3, 0), (36, 9)])
def test_mix_is_half_random_then_text_then_image(num_candidates, quarter):
    sampler = CandidateSampler(POOL, "mix", num_candidates, 3)
    by_text, by_image = (rank_pool(QUERIES, QUERY_IDS, POOL, kind, 40) for kind in ("text_sim", "image_sim"))
    for row, chosen in enumerate(sampler.sample(QUERY_IDS, QUERIES)):
        drawn, text, image = np.split(np.array(chosen), [num_candidates - 2 * quarter, num_candidates - quarter])
        (expected,) = CandidateSampler(POOL.ids, "random", len(drawn), 3).sample([QUERY_IDS[row]])
        assert drawn.tolist() == expected
        assert text.tolist() == [name for name in by_text[row] if name not in drawn][:quarter]
        assert image.tolist() == [name for name in by_image[row] if name not in (*drawn, *text)][:quarter]


def test_mix_by_hand():
    plane = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0]], dtype=np.float32)
    pool = ExampleEmbeddings(list("abcde"), image=plane, text=plane)
    query = ExampleEmbeddings(["q"], image=plane[:1], text=plane[:1])
    (chosen,) = CandidateSampler(pool, "mix", 4).sample(["q"], query)
    # text and image agree, so the nearest two that were not drawn follow, one for each
    assert chosen[2:] == [name for name in "abcde" if name not in chosen[:2]][:2]


def test_text_only_data():
    pool, queries = random_embeddings(POOL.ids, 0, image=False), random_embeddings(QUERY_IDS, 1, image=False)
    assert len(CandidateSampler(pool, "text_sim", 5).sample(QUERY_IDS, queries)[0]) == 5
    assert len(CandidateSampler(pool, "random", 5).sample(QUERY_IDS)[0]) == 5
    for sampler in ("image_sim", "image_text_sim", "mix"):
        with pytest.raises(ValueError, match=rf"'{sampler}' compares image embeddings, but the pool.*take 'text_sim'"):
            CandidateSampler(pool, sampler, 5)
        with pytest.raises(ValueError, match=rf"'{sampler}' compares image embeddings, but the queries"):
            CandidateSampler(POOL, sampler, 5).sample(QUERY_IDS, queries)


@pytest.mark.parametrize("sampler", ["random", "text_sim", "mix"])
def test_a_query_of_a_pool_of_k_gets_all_the_others(sampler, caplog):
    both = ExampleEmbeddings(
        POOL.ids + QUERIES.ids,
        image=np.concatenate([POOL.image, QUERIES.image]),
        text=np.concatenate([POOL.text, QUERIES.text]),
    )
    outside, inside = CandidateSampler(POOL, sampler, 40).sample(["q0", "p7"], both)
    assert sorted(outside) == sorted(POOL.ids) and sorted(inside) == sorted(set(POOL.ids) - {"p7"})
    assert (
        "num_candidates is 40, but 1 of 2 queries have fewer candidates, e.g. 'p7' has 39: the pool of 40 holds"
        in caplog.text
    )


@pytest.mark.parametrize("sampler", ["random", "text_sim", "image_sim", "image_text_sim", "mix"])
def test_excluded_examples_are_no_candidates(sampler):
    drawn = CandidateSampler(POOL, sampler, 12)
    before = drawn.sample(QUERY_IDS, QUERIES)
    excluded = {QUERY_IDS[0]: before[0][:5], QUERY_IDS[1]: ["elsewhere"]}
    after = drawn.sample(QUERY_IDS, QUERIES, excluded)
    assert not set(after[0]) & set(before[0][:5]) and len(set(after[0])) == 12
    assert after[1:] == before[1:]


def test_drawn_at_random_all_that_are_left_come_equally_often():
    excluded = {f"q{number}": ["a", "d"] for number in range(3000)}
    drawn = CandidateSampler(list("abcdef"), "random", 2).sample(list(excluded), excluded=excluded)
    counts = {name: sum(name in ids for ids in drawn) for name in "abcdef"}
    assert counts["a"] == counts["d"] == 0 and all(1400 < counts[name] < 1600 for name in "bcef")


def test_bad_input():
    with pytest.raises(ValueError, match="num_candidates is 41, but the pool holds 40 examples"):
        CandidateSampler(POOL, "random", 41)
    with pytest.raises(ValueError, match="'only' has no candidates"):
        CandidateSampler(["only"], "random", 1).sample(["only"])
    with pytest.raises(ValueError, match="'p1' comes more than once"):
        CandidateSampler(["p1", "p2", "p1"], "random", 1)
    with pytest.raises(ValueError, match="Unknown sampler 'nearest'"):
        CandidateSampler(POOL, "nearest", 1)
    with pytest.raises(ValueError, match="num_candidates is 0"):
        CandidateSampler(POOL, "random", 0)
    with pytest.raises(ValueError, match="needs embeddings of the queries"):
        CandidateSampler(POOL, "text_sim", 1).sample(["q0"])
    with pytest.raises(ValueError, match="No embedding of the example 'z'"):
        CandidateSampler(POOL, "text_sim", 1).sample(["z"], QUERIES)


def test_arguments():
    parser = RecipeParser([SamplerArguments])
    (arguments,) = parser.parse_args_and_config(
        ["--sampler", "mix", "--encoder", "some/clip", "--num_candidates", "8"]
    )
    assert (arguments.num_candidates, arguments.sampler_seed, arguments.encoder_revision) == (8, 0, None)
    assert arguments.modalities == ("image", "text")
    assert SamplerArguments().modalities == ()
    assert SamplerArguments(sampler="text_sim", encoder="e").modalities == ("text",)
    with pytest.raises(ValueError, match="sampler is 'nearest'; expected one of random, text_sim"):
        SamplerArguments(sampler="nearest")
    with pytest.raises(ValueError, match="set `encoder`"):
        SamplerArguments(sampler="mix")
    with pytest.raises(ValueError, match="num_candidates is 0"):
        SamplerArguments(num_candidates=0)
    with pytest.raises(ValueError, match="encoder_batch_size is 0"):
        SamplerArguments(encoder_batch_size=0)
