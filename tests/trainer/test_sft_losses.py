# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import math

import pytest
import torch

from leverplus_trl.trainer import beam_weights, beams_loss, listwise_loss


LOWEST = torch.finfo(torch.float32).min
NAN = math.nan


def test_listwise_loss_equals_the_hand_worked_case():
    # Targets: scores 0, ln 2 / 10 at tau 0.1 -> 1/3, 2/3. Policy over the two scored candidates: logits 0, ln 3 ->
    # 1/4, 3/4.
    logits = torch.tensor([[[0.0, math.log(3.0), 5.0]]])
    scores = torch.tensor([[[0.0, math.log(2.0) / 10.0, NAN]]])
    loss = listwise_loss(logits, scores, torch.ones(1, 1), tau=0.1)
    expected = -(math.log(1 / 4) / 3 + 2 * math.log(3 / 4) / 3)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_listwise_loss_weighs_prefixes_and_averages_queries():
    logits = torch.zeros(2, 2, 4)
    scores = torch.zeros(2, 2, 4)
    # All uniform: the cross-entropy of every prefix is ln 4; weights 1/2 + 1/2 for one query, 1/4 + 0 for the other.
    weights = torch.tensor([[0.5, 0.5], [0.25, 0.0]])
    loss = listwise_loss(logits, scores, weights, tau=0.03)
    assert loss.item() == pytest.approx(math.log(4) * (1.0 + 0.25) / 2, rel=1e-6)


def test_label_smoothing_spreads_over_scored_candidates_only():
    logits = torch.tensor([[[0.0, math.log(3.0), 2.0]]])
    scores = torch.tensor([[[1.0, 0.0, NAN]]])  # at tau 0.001 all the mass is on the first
    loss = listwise_loss(logits, scores, torch.ones(1, 1), tau=0.001, label_smoothing=0.2)
    expected = -(0.9 * math.log(1 / 4) + 0.1 * math.log(3 / 4))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_what_was_not_scored_or_is_masked_gets_no_gradient():
    logits = torch.tensor([[[0.3, -0.2, 0.9, LOWEST]]], requires_grad=True)
    scores = torch.tensor([[[0.1, 0.2, NAN, 0.9]]])  # scored but masked: hidden from this batch
    loss = listwise_loss(logits, scores, torch.ones(1, 1), tau=0.1, label_smoothing=0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad[0, 0, 2:].tolist() == [0.0, 0.0]
    assert (logits.grad[0, 0, :2] != 0).all()


def test_a_prefix_with_nothing_scored_adds_nothing():
    logits = torch.randn(1, 2, 3, requires_grad=True)
    scores = torch.tensor([[[0.1, 0.2, 0.3], [NAN, NAN, NAN]]])
    loss = listwise_loss(logits, scores, torch.tensor([[0.5, 0.0]]), tau=0.1)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert (logits.grad[0, 1] == 0).all()


def test_beams_loss_equals_the_hand_worked_case():
    # Beam 1 chooses 0 then 2, beam 2 chooses 1 then 0; what was chosen is masked in the second step.
    one, two = math.log(2.0), math.log(3.0)
    logits = torch.tensor([[[[one, 0.0, 0.0], [LOWEST, two, 0.0]], [[one, 0.0, 0.0], [0.0, LOWEST, two]]]])
    positions = torch.tensor([[[0, 2], [1, 0]]])
    weights = torch.tensor([[0.75, 0.25]])
    loss = beams_loss(logits, positions, weights)
    first = -(math.log(2 / 4) + math.log(1 / 4)) / 2
    second = -(math.log(1 / 4) + math.log(1 / 4)) / 2
    assert loss.item() == pytest.approx(0.75 * first + 0.25 * second, rel=1e-6)


def test_beams_loss_with_smoothing_and_padding():
    logits = torch.tensor([[[[0.0, math.log(3.0)], [LOWEST, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    positions = torch.tensor([[[1, -1], [-1, -1]]])
    loss = beams_loss(logits, positions, torch.tensor([[1.0, 0.0]]), label_smoothing=0.5)
    expected = -(0.5 * math.log(3 / 4) + 0.5 * (math.log(1 / 4) + math.log(3 / 4)) / 2)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_beam_weights():
    scores = torch.tensor([[0.2, 0.2 - 0.1 * math.log(2.0), 0.0], [0.5, NAN, NAN]])
    assert beam_weights(scores, 2, "none", tau=0.1).tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]
    weighted = beam_weights(scores, 2, "softmax", tau=0.1)
    torch.testing.assert_close(weighted, torch.tensor([[2 / 3, 1 / 3, 0.0], [1.0, 0.0, 0.0]]))
