# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""The image-only processors of Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig, Qwen3VLMoeConfig
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor as StockProcessor
from transformers.utils import is_torchvision_available
from vlm_format import build_processor, build_tokenizer, question_turn
from world import make_example

from leverplus_trl.vlms.qwen2_5_vl import PROCESSORS, ImageOnlyProcessor, register_processor


WORLD = Path(__file__).parents[2] / "data" / "concept_binding"
needs_no_torchvision = pytest.mark.skipif(is_torchvision_available(), reason="torchvision gives the stock processor")


#: What the published checkpoints of each family say in config.json and preprocessor_config.json.
FAMILIES = {
    "qwen2_vl": (Qwen2VLConfig, "Qwen2VLProcessor", "Qwen2VLImageProcessor", {}),
    "qwen2_5_vl": (Qwen2_5_VLConfig, "Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", {}),
    "qwen3_vl": (Qwen3VLConfig, "Qwen3VLProcessor", "Qwen2VLImageProcessorFast", {"patch_size": 16}),
    "qwen3_vl_moe": (Qwen3VLMoeConfig, "Qwen3VLProcessor", "Qwen2VLImageProcessorFast", {"patch_size": 16}),
}


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return request.param


@pytest.fixture
def stock_directory(tmp_path, family):
    """A directory laid out like a published Qwen-VL checkpoint: the class is named in the preprocessor's config."""
    config, processor_class, image_processor, preprocessing = FAMILIES[family]
    build_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": build_processor().chat_template}))
    config().save_pretrained(tmp_path)
    preprocessor = {
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": image_processor,
        "processor_class": processor_class,
        **({} if preprocessing else {"min_pixels": 3136, "max_pixels": 12845056}),
        **({"size": {"shortest_edge": 4096, "longest_edge": 16777216}} if preprocessing else {}),
        **preprocessing,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return tmp_path


def prepare(processor):
    """A batch of two prompts: two pictures of different sizes in the first, one in the second."""
    side = processor.image_processor.patch_size
    sizes = [(4 * side, 6 * side), (8 * side, 4 * side), (4 * side, 4 * side)]
    images = [Image.new("RGB", size, colour) for size, colour in zip(sizes, ("red", "blue", "black"), strict=True)]
    texts = [
        processor.apply_chat_template([question_turn("what colour ?"), question_turn("what is it ?")]),
        processor.apply_chat_template([question_turn("name the shape")]),
    ]
    return processor(text=texts, images=images, padding=True, return_tensors="pt")


@needs_no_torchvision
def test_auto_processor_loads_a_stock_directory(stock_directory, family):
    register_processor()
    register_processor()  # as often as one likes
    processor = AutoProcessor.from_pretrained(stock_directory)
    config, name, _, _ = FAMILIES[family]
    stock = getattr(transformers, name)
    assert type(processor) is PROCESSORS[config] and type(processor).__name__ == name
    assert isinstance(processor, ImageOnlyProcessor) and isinstance(processor, stock)
    inputs = prepare(processor)
    assert inputs["image_grid_thw"].tolist() == [[1, 6, 4], [1, 4, 8], [1, 4, 4]]
    assert inputs["pixel_values"].shape == (24 + 32 + 16, 3 * 2 * processor.image_processor.patch_size**2)
    is_image = inputs["input_ids"] == processor.image_token_id
    assert is_image.sum(1).tolist() == [6 + 8, 4]  # four patches become one token
    assert torch.equal(inputs["mm_token_type_ids"], is_image.to(inputs["mm_token_type_ids"].dtype))
    assert inputs["attention_mask"].sum(1).tolist() != [inputs["input_ids"].shape[1]] * 2  # one of them is padded


@needs_no_torchvision
def test_a_directory_that_names_no_class_works_too(stock_directory, family):
    register_processor()
    path = stock_directory / "preprocessor_config.json"
    config = json.loads(path.read_text())
    del config["processor_class"]
    path.write_text(json.dumps(config))
    assert type(AutoProcessor.from_pretrained(stock_directory)) is PROCESSORS[FAMILIES[family][0]]


@needs_no_torchvision
def test_save_and_reload(stock_directory, tmp_path, family):
    register_processor()
    processor = AutoProcessor.from_pretrained(stock_directory)
    processor.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "processor_config.json").read_text())
    assert saved["processor_class"] == FAMILIES[family][1]  # the stock name: it loads with transformers alone
    reloaded = AutoProcessor.from_pretrained(tmp_path / "saved")
    before, after = prepare(processor), prepare(reloaded)
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_videos_are_refused():
    with pytest.raises(ValueError, match=r"image-only .* processor got `videos`"):
        build_processor()(text=["<|video_pad|>"], videos=[[Image.new("RGB", (56, 56))] * 2])


def test_stock_class_is_used_where_torchvision_is(monkeypatch):
    from leverplus_trl.vlms import qwen2_5_vl as module

    monkeypatch.setattr(module, "is_torchvision_available", lambda: True)
    monkeypatch.setattr(module.AutoProcessor, "register", lambda *_, **__: pytest.fail("registered all the same"))
    module.register_processor()


@pytest.mark.skipif(not is_torchvision_available(), reason="needs torchvision")
def test_stock_and_image_only_processors_give_the_same_tensors():
    register_processor()
    stock, image_only = AutoProcessor.from_pretrained(WORLD / "vlm"), build_processor()
    assert type(stock) is StockProcessor
    images = [Image.fromarray(make_example(0, "pool", i).image) for i in range(2)]
    text = stock.apply_chat_template([question_turn("what colour ?"), question_turn("what is it ?")])
    expected, got = (p(text=[text], images=images, return_tensors="pt") for p in (stock, image_only))
    assert set(got) == set(expected)
    assert all(torch.equal(got[name], expected[name]) for name in got if name != "pixel_values")
    torch.testing.assert_close(got["pixel_values"], expected["pixel_values"], atol=1e-5, rtol=1e-5)
