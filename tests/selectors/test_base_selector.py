# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


"""What holds for every selector, whatever it is made of."""

import itertools

import pytest
import torch
from selector_zoo import ZOO, make_inputs, make_selector

from leverplus_trl.selectors import BaseSelectorConfig, action_mask, action_step_logprobs


every_selector = pytest.mark.parametrize("name", ZOO)


def all_sequences(candidates, shots, stop):
    """Every ordered sequence, -1 padded; with `stop` of every length from 0 on."""
    lengths = range(shots + 1) if stop else [shots]
    found = [(*picks, *[-1] * (shots - n)) for n in lengths for picks in itertools.permutations(range(candidates), n)]
    return torch.tensor(found)


def test_hand_worked_log_probabilities_of_actions():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]))  # two steps, two candidates and STOP
    positions = torch.tensor([[1, 0], [1, -1], [-1, -1]])
    expected = torch.log(torch.tensor([[0.3, 0.1], [0.3, 0.3], [0.2, 1.0]]))
    found = action_step_logprobs(logits.expand(3, -1, -1), positions, stop=True)
    torch.testing.assert_close(found, expected)
    assert action_mask(positions, stop=True).tolist() == [[True, True], [True, True], [True, False]]
    assert action_mask(positions, stop=False).tolist() == [[True, True], [True, False], [False, False]]
    plain = action_step_logprobs(logits.expand(3, -1, -1), positions, stop=False)
    torch.testing.assert_close(plain, torch.log(torch.tensor([[0.3, 0.1], [0.3, 1.0], [1.0, 1.0]])))


@every_selector
def test_probabilities_of_all_ordered_sequences_sum_to_one(name):
    model = make_selector(name)
    inputs = make_inputs(batch=2, candidates=5)
    mask = torch.tensor([[True] * 5, [True, False, True, True, True]])
    sequences = all_sequences(5, 3, model.config.stop)  # [N, 3]
    positions = sequences.expand(2, -1, -1)
    logits = model(**inputs, candidate_mask=mask, demonstration_positions=positions).logits
    total = action_step_logprobs(logits, positions, model.config.stop).sum(-1).exp()  # [2, N]
    torch.testing.assert_close(total.sum(-1), torch.ones(2))
    assert (total[1, (sequences == 1).any(-1)] == 0).all()
    assert total[0].max() < 0.99 and total[0].min() > 0


