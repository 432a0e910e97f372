# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import re
import time
from collections.abc import Mapping

import pytest
from paths import WORLD
from small_world import beam_arguments, write_examples
from transformers import LlavaForConditionalGeneration
from vlms.tiny_models import tiny_llava

from leverplus_trl.beams import BeamArguments, search_unit
from leverplus_trl.beams.beam_generation import generate_beams
from leverplus_trl.evaluation.inference import EvaluationArguments
from leverplus_trl.hub_arguments import HubArguments
from leverplus_trl.retrieval import CandidateSampler
from leverplus_trl.rollouts.rollout_arguments import RolloutArguments
from leverplus_trl.rollouts.rollout_generation import answer_unit
from leverplus_trl.rollouts.rollout_reuse import Known, provenance_of
from leverplus_trl.rollouts.rollout_sources import Proposal
from leverplus_trl.run_folder import RunFolder
from leverplus_trl.scripts import beams as stage
from leverplus_trl.scripts import evaluate, rollouts
from leverplus_trl.scripts.stage_arguments import ShardedStageArguments
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import BaseVLM, ChatVLM, Request, VLMArguments, estimate, load_vlm
from leverplus_trl.vlms.calibration import Rates, calibrate
from leverplus_trl.vlms.counting import CountingVLM, Work
from leverplus_trl.vlms.estimate import Estimate, ExamplesById, Job, Sample, amount, describe, duration, estimate_job
from leverplus_trl.vlms.operations import attended_pairs


TASK = TaskArguments(task="vqa", metric="exact_match", max_new_tokens=4)


@pytest.fixture
def vlm(world):
    """A VLM that has seen nothing of what is asked."""
    made = load_vlm(VLMArguments(vlm=str(WORLD / "vlm"), max_batch_tokens=1024), make_task(TASK))
    made.prepare([Request((), world["validation"][row]) for row in range(4)])
    return made


def search(world, vlm, num_shots: int, insertion: str = "left", num_queries: int = 6) -> None:
    queries = [world["test"][row] for row in range(num_queries)]
    candidates = CandidateSampler(world["pool"]["id"], "random", 12).sample([query["id"] for query in queries])
    pool = ExamplesById(world["pool"])
    args = BeamArguments(output_dir="unused", num_shots=num_shots, beam_size=3, insertion=insertion)
    with vlm.unit():
        search_unit(queries, candidates, pool, vlm, args)


@pytest.mark.parametrize(
    ("num_shots", "insertion", "tolerance"),
    # With more than two shots it counts which prefixes the winners have in common.
    [(2, "left", 0.01), (3, "left", 0.1), (3, "right", 0.1)],
)
def test_a_simulated_search_runs_about_the_tokens_of_a_real_one(world, vlm, num_shots, insertion, tolerance):
    counting, engine = CountingVLM(vlm), vlm.runner.engine
    before, images = engine.num_tokens, vlm.num_images_encoded
    search(world, counting, num_shots, insertion)
    assert (engine.num_tokens, vlm.num_images_encoded) == (before, images)  # nothing was run
    search(world, vlm, num_shots, insertion)
    assert counting.work.tokens == pytest.approx(engine.num_tokens - before, rel=tolerance)
    assert len(counting.demonstrated | counting.asked) == vlm.num_images_encoded - images
    assert counting.work.tokens < 0.8 * counting.work.whole_tokens


@pytest.mark.parametrize("memory_mb", [None, 8])
def test_the_same_requests_are_counted_exactly(world, vlm, memory_mb):
    if memory_mb:  # too little to keep a unit's prefixes: some run again
        vlm.set_memory(memory_mb)
        vlm.prepare([Request((), world["validation"][row]) for row in range(4)])
    counting, engine = CountingVLM(vlm), vlm.runner.engine
    search(world, counting, num_shots=2)
    tokens, batches = engine.num_tokens, engine.num_batches
    with vlm.unit():
        for call in counting.calls:
            vlm.answer_logprobs(call.requests)
    assert counting.work.tokens == counting.work.scored_tokens == engine.num_tokens - tokens
    assert counting.work.batches == engine.num_batches - batches
    assert counting.work.kept <= engine.pool.capacity - 1


