# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
On the embedded world's images and encoder; the selector itself has random weights, which is enough to choose with.
"""

import logging
import subprocess
import sys

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from saved_selector import CLIP, WORLD, save_selector

from leverplus_trl.retrieval.candidate_sampler import CandidateSampler
from leverplus_trl.retrieval.embeddings import embed_examples
from leverplus_trl.selectors import DemonstrationSelector
from leverplus_trl.selectors.demonstration_selector import make_query
from leverplus_trl.tasks import DataArguments, load_examples
from leverplus_trl.weights import ALIGNMENT


@pytest.fixture(scope="module")
def pool():
    return load_examples(DataArguments(dataset=str(WORLD)), "pool[:30]")


@pytest.fixture(scope="module")
def queries():
    return load_examples(DataArguments(dataset=str(WORLD)), "validation[:6]")


@pytest.fixture(scope="module")
def embeddings_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("embeddings"))


@pytest.fixture(scope="module")
def embedded(pool, queries, embeddings_dir):
    return [embed_examples(examples, CLIP, embeddings_dir=embeddings_dir) for examples in (pool, queries)]


@pytest.mark.parametrize("insertion", ["left", "right"])
def test_the_one_liner_gives_examples_in_prompt_order(tmp_path, pool, queries, embedded, embeddings_dir, insertion):
    path = save_selector(tmp_path, embedded, insertion=insertion)
    selector = DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=embeddings_dir)
    query = queries[0]
    selection = selector.select(image=query["image"], question=query["question"], num_shots=3)
    assert len(set(selection.demonstration_ids)) == 3
    assert len(selection.candidate_ids) == 12
    chosen = [selection.candidate_ids[position] for position in selection.demonstration_positions]
    assert selection.demonstration_ids == (chosen[::-1] if insertion == "left" else chosen)
    by_id = {row["id"]: row for row in pool}
    for name, row in zip(selection.demonstration_ids, selection.demonstrations, strict=True):
        assert (row["id"], row["question"], row["answer"]) == (name, by_id[name]["question"], by_id[name]["answer"])
        assert np.array_equal(np.array(row["image"]), np.array(by_id[name]["image"]))
    assert selection.logprob < 0
    demonstrations, asked = selection.request
    assert [row["id"] for row in demonstrations] == selection.demonstration_ids
    assert asked["question"] == query["question"] and asked["image"] is query["image"]


def test_a_batch_equals_its_single_queries_and_what_the_model_says(tmp_path, pool, queries, embedded, embeddings_dir):
    path = save_selector(tmp_path, embedded)
    selector = DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=embeddings_dir)
    together = selector.select_batch(queries, num_shots=2)
    for query, selection in zip(queries, together, strict=True):
        single = selector.select(query["question"], query["image"], id=query["id"])
        assert single.candidate_ids == selection.candidate_ids
        assert single.demonstration_ids == selection.demonstration_ids
        assert single.logprob == pytest.approx(selection.logprob, abs=1e-4)
    pool_embeddings, query_embeddings = embedded
    candidates = CandidateSampler(pool_embeddings, "mix", 12, 0).sample(query_embeddings.ids, query_embeddings)
    assert [selection.candidate_ids for selection in together] == candidates
    inputs = selector.processor(query_embeddings, query_embeddings.ids, pool_embeddings, candidates)
    found = selector.model.select(**inputs, num_shots=2)
    assert [selection.demonstration_positions for selection in together] == found.demonstration_positions.tolist()


def test_candidates_can_be_given_or_drawn_otherwise(tmp_path, pool, queries, embedded, embeddings_dir):
    path = save_selector(tmp_path, embedded, sampler="random", num_candidates=8, sampler_seed=3)
    selector = DemonstrationSelector.from_pretrained(path, pool=pool, num_candidates=10, embeddings_dir=embeddings_dir)
    plain = selector.select_batch(queries)
    assert {len(selection.candidate_ids) for selection in plain} == {10}
    other = selector.select_batch(queries, sampler_seed=4, num_candidates=5)
    assert {len(selection.candidate_ids) for selection in other} == {5}
    similar = selector.select_batch(queries, sampler="image_sim", num_candidates=5)
    assert [s.candidate_ids for s in similar] != [s.candidate_ids for s in other]
    given = [["pool-0001", "pool-0005", "pool-0003"], ["pool-0002", "pool-0001"]] + [pool["id"][:4]] * 4
    chosen = selector.select_batch(queries, candidate_ids=given, strategy="beam", num_beams=3)
    assert all(set(s.demonstration_ids) <= set(ids) for s, ids in zip(chosen, given, strict=True))
    with pytest.raises(ValueError, match="candidates of 1 queries for 6"):
        selector.select_batch(queries, candidate_ids=given[:1])
    with pytest.raises(ValueError, match="num_shots is 3, but a query has only 2 candidates"):
        selector.select_batch(queries, candidate_ids=given, num_shots=3)
    with pytest.raises(ValueError, match="num_candidates is 31, but the pool holds 30"):
        selector.select_batch(queries, num_candidates=31)


def test_a_wrong_number_of_candidates_is_refused_before_the_pool_is_embedded(tmp_path, pool, embedded):
    path = save_selector(tmp_path / "selector", embedded)
    with pytest.raises(ValueError, match="num_candidates is 0; expected a whole number of at least 1"):
        DemonstrationSelector.from_pretrained(path, pool=pool, num_candidates=0, embeddings_dir=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_the_encoder_of_tables_is_not_kept_in_memory(tmp_path, pool, queries, embedded):
    path = save_selector(tmp_path / "selector", embedded, sampler="random")
    selector = DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=str(tmp_path / "new"))
    selector.select_batch(queries)
    assert "_frozen" not in vars(selector)


def test_a_query_of_the_pool_never_meets_itself(tmp_path, pool, embedded, embeddings_dir):
    path = save_selector(tmp_path, embedded, sampler="image_sim", num_candidates=29)
    selector = DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=embeddings_dir)
    for selection in selector.select_batch(pool, num_shots=1):
        assert selection.query["id"] not in selection.candidate_ids


def test_the_id_of_a_raw_query_follows_from_its_content(queries):
    def query_id(question, image):
        return make_query(question, image, None)["id"]

    first, second = queries[0], queries[1]
    assert query_id(first["question"], first["image"]) == query_id(first["question"], first["image"].copy())
    ids = {query_id(q, i) for q in ("what ?", "where ?") for i in (first["image"], second["image"], None)}
    assert len(ids) == 6


def test_a_text_selector_needs_no_image(tmp_path, pool, embedded, embeddings_dir):
    path = save_selector(
        tmp_path, embedded, query_features=["text"], candidate_features=["text"], sampler="text_sim", num_candidates=9
    )
    selector = DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=embeddings_dir)
    assert len(selector.select("what is it ?", num_shots=2).demonstration_ids) == 2


def test_what_is_missing_or_other_is_said(tmp_path, pool, embedded, embeddings_dir, caplog):
    path = save_selector(tmp_path / "a", embedded)
    selector = DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=embeddings_dir)
    with pytest.raises(ValueError, match="looks at the query's image"):
        selector.select("what is it ?")
    path = save_selector(tmp_path / "b", embedded, encoder=None)
    with pytest.raises(ValueError, match="names no encoder"):
        DemonstrationSelector.from_pretrained(path, pool=pool)
    path = save_selector(tmp_path / "c", embedded, encoder_commit="0123456789abcdef")
    with pytest.raises(ValueError, match=r"is not the encoder that .* was trained with \(0123456789abcdef, .*clip'\)"):
        DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=embeddings_dir)
    with caplog.at_level(logging.WARNING):  # who names one knows
        DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=embeddings_dir, encoder=CLIP)
    assert "is not the encoder that the selector" in caplog.text
    path = save_selector(tmp_path / "d", embedded, encoder=str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"is not to be found.*encoder=PATH"):
        DemonstrationSelector.from_pretrained(path, pool=pool)


def test_the_lines_of_the_card_run_in_a_fresh_process(tmp_path, pool, embedded):
    path = save_selector(tmp_path, embedded)
    code = f"""
