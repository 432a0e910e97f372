# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from paths import WORLD
from small_world import beam_arguments, write_examples
from vlms.test_open_flamingo import make_vlm
from vlms.tiny_models import tiny_llava

from leverplus_trl.beams import BeamArguments, search_unit
from leverplus_trl.beams.beam_generation import generate_beams
from leverplus_trl.evaluation.inference import EvaluationArguments
from leverplus_trl.retrieval import CandidateSampler
from leverplus_trl.rollouts.rollout_arguments import RolloutArguments
from leverplus_trl.rollouts.rollout_reuse import provenance_of
from leverplus_trl.run_folder import RunFolder
from leverplus_trl.scripts import beams as stage
from leverplus_trl.scripts import evaluate, rollouts
from leverplus_trl.scripts.inputs import read_searched
from leverplus_trl.stage_arguments import HubArguments, ShardedStageArguments
from leverplus_trl.tasks import NO_OVERLAP, TaskArguments, make_task
from leverplus_trl.vlms import ChatFamily, Request, TransformersVLM, VLMArguments, dry_run, load_vlm
from leverplus_trl.vlms.dry_run import SECONDS, Job, TimedVLM, between, describe, duration, estimate_job


TASK = TaskArguments(task="vqa", metric="exact_match", max_new_tokens=4)
EACH = 1 + 16 + 3 * 15  # prompts of a query in `small_job`


@pytest.fixture
def vlm(world):
    """A VLM that has seen nothing of what is asked."""
    made = load_vlm(VLMArguments(vlm=str(WORLD / "vlm"), max_batch_tokens=1024), make_task(TASK))
    made.prepare([Request((), world["validation"][row]) for row in range(4)])
    return made


def small_job(world, num_queries: int, unit_size: int, num_shards: int = 1) -> Job:
    sampler = CandidateSampler(world["pool"]["id"], "random", 16)
    args = BeamArguments(output_dir="unused", num_shots=2, beam_size=3)

    def work(split, asked, by_id, vlm) -> None:
        search_unit(asked, sampler.sample([query["id"] for query in asked]), by_id, vlm, args)

    queries = {"test": world["test"].select(range(num_queries))}
    return Job(queries, world["pool"], unit_size, work, EACH * num_queries, 0, num_shards)


def estimate(job: Job, vlm, seconds: float = SECONDS):
    timed = TimedVLM(vlm, seconds)
    return timed, estimate_job(job, timed)


def test_the_estimate_of_a_job_against_the_job(world, vlm, tmp_path):
    job = small_job(world, num_queries=48, unit_size=6)
    timed, found = estimate(job, vlm, seconds=300.0)  # a busy machine times four whole units, too
    fresh = load_vlm(vlm.args, vlm.task)
    fresh.prepare([Request((), world["validation"][row]) for row in range(4)])
    before, images = fresh.runner.engine.num_tokens, fresh.family.num_images_encoded
    candidates = {"test": CandidateSampler(world["pool"]["id"], "random", 16).sample(job.queries["test"]["id"])}
    args = BeamArguments(output_dir=str(tmp_path), num_shots=2, beam_size=3, unit_size=6)
    start = time.perf_counter()
    generate_beams(RunFolder(str(tmp_path), "beams", {}), job.queries, candidates, world["pool"], fresh, args)
    seconds = time.perf_counter() - start
    assert sum(call.size for call in timed.calls.values()) == 4 * 6 * EACH  # of four whole units
    assert found.tokens_run == pytest.approx(fresh.runner.engine.num_tokens - before, rel=0.05)
    assert found.tokens_run < 0.8 * found.tokens
    assert found.different_images == pytest.approx(fresh.family.num_images_encoded - images, rel=0.1)
    assert found.images == pytest.approx(48 * (1 + 16 * 2 + 3 * 15 * 3))
    assert found.memory > 2**27
    middle, low, high = found.seconds
    assert low <= middle <= high and seconds / 3 < middle < seconds * 3


def test_tokens_are_those_of_the_prompts(world, vlm, monkeypatch):
    monkeypatch.setattr(dry_run, "NUM_REQUESTS", 1000)
    job, asked = small_job(world, num_queries=2, unit_size=2), []
    passed_on = vlm.answer_logprobs
    vlm.answer_logprobs = lambda requests: asked.extend(requests) or passed_on(requests)
    before = vlm.runner.engine.num_tokens
    _, found = estimate(job, vlm)
    assert len(asked) == job.num_scored == 2 * EACH
    assert found.tokens == pytest.approx(sum(map(vlm.num_prompt_tokens, asked)))
    assert found.tokens_run == pytest.approx(vlm.runner.engine.num_tokens - before)


