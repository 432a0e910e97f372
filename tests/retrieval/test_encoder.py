# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Folders as sentence-transformers writes them, older and newer releases, around a tiny BERT."""

import json
import shutil

import numpy as np
import pytest

from leverplus_trl.retrieval.embeddings import Encoder


OLD = {"Transformer": "sentence_transformers.models.Transformer", "Pooling": "sentence_transformers.models.Pooling"}
OLD |= {
    name: f"sentence_transformers.models.{name}" for name in ("Normalize", "Dense", "LayerNorm", "LSTM", "WordWeights")
}
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
}
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
PLAIN = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
NO_PROMPTS = {"prompts": {"query": "", "document": ""}, "default_prompt_name": None, "similarity_fn_name": "cosine"}


def modules(*names, classes=OLD, root=""):
    folders = [root, *[f"{number}_{name}" for number, name in enumerate(names)][1:]]
    listed = zip(names, folders, strict=True)
    return [{"idx": n, "name": str(n), "path": path, "type": classes[name]} for n, (name, path) in enumerate(listed)]


@pytest.fixture
def make(tiny_bert, tmp_path):
    def made(**files):
        folder = tmp_path / "encoder"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tiny_bert, folder)
        for name, content in files.items():
            file = folder / f"{name.replace('__', '/')}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(folder)

    return made


SUPPORTED = [
    {},
    {"modules": modules("Transformer", "Pooling"), "1_Pooling__config": MEAN},
    {"modules": modules("Transformer", "Pooling", "Normalize"), "1_Pooling__config": MEAN},
    {
        "modules": modules("Transformer", "Pooling", "Normalize", classes=NEW),
        "1_Pooling__config": {"pooling_mode": "mean"},
    },
    {
        "modules": modules("Transformer", "Pooling"),
        "1_Pooling__config": {"pooling_mode": ["mean"], "include_prompt": True},
    },
    {"sentence_bert_config": PLAIN, "config_sentence_transformers": NO_PROMPTS},
    {"config_sentence_transformers": {"__version__": {"sentence_transformers": "2.0.0"}}},
    {
        "modules": modules("Transformer", "Pooling", "Normalize"),
        "config_sentence_transformers": {"similarity_fn_name": "dot"},  # of unit vectors it is the cosine
    },
]
REFUSED = [
    ({"modules": modules("Transformer", "Pooling", "Dense")}, "the module Dense"),
    ({"modules": modules("Transformer", "Pooling", "Dense", "Normalize", classes=NEW)}, "the module Dense"),
    ({"modules": modules("Transformer", "LSTM", "Pooling")}, "the module LSTM"),
    ({"modules": modules("Transformer", "WordWeights", "Pooling")}, "the module WordWeights"),
    ({"modules": modules("Transformer", "Normalize", "Pooling")}, "the modules Transformer, Normalize, Pooling"),
    (
        {"modules": modules("Transformer", "Pooling", root="0_Transformer")},
        "its weights in the subfolder '0_Transformer'",
    ),
    ({"modules": {"0": "Transformer"}}, "holds no list"),
    ({"modules": ["Transformer"]}, r"the modules \['Transformer'\]"),
    ({"modules": "[{"}, "modules.json of the encoder .* is not JSON"),
    ({"1_Pooling__config": {"pooling_mode_mean_tokens": False}}, "the pooling without mode"),
    ({"1_Pooling__config": MEAN | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}}, "cls_token"),
    ({"1_Pooling__config": MEAN | {"pooling_mode_max_tokens": True}}, r"pooling mean_tokens \+ max_tokens"),
    ({"1_Pooling__config": MEAN | {"pooling_mode_weightedmean_tokens": True}}, "weightedmean_tokens"),
    ({"1_Pooling__config": {"pooling_mode_lasttoken": True}}, "the pooling lasttoken"),
    ({"1_Pooling__config": {"pooling_mode": "weightedmean"}}, "the pooling weightedmean"),
    ({"1_Pooling__config": {"pooling_mode": ["mean", "max"]}}, r"the pooling mean \+ max"),
    (
        {"modules": modules("Transformer", "Pooling"), "1_Pooling__config": {"pooling_mode": "cls"}},
        r"the pooling cls \(1_Pooling/config.json\)",
    ),
    (
        {"config_sentence_transformers": NO_PROMPTS | {"prompts": {"query": "query: "}}},
        "prompts for its texts .*'query: '",
    ),
    ({"config_sentence_transformers": NO_PROMPTS | {"similarity_fn_name": "dot"}}, "the similarity 'dot'"),
    ({"sentence_bert_config": {"max_seq_length": 0}}, "max_seq_length 0"),
    ({"sentence_bert_config": {"max_seq_length": "8"}}, "max_seq_length '8'"),
    ({"sentence_bert_config": {"query_length": 32}}, "the setting query_length: 32"),
    (
        {"sentence_roberta_config": {"model_args": {"pooling": "x"}}},
        r"the setting model_args: .*sentence_roberta_config",
    ),
    ({"sentence_bert_config": PLAIN | {"module_output_name": "cls"}}, "the setting module_output_name: 'cls'"),
]


@pytest.mark.parametrize("files", SUPPORTED)
def test_mean_pooling_is_supported_however_it_is_written(make, tiny_bert, files):
    texts = ["what is it", "name the shape of this"]
    np.testing.assert_array_equal(Encoder(make(**files)).encode_texts(texts), Encoder(tiny_bert).encode_texts(texts))


@pytest.mark.parametrize(("files", "message"), REFUSED)
def test_what_makes_other_embeddings_is_refused_by_name(make, files, message):
    with pytest.raises(ValueError, match=message):
        Encoder(make(**files))


def test_texts_are_cut_where_the_encoder_says(make, tiny_bert):
    texts = ["what colour is it this the name of"]
    whole = Encoder(tiny_bert).encode_texts(texts)
    for limit, words in ((5, "what colour is"), (3, "what")):  # besides start and end
        encoder = Encoder(make(sentence_bert_config={"max_seq_length": limit, "do_lower_case": False}))
        assert encoder.max_text_length == limit
        np.testing.assert_allclose(encoder.encode_texts(texts), Encoder(tiny_bert).encode_texts([words]), atol=1e-6)
        assert not np.allclose(encoder.encode_texts(texts), whole, atol=1e-3)
    assert Encoder(make(sentence_bert_config={"max_seq_length": 512})).max_text_length == 10  # of its positions


def test_texts_become_lower_case_where_the_encoder_says(make, tiny_bert):
    encoder = Encoder(make(sentence_bert_config={"do_lower_case": True}))
    np.testing.assert_array_equal(
        encoder.encode_texts(["WHAT Is it"]), Encoder(tiny_bert).encode_texts(["what is it"])
    )


def test_a_clip_model_may_be_listed_as_one_and_no_more(tiny_clip, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(tiny_clip, folder)
    clip = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.CLIPModel"}
    (folder / "modules.json").write_text(json.dumps([clip]))
    assert Encoder(str(folder)).modalities == ("image", "text", "answer")
    (folder / "modules.json").write_text(json.dumps([clip, *modules("Transformer", "Pooling", "Dense")[2:]]))
    with pytest.raises(ValueError, match="the module Dense"):
        Encoder(str(folder))


def test_weights_are_aligned_so_that_launches_agree_to_the_last_bit(tiny_bert, tiny_clip):
    # Memory of torch begins at multiples of 64 bytes; a float32 file is mapped to wherever it lies.
    for encoder in (tiny_bert, tiny_clip):
        assert not any(weight.data_ptr() % 64 for weight in Encoder(str(encoder)).model.parameters())
