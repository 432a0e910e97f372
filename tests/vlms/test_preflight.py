# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import math
import re

import pytest
from paths import WORLD

from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import AnswerLogprob, Request, VLMArguments, load_vlm, preflight
from leverplus_trl.vlms.preflight import PreflightReport
from leverplus_trl.vlms.requests import MemoryTooSmall


@pytest.fixture
def job(world):
    return world["pool"].select(range(60)), world["train"].select(range(20))


def with_scores(monkeypatch, vlm, change):
    """Lets the VLM's scores be `change(requests, scores)`."""
    answer_logprobs = vlm.answer_logprobs
    monkeypatch.setattr(vlm, "answer_logprobs", lambda requests: change(requests, answer_logprobs(requests)))


def test_a_vlm_that_can_be_trusted_passes(concept_vlm, job):
    report = preflight(concept_vlm, *job, num_shots=2)
    assert report.batching_error <= 1e-4
    assert report.info_score_spread >= 100 * report.score_error
    assert report.self_demonstration_gain > 0.5
    assert 20 <= report.longest_prompt <= report.context == 1024


def test_scores_that_depend_on_the_batch_are_refused(concept_vlm, job, monkeypatch):
    def leak(requests, scores):
        return [AnswerLogprob(s.logprob - 1e-3 * (len(requests) > 1), s.num_tokens) for s in scores]

    with_scores(monkeypatch, concept_vlm, leak)
    with pytest.raises(ValueError, match=r"in a batch and alone differ by 0\.001 nats"):
        preflight(concept_vlm, *job, num_shots=2)


def test_scores_that_hardly_differ_are_refused(concept_vlm, job, monkeypatch):
    def flat(requests, scores):
        gain = [1e-4 * bool(request.demonstrations) + 5e-5 * (len(requests) > 1) for request in requests]
        return [AnswerLogprob(-2.0 + g, s.num_tokens) for s, g in zip(scores, gain, strict=True)]

    with_scores(monkeypatch, concept_vlm, flat)
    with pytest.raises(ValueError, match="a ranking by it would be noise"):
        preflight(concept_vlm, *job, num_shots=2)


def test_a_score_that_is_nan_fails_whatever_it_stands_for(concept_vlm, job, monkeypatch):
    """Comparisons with NaN are false, and Python's `max` passes over it."""

    def nan_in_batches(requests, scores):
        spoiled = {5} if len(requests) > 1 else ()
        return [AnswerLogprob(math.nan if i in spoiled else s.logprob, s.num_tokens) for i, s in enumerate(scores)]

    with_scores(monkeypatch, concept_vlm, nan_in_batches)
    with pytest.raises(ValueError) as refused:
        preflight(concept_vlm, *job, num_shots=2)
    for problem in ("alone differ by nan", "a spread of nan", "changes InfoScore by nan"):
        assert problem in str(refused.value)


def test_a_vlm_that_demonstrations_hurt_is_refused(concept_vlm, job, monkeypatch):
    def reverse(requests, scores):
        return [AnswerLogprob(-12.0 - s.logprob, s.num_tokens) for s in scores]

    with_scores(monkeypatch, concept_vlm, reverse)
    with pytest.raises(ValueError, match="does not use demonstrations"):
        preflight(concept_vlm, *job, num_shots=2)


def test_scored_tokens_that_are_not_the_answer_are_refused(concept_vlm, job, monkeypatch):
    other = concept_vlm.tokenizer("what colour", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(concept_vlm, "answer_ids", lambda query: other)
    with pytest.raises(ValueError, match="decode to 'what colour', not"):
        preflight(concept_vlm, *job, num_shots=2)


def test_room_for_the_answer_counts(concept_vlm, job):
    with pytest.raises(ValueError, match=r"and 1000 to come; the model's context holds 1024"):
        preflight(concept_vlm, *job, num_shots=2, max_new_tokens=1000)


@pytest.mark.parametrize("num_shots, max_new_tokens", [(8, 0), (2, 150)])
def test_a_memory_too_small_for_the_longest_prompt_is_refused_before_any_is_run(
    job, num_shots, max_new_tokens, monkeypatch
):
    task = make_task(TaskArguments(task="vqa", metric="exact_match"))
    vlm = load_vlm(VLMArguments(vlm=str(WORLD / "vlm"), max_batch_tokens=64, memory_mb=1), task)
    vlm.prepare([Request((), job[1][0])])
    with monkeypatch.context() as patched:
        patched.setattr(vlm, "answer_logprobs", lambda requests: pytest.fail("a prompt was scored"))
        message = rf"the longest prompt has \d+ tokens \({num_shots} demonstrations, .*Set memory_mb to \d+ or more"
        with pytest.raises(MemoryTooSmall, match=message) as refused:
            preflight(vlm, *job, num_shots=num_shots, max_new_tokens=max_new_tokens)
    vlm.set_memory(int(re.search(r"Set memory_mb to (\d+)", str(refused.value))[1]))
    report = preflight(vlm, *job, num_shots=num_shots, max_new_tokens=max_new_tokens)
    assert report.longest_prompt + max_new_tokens <= vlm.runner.engine.max_prompt_tokens


def test_what_was_measured_is_a_sentence():
    report = PreflightReport(1.4e-6, 6e-8, 0.17, 0.98, 32, 1024)
    assert str(report) == (
        "log-probabilities in a batch and alone differ by at most 1.4e-06 nats, InfoScore has a standard deviation of "
        "0.17 over random sequences, the longest prompt takes 32 of 1,024 tokens"
    )