def test_the_limit_is_kept(world, vlm):
    passed_on, ran = vlm.answer_logprobs, []

    def slow(requests):
        time.sleep(0.01 * len(requests))  # 10 s for the unit
        ran.append(len(requests))
        return passed_on(requests)

    vlm.answer_logprobs = slow
    job = small_job(world, num_queries=16 * 4, unit_size=16)
    start = time.monotonic()
    timed, found = estimate(job, vlm, seconds=1.5)
    assert time.monotonic() - start < 5.0 and len(timed.drawn) == 1
    assert [call.size for call in timed.calls.values()] == [16, 16 * 16, 16 * 45]  # the search went on to its end
    assert 12 <= sum(ran) < 200
    assert found.seconds[0] > 0.01 * job.num_scored


def test_without_any_time_the_first_requests_of_each_call_run(world, vlm):
    job = small_job(world, num_queries=8, unit_size=8)
    timed, found = estimate(job, vlm, seconds=0.0)
    assert [[count for count, _ in call.parts] for call in timed.calls.values()] == [[4], [4], [4]]
    assert found.seconds[0] > 0
    assert timed.generate([]) == [] and len(timed.calls) == 3  # a call without requests is none


def test_small_parts_do_not_count(world, vlm):
    call = dry_run.Call(30, [(4, 4.0), (16, 8.0), (10, 10.0)], [[10, 1, 4], [20, 3, 4]])
    assert call.measures().tolist() == [18 / 26, 0.5, 1.0, 15, 2, 4]


def test_processes_and_shards_divide_the_time(world, vlm, monkeypatch):
    one = estimate(small_job(world, 8, 2), vlm)[1].seconds
    slower = [1]
    monkeypatch.setattr(dry_run, "PartialState", lambda: SimpleNamespace(num_processes=2, wait_for_everyone=list))
    monkeypatch.setattr(dry_run, "gather_object", lambda own: [*own, (own[0][0] * slower[0], 1)])
    found = []
    for num_shards, slower[0] in ((1, 1), (2, 1), (1, 3)):
        timed = TimedVLM(vlm, 10.0)
        monkeypatch.setattr(timed, "measures", lambda kind: np.full(6, 0.01))
        monkeypatch.setattr(TimedVLM, "seconds_of_an_image", 0.0)
        found.append(estimate_job(small_job(world, 8, 2, num_shards), timed).seconds[0])
    alone = 0.01 * 8 * EACH
    assert found == pytest.approx([alone / 2, alone / 4, alone * 3 / 4])  # units are taken, not dealt
    assert one[0] > 0


@pytest.mark.parametrize("make", ["llava", "open_flamingo"])
def test_a_model_that_shares_nothing(world, make):
    if make == "llava":
        model, processor = tiny_llava()
        plain = TransformersVLM(
            ChatFamily(model, processor, make_task(TASK), VLMArguments(vlm="tiny", max_batch_tokens=1024))
        )
        plain._try_sharing = lambda probes: (_ for _ in ()).throw(ValueError("not this one"))
    else:
        plain = make_vlm()
    timed, found = estimate(small_job(world, 2, 2), plain, seconds=0.0)
    assert found.tokens_run == 0 and found.tokens > 0 and found.seconds[0] > 0
    # Zero-shot prompts show an image, those of one demonstration two, and those of two three.
    assert found.images == pytest.approx(2 * (1 + 16 * 2 + 3 * 15 * 3))
    assert "shared prefixes" not in describe(small_job(world, 2, 2), timed, found)


def test_what_is_said(world, vlm):
    job = small_job(world, 4, 2, num_shards=3)
    text = describe(job, *estimate(job, vlm))
    assert f"4 queries in 2 units of work; {4 * EACH} prompts of 2 of them took" in text
    assert re.search(r"prompts to score +248\n", text) and re.search(
        r"time of 1 process in each of 3 shards +\d", text
    )
    assert "prompts to answer" not in text and re.search(r"peak memory of a process +[\d,]+ MB\n", text)
    columns = {re.match(r"  \S.*?  +(?=\S)", line).end() for line in text.splitlines() if line.startswith("  ")}
    assert len(columns) == 1


def test_times_are_readable():
    assert [duration(value) for value in (5, 600, 20_000, 864_000)] == ["5 s", "10 min", "5.6 h", "10.0 days"]
    assert between(np.array([600, 540, 720])) == "10 min (9 min to 12 min)" and between(np.full(3, 5.0)) == "5 s"


@pytest.fixture(scope="module")
def data_files(world, tmp_path_factory):
    tables = {name: world[name].select(range(count)) for name, count in {"pool": 16, "train": 4, "test": 3}.items()}
    return write_examples(tmp_path_factory.mktemp("examples"), tables)


def test_the_stage_estimates_and_writes_nothing(data_files, tmp_path, caplog):
    with caplog.at_level("INFO", logger="leverplus_trl"):
        stage.main(*beam_arguments(data_files, tmp_path / "dry", dry_run=True))
    assert re.search(r"tokens of prompts +[\d,]+\n", caplog.text)
    assert not (tmp_path / "dry").exists()


