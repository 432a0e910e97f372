# Copyright 2026 The leverplus_trl team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

import itertools
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor

from leverplus_trl.selectors import PRESETS, PointerSelectorConfig, PointerSelectorModel, PointerSelectorProcessor


HISTORIES = ("none", "scalar_gate", "vector_gate", "gru")


def make_model(**values):
    torch.manual_seed(0)
    config = {"image_embed_dim": 6, "text_embed_dim": 4, "hidden_size": 16, "num_heads": 2, **values}
    model = PointerSelectorModel(PointerSelectorConfig(**config))
    with torch.no_grad():  # far from the neat initial values, so that every part matters
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.log_temperature.fill_(-1.5)
    return model.eval()


def make_inputs(batch=3, candidates=6):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 10, generator=generator), torch.randn(batch, candidates, 10, generator=generator)


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("layers", [0, 3])
def test_probabilities_of_all_ordered_sequences_sum_to_one(history, layers):
    model = make_model(history=history, num_cross_attention_layers=layers)
    query_embeds, candidate_embeds = make_inputs(batch=2, candidates=5)
    mask = torch.tensor([[True] * 5, [True, False, True, True, True]])
    sequences = torch.tensor(list(itertools.permutations(range(5), 3)))  # [60, 3]
    positions = sequences.expand(2, -1, -1)
    logprobs = model(query_embeds, candidate_embeds, mask, positions).logits.log_softmax(-1)  # [2, 60, 3, 5]
    total = logprobs.gather(-1, positions[..., None])[..., 0].sum(-1).exp()  # [2, 60]
    torch.testing.assert_close(total.sum(-1), torch.ones(2))
    assert (total[1, (sequences == 1).any(-1)] == 0).all()


@pytest.mark.parametrize("history", HISTORIES)
def test_a_permutation_of_the_candidates_permutes_the_logits(history):
    model = make_model(history=history)
    query_embeds, candidate_embeds = make_inputs()
    positions = torch.tensor([[0, 3, 5], [2, 1, 4], [5, 4, 0]])
    order = torch.tensor([4, 0, 5, 2, 1, 3])  # the candidate at place i was at order[i]
    there = order.argsort()
    logits = model(query_embeds, candidate_embeds, None, positions).logits
    permuted = model(query_embeds, candidate_embeds[:, order], None, there[positions]).logits
    torch.testing.assert_close(permuted, logits[..., order])


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_padding_anywhere_changes_nothing_and_gets_no_gradient(preset):
    model = make_model(**PRESETS[preset])
    query_embeds, candidate_embeds = make_inputs(candidates=4)
    positions = torch.tensor([[0, 3], [2, 1], [3, 0]])
    logits = model(query_embeds, candidate_embeds, None, positions).logits
    padded = torch.full((3, 7, 10), torch.nan)
    places = [1, 2, 4, 5]  # padding on the left, in the middle and on the right
    padded[:, places] = candidate_embeds
    padded.requires_grad_()
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[:, places] = True
    found = model(query_embeds, padded, mask, torch.tensor(places)[positions]).logits
    torch.testing.assert_close(found[..., places], logits)
    rest = [place for place in range(7) if place not in places]
    assert (found[..., rest] == torch.finfo(found.dtype).min).all()
    found.log_softmax(-1)[..., places].masked_fill(~(found[..., places] > -1e9), 0).sum().backward()
    assert (padded.grad[:, rest] == 0).all()
    assert padded.grad[:, places].abs().sum() > 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
