# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import math

import pytest

from leverplus_trl.metrics.token_f1 import token_f1
from leverplus_trl.rollouts.rollout_generation import answer_unit, answer_weights, edit_similarity, gt_prob, relevance
from leverplus_trl.rollouts.rollout_reuse import MEASURES, Known
from leverplus_trl.rollouts.rollout_sources import Proposal
from leverplus_trl.schema import ROLLOUTS
from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import AnswerLogprob, Request, VLMArguments, load_vlm


def example(identifier, answer, answers=None):
    return {"id": identifier, "image": None, "question": "what ?", "answer": answer, "answers": answers or [answer]}


POOL = {name: example(name, f"answer of {name}") for name in "abc"}


def ids_of(request):
    return (*(example["id"] for example in request.demonstrations), request.query["id"])


class RuleVLM:
    """Says the last demonstration's letter; the log-probability of a text is minus its length times the shots + 1."""

    def __init__(self, metric="exact_match"):
        self.task = make_task(TaskArguments(metric=metric))
        self.answered, self.scored = [], []

    def generate(self, requests):
        self.answered += [ids_of(request) for request in requests]
        return [f" {r.demonstrations[-1]['id']}\nand more" if r.demonstrations else "nothing" for r in requests]

    def answer_logprobs(self, requests):
        self.scored += [(ids_of(request), request.query["answer"]) for request in requests]
        return [self.logprob(request) for request in requests]

    @staticmethod
    def logprob(request):
        words = request.query["answer"].split()
        return AnswerLogprob(-len(request.query["answer"]) * (1.0 + len(request.demonstrations)), len(words))


def beams(*sequences):
    return [Proposal("beam", tuple(ids)) for ids in sequences]


QUERIES = [example("q1", "b", ["b", "a ", " b", "dd", ""]), example("q2", "zz")]
PROPOSALS = [
    [*beams("ab", "b"), Proposal("sample_1.0", ("a", "b"), -0.5), Proposal("random", ("c", "a"), -1.8)],
    [*beams("ab"), Proposal("random", (), 0.0)],
]


def run(vlm, known=None):
    return answer_unit(QUERIES, PROPOSALS, known or [Known(), Known()], POOL, vlm)


def test_every_distinct_sequence_is_answered_once_and_every_answer_scored_once():
    vlm = RuleVLM()
    first, second = run(vlm)
    expected = [("a", "b", "q1"), ("b", "q1"), ("c", "a", "q1"), ("a", "b", "q2"), ("q2",)]
    assert sorted(vlm.answered) == sorted(expected)
    zero_shot = [(("q1",), "b"), (("q2",), "zz")]
    three = [(key, answer) for key in expected[:3] for answer in ("b", "a", "dd")]
    assert sorted(vlm.scored) == sorted([*zero_shot, *three, (("a", "b", "q2"), "zz")])
    assert first["counts"] == {"sequences": 3, "answered": 3, "scored": 10, "from_ledger": 0, "from_previous": 0}
    assert second["counts"] == {"sequences": 2, "answered": 2, "scored": 2, "from_ledger": 0, "from_previous": 0}


def test_the_measures_by_hand():
    first, second = run(RuleVLM())
    assert set(ROLLOUTS) - set(first) == {"split", "candidate_ids"}
    assert first["demonstration_ids"] == [["a", "b"], ["b"], ["c", "a"]]
    assert first["sources"] == ["beam", "beam", "random"] and first["behaviour_logprobs"] == [None, None, -1.8]
    assert first["generations"][0] == " b\nand more" and first["predictions"] == ["b", "b", "a"]
    assert first["accuracies"] == [1.0, 1.0, 1.0] and second["accuracies"] == [0.0, 0.0]
    assert first["relevances"] == [1.0] * 3 and second["relevances"] == [0.0, 0.0]
    assert first["answer_logprobs"] == [-3.0, -2.0, -3.0] and first["num_answer_tokens"] == [1, 1, 1]
    # two demonstrations: exp(-3) for "b" and for "a", exp(-6) for "dd"; the empty answer is none
    assert first["gt_probs"][0] == pytest.approx(2 * math.exp(-3) + math.exp(-6))
    assert first["zero_shot_score"] == pytest.approx(math.exp(-1))
    assert second["zero_shot_score"] == pytest.approx(math.exp(-2)) and second["demonstration_ids"] == [["a", "b"], []]
    assert [proposal["source"] for proposal in first["proposals"]] == ["beam", "beam", "sample_1.0", "random"]


