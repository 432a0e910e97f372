# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import faiss
import numpy as np
import pytest

from leverplus_trl.retrieval.candidate_sampler import CandidateSampler
from leverplus_trl.retrieval.embeddings import ExampleEmbeddings
from leverplus_trl.retrieval.similarity_index import (
    SimilarityIndex,
    rank_candidates,
    rank_pool,
    similarity,
    similarity_vectors,
)


def vectors(*angles: float) -> np.ndarray:
    """Unit vectors in the plane, by their angle in degrees."""
    radians = np.deg2rad(np.array(angles))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


POOL = ExampleEmbeddings(["a", "b", "c", "d"], image=vectors(0, 60, 90, 180), text=vectors(90, 30, 0, 0))
QUERIES = ExampleEmbeddings(["q", "b"], image=vectors(0, 60), text=vectors(0, 30))


def test_similarity_by_hand():
    image, text = [1, 0.5, 0, -1], [0, 3**0.5 / 2, 1, 1]
    for kind, expected in {"image_sim": image, "text_sim": text, "image_text_sim": np.add(image, text)}.items():
        (scores,) = similarity(QUERIES, ["q"], POOL, [["a", "b", "c", "d"]], kind)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        (reversed_scores,) = similarity(QUERIES, ["q"], POOL, [["d", "b"]], kind)
        np.testing.assert_array_equal(reversed_scores, scores[[3, 1]])


def test_ranks_by_hand():
    candidates = [["d", "c", "b", "a"]]
    assert rank_candidates(QUERIES, ["q"], POOL, candidates, "image_sim") == [["a", "b", "c", "d"]]
    (by_text,) = rank_candidates(QUERIES, ["q"], POOL, candidates, "text_sim")
    assert set(by_text[:2]) == {"c", "d"} and by_text[2:] == ["b", "a"]  # c = d
    (by_both,) = rank_candidates(QUERIES, ["q"], POOL, candidates, "image_text_sim")
    assert by_both[0] == "b" and set(by_both[1:3]) == {"a", "c"} and by_both[3] == "d"  # a = c
    assert rank_candidates(QUERIES, ["q", "b"], POOL, [["d", "a"], ["c"]], "image_sim") == [["a", "d"], ["c"]]
    assert rank_pool(QUERIES, ["q"], POOL, "text_sim", 4) == [by_text]
    assert rank_pool(QUERIES, ["q"], POOL, "image_text_sim", 2) == [by_both[:2]]
    # b is itself in the pool: at 60 degrees c is 30 away, a 60, d 120
    assert rank_pool(QUERIES, ["b", "q"], POOL, "image_sim", 3) == [["c", "a", "d"], ["a", "b", "c"]]


def test_scores_of_a_search():
    index = SimilarityIndex(POOL, "image_text_sim")
    positions, scores = index.search(similarity_vectors(QUERIES, "image_text_sim")[:1], 2, [1])
    assert positions.tolist() == [[0, 2]]
    np.testing.assert_allclose(scores, [[1, 1]], atol=1e-6)


def random_embeddings(seed: int, size: int, distinct: int) -> ExampleEmbeddings:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(distinct, 24)).astype(np.float32)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True))[generator.integers(distinct, size=size)]
    return ExampleEmbeddings([f"{seed}-{number}" for number in range(size)], text=rows)


@pytest.mark.parametrize("distinct", [1, 5, 700])
def test_equal_to_brute_force_with_ties_in_the_order_of_the_pool_or_of_the_query(distinct):
    pool, queries = random_embeddings(0, 700, distinct), random_embeddings(1, 40, 40)
    positions, scores = SimilarityIndex(pool, "text_sim").search(queries.text, 30)
    for row, vector in enumerate(queries.text):
        exact = (pool.text.astype(np.float64) * vector.astype(np.float64)).sum(axis=1)
        expected = sorted(range(700), key=lambda place: (-exact[place], place))[:30]
        assert positions[row].tolist() == expected
        np.testing.assert_array_equal(scores[row], exact[expected])


def test_order_depends_neither_on_threads_nor_on_the_other_queries():
    pool, queries = random_embeddings(0, 3000, 300), random_embeddings(1, 60, 60)
    index = SimilarityIndex(pool, "text_sim")
    threads = faiss.omp_get_max_threads()
    together = index.search(queries.text, 20)
    faiss.omp_set_num_threads(4)
    try:
        threaded = index.search(queries.text, 20)
    finally:
        faiss.omp_set_num_threads(threads)
    alone = [index.search(queries.text[row : row + 1], 20) for row in range(60)]
    for part in range(2):
        np.testing.assert_array_equal(together[part], threaded[part])
        np.testing.assert_array_equal(together[part], np.concatenate([result[part] for result in alone]))


def test_bad_input():
    with pytest.raises(ValueError, match="Unknown similarity 'mix'"):
        SimilarityIndex(POOL, "mix")
    with pytest.raises(ValueError, match=r"compares image embeddings.*use text_sim"):
        SimilarityIndex(random_embeddings(0, 5, 5), "image_text_sim")
    with pytest.raises(ValueError, match="Can't find 4 examples"):
        rank_pool(QUERIES, ["b"], POOL, "text_sim", 4)
    with pytest.raises(ValueError, match="with the same encoder"):
        rank_pool(random_embeddings(0, 5, 5), ["0-1"], POOL, "text_sim", 2)
    with pytest.raises(ValueError, match="with the same encoder"):
        similarity(random_embeddings(0, 5, 5), ["0-1"], POOL, [["a"]], "text_sim")
    with pytest.raises(ValueError, match="No embedding of the example 'z'"):
        rank_candidates(QUERIES, ["q"], POOL, [["a", "z"]], "text_sim")


