# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import math

import numpy as np
import pytest
import torch
from datasets import Dataset

from leverplus_trl.retrieval.embeddings import ExampleEmbeddings
from leverplus_trl.schema import BEAMS, LEDGER
from leverplus_trl.selectors import SelectorProcessor
from leverplus_trl.trainer import SelectorDataset, scored_prefixes


def tables(sequences, insertion, candidates=("a", "b", "c"), zero_shot=0.25, beams=None):
    """Beams and ledger of the query "q"; `sequences` maps ids in selection order to answer probabilities."""

    def prompt(ids):
        return list(reversed(ids)) if insertion == "left" else list(ids)

    def entry(ids, probability):
        return {
            "query_id": "q",
            "split": "train",
            "demonstration_ids": prompt(ids),
            "answer_logprob": 3 * math.log(probability),
            "num_answer_tokens": 3,
            "accuracy": None,
        }

    ledger = [entry((), zero_shot), *(entry(ids, value) for ids, value in sequences.items())]
    row = {
        "query_id": "q",
        "split": "train",
        "candidate_ids": list(candidates),
        "demonstration_ids": [prompt(ids) for ids in (beams or [max(sequences, key=len)])],
        "scores": [0.5],
        "step_scores": [[0.1, 0.2]],
        "zero_shot_score": zero_shot,
    }
    return Dataset.from_list([row], features=BEAMS), Dataset.from_list(ledger, features=LEDGER)


@pytest.mark.parametrize("insertion", ["left", "right"])
def test_the_tree_of_a_query_is_read_in_selection_order(insertion):
    sequences = {("a",): 0.5, ("b",): 0.75, ("c",): 0.25, ("b", "a"): 0.875, ("b", "c"): 0.625}
    scored = scored_prefixes(*tables(sequences, insertion), insertion, "prob")
    assert scored.prefix_positions.tolist() == [[[-1, -1], [1, -1]]]
    expected = torch.tensor([[[0.25, 0.5, 0.0], [0.625, torch.nan, 0.375]]])
    torch.testing.assert_close(scored.prefix_scores, expected, equal_nan=True)
    assert scored.prefix_weights.tolist() == [[0.5, 0.5]]
    assert scored.prefix_lengths.tolist() == [[0, 1]]
    assert scored.beam_positions.tolist() == [[[1, 0]]]  # chosen: b, then a, whatever the insertion


@pytest.mark.parametrize("insertion", ["left", "right"])
def test_with_stop_a_pick_is_worth_the_best_that_comes_of_it(insertion):
    sequences = {("a",): 0.25, ("b",): 0.125, ("c",): 0.5, ("a", "b"): 0.75, ("a", "c"): 0.125}
    made = tables(sequences, insertion, zero_shot=0.25, beams=[("a", "b"), ("a", "c"), ("a", "b")])
    scored = scored_prefixes(*made, insertion, "prob", stop=True)
    assert scored.prefix_positions.tolist() == [[[-1, -1], [0, -1]]]
    # a alone gains nothing, but a, b does; ending after a is worth what a gains, ending at once nothing
    expected = torch.tensor([[[0.5, -0.125, 0.25, 0.0], [torch.nan, 0.5, -0.125, 0.0]]])
    torch.testing.assert_close(scored.prefix_scores, expected, equal_nan=True)
    # the best of any length; of equal ones the shorter first
    assert scored.beam_positions.tolist() == [[[0, 1], [2, -1], [-1, -1]]]
    assert scored.beam_scores.tolist() == [[0.5, 0.25, 0.0]]


def test_logprob_scores_are_differences_of_normalised_logprobs():
    scored = scored_prefixes(*tables({("a",): 0.5, ("c",): 0.125}, "left"), "left", "logprob")
    expected = torch.tensor([[[math.log(2.0), torch.nan, -math.log(2.0)]]])
    torch.testing.assert_close(scored.prefix_scores, expected, equal_nan=True)
    assert scored.prefix_weights.tolist() == [[1.0]]


def test_metric_scores_are_differences_of_accuracies():
    beams, ledger = tables({("a",): 0.5, ("c",): 0.125}, "left")
    with pytest.raises(ValueError, match="Search beams with `score: metric`"):
        scored_prefixes(beams, ledger, "left", "metric")
    said = ledger.remove_columns("accuracy").add_column("accuracy", [1.0, 0.25, 4.5])
    scored = scored_prefixes(beams, said, "left", "metric")
    torch.testing.assert_close(scored.prefix_scores, torch.tensor([[[-0.75, torch.nan, 3.5]]]), equal_nan=True)


def test_steps_weigh_alike_however_many_prefixes_they_have():
    three = {("a",): 0.5, ("b",): 0.5, ("c",): 0.5}
    two = {("a", "b"): 0.5, ("a", "c"): 0.5, ("b", "c"): 0.5}
    one = {("a", "b", "c"): 0.5}
    scored = scored_prefixes(*tables({**three, **two, **one}, "left"), "left", "prob")
    assert scored.prefix_positions.tolist() == [[[-1, -1, -1], [0, -1, -1], [1, -1, -1], [0, 1, -1]]]
    torch.testing.assert_close(scored.prefix_weights, torch.tensor([[2 / 6, 1 / 6, 1 / 6, 2 / 6]]))


