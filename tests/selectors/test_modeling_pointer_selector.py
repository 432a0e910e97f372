# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from selector_zoo import EVERYTHING, make_inputs
from transformers import AutoConfig, AutoModel, AutoProcessor

from leverplus_trl.selectors import ENCODINGS, PRESETS, PointerSelectorConfig, PointerSelectorModel, SelectorProcessor


HISTORIES = ("none", "scalar_gate", "vector_gate", "gru")


def make_model(**values):
    torch.manual_seed(0)
    config = {"image_embed_dim": 6, "text_embed_dim": 4, "hidden_size": 16, "num_heads": 2, **values}
    model = PointerSelectorModel(PointerSelectorConfig(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.scorer.log_temperature.fill_(-1.5)
    return model.eval()


def test_history_conditions_later_steps_and_minus_one_changes_nothing():
    inputs = make_inputs()
    after = {}
    for history in HISTORIES:
        model = make_model(history=history)
        positions = torch.tensor([[[0, 1, -1], [2, 1, -1], [-1, -1, -1]]]).expand(3, -1, -1)
        logits = model(**inputs, demonstration_positions=positions).logits
        torch.testing.assert_close(logits[:, 0, 0], logits[:, 1, 0])
        torch.testing.assert_close(logits[:, 2, 2], logits[:, 2, 0])
        after[history] = (logits[:, 0, 1, 3:] - logits[:, 1, 1, 3:]).abs().max().item()
        grouped = model(**inputs, demonstration_positions=positions[:, 1]).logits
        torch.testing.assert_close(grouped, logits[:, 1])
    assert after.pop("none") == 0
    assert min(after.values()) > 1e-3


def test_cosine_scores_and_the_temperature():
    model = make_model(num_cross_attention_layers=0)
    inputs = make_inputs()
    state = model.scorer.state_norm(model.query_tower(inputs["query_embeds"]))
    cosine = F.cosine_similarity(state[:, None], model.candidate_tower(inputs["candidate_embeds"]), dim=-1)
    torch.testing.assert_close(model(**inputs).logits[:, 0], cosine / torch.tensor(-1.5).exp())


def test_additive_scores_are_those_of_pointer_networks():
    model = make_model(num_cross_attention_layers=0, scoring="additive")
    inputs = make_inputs()
    scorer = model.scorer
    state = scorer.state(scorer.state_norm(model.query_tower(inputs["query_embeds"])))  # [B, H]
    keys = model.candidate_tower(inputs["candidate_embeds"]) @ scorer.candidate.weight.T  # [B, K, H]
    expected = torch.stack([(keys[:, k] + state).tanh() @ scorer.weight.weight[0] for k in range(6)], dim=-1)
    torch.testing.assert_close(model(**inputs).logits[:, 0], expected / torch.tensor(-1.5).exp())


def test_mmr_marks_down_what_is_like_a_pick_and_starts_at_about_nothing():
    plain, diverse = (make_model(history="none", diversity=kind) for kind in ("none", "mmr"))
    diverse.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        diverse.scorer.raw_diversity.fill_(0.0)  # softplus(0) = log 2
    inputs = make_inputs()
    positions = torch.tensor([[0, 3, 5], [2, 1, 4], [5, 4, 0]])
    before, after = (model(**inputs, demonstration_positions=positions).logits for model in (plain, diverse))
    torch.testing.assert_close(after[:, 0], before[:, 0])
    units = F.normalize(plain.candidate_tower(inputs["candidate_embeds"]), dim=-1)  # [B, K, H]
    for row in range(3):
        picked = units[row, positions[row, :2]]  # [2, H]
        redundancy = (units[row] @ picked.T).amax(-1).clamp(min=0)  # [K]
        expected = before[row, 2] - torch.tensor(2.0).log() * redundancy / torch.tensor(-1.5).exp()
        left = [k for k in range(6) if k not in positions[row, :2]]
        torch.testing.assert_close(after[row, 2, left], expected[left], rtol=1e-4, atol=1e-5)
    fresh = PointerSelectorModel(PointerSelectorConfig(diversity="mmr"))
    assert 0 < F.softplus(fresh.scorer.raw_diversity) < 0.02


def test_step_embeddings_tell_steps_apart_and_the_last_serves_all_further_ones():
    model = make_model(history="none", step_embeddings=True, num_shots=2)
    inputs = make_inputs()
    logits = model(**inputs, demonstration_positions=torch.tensor([[0, 1, 2]] * 3)).logits
    assert (logits[:, 0, 3:] - logits[:, 1, 3:]).abs().max() > 1e-3
    torch.testing.assert_close(logits[:, 1, 3:], logits[:, 2, 3:])


def test_candidates_that_attend_to_each_other_see_each_other():
    inputs = make_inputs()
    changed = inputs | {"candidate_embeds": inputs["candidate_embeds"].clone()}
    changed["candidate_embeds"][:, 0] += 1.0
    moved = {}
    for layers in (0, 1):
        model = make_model(num_cross_attention_layers=0, candidate_encoder_layers=layers)
        moved[layers] = (model(**changed).logits - model(**inputs).logits)[..., 1:].abs().max().item()
    assert moved[0] == 0 and moved[1] > 1e-3


def test_stop_is_an_action_of_its_own():
    model = make_model(stop=True)
    inputs = make_inputs()
    with torch.no_grad():  # the state itself: nothing is nearer
        model.scorer.stop.copy_(
            model.scorer.state_norm(model.encode(**inputs, candidate_mask=torch.ones(3, 6).bool())[1]["states"][0, 0])
        )
    found = model.select(**inputs, num_shots=3)
    assert found.demonstration_positions[0].tolist() == [-1, -1, -1]
    assert (found.step_logprobs[0, 1:] == 0).all() and found.step_logprobs[0, 0] < 0


def test_a_fixed_temperature_is_not_trained():
    assert not make_model(learn_temperature=False).scorer.log_temperature.requires_grad
    assert make_model().scorer.log_temperature.requires_grad


def test_presets_and_encodings_are_configs():
    for model_type, values in PRESETS.values():
        AutoConfig.for_model(model_type, **values)
    assert PRESETS["v3"] == PRESETS["v4"] == PRESETS["v2"]
    for query_features, candidate_features in ENCODINGS.values():
        if candidate_features:
            PointerSelectorConfig(query_features=query_features, candidate_features=candidate_features)


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
    ("values", "message"),
    [
        ({"history": "lstm"}, "history is 'lstm'; expected one of none, scalar_gate, vector_gate, gru"),
        ({"insertion": "middle"}, "insertion is 'middle'"),
        ({"query_features": []}, "query_features is an empty list"),
        ({"candidate_features": []}, "candidate_features is an empty list"),
        (
            {"candidate_features": ["image", "sound"]},
            "candidate_features is 'sound'; expected one of image, text, answer",
        ),
        ({"query_features": ["answer"]}, "query_features is"),
        ({"scoring": "dot"}, "scoring is 'dot'; expected one of cosine, additive"),
        ({"diversity": "yes"}, "diversity is 'yes'; expected one of none, mmr"),
        ({"hidden_size": 30, "num_heads": 4}, "hidden_size is 30, which 4 heads can't share"),
        ({"num_tower_layers": 1}, "num_tower_layers is 1; expected a whole number of at least 2"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"initial_temperature": 0.0}, "initial_temperature is 0.0"),
        ({"num_candidates": 0}, "num_candidates is 0"),
    ],
)
def test_configs_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PointerSelectorConfig(**values)


def test_a_saved_selector_loads_with_auto_classes_in_a_fresh_process(tmp_path):
    values = {"query_features": ["text"], "insertion": "right", "encoder": "clip", "num_candidates": 9}
    model = make_model(**values, **EVERYTHING, stop=True)
    model.fit_inputs(torch.randn(20, 4), torch.randn(20, 10))
    model.save_pretrained(tmp_path)
    SelectorProcessor(["text"], ["image", "text"]).save_pretrained(tmp_path)
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
    generator = torch.Generator().manual_seed(1)
    query_embeds, candidate_embeds = (
        torch.randn(3, 10, generator=generator),
        torch.randn(3, 6, 10, generator=generator),
    )
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
    assert first == "SelectorProcessor ['text'] right"
    torch.testing.assert_close(torch.tensor(eval(second)), expected, rtol=0, atol=1e-6)
    assert AutoConfig.from_pretrained(tmp_path).num_candidates == 9
    assert AutoProcessor.from_pretrained(tmp_path).candidate_features == ["image", "text"]