def test_select_gives_the_log_probabilities_that_forward_gives(history, strategy):
    model = make_model(history=history)
    query_embeds, candidate_embeds = make_inputs()
    mask = torch.tensor([[True] * 6, [False, True, True, True, True, False], [True] * 5 + [False]])
    generator = torch.Generator().manual_seed(2)
    found = model.select(
        query_embeds, candidate_embeds, mask, num_shots=4, strategy=strategy, temperature=1.3, generator=generator
    )
    positions = found.demonstration_positions
    assert positions.shape == (3, 4)
    assert all(len(set(row)) == 4 for row in positions.tolist())
    assert mask.gather(1, positions).all()
    logprobs = model(query_embeds, candidate_embeds, mask, positions).logits.log_softmax(-1)
    logprobs = logprobs.gather(-1, positions[..., None])[..., 0]
    torch.testing.assert_close(found.step_logprobs, logprobs)
    torch.testing.assert_close(found.logprobs, logprobs.sum(-1))


def test_greedy_is_beam_search_with_one_beam_and_a_wide_beam_finds_the_best_sequence():
    model = make_model()
    query_embeds, candidate_embeds = make_inputs(batch=8, candidates=5)
    greedy = model.select(query_embeds, candidate_embeds, num_shots=3)
    one = model.select(query_embeds, candidate_embeds, num_shots=3, strategy="beam", num_beams=1)
    assert greedy.demonstration_positions.tolist() == one.demonstration_positions.tolist()
    sequences = torch.tensor(list(itertools.permutations(range(5), 3)))
    positions = sequences.expand(8, -1, -1)
    logprobs = model(query_embeds, candidate_embeds, None, positions).logits.log_softmax(-1)
    best = logprobs.gather(-1, positions[..., None])[..., 0].sum(-1).max(-1)
    wide = model.select(query_embeds, candidate_embeds, num_shots=3, strategy="beam", num_beams=100)
    assert wide.demonstration_positions.tolist() == sequences[best.indices].tolist()
    torch.testing.assert_close(wide.logprobs, best.values)
    assert (wide.logprobs >= greedy.logprobs - 1e-6).all()


def test_samples_follow_the_policy_and_the_generator():
    model = make_model()
    query_embeds, candidate_embeds = make_inputs(batch=1, candidates=3)
    many = 4000
    draws = [
        model.select(
            query_embeds.expand(many, -1),
            candidate_embeds.expand(many, -1, -1),
            num_shots=1,
            strategy="sample",
            generator=torch.Generator().manual_seed(3),
        ).demonstration_positions
        for _ in range(2)
    ]
    assert torch.equal(*draws)
    shares = draws[0].flatten().bincount(minlength=3) / many
    expected = model(query_embeds, candidate_embeds).logits.softmax(-1)[0, 0]
    assert (shares - expected).abs().max() < 4 * (0.25 / many) ** 0.5


def test_history_conditions_later_steps_and_minus_one_changes_nothing():
    query_embeds, candidate_embeds = make_inputs()
    after = {}
    for history in HISTORIES:
        model = make_model(history=history)
        positions = torch.tensor([[[0, 1, -1], [2, 1, -1], [-1, -1, -1]]]).expand(3, -1, -1)
        logits = model(query_embeds, candidate_embeds, None, positions).logits
        torch.testing.assert_close(logits[:, 0, 0], logits[:, 1, 0])
        torch.testing.assert_close(logits[:, 2, 2], logits[:, 2, 0])
        after[history] = (logits[:, 0, 1, 3:] - logits[:, 1, 1, 3:]).abs().max().item()
        grouped = model(query_embeds, candidate_embeds, None, positions[:, 1]).logits
        torch.testing.assert_close(grouped, logits[:, 1])
    assert after.pop("none") == 0
    assert min(after.values()) > 1e-3