def test_whole_prompts_are_counted_by_hand(world, vlm):
    requests = [Request((world["pool"][row],), world["test"][row]) for row in range(3)]
    counting = CountingVLM(vlm)
    counting.answer_logprobs(requests)
    lengths = [vlm.num_prompt_tokens(request) for request in requests]
    assert counting.work.whole_tokens == sum(lengths) and counting.work.whole_images == 6
    assert counting.work.whole_pairs == sum(attended_pairs(0, length) for length in lengths)


def test_answers_behind_scored_prompts_cost_only_their_own_tokens(world, vlm):
    queries = [world["test"][row] for row in range(2)]
    pool = {example["id"]: example for example in world["pool"].select(range(4))}
    proposals = [[Proposal("random", tuple(pool)[:2]), Proposal("random", tuple(pool)[2:])]] * 2
    counting = CountingVLM(vlm)
    with counting.unit():
        answer_unit(queries, proposals, [Known()] * 2, pool, counting)
    assert [call.kind for call in counting.calls] == ["score", "answer"]
    assert counting.work.answered == 4 and counting.work.new_tokens == 4 * TASK.max_new_tokens
    assert counting.work.tokens == counting.work.scored_tokens  # keys and values of the prompts are there


def test_a_model_that_shares_nothing_is_counted_whole(world):
    model, processor = tiny_llava()
    assert isinstance(model, LlavaForConditionalGeneration)
    plain = ChatVLM(model, processor, make_task(TASK), VLMArguments(vlm="tiny", max_batch_tokens=1024))
    plain._try_sharing = lambda probes: (_ for _ in ()).throw(ValueError("not this one"))
    counting = CountingVLM(plain)
    requests = [Request((world["pool"][row],), world["test"][0]) for row in range(3)]
    counting.answer_logprobs(requests)
    assert counting.work.tokens == counting.work.whole_tokens == sum(map(plain.num_prompt_tokens, requests))


def small_job(world, num_queries: int, unit_size: int, num_shards: int = 1) -> Job:
    sampler = CandidateSampler(world["pool"]["id"], "random", 16)
    args = BeamArguments(output_dir="unused", num_shots=2, beam_size=3)

    def work(split: str, asked: list, by_id: Mapping, vlm: BaseVLM) -> None:
        search_unit(asked, sampler.sample([query["id"] for query in asked]), by_id, vlm, args)

    queries = {"test": world["test"].select(range(num_queries))}
    return Job(queries, world["pool"], unit_size, work, num_shards)


def test_the_estimate_of_a_job_against_the_job(world, vlm, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 4.0)
    job = small_job(world, num_queries=24, unit_size=4)
    found = estimate_job(job, vlm)
    fresh = load_vlm(vlm.args, vlm.task)
    fresh.prepare([Request((), world["validation"][row]) for row in range(4)])
    before, images = fresh.runner.engine.num_tokens, fresh.num_images_encoded
    queries = job.queries
    sampler = CandidateSampler(world["pool"]["id"], "random", 16)
    candidates = {"test": sampler.sample(queries["test"]["id"])}
    args = BeamArguments(output_dir=str(tmp_path), num_shots=2, beam_size=3, unit_size=4)
    start = time.perf_counter()
    generate_beams(RunFolder(str(tmp_path), "beams", {}), queries, candidates, world["pool"], fresh, args)
    seconds = time.perf_counter() - start
    middle, low, high = found.scaled(lambda work: work.tokens)
    assert low <= middle <= high
    assert middle == pytest.approx(fresh.runner.engine.num_tokens - before, rel=0.05)
    assert found.scaled(lambda work: work.scored)[0] == 24 * (1 + 16 + 3 * 15)
    assert found.new_images() == pytest.approx(fresh.num_images_encoded - images, rel=0.1)
    assert seconds / 2 < found.seconds()[0] < seconds * 2