def test_an_answer_counts_as_much_as_it_is_worth():
    task = make_task(TaskArguments(metric="vqa_accuracy"))
    query = example("q", "dog", ["dog"] * 5 + ["Dog"] + ["cat"] * 3 + ["cow"])
    weights = answer_weights(task, query)
    assert weights == pytest.approx({"dog": 1.0, "Dog": 1.0, "cat": 0.9, "cow": 0.3})
    logprobs = {"dog": math.log(0.4), "Dog": math.log(0.05), "cat": math.log(0.2), "cow": math.log(0.1)}
    assert gt_prob(weights, logprobs) == pytest.approx(0.4 + 0.05 + 0.9 * 0.2 + 0.3 * 0.1)
    assert gt_prob(weights, dict.fromkeys(weights, math.log(0.6))) == 1.0  # "red" and "red star" may count twice


@pytest.mark.filterwarnings("ignore:With [12] annotator")
def test_what_nobody_gets_credit_for_is_not_scored():
    vlm = RuleVLM(metric="vqa_accuracy")
    query = example("q", "dog", ["dog"] * 5 + ["cat"])  # with six annotators one cat is worth 5/6 of 1/3
    assert set(answer_weights(vlm.task, query)) == {"dog", "cat"}
    lonely = example("q", "dog", ["dog", "cat"])  # of two annotators one can be matched by half
    assert answer_weights(vlm.task, lonely) == pytest.approx({"dog": 1 / 6, "cat": 1 / 6})
    alone = example("q", "dog", ["dog"])
    assert answer_weights(vlm.task, alone) == {}
    rows = answer_unit([alone], [beams("a")], [Known()], POOL, vlm)
    assert rows[0]["gt_probs"] == [0.0] and rows[0]["answer_logprobs"] == [-6.0]


def test_the_ledger_spares_the_scores_of_the_answer_alone():
    vlm = RuleVLM()
    ledger = {("a", "b"): AnswerLogprob(-0.25, 1), (): AnswerLogprob(-0.5, 1), ("x", "y"): AnswerLogprob(-9.0, 1)}
    first, _ = run(vlm, [Known(ledger), Known()])
    assert first["answer_logprobs"][0] == -0.25 and first["zero_shot_score"] == pytest.approx(math.exp(-0.5))
    assert first["gt_probs"][0] == pytest.approx(math.exp(-0.25) + math.exp(-3) + math.exp(-6))
    own = [(key, answer) for key, answer in vlm.scored if key[-1] == "q1"]
    assert len(own) == 8 and (("a", "b", "q1"), "b") not in own and (("q1",), "b") not in own
    assert first["counts"]["from_ledger"] == 1 and first["counts"]["scored"] == 8
    assert len(vlm.answered) == 5  # words are not in the ledger


def test_earlier_rollouts_spare_everything():
    before = run(RuleVLM())

    def measures(row):
        places = enumerate(map(tuple, row["demonstration_ids"]))
        return {ids: {name: row[column][place] for name, column in MEASURES.items()} for place, ids in places}

    vlm = RuleVLM()
    again = run(vlm, [Known({}, measures(row)) for row in before])
    assert vlm.answered == [] and vlm.scored == [(("q1",), "b")]  # the zero-shot score of q1, which has no such row
    for old, new in zip(before, again, strict=True):
        assert {name: old[name] for name in old if name != "counts"} == {n: new[n] for n in new if n != "counts"}
    assert again[0]["counts"] == {"sequences": 3, "answered": 0, "scored": 1, "from_ledger": 0, "from_previous": 3}


