# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""A search by CIDEr of generated captions, against the metric called by hand."""

import pytest
from data_sources.preparing import prepared
from vlms.tiny_models import VLMS

from leverplus_trl.beams import BeamArguments, search_unit
from leverplus_trl.beams.info_score import ScoredPrompt
from leverplus_trl.metrics.cider import cider, document_frequencies
from leverplus_trl.tasks import DataArguments, TaskArguments, load_examples, make_task
from leverplus_trl.vlms import ChatFamily, Request, TransformersVLM, VLMArguments


def tiny_captioner(*splits):
    task = make_task(TaskArguments(task="captioning", max_new_tokens=8))
    if splits:
        task.use_references(*splits)
    arguments = VLMArguments(vlm="llava", dtype="float32", max_batch_tokens=400, memory_mb=64)
    return TransformersVLM(ChatFamily(*VLMS["llava"][0](), task, arguments))


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """Pool by id, and three queries of which somebody else captioned two as this VLM does: one behind a pair of
    demonstrations, one behind none."""
    data_args = DataArguments(dataset=str(prepared(tmp_path_factory.mktemp("coco"), "coco_2017")))
    pool = {example["id"]: example for example in load_examples(data_args, "train").select(range(4))}
    queries = load_examples(data_args, "validation").select(range(3))
    vlm, names = tiny_captioner(), list(pool)
    requests = [Request((pool[names[2]], pool[names[0]]), queries[0]), Request((), queries[1])]
    said = [[vlm.task.postprocess(text)] for text in vlm.generate(requests)]
    answers = [row["answers"] + more for row, more in zip(queries, [*said, []], strict=True)]
    return pool, queries.remove_columns("answers").add_column("answers", answers)


@pytest.fixture(scope="module")
def searched(captions):
    pool, queries = captions
    args = BeamArguments(output_dir="unused", num_shots=2, beam_size=4, score="metric")
    candidates = [list(pool)] * len(queries)
    return search_unit(list(queries), candidates, pool, tiny_captioner(queries), args)


def test_the_ledger_holds_cider_of_what_is_generated_and_the_probability(captions, searched):
    pool, queries = captions
    vlm, frequencies = tiny_captioner(), document_frequencies(queries["answers"])
    for query, row in zip(queries, searched, strict=True):
        assert len(row["ledger"]) == 1 + 4 + 4 * 3
        for entry in row["ledger"]:
            request = Request(tuple(pool[name] for name in entry["demonstration_ids"]), query)
            said = vlm.task.postprocess(vlm.generate([request])[0])
            assert entry["accuracy"] == cider(said, query["answers"], frequencies)
            logprob, num_tokens = vlm.answer_logprobs([request])[0]
            assert entry["answer_logprob"] == pytest.approx(logprob, abs=1e-4)
            assert entry["num_answer_tokens"] == num_tokens


def test_scores_are_cider_minus_that_of_the_zero_shot_prompt(captions, searched):
    pool, _ = captions
    for row in searched:
        worth = {tuple(entry["demonstration_ids"]): entry["accuracy"] for entry in row["ledger"]}
        assert row["zero_shot_score"] == worth[()]
        pairs = sorted((value - worth[()] for ids, value in worth.items() if len(ids) == 2), reverse=True)
        assert row["scores"] == pairs[:4]
        for ids, steps in zip(row["demonstration_ids"], row["step_scores"], strict=True):
            assert steps == [worth[tuple(ids[1:])] - worth[()], worth[tuple(ids)] - worth[()]]
    names = list(pool)
    assert searched[0]["demonstration_ids"][0] == [names[2], names[0]] and searched[0]["scores"][0] > 0.4
    assert searched[1]["zero_shot_score"] > 0.4 and searched[1]["scores"][-1] < -0.4


def test_on_the_other_scales_nothing_is_generated(captions, monkeypatch):
    pool, queries = captions
    vlm = tiny_captioner()
    monkeypatch.setattr(vlm, "generate", lambda requests: pytest.fail("an answer was generated"))
    args = BeamArguments(output_dir="unused", num_shots=1, beam_size=1)
    rows = search_unit(list(queries), [list(pool)] * len(queries), pool, vlm, args)
    assert {ScoredPrompt.of(entry).accuracy for row in rows for entry in row["ledger"]} == {None}