def test_a_vlm_that_is_not_there_is_said_after_what_could_be_counted(data_files, tmp_path, caplog):
    arguments = beam_arguments(data_files, tmp_path / "dry", dry_run=True, vlm=str(tmp_path / "nothing"))
    with caplog.at_level("INFO", logger="leverplus_trl"):
        stage.main(*arguments)
    assert "scored prompts a query" in caplog.text and "can't be loaded" in caplog.text
    assert "tokens of prompts" not in caplog.text
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


def sizes_of(timed: TimedVLM) -> dict[str, int]:
    return {kind: call.size for (kind, _), call in timed.calls.items()}


def test_an_evaluation_is_timed_with_other_demonstrations(world, vlm):
    args = EvaluationArguments(output_dir="unused", methods=["random"], shots=[1, 2], unit_size=3)
    shots = evaluate.prompts_of_a_query(args)
    job = evaluate.job_to_estimate(world["test"].select(range(5)), world["pool"], shots, args, num_shards=1)
    timed, found = estimate(job, vlm)
    assert [len(unit.rows) for unit in job.units] == [3, 2]
    assert sizes_of(timed) == {"answer": job.num_answered, "score": job.num_scored} == {"answer": 5 * 3, "score": 5}
    assert found.images == pytest.approx(5 * (1 + 2 + 3) + 5)
    assert re.search(rf"tokens of answers, at most +{5 * 3 * TASK.max_new_tokens}\n", describe(job, timed, found))
    timed.args.num_beams = 3
    assert re.search(rf"tokens of answers, at most +{5 * 9 * TASK.max_new_tokens}\n", describe(job, timed, found))


@pytest.fixture(scope="module")
def searched(data_files, tmp_path_factory):
    """Beams of the three queries of `test`."""
    folder = tmp_path_factory.mktemp("searched") / "beams"
    stage.main(*beam_arguments(data_files, folder, query_splits=["test"]))
    return folder


def rollout_arguments(searched, output_dir, **changes) -> RolloutArguments:
    values = {"num_shots": 2, "num_rollouts": 6, "num_beam_sequences": 2, "num_similar": 1, "query_splits": ["test"]}
    return RolloutArguments(beams=str(searched), output_dir=str(output_dir), unit_size=2, **{**values, **changes})


def test_rollouts_are_timed_with_other_sequences(world, vlm, searched, tmp_path):
    # Neither the selector nor embeddings are asked for.
    args = rollout_arguments(searched, tmp_path / "dry", selector=str(tmp_path / "nothing"), num_samples=1)
    pool, asked = world["pool"].select(range(16)), world["test"].select(range(3))
    rows = [{**row, "answers": [row["answer"], row["answer"], "another"]} for row in asked]
    queries = {"test": asked.from_list(rows, features=asked.features)}
    recipe = provenance_of(str(searched), "beams")["recipe"]
    beams = read_searched(str(searched), "query_splits", ["test"], queries, pool, recipe, {"test": NO_OVERLAP})
    counts = rollouts.num_prompts(args, queries, vlm.task, "prob")
    job = rollouts.job_to_estimate(args, beams, queries, pool, counts, num_shards=1)
    shown, passed_on = [], vlm.generate
    vlm.generate = lambda requests: (
        shown.extend([e["id"] for e in r.demonstrations] for r in requests) or passed_on(requests)
    )
    timed, found = estimate(job, vlm)
    assert [len(unit.rows) for unit in job.units] == [2, 1]
    # Zero-shot, and both answers to each sequence.
    assert (
        sizes_of(timed)
        == {"score": 3 * (1 + 6 * 2), "answer": 3 * 6}
        == dict(zip(("score", "answer"), counts, strict=True))
    )
    assert found.tokens_run < found.tokens
    best = [beams["test"].best(row["id"], 2) for row in rows]
    assert all(list(ids) in shown for found in best for ids in found[:2])


def test_a_dry_run_of_rollouts_estimates_and_writes_nothing(data_files, searched, tmp_path, caplog):
    _, data, task, vlm_args, *_ = beam_arguments(data_files, tmp_path)
    args = rollout_arguments(searched, tmp_path / "dry", num_similar=0)
    with caplog.at_level("INFO", logger="leverplus_trl"):
        dry = ShardedStageArguments(stage="rollouts", num_threads=1, dry_run=True)
        rollouts.main(dry, data, task, vlm_args, args, HubArguments())
    assert "3 queries in 2 units of work" in caplog.text
    assert re.search(r"prompts to answer +18\n", caplog.text)
    assert "Random sequences stood for those of the selector" in caplog.text
    assert re.search(r"time of one process +\d+ s", caplog.text)
    assert not (tmp_path / "dry").exists()