def test_processes_and_shards_divide_the_time(world, vlm):
    vlm.prepare([Request((), world["test"][0])])
    sample = Sample(2, Work(scored=10, scored_tokens=1000, tokens=1000), [], set())
    rates = Rates(token=0.01)
    one = Estimate(small_job(world, 8, 2), [sample], [rates], vlm).seconds()[0]
    assert one == pytest.approx(0.01 * 1000 * 8 / 2)
    two = Estimate(small_job(world, 8, 2), [sample], [rates] * 2, vlm).seconds()[0]
    four = Estimate(small_job(world, 8, 2, num_shards=2), [sample], [rates] * 2, vlm).seconds()[0]
    assert (two, four) == (pytest.approx(one / 2), pytest.approx(one / 4))
    uneven = Estimate(small_job(world, 8, 2), [sample], [rates, Rates(token=0.03)], vlm).seconds()[0]
    assert uneven == pytest.approx(one * 3 / 4)  # units are taken, not dealt


def test_calibration_stops_in_time(world, vlm):
    counting = CountingVLM(vlm)
    search(world, counting, num_shots=2)
    start = time.monotonic()
    rates = calibrate(counting, counting.calls, seconds=0.0)  # the first few requests are always timed
    assert time.monotonic() - start < 5.0
    assert rates.token > 0 and rates.image > 0 and rates.answer == 0


def test_what_is_said(world, vlm):
    text = describe(estimate_job(small_job(world, 4, 2, num_shards=3), vlm))
    assert "4 queries in 2 units of work, of which 2 were counted" in text
    assert re.search(r"prompts to score +248\n", text)  # 4 x (1 + 16 + 3 x 15)
    assert "prompts to answer" not in text and "in each of 3 shards" in text
    assert re.search(r"images to encode +[\d,]+ +\d+\n", text)


def test_numbers_are_readable():
    assert [amount(value) for value in (12, 3456, 1.234e6, 5e16)] == ["12", "3,456", "1.23 M", "50 P"]
    assert [duration(value) for value in (5, 600, 20_000, 864_000)] == ["5 s", "10 min", "5.6 h", "10.0 days"]


@pytest.fixture(scope="module")
def data_files(world, tmp_path_factory):
    tables = {name: world[name].select(range(count)) for name, count in {"pool": 16, "train": 4, "test": 3}.items()}
    return write_examples(tmp_path_factory.mktemp("examples"), tables)


def test_the_stage_estimates_and_writes_nothing(data_files, tmp_path, caplog):
    with caplog.at_level("INFO", logger="leverplus_trl"):
        stage.main(*beam_arguments(data_files, tmp_path / "dry", dry_run=True))
    assert re.search(r"tokens of prompts +[\d,]+ +[\d,]+", caplog.text)
    assert not (tmp_path / "dry").exists()


def test_a_vlm_that_is_not_there_is_said_behind_what_could_be_counted(data_files, tmp_path, caplog):
    arguments = beam_arguments(data_files, tmp_path / "dry", dry_run=True, vlm=str(tmp_path / "nothing"))
    with caplog.at_level("INFO", logger="leverplus_trl"), pytest.raises(ValueError, match="can't be loaded"):
        stage.main(*arguments)
    assert "scored prompts a query" in caplog.text
    assert not (tmp_path / "dry").exists()


def test_prompts_of_an_evaluation():
    args = EvaluationArguments(
        output_dir="unused", methods=["random", "text_sim", "selector"], shots=[1, 2], selectors=["x"]
    )
    assert evaluate.prompts_of_a_query(args) == [0, 1, 2, 1, 2, 1, 2]
    args.method_seeds = [0, 1, 2]  # two more runs of random, none of text similarity
    assert evaluate.prompts_of_a_query(args) == [0, *[1, 2] * 5]
    args.methods, args.selectors, args.shots = (
        ["text_sim", "oracle"],
        [],
        [1, 2, 3],
    )  # the oracle knows what the search scored
    assert evaluate.prompts_of_a_query(args) == [0, *[1, 2, 3] * 2]
    assert evaluate.prompts_of_a_query(args, searched_shots=2) == [0, 1, 2, 3, 1, 2]


