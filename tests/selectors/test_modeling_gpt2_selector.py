# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0


import pytest
import torch
from selector_zoo import make_inputs, make_selector
from transformers import AutoModel, GPT2LMHeadModel

from leverplus_trl.selectors import GPT2SelectorConfig, GPT2SelectorModel


def test_it_is_gpt2_over_the_words_of_the_pool():
    """Against `GPT2LMHeadModel`, given the sentence BOS QUERY 4 7 word by word."""
    model = make_selector("v0, stop")
    inputs = make_inputs(batch=1, candidates=6)
    inputs["candidate_rows"] = torch.tensor([[4, 2, 7, 0, 8, 1]])
    reference = GPT2LMHeadModel(model.transformer.config).eval()
    reference.transformer.load_state_dict(model.transformer.state_dict())
    reference.tie_weights()
    words = model.transformer.wte.weight  # 9 examples, BOS, QUERY, EOS
    query = words[10] + model.query_features(inputs["query_embeds"][0])
    picks = [words[row] + model.candidate_features(inputs["candidate_embeds"][0, k]) for row, k in ((4, 0), (7, 2))]
    logits = reference(inputs_embeds=torch.stack([words[9], query, *picks])[None]).logits[0]  # [4, 12]
    found = model(**inputs, demonstration_positions=torch.tensor([[0, 2, 3]])).logits[0]  # [3, 7]
    names = [4, 2, 7, 0, 8, 1, 11]
    torch.testing.assert_close(found[0], logits[1, names], rtol=1e-4, atol=1e-5)
    lowest = torch.finfo(found.dtype).min
    assert found[1, 0] == lowest and found[2, 0] == lowest and found[2, 2] == lowest
    torch.testing.assert_close(found[1, 1:], logits[2, names[1:]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[2, [1, 3, 4, 5, 6]], logits[3, [2, 0, 8, 1, 11]], rtol=1e-4, atol=1e-5)


def test_an_example_may_be_known_by_its_name_alone(tmp_path):
    config = GPT2SelectorConfig(
        query_features=["image"], candidate_features=[], image_embed_dim=10, hidden_size=16, num_heads=2, pool_size=9
    )
    torch.manual_seed(0)
    model = GPT2SelectorModel(config).eval()
    model.fit_inputs(torch.randn(9, 10), torch.zeros(9, 0))
    inputs = make_inputs() | {"candidate_embeds": torch.zeros(3, 6, 0)}
    logits = model(**inputs).logits
    assert torch.isfinite(logits).all() and logits.std() > 0
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(AutoModel.from_pretrained(tmp_path).eval()(**inputs).logits, logits)


def test_another_pool_is_refused():
    model = make_selector("v0")
    inputs = make_inputs()
    with pytest.raises(ValueError, match="pool of 9 examples that it was trained on, and got candidate_rows None"):
        model(**(inputs | {"candidate_rows": None}))
    inputs["candidate_rows"][1, 2] = 9
    with pytest.raises(ValueError, match="candidate_rows of another pool"):
        model(**inputs)
    with pytest.raises(ValueError, match="at most 3 shots"):
        GPT2SelectorModel(
            GPT2SelectorConfig(
                image_embed_dim=6, text_embed_dim=4, hidden_size=16, num_heads=2, pool_size=9, max_shots=3
            )
        ).select(**make_inputs(), num_shots=4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pool_size": 0}, "pool_size is 0"),
        ({"num_shots": 40}, "max_shots is 32; it must be at least 40"),
        ({"hidden_size": 30}, "hidden_size is 30, which 8 heads can't share"),
        ({"query_features": ["answer"]}, "query_features is"),
    ],
)
def test_configs_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        GPT2SelectorConfig(**values)
