# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import json
import re

import pytest

from leverplus_trl.trainer import OfflineGRPOConfig
from leverplus_trl.trainer.base_selector_dataset import RepeatedBlocks
from leverplus_trl.trainer.offline_grpo_trainer import AdaptiveBeta
from leverplus_trl.trainer.policy_measures import why_still


def test_beta_keeps_the_kl_in_its_range():
    beta = AdaptiveBeta(0.04, kl_low=0.01, kl_high=0.1)
    for kl, expected in ((0.05, 0.04), (0.2, 0.052), (0.005, 0.04), (0.005, 0.04 / 1.3), (0.05, 0.04), (0.05, 0.04)):
        beta.update(kl)
        assert beta.beta == pytest.approx(expected)
    for _ in range(100):
        beta.update(1.0)
    assert beta.beta == 10.0
    for _ in range(100):  # back where it should be: what held the policy lets go
        beta.update(0.05)
    assert beta.beta == 0.04
    restored = AdaptiveBeta.from_state(json.loads(json.dumps(beta.state())))
    assert vars(restored) == vars(beta)


@pytest.mark.parametrize(
    ("logged", "values", "message"),
    [
        ({"frac_reward_zero_std": 0.95}, {}, "rewards of 95% of the groups are all equal.*softer reward"),
        ({"advantage_std": 0.006}, {"scale_rewards": "none"}, "spread by only 0.006 with scale_rewards 'none'"),
        ({"kl": 1e-4, "beta": 2.0}, {"adaptive_beta": False, "beta": 2.0}, "beta is 2, which holds the policy"),
        ({}, {"learning_rate": 1e-6}, "learning rate 1e-06 is too low"),
        ({}, {}, "7 steps at the learning rate 0.0003 are too few"),
    ],
)
def test_the_likely_cause_of_standing_still(tmp_path, logged, values, message):
    plain = {"frac_reward_zero_std": 0.1, "advantage_std": 0.9, "kl": 0.001, "beta": 0.04}
    args = OfflineGRPOConfig(output_dir=str(tmp_path), **values)
    assert re.search(message, why_still(plain | logged, args, 7))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss_type": "dapo"}, "loss_type is 'dapo'; expected one of grpo, dr_grpo"),
        ({"scale_rewards": "std"}, "scale_rewards is 'std'; expected one of group, batch, none"),
        ({"importance_sampling_level": "token"}, "expected one of step, sequence"),
        ({"reward_funcs": []}, "reward_funcs is an empty list"),
        ({"reward_weights": [1.0, 2.0]}, "2 values for the 1 rewards accuracy"),
        ({"importance_sampling_level": "sequence", "loss_type": "dr_grpo"}, "set loss_type: grpo"),
        ({"rce_tau_end": 0.0}, "rce_tau_end is 0.0; expected a number above 0"),
        ({"rce_tau_end": 3.0}, "above rce_tau_start 2.0.*exchange them"),
        ({"num_iterations": 0}, "num_iterations is 0; expected a whole number of at least 1"),
        ({"epsilon": 1.0}, "epsilon is 1.0; expected a number above 0 and below 1"),
        ({"epsilon_high": 0.1}, "below epsilon 0.2"),
        ({"kl_low": 0.2}, "expected 0 < kl_low < kl_high"),
        ({"beta": 0.0}, "set adaptive_beta: false"),
        ({"beta": -0.1}, "beta is -0.1; expected a number of at least 0"),
        ({"rce_epochs": 11}, "there are only 10.0 epochs"),
        ({"rce_epochs": 9}, "only 1.0 epochs follow the warm-up"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor has no effect"),
        ({"hub_strategy": "every_save"}, "hub_strategy is 'every_save'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        OfflineGRPOConfig(output_dir=str(tmp_path), **values)


def test_blocks_come_several_times_and_every_query_at_least_once():
    sampler = RepeatedBlocks(10, block_size=4, num_iterations=3, seed=5, epoch=lambda: 1)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 36
    blocks = [drawn[start : start + 4] for start in range(0, 36, 4)]
    assert all(blocks[number] == blocks[number - number % 3] for number in range(9))
    assert set(drawn) == set(range(10))
    assert blocks[6][2:] == blocks[0][:2]  # the last one is filled up from the beginning
    assert drawn == list(RepeatedBlocks(10, 4, 3, 5, lambda: 1)) != list(RepeatedBlocks(10, 4, 3, 5, lambda: 2))