def test_queries_may_differ_in_candidates():
    first = tables({("a",): 0.5}, "left", candidates=("a",))
    second = tables({("x",): 0.5, ("y",): 0.75}, "left", candidates=("y", "x"))
    rename = {"query_id": "r"}
    beams = Dataset.from_list([first[0][0], {**second[0][0], **rename}], features=BEAMS)
    ledger = Dataset.from_list([*first[1], *({**row, **rename} for row in second[1])], features=LEDGER)
    scored = scored_prefixes(beams, ledger, "left", "prob")
    expected = torch.tensor([[[0.25, torch.nan]], [[0.5, 0.25]]])
    torch.testing.assert_close(scored.prefix_scores, expected, equal_nan=True)
    pool = ExampleEmbeddings(
        ["a", "x", "y"], np.eye(3, dtype=np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)
    )
    queries = ExampleEmbeddings(["r", "q"], np.ones((2, 3), np.float32), np.array([[7, 8], [9, 9]], np.float32))
    dataset = SelectorDataset(
        beams["query_id"], beams["candidate_ids"], queries, pool, SelectorProcessor(["text"], ["image"]), scored
    )
    batch = dataset.__getitems__([1, 0])
    assert batch["query_embeds"].tolist() == [[7, 8], [9, 9]]
    assert batch["swapped_query_embeds"].tolist() == [[9, 9], [7, 8]]
    assert batch["candidate_mask"].tolist() == [[True, True], [True, False]]
    assert batch["candidate_embeds"][0].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert batch["candidate_rows"].tolist() == [[2, 1], [0, -1]]
    torch.testing.assert_close(batch["prefix_scores"], expected.flip(0), equal_nan=True)


@pytest.mark.parametrize(
    ("values", "score"),
    [
        ({"answer_logprob": math.inf}, "prob"),
        ({"answer_logprob": -math.inf}, "prob"),  # whose probability would be a fair 0
        ({"answer_logprob": None}, "prob"),
        ({"answer_logprob": 1e39}, "logprob"),  # infinite in single precision
        ({"num_answer_tokens": 0}, "prob"),
        ({"accuracy": math.nan}, "metric"),
    ],
)
def test_a_score_that_is_no_number_is_refused_with_its_sequence(values, score):
    beams, ledger = tables({("a",): 0.5}, "left")
    rows = [{**row, "accuracy": 0.5} for row in ledger]
    broken = Dataset.from_list([rows[0], {**rows[1], **values}], features=LEDGER)
    with pytest.raises(ValueError, match=r"score of \['a'\] for the query 'q' is not finite"):
        scored_prefixes(beams, broken, "left", score)


@pytest.mark.parametrize("score", [math.nan, math.inf, None])
def test_a_beam_without_a_score_is_not_taken_for_padding(score):
    beams, ledger = tables({("a",): 0.5}, "left")
    damaged = Dataset.from_list([{**beams[0], "scores": [score]}], features=BEAMS)
    with pytest.raises(ValueError, match=f"beam of the query 'q' has the score {score}"):
        scored_prefixes(damaged, ledger, "left", "prob")


def test_candidates_that_come_twice_are_refused():
    beams, ledger = tables({("a",): 0.5}, "left", candidates=("a", "b", "a"))
    with pytest.raises(ValueError, match="query 'q' has the candidate 'a' more than once"):
        scored_prefixes(beams, ledger, "left", "prob")
    pool = ExampleEmbeddings(["a", "b", "c"], np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="has the candidate 'a' more than once"):
        SelectorProcessor(["image"], ["image"])(pool, ["b"], pool, [["a", "c", "a"]])


def test_tables_that_do_not_fit_are_refused():
    beams, ledger = tables({("a",): 0.5}, "left")
    with pytest.raises(ValueError, match="no zero-shot row for the query 'q'"):
        scored_prefixes(beams, ledger.select([1]), "left", "prob")
    stray = Dataset.from_list([*ledger, {**ledger[1], "demonstration_ids": ["z"]}], features=LEDGER)
    with pytest.raises(ValueError, match="of the query 'q' holds 'z', which is not among its candidates"):
        scored_prefixes(beams, stray, "left", "prob")
    broken = Dataset.from_list([ledger[0], {**ledger[1], "answer_logprob": math.nan}], features=LEDGER)
    with pytest.raises(ValueError, match=r"\['a'\] for the query 'q' is not finite"):
        scored_prefixes(beams, broken, "left", "prob")
    with pytest.raises(ValueError, match="only the zero-shot row of the query 'q'"):
        scored_prefixes(beams, ledger.select([0]), "left", "prob")
    with pytest.raises(ValueError, match="empty"):
        scored_prefixes(beams.select([]), ledger, "left", "prob")
    pool = ExampleEmbeddings(["a", "b"], np.eye(2, dtype=np.float32))
    processor = SelectorProcessor(["image"], ["image"])
    with pytest.raises(ValueError, match="'c'"):
        SelectorDataset(
            ["a"], beams["candidate_ids"], pool, pool, processor, scored_prefixes(beams, ledger, "left", "prob")
        )