@pytest.mark.parametrize("broken", [[np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0], [0.3, 0.3]])
def test_a_vector_without_a_cosine_is_refused_wherever_it_comes_from(broken):
    # Put there after the embeddings were checked: nothing that is ranked goes unchecked.
    damaged = ExampleEmbeddings(["a", "b", "c"], text=vectors(0, 60, 90))
    damaged.text[1] = broken
    fine = ExampleEmbeddings(["a", "b", "c"], text=vectors(10, 60, 90))
    with pytest.raises(ValueError, match="text vector of 'b' has the length"):
        SimilarityIndex(damaged, "text_sim")
    with pytest.raises(ValueError, match="text vector of 'b' has the length"):
        rank_pool(fine, ["a"], damaged, "text_sim", 2)
    with pytest.raises(ValueError, match="text vector of 'b' has the length"):
        rank_pool(damaged, ["a", "b"], fine, "text_sim", 2)
    with pytest.raises(ValueError, match="text vector of 'b' has the length"):
        rank_candidates(fine, ["a"], damaged, [["c", "b"]], "text_sim")
    assert rank_candidates(fine, ["a"], damaged, [["c", "a"]], "text_sim") == [["a", "c"]]
    with pytest.raises(ValueError, match=r"text_sim vector of 'q' has the length .*; expected 1"):
        SimilarityIndex(fine, "text_sim").search(damaged.text[1:2], 1, query_ids=["q"])


def test_a_search_is_checked_whichever_queries_come():
    index = SimilarityIndex(POOL, "image_text_sim")
    query = similarity_vectors(QUERIES, "image_text_sim")
    for k in (0, -1, 5, 2.0, None):
        with pytest.raises(ValueError, match=f"Can't find {k} examples.*expected 1 to 4"):
            index.search(query, k)
    with pytest.raises(ValueError, match="expected 1 to 3"):
        index.search(query, 4, [None, 1])
    with pytest.raises(ValueError, match="Got 2 query vectors, 1 excluded positions and 2 query ids"):
        index.search(query, 2, [None], ["q", "b"])
    with pytest.raises(ValueError, match="Got 2 query vectors, 2 excluded positions and 3 query ids"):
        index.search(query, 2, None, ["q", "b", "r"])
    with pytest.raises(ValueError, match=r"excluded positions are \[4\]"):
        index.search(query, 2, [None, 4])
    with pytest.raises(ValueError, match="query vectors are float64; expected float32"):
        index.search(query.astype(np.float64), 2)
    with pytest.raises(ValueError, match=r"query vectors are a list; expected a float32 np\.ndarray"):
        index.search(query.tolist(), 2)
    with pytest.raises(ValueError, match="with the same encoder"):
        index.search(query[0], 2)
    with pytest.raises(ValueError, match="with the same encoder"):
        index.search(query[:0, :3], 2)
    for ids in index.search(query, 4)[0]:
        assert sorted(ids) == [0, 1, 2, 3]


def test_widths_are_compared_one_by_one():
    def axes(image, text, name="a"):
        return ExampleEmbeddings([name], *(np.eye(1, width, dtype=np.float32) for width in (image, text)))

    with pytest.raises(ValueError, match=r"shape \(1, 2\) can't be compared with a pool of shape \(1, 3\)"):
        similarity(axes(2, 3), ["a"], axes(3, 2), [["a"]], "image_text_sim")  # five numbers either way
    with pytest.raises(ValueError, match="with the same encoder"):
        rank_pool(axes(2, 3, "q"), ["q"], axes(3, 2), "image_text_sim", 1)
    with pytest.raises(ValueError, match="with the same encoder"):
        CandidateSampler(axes(3, 2), "image_text_sim", 1).sample(["q"], axes(2, 3, "q"))


def test_a_candidate_that_comes_twice_is_refused():
    with pytest.raises(ValueError, match="query 'q' has the candidate 'b' more than once"):
        rank_candidates(QUERIES, ["q"], POOL, [["a", "b", "b"]], "text_sim")


def test_each_query_orders_equal_scores_by_itself_and_alike_everywhere():
    ids = [f"p{i}" for i in range(30)]
    same = np.ones((30, 2), np.float32) / np.sqrt(2).astype(np.float32)
    query_ids = [f"q{i}" for i in range(20)]
    pool, queries = ExampleEmbeddings(ids, text=same), ExampleEmbeddings(query_ids, text=same[:20])
    ranked = rank_pool(queries, query_ids, pool, "text_sim", 30)
    assert rank_candidates(queries, query_ids, pool, [ids[::-1]] * 20, "text_sim") == ranked
    assert len({ids[0] for ids in ranked}) > 5  # not the same few for everybody
    assert rank_pool(queries, query_ids[7:8], pool, "text_sim", 3) == [ranked[7][:3]]