def test_fit_inputs_makes_features_standard_and_an_untrained_selector_rank_by_similarity():
    torch.manual_seed(0)
    config = PointerSelectorConfig(image_embed_dim=6, text_embed_dim=4, hidden_size=16, num_heads=2)
    model = PointerSelectorModel(config).eval()
    pool = 5.0 + 0.01 * torch.randn(200, 10)
    pool[:, 3] = 1.0  # a dimension that says nothing
    model.fit_inputs(pool, pool)
    tower = model.candidate_tower
    standard = (pool - tower.feature_mean) / tower.feature_std
    keep = [place for place in range(10) if place != 3]
    torch.testing.assert_close(standard[:, keep].std(0, correction=0), torch.ones(9), rtol=1e-3, atol=1e-3)
    assert standard[:, 3].abs().max() < 1e-3
    itself = model.select(pool[:20], pool[:20].expand(20, -1, -1), num_shots=1).demonstration_positions.flatten()
    assert (itself == torch.arange(20)).float().mean() > 0.9


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
    query_embeds, candidate_embeds = make_inputs()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 6])
    inputs = {"query_embeds": query_embeds, "candidate_embeds": candidate_embeds, "candidate_mask": mask}
    with pytest.raises(ValueError, match=message):
        make_model().select(**(inputs | arguments))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"history": "lstm"}, "history is 'lstm'; expected one of none, scalar_gate, vector_gate, gru"),
        ({"insertion": "middle"}, "insertion is 'middle'"),
        ({"query_features": []}, r"query_features is \[\]"),
        ({"candidate_features": ["image", "answer"]}, "candidate_features is"),
        ({"hidden_size": 30, "num_heads": 4}, "hidden_size is 30, which 4 heads can't share"),
        ({"num_tower_layers": 1}, "num_tower_layers is 1; it must be at least 2"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"initial_temperature": 0.0}, "initial_temperature is 0.0"),
        ({"num_candidates": 0}, "num_candidates is 0"),
    ],
)
def test_configs_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PointerSelectorConfig(**values)


def test_a_saved_selector_loads_with_auto_classes_in_a_fresh_process(tmp_path):
    model = make_model(query_features=["text"], history="gru", insertion="right", encoder="clip", num_candidates=9)
    model.fit_inputs(torch.randn(20, 4), torch.randn(20, 10))
    model.save_pretrained(tmp_path)
    PointerSelectorProcessor(["text"], ["image", "text"]).save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "processor_config.json",
    ]
    loaded = AutoModel.from_pretrained(tmp_path)
    other = {"architectures": None, "_name_or_path": None}
    assert loaded.config.to_dict() | other == model.config.to_dict() | other
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    query_embeds, candidate_embeds = make_inputs()
    expected = model.eval()(query_embeds[:, :4], candidate_embeds).logits.flatten()
    code = (
        "import sys, torch, leverplus_trl.selectors\n"
        "from transformers import AutoConfig, AutoModel, AutoProcessor\n"
        "model = AutoModel.from_pretrained(sys.argv[1]).eval()\n"
        "processor = AutoProcessor.from_pretrained(sys.argv[1])\n"
        "generator = torch.Generator().manual_seed(1)\n"
        "query, candidates = torch.randn(3, 10, generator=generator), torch.randn(3, 6, 10, generator=generator)\n"
        "print(type(processor).__name__, processor.query_features, "
        "AutoConfig.from_pretrained(sys.argv[1]).insertion)\nprint(model(query[:, :4], "
        "candidates).logits.flatten().tolist())\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    first, second = run.stdout.splitlines()
    assert first == "PointerSelectorProcessor ['text'] right"
    torch.testing.assert_close(torch.tensor(eval(second)), expected, rtol=0, atol=1e-6)
    assert AutoConfig.from_pretrained(tmp_path).num_candidates == 9
    assert AutoProcessor.from_pretrained(tmp_path).candidate_features == ["image", "text"]


def test_training_mode_reaches_every_parameter():
    for history in HISTORIES:
        model = make_model(history=history).train()
        query_embeds, candidate_embeds = make_inputs()
        positions = torch.tensor([[0, 1], [2, 3], [4, 5]])
        logprobs = model(query_embeds, candidate_embeds, None, positions).logits.log_softmax(-1)
        logprobs.gather(-1, positions[..., None]).sum().backward()
        idle = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]
        assert idle == []