import sys
from leverplus_trl.selectors import DemonstrationSelector
from leverplus_trl.tasks import DataArguments, load_examples
from leverplus_trl.weights import ALIGNMENT
pool = load_examples(DataArguments(dataset={str(WORLD)!r}), "pool[:30]")
image = load_examples(DataArguments(dataset={str(WORLD)!r}), "validation[:1]")[0]["image"]
selector = DemonstrationSelector.from_pretrained({path!r}, pool=pool, embeddings_dir={str(tmp_path / "embeddings")!r})
selection = selector.select(image=image, question="what is it ?", num_shots=2)
demonstrations, query = selection.request
print([row["id"] for row in demonstrations] == selection.demonstration_ids, len(demonstrations))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True 2"


def test_log_probabilities_do_not_depend_on_where_a_file_puts_weights(
    tmp_path, pool, queries, embedded, embeddings_dir
):
    """Mapped weights begin behind a header of any length, and matrix products of such differ in their last bits."""
    path = save_selector(tmp_path, embedded)
    weights = load_file(f"{path}/model.safetensors")
    found = set()
    for length in range(0, 64, 8):
        save_file(weights, f"{path}/model.safetensors", {"format": "pt", "filler": "x" * length})
        selector = DemonstrationSelector.from_pretrained(path, pool=pool, embeddings_dir=embeddings_dir)
        assert {tensor.data_ptr() % ALIGNMENT for tensor in selector.model.state_dict().values()} == {0}
        found.add(tuple(selection.logprob for selection in selector.select_batch(queries, num_shots=3)))
    assert len(found) == 1