def test_an_evaluation_is_counted_with_other_demonstrations(world, vlm):
    args = EvaluationArguments(output_dir="unused", methods=["random"], shots=[1, 2], unit_size=3)
    shots = evaluate.prompts_of_a_query(args)
    job = evaluate.job_to_estimate(world["test"].select(range(5)), world["pool"], shots, args, num_shards=1)
    counting = CountingVLM(vlm)
    for unit in job.units:
        job.run(unit, counting)
    assert [len(rows) for _, rows in job.units] == [3, 2]
    assert counting.work.answered == 5 * 3 and counting.work.new_tokens == 5 * 3 * TASK.max_new_tokens
    # Each zero-shot answer is scored behind a prompt whose keys and values are there.
    assert counting.work.scored == 5 and 0 < counting.work.scored_tokens < 5 * 5
    assert 0 < counting.work.tokens <= counting.work.whole_tokens


@pytest.fixture(scope="module")
def searched(data_files, tmp_path_factory):
    """Beams of the three queries of `test`."""
    folder = tmp_path_factory.mktemp("searched") / "beams"
    stage.main(*beam_arguments(data_files, folder, query_splits=["test"]))
    return folder


def rollout_arguments(searched, output_dir, **changes) -> RolloutArguments:
    values = {"num_shots": 2, "num_rollouts": 6, "num_beam_sequences": 2, "num_similar": 1, "query_splits": ["test"]}
    return RolloutArguments(beams=str(searched), output_dir=str(output_dir), unit_size=2, **{**values, **changes})


def test_rollouts_are_counted_with_other_sequences(world, vlm, searched, tmp_path):
    # Neither the selector nor embeddings are asked for.
    args = rollout_arguments(searched, tmp_path / "dry", selector=str(tmp_path / "nothing"), num_samples=1)
    pool, asked = world["pool"].select(range(16)), world["test"].select(range(3))
    rows = [{**row, "answers": [row["answer"], row["answer"], "another"]} for row in asked]
    queries = {"test": asked.from_list(rows, features=asked.features)}
    beams = rollouts.read_searched(args, queries, pool, provenance_of(str(searched), "beams"))
    job = rollouts.job_to_estimate(args, beams, queries, pool, num_shards=1)
    counting = CountingVLM(vlm)
    for unit in job.units:
        job.run(unit, counting)
    assert [len(rows) for _, rows in job.units] == [2, 1]
    assert counting.work.answered == 3 * 6 and counting.work.new_tokens == 3 * 6 * TASK.max_new_tokens
    assert counting.work.scored == 3 * (1 + 6 * 2)  # zero-shot, and both answers behind each sequence
    assert counting.work.scored_tokens == counting.work.tokens < counting.work.whole_tokens
    shown = [[e["id"] for e in r.demonstrations] for call in counting.calls[:2] for r in call.requests]
    best = [beams["test"].best(row["id"], 2) for row in rows[:2]]
    assert all(list(ids) in shown for found in best for ids in found[:2])


def test_a_dry_run_of_rollouts_estimates_and_writes_nothing(data_files, searched, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(estimate, "CALIBRATION_SECONDS", 0.0)
    _, data, task, vlm_args, *_ = beam_arguments(data_files, tmp_path)
    args = rollout_arguments(searched, tmp_path / "dry", num_similar=0)
    with caplog.at_level("INFO", logger="leverplus_trl"):
        dry = ShardedStageArguments(stage="rollouts", num_threads=1, dry_run=True)
        rollouts.main(dry, data, task, vlm_args, args, HubArguments())
    assert "3 queries in 2 units of work" in caplog.text
    assert re.search(r"prompts to answer +18\n", caplog.text)
    assert "Random sequences stood for those of the selector" in caplog.text
    assert re.search(r"time, if one process did it all +\d+ s", caplog.text)
    assert not (tmp_path / "dry").exists()