@every_selector
def test_a_permutation_of_the_candidates_permutes_the_logits(name):
    model = make_selector(name)
    inputs = make_inputs()
    positions = torch.tensor([[0, 3, 5], [2, 1, 4], [5, 4, 0]])
    order = torch.tensor([4, 0, 5, 2, 1, 3])  # the candidate at place i was at order[i]
    logits = model(**inputs, demonstration_positions=positions).logits
    moved = {key: inputs[key][:, order] for key in ("candidate_embeds", "candidate_rows")}
    permuted = model(**(inputs | moved), demonstration_positions=order.argsort()[positions]).logits
    torch.testing.assert_close(permuted[..., :6], logits[..., order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted[..., 6:], logits[..., 6:], rtol=1e-4, atol=1e-5)  # STOP stays


@every_selector
def test_padding_anywhere_changes_nothing_and_gets_no_gradient(name):
    model = make_selector(name)
    inputs = make_inputs(candidates=4)
    positions = torch.tensor([[0, 3], [2, 1], [3, 0]])
    logits = model(**inputs, demonstration_positions=positions).logits
    places = [1, 2, 4, 5]  # padding on the left, in the middle and on the right
    padded, rows = torch.full((3, 7, 10), torch.nan), torch.full((3, 7), -1)
    padded[:, places], rows[:, places] = inputs["candidate_embeds"], inputs["candidate_rows"]
    padded.requires_grad_()
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[:, places] = True
    moved = {"candidate_embeds": padded, "candidate_rows": rows, "candidate_mask": mask}
    found = model(**(inputs | moved), demonstration_positions=torch.tensor(places)[positions]).logits
    kept = places + list(range(7, found.shape[-1]))  # and STOP
    torch.testing.assert_close(found[..., kept], logits, rtol=1e-4, atol=1e-5)
    rest = [place for place in range(7) if place not in places]
    assert (found[..., rest] == torch.finfo(found.dtype).min).all()
    action_step_logprobs(found, torch.tensor(places)[positions], model.config.stop).sum().backward()
    assert (padded.grad[:, rest] == 0).all()
    assert padded.grad[:, places].abs().sum() > 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@every_selector
@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
def test_select_gives_the_log_probabilities_that_forward_gives(name, strategy):
    model = make_selector(name)
    inputs = make_inputs(batch=12)
    mask = torch.tensor([[True] * 6, [False, True, True, True, True, False], [True] * 5 + [False]]).repeat(4, 1)
    generator = torch.Generator().manual_seed(2)
    settings = {"num_shots": 4, "strategy": strategy, "temperature": 1.3, "generator": generator}
    found = model.select(**inputs, candidate_mask=mask, **settings)
    positions = found.demonstration_positions
    assert positions.shape == (12, 4)
    picked = [[pick for pick in row if pick >= 0] for row in positions.tolist()]
    assert all(len(set(row)) == len(row) for row in picked)
    assert all(
        row == [*row[: len(own)], *[-1] * (4 - len(own))] for row, own in zip(positions.tolist(), picked, strict=True)
    )
    assert mask.gather(1, positions.clamp(min=0))[positions >= 0].all()
    assert {len(own) for own in picked} <= ({0, 1, 2, 3, 4} if model.config.stop else {4})
    logits = model(**inputs, candidate_mask=mask, demonstration_positions=positions).logits
    logprobs = action_step_logprobs(logits, positions, model.config.stop)
    torch.testing.assert_close(found.step_logprobs, logprobs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logprobs, logprobs.sum(-1), rtol=1e-4, atol=1e-5)
    tempered = action_step_logprobs(logits / 1.3, positions, model.config.stop).sum(-1)
    behaviour = tempered if strategy == "sample" else found.logprobs
    torch.testing.assert_close(found.behaviour_logprobs, behaviour, rtol=1e-4, atol=1e-5)


@every_selector
def test_a_wide_beam_finds_the_best_sequence(name):
    model = make_selector(name)
    inputs = make_inputs(batch=8, candidates=5)
    greedy = model.select(**inputs, num_shots=3)
    one = model.select(**inputs, num_shots=3, strategy="beam", num_beams=1)
    assert greedy.demonstration_positions.tolist() == one.demonstration_positions.tolist()
    sequences = all_sequences(5, 3, model.config.stop)
    positions = sequences.expand(8, -1, -1)
    logits = model(**inputs, demonstration_positions=positions).logits
    best = action_step_logprobs(logits, positions, model.config.stop).sum(-1).max(-1)
    wide = model.select(**inputs, num_shots=3, strategy="beam", num_beams=200)
    assert wide.demonstration_positions.tolist() == sequences[best.indices].tolist()
    torch.testing.assert_close(wide.logprobs, best.values, rtol=1e-4, atol=1e-5)


@every_selector
def test_samples_follow_the_policy_and_the_generator(name):
    model = make_selector(name)
    inputs = {key: value.expand(4000, *value.shape[1:]) for key, value in make_inputs(batch=1, candidates=3).items()}
    settings = {"num_shots": 1, "strategy": "sample"}
    draws = [model.select(**inputs, **settings, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*(draw.demonstration_positions for draw in draws))
    actions = draws[0].demonstration_positions.flatten()
    shares = torch.where(actions < 0, 3, actions).bincount(minlength=3 + model.config.stop) / 4000
    expected = model(**{key: value[:1] for key, value in inputs.items()}).logits.softmax(-1)[0, 0]
    assert (shares - expected).abs().max() < 4 * (0.25 / 4000) ** 0.5


@every_selector
def test_groups_and_single_sequences_agree(name):
    model = make_selector(name)
    inputs = make_inputs()
    positions = torch.tensor([[[0, 1], [2, 1], [3, 4]]]).expand(3, -1, -1)
    together = model(**inputs, demonstration_positions=positions).logits
    alone = model(**inputs, demonstration_positions=positions[:, 1]).logits
    torch.testing.assert_close(together[:, 1], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[:, 0, 0], together[:, 1, 0])  # before any pick
    without = model(**inputs).logits
    torch.testing.assert_close(without[:, 0], alone[:, 0], rtol=1e-4, atol=1e-5)


@every_selector
def test_training_reaches_every_parameter_that_is_trained(name):
    model = make_selector(name).train()
    inputs = make_inputs()
    positions = torch.tensor([[0, 1, 2], [2, 3, 5], [4, 5, 1]])
    action_step_logprobs(
        model(**inputs, demonstration_positions=positions).logits, positions, model.config.stop
    ).sum().backward()
    idle = [
        name
        for name, value in model.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.abs().sum())
    ]
    assert idle == []


@every_selector
def test_more_shots_than_in_training(name):
    model = make_selector(name)
    found = model.select(**make_inputs(), num_shots=6, strategy="beam")
    assert found.demonstration_positions.shape == (3, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_shots": 5}, "num_shots is 5, but a query has only 4 candidates"),
        ({"num_shots": 0}, "num_shots is 0"),
        ({"strategy": "best"}, "strategy is 'best'; expected one of greedy, beam, sample"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"candidate_mask": torch.ones(3, 9, dtype=torch.bool)}, r"candidate_mask \[3, 9\] for candidates \[3, 6\]"),
        ({"query_embeds": torch.zeros(3, 7)}, r"query_embeds \[3, 7\].*takes \[B, 10\] \(image \+ text\)"),
    ],
)
def test_bad_input_is_named(arguments, message):
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 6])
    with pytest.raises(ValueError, match=message):
        make_selector("v2").select(**(make_inputs() | {"candidate_mask": mask} | arguments))


def test_a_user_can_have_a_config_of_its_own_type():
    class OwnConfig(BaseSelectorConfig):
        model_type = "own_selector"

    assert OwnConfig(num_shots=3).num_shots == 3
    with pytest.raises(ValueError, match=r'candidate_features is an empty list; .* have the features \["text"\]'):
        OwnConfig(candidate_features=[])
