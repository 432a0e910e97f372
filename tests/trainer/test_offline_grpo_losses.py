# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import math

import pytest
import torch

from leverplus_trl.trainer.offline_grpo_losses import (
    batch_std,
    behaviour_weights,
    entropy,
    exact_kl,
    expected_reward,
    grpo_loss,
    has_spread,
    rce_loss,
    rce_weights,
    standardised_advantages,
    top_sequences,
)


LOWEST = torch.finfo(torch.float32).min
NAN = math.nan
# Two groups: 0, 0, 1, 3 (mean 1, standard deviation sqrt(1.5)) and 2, 4, and padding (mean 3, standard deviation 1).
REWARDS = torch.tensor([[0.0, 0.0, 1.0, 3.0], [2.0, 4.0, 0.0, 0.0]])
MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


def test_advantages_are_standardised_within_the_group():
    found = standardised_advantages(REWARDS, MASK)
    std = math.sqrt(1.5)
    torch.testing.assert_close(found, torch.tensor([[-1 / std, -1 / std, 0.0, 2 / std], [-1.0, 1.0, 0.0, 0.0]]))
    spread = found[0].std(correction=0)
    assert spread.item() == pytest.approx(1.0, abs=1e-6)


def test_advantages_can_be_scaled_by_the_batch_or_not_at_all():
    plain = torch.tensor([[-1.0, -1.0, 0.0, 2.0], [-1.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(standardised_advantages(REWARDS, MASK, "none"), plain)
    # all six rewards: mean 10/6, mean of squares 30/6, variance 30/6 - 100/36 = 80/36
    std = math.sqrt(80 / 36)
    assert batch_std(REWARDS, MASK).item() == pytest.approx(std, rel=1e-6)
    torch.testing.assert_close(standardised_advantages(REWARDS, MASK, "batch"), plain / std)
    halved = standardised_advantages(REWARDS, MASK, "batch", std_of_batch=torch.tensor(2.0))
    torch.testing.assert_close(halved, plain / 2.0)


def test_advantages_are_clipped():
    rewards = torch.zeros(1, 101)
    rewards[0, 0] = 1.0  # 10 standard deviations from the mean
    mask = torch.ones(1, 101, dtype=torch.bool)
    found = standardised_advantages(rewards, mask)
    assert found[0, 0].item() == 5.0
    assert found[0, 1].item() == pytest.approx(-0.1, rel=1e-5)
    assert standardised_advantages(rewards, mask, clip=20.0)[0, 0].item() == pytest.approx(10.0, rel=1e-5)


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_a_group_of_equal_rewards_teaches_nothing(scale_rewards):
    rewards = torch.tensor([[0.3, 0.3, 0.3 + 1e-8, 9.0], [0.0, 1.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    assert has_spread(rewards, mask).tolist() == [False, True]
    assert standardised_advantages(rewards, mask, scale_rewards)[0].tolist() == [0.0] * 4
    assert rce_weights(rewards, mask, 1.0)[0].tolist() == [0.0] * 4


def test_rce_weights_are_the_softmax_of_standardised_rewards():
    found = rce_weights(REWARDS, MASK, tau=0.5)
    # second group: z = -1, 1 at tau 0.5 -> softmax(-2, 2)
    low = 1.0 / (1.0 + math.exp(4.0))
    torch.testing.assert_close(found[1], torch.tensor([low, 1.0 - low, 0.0, 0.0]))
    terms = [math.exp(z / math.sqrt(1.5) / 0.5) for z in (-1, -1, 0, 2)]
    torch.testing.assert_close(found[0], torch.tensor(terms) / sum(terms))
    # however large the rewards are, the weights are the same
    torch.testing.assert_close(rce_weights(100.0 * REWARDS + 7.0, MASK, tau=0.5), found)


def test_rce_loss_is_the_weighted_cross_entropy_over_all_queries():
    logprobs = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    weights = torch.tensor([[0.25, 0.75], [0.0, 0.0]])  # the second query teaches nothing, and counts
    assert rce_loss(logprobs, weights).item() == pytest.approx((0.25 + 1.5) / 2)


def test_the_best_sequences_are_those_and_what_ties_with_them():
    rewards = torch.tensor([[5.0, 1.0, 3.0, 3.0, 2.0], [1.0, 0.0, 2.0, 9.0, 9.0]])
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    assert top_sequences(rewards, mask, 2).tolist() == [
        [True, False, True, True, False],
        [True, False, True] + [False] * 2,
    ]
    assert torch.equal(top_sequences(rewards, mask, 9), mask)


def one_query(ratios, advantages, lengths=None, counted=None, **values):
    """Loss of a single query from the ratios `[G][S]` of its steps."""
    ratios = torch.tensor([ratios])
    steps = torch.arange(ratios.shape[-1])
    lengths = torch.tensor([lengths or [ratios.shape[-1]] * ratios.shape[1]])
    acted = steps < lengths[..., None]
    mask = torch.ones(ratios.shape[:2], dtype=torch.bool) if counted is None else torch.tensor([counted])
    old = torch.full_like(ratios, -1.5)
    loss, clipped = grpo_loss(old + ratios.log(), old, torch.tensor([advantages]), acted, mask, **values)
    return loss.item(), clipped.item()


def test_grpo_loss_equals_the_hand_worked_case():
    # A = 1: min(1.5, 1.2) = 1.2, min(0.5, 0.8) = 0.5; A = -2: min(-3, -2.4) = -3, min(-1, -1.6) = -1.6
    loss, clipped = one_query([[1.5, 0.5], [1.5, 0.5]], [1.0, -2.0])
    assert loss == pytest.approx(-((1.2 + 0.5) / 2 + (-3.0 - 1.6) / 2) / 2)
    assert clipped == 0.5  # the first step of the first, the second of the second
    assert one_query([[1.5, 1.0]], [1.0], epsilon_high=0.3)[0] == pytest.approx(-(1.3 + 1.0) / 2)
    assert one_query([[1.0, 1.0], [1.0, 1.0]], [1.0, -1.0]) == (pytest.approx(0.0), 0.0)


def test_loss_types_differ_where_lengths_do():
    arguments = [[1.1, 1.1], [1.1, 7.0]], [1.0, 1.0], [2, 1]
    assert one_query(*arguments)[0] == pytest.approx(-(1.1 + 1.1) / 2)  # means of 2 steps and of 1
    assert one_query(*arguments, loss_type="dr_grpo")[0] == pytest.approx(-(1.1 + 0.55) / 2)  # sums over S = 2
    # a sequence without any action (no STOP, no pick) adds nothing
    assert one_query([[1.1, 1.1], [9.0, 9.0]], [1.0, 1.0], [2, 0])[0] == pytest.approx(-0.55)


def test_a_sequence_has_the_product_of_its_ratios():
    loss, clipped = one_query([[1.5, 0.5], [1.5, 1.5]], [1.0, 1.0], importance_sampling_level="sequence")
    assert loss == pytest.approx(-(0.75 + 1.2) / 2)  # 0.75 is below 0.8, but a gain is bounded from above only
    assert clipped == 0.5


def test_what_does_not_count_is_without_gradient():
    ratios = torch.zeros(2, 3, 2, requires_grad=True)
    advantages = torch.tensor([[1.0, -1.0, 2.0], [1.0, 2.0, 3.0]])
    acted = torch.ones(2, 3, 2, dtype=torch.bool)
    acted[0, 0, 1] = False
    mask = torch.tensor([[True, True, False], [False, False, False]])
    loss, _ = grpo_loss(ratios, torch.zeros_like(ratios), advantages, acted, mask)
    loss.backward()
    # means over 1 and 2 steps, then over 2 sequences, then over 2 queries
    expected = torch.zeros(2, 3, 2)
    expected[0, 0, 0], expected[0, 1] = -1.0 / 4, 0.5 / 4
    torch.testing.assert_close(ratios.grad, expected)


def test_a_ratio_that_overflows_stays_finite():
    huge = torch.tensor([[[200.0, -200.0]]], requires_grad=True)
    everything = torch.ones(1, 1, 2, dtype=torch.bool)
    for advantage in (0.0, 1.0, -1.0):
        loss, _ = grpo_loss(huge, torch.zeros(1, 1, 2), torch.full((1, 1), advantage), everything, everything[..., 0])
        huge.grad = None
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(huge.grad).all()


def test_exact_kl_equals_the_hand_worked_case():
    # 1/4, 3/4 against 1/2, 1/2; and equal policies, and a step that does not count
    logits = torch.tensor([[[[0.0, math.log(3.0), LOWEST], [1.0, 2.0, LOWEST], [5.0, 0.0, 0.0]]]], requires_grad=True)
    reference = torch.tensor([[[[0.0, 0.0, LOWEST], [3.0, 4.0, LOWEST], [0.0, 0.0, 5.0]]]])
    mask = torch.tensor([[[True, True, False]]])
    kl = exact_kl(logits, reference, mask)
    expected = (0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)) / 2
    assert kl.tolist() == [pytest.approx(expected, rel=1e-5)]
    kl.sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0, 1:].abs().max().item() < 1e-6
    assert exact_kl(logits, reference, torch.zeros_like(mask)).item() == 0.0


def test_entropy_counts_what_can_be_done():
    logits = torch.tensor([[[[0.0, 0.0, LOWEST], [0.0, 0.0, 0.0]]]])
    assert entropy(logits, torch.tensor([[[True, True]]])).item() == pytest.approx((math.log(2) + math.log(3)) / 2)


def test_behaviour_weights_are_truncated_and_1_where_nothing_is_known():
    logprobs = torch.tensor([[math.log(0.2), math.log(0.9), -1.0, 0.0]], requires_grad=True)
    known = torch.tensor([[math.log(0.4), math.log(0.1), NAN, -500.0]])
    found = behaviour_weights(logprobs, known, cap=3.0)
    torch.testing.assert_close(found, torch.tensor([[0.5, 3.0, 1.0, 3.0]]))
    assert not found.requires_grad


def test_expected_reward_is_self_normalised():
    logprobs = torch.tensor([[math.log(0.1), math.log(0.3), 0.0], [-40.0, -41.0, -42.0]])
    rewards = torch.tensor([[1.0, 0.2, NAN], [3.0, 3.0, 3.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    torch.testing.assert_close(expected_reward(logprobs, rewards, mask), torch.tensor([0.25 + 0.75 * 0.2, 3.0]))