def test_on_the_scale_of_the_metric_the_zero_shot_prompt_is_answered():
    vlm = RuleVLM()
    ledger = {("a", "b"): AnswerLogprob(-0.25, 1), (): AnswerLogprob(-0.5, 1)}
    queries = [QUERIES[0], {**QUERIES[1], "answers": ["nothing", "zz"]}]
    first, second = answer_unit(queries, PROPOSALS, [Known(ledger), Known()], POOL, vlm, "metric")
    # "nothing" is wrong for q1, which has no such sequence in its group, and right for q2, which has
    assert (first["zero_shot_score"], second["zero_shot_score"]) == (0.0, 1.0)
    assert vlm.answered.count(("q1",)) == vlm.answered.count(("q2",)) == 1
    assert () not in map(tuple, first["demonstration_ids"])
    assert first["counts"] == {"sequences": 3, "answered": 4, "scored": 8, "from_ledger": 1, "from_previous": 0}
    assert second["counts"]["answered"] == 2
    for measured, row in ((first, run(RuleVLM())[0]), (second, run(RuleVLM())[1])):
        assert measured["generations"] == row["generations"]


def test_several_answers_to_one_query_share_everything_but_the_answer(world):
    task = make_task(TaskArguments(metric="exact_match", max_new_tokens=4))
    vlm = load_vlm(VLMArguments(vlm="data/concept_binding/vlm", max_batch_tokens=1024), task)
    query, demonstration = world["train"][0], world["pool"][0]
    others = [{**query, "answer": answer} for answer in dict.fromkeys(world["train"]["answer"][:6])]
    requests = [Request((demonstration,), variant) for variant in others]
    runner = vlm.prepare(requests)
    before = runner.engine.num_tokens
    together = vlm.answer_logprobs(requests)
    prompt = vlm.num_prompt_tokens(requests[0]) - together[0].num_tokens
    # The prompt once, and of each answer all but its last token, which nothing follows.
    rest = sum(found.num_tokens - 1 for found in together)
    assert len(others) > 2 and runner.engine.num_tokens - before == prompt + rest
    fresh = load_vlm(vlm.args, task)
    for request, found in zip(requests, together, strict=True):
        alone = fresh.answer_logprobs([Request(request.demonstrations, {**request.query, "id": "another"})])[0]
        assert found.logprob == pytest.approx(alone.logprob, abs=1e-4) and found.num_tokens == alone.num_tokens
    assert len({found.logprob for found in together}) == len(others)


def test_letters_in_matching_blocks():
    # "rawa" and "rava" share r, a and a: 2 * 3 / 8
    assert edit_similarity("rava", ["rawa"]) == pytest.approx(0.75)
    assert edit_similarity("rava", ["xyz", "rava"]) == 1.0
    assert edit_similarity("The Rava!", ["rava"]) == 1.0  # words are those of the metric token_f1


def test_texts_without_words():
    assert edit_similarity("", ["dog"]) == 0.0 and edit_similarity("", [""]) == 1.0
    assert relevance("", ["the"]) == 1.0 and relevance("", ["dog"]) == 0.0


def test_relevance_takes_one_answer_for_both_measures():
    # "tolo rava" to "tolo rawa": F1 1/2, letters 2 * 8 / 18
    assert relevance("tolo\nrava", ["tolo rawa"]) == pytest.approx((0.5 + 16 / 18) / 2)
    assert relevance("dog", ["dog", "cat"]) == 1.0
    # F1 would take the first answer and letters the second; no single answer gives both
    both = ["big dog", "dogs"]
    each = [relevance("dog", [answer]) for answer in both]
    assert relevance("dog", both) == max(each) < (token_f1("dog", both) + edit_similarity("dog", both)) / 2


@pytest.mark.parametrize("measure", [edit_similarity, relevance])
def test_nothing_to_compare_with_is_refused(measure):
    with pytest.raises(ValueError, match="No answer to judge the prediction 'dog' by"):
        measure("dog", [])
    with pytest.raises(TypeError, match="a list of strings"):
        measure("dog", "dog")
