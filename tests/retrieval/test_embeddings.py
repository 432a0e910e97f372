# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Image, load_dataset
from filelock import FileLock
from PIL import Image as PILImage
from transformers import AutoTokenizer, BertModel, CLIPImageProcessorPil, CLIPModel, GPT2Config

from leverplus_trl.retrieval import embeddings as module
from leverplus_trl.retrieval.embeddings import Encoder, ExampleEmbeddings, embed_examples


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, int]]:
    """Every call of the encoder: what it encoded and how many."""
    made = []
    for name in ("encode_images", "encode_texts"):
        original = getattr(Encoder, name)

        def counted(self, values, name=name, original=original):
            made.append((name, len(values)))
            return original(self, values)

        monkeypatch.setattr(Encoder, name, counted)
    return made


def unit(rows: torch.Tensor) -> np.ndarray:
    return (rows / rows.norm(dim=-1, keepdim=True)).numpy()


def test_clip_features_are_the_projections(tiny_clip, examples, tmp_path):
    embeddings = embed_examples(examples, tiny_clip, embeddings_dir=tmp_path)
    assert embeddings.ids == examples["id"]
    assert embeddings.image.shape == embeddings.text.shape == (10, 12)
    assert embeddings.image.dtype == embeddings.text.dtype == np.float32
    model, processor = CLIPModel.from_pretrained(tiny_clip), CLIPImageProcessorPil.from_pretrained(tiny_clip)
    with torch.no_grad():
        pixels = processor(images=[row["image"] for row in examples], return_tensors="pt")["pixel_values"]
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        np.testing.assert_allclose(embeddings.image, unit(model.visual_projection(pooled)), atol=1e-5)
        for row in range(4):
            tokens = AutoTokenizer.from_pretrained(tiny_clip)(examples[row]["question"], return_tensors="pt")
            pooled = model.text_model(input_ids=tokens["input_ids"]).pooler_output
            np.testing.assert_allclose(embeddings.text[row], unit(model.text_projection(pooled))[0], atol=1e-5)
    assert len(np.unique(embeddings.image.round(4), axis=0)) == 10


def test_sentence_encoder_is_a_masked_mean(tiny_bert):
    texts = ["what is it", "name the shape of this"]
    model, tokenizer = BertModel.from_pretrained(tiny_bert), AutoTokenizer.from_pretrained(tiny_bert)
    expected = []
    for text in texts:
        token_ids = torch.tensor([tokenizer(text)["input_ids"]])  # alone, so without padding
        with torch.no_grad():
            expected.append(unit(model(input_ids=token_ids).last_hidden_state[0].mean(dim=0)))
    encoder = Encoder(tiny_bert)
    np.testing.assert_allclose(encoder.encode_texts(texts), np.stack(expected), atol=1e-5)
    assert encoder.modalities == ("text", "answer")


def test_masked_mean_by_hand(tiny_bert, monkeypatch):
    encoder = Encoder(tiny_bert)
    hidden = torch.zeros(2, 5, 2)
    hidden[0] = torch.tensor([[3.0, 0.0], [0.0, 4.0], [3.0, 8.0], [9.0, 9.0], [9.0, 9.0]])  # two tokens of padding
    hidden[1] = torch.tensor([[1.0, 0.0]])

    class Model(torch.nn.Module):
        def forward(self, input_ids, attention_mask, **kwargs):
            assert attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
            return type("Output", (), {"last_hidden_state": hidden})

    monkeypatch.setattr(Encoder, "model", Model())
    # mean of (3, 0), (0, 4), (3, 8) is (2, 4)
    expected = [[2 / 20**0.5, 4 / 20**0.5], [1, 0]]
    np.testing.assert_allclose(encoder.encode_texts(["what", "what is it"]), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_bert"])
def test_batching_changes_nothing(name, request, examples):
    encoder = Encoder(request.getfixturevalue(name))
    texts = examples["question"][:4]
    single = np.concatenate([encoder.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode_texts(texts), single, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(single, axis=1), 1, atol=1e-6)


def test_long_texts_are_cut_and_images_of_any_mode_encoded(tiny_clip, tiny_bert):
    for path, tokens in ((tiny_clip, 6), (tiny_bert, 8)):  # besides start and end
        encoder = Encoder(path)
        longest, longer = " ".join(["what"] * tokens), " ".join(["what"] * tokens + ["shape"] * 30)
        np.testing.assert_allclose(encoder.encode_texts([longer]), encoder.encode_texts([longest]), atol=1e-6)
    image = PILImage.new("RGBA", (40, 17), (200, 30, 10, 255))
    encoder = Encoder(tiny_clip)
    expected = encoder.encode_images([image.convert("RGB")])
    np.testing.assert_array_equal(encoder.encode_images([image]), expected)


def test_table_is_reused_and_named_by_all_that_decides_it(tiny_clip, tiny_bert, examples, tmp_path, calls):
    first = embed_examples(examples, tiny_clip, batch_size=4, embeddings_dir=tmp_path)
    # ten images, but four different questions
    assert calls == [("encode_images", 4), ("encode_images", 4), ("encode_images", 2), ("encode_texts", 4)]
    calls.clear()
    second = embed_examples(examples, tiny_clip, batch_size=4, embeddings_dir=tmp_path)
    assert calls == []
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.text, second.text)
    # a column that is not embedded does not count
    embed_examples(examples.add_column("answer", ["x"] * 10), tiny_clip, batch_size=4, embeddings_dir=tmp_path)
    assert calls == []

    asked = [row["question"] for row in examples]
    other_questions = examples.remove_columns("question").add_column("question", ["name it", *asked[1:]])
    embed_examples(other_questions, tiny_clip, batch_size=4, embeddings_dir=tmp_path)
    assert {name for name, _ in calls} == {"encode_texts"}
    calls.clear()
    for changed in (examples.select(range(9)), examples.select([1, 0, *range(2, 10)])):
        embed_examples(changed, tiny_clip, modalities=["text"], batch_size=4, embeddings_dir=tmp_path)
        assert calls == [("encode_texts", 4)]
        calls.clear()
    embed_examples(examples, tiny_bert, modalities=["text"], batch_size=4, embeddings_dir=tmp_path)
    assert len(calls) == 1
    calls.clear()
    embed_examples(examples, tiny_clip, modalities=["text"], batch_size=3, embeddings_dir=tmp_path)
    assert calls == [("encode_texts", 3), ("encode_texts", 1)]


def test_equal_questions_have_the_same_bytes(tiny_bert, examples, tmp_path):
    text = embed_examples(examples, tiny_bert, modalities=["text"], batch_size=3, embeddings_dir=tmp_path).text
    encoder = Encoder(tiny_bert)
    for position, row in enumerate(examples):
        np.testing.assert_array_equal(text[position], text[position % 4])
        np.testing.assert_allclose(text[position], encoder.encode_texts([row["question"]])[0], atol=1e-5)


def test_changed_weights_make_a_new_table(tiny_bert, examples, tmp_path, calls):
    folder = tmp_path / "bert"
    model = BertModel.from_pretrained(tiny_bert)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    first = embed_examples(examples, str(folder), modalities=["text"], embeddings_dir=tmp_path / "tables")
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.add_(torch.randn(model.embeddings.word_embeddings.weight.shape))
    model.save_pretrained(folder)
    second = embed_examples(examples, str(folder), modalities=["text"], embeddings_dir=tmp_path / "tables")
    assert len(calls) == 2
    assert np.abs(first.text - second.text).max() > 1e-3


def test_table_is_memory_mapped_and_plain_datasets_read_it(tiny_clip, examples, tmp_path):
    embeddings = embed_examples(examples, tiny_clip, modalities=["image"], embeddings_dir=tmp_path)
    assert embeddings.text is None
    assert not embeddings.image.flags.owndata and not embeddings.image.flags.writeable
    (table,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert str(table / "embeddings.arrow") in Path("/proc/self/maps").read_text()
    dataset = load_dataset(str(table), "embeddings", split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset["id"][:] == examples["id"][:]
    np.testing.assert_array_equal(dataset.with_format("numpy")["embedding"][:], embeddings.image)
    provenance = json.loads((table / "provenance.json").read_text())
    assert provenance["modality"] == "image" and provenance["encoder"] == tiny_clip


def test_interrupted_run_leaves_no_table(tiny_bert, examples, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_killed_processes_left_is_deleted_and_what_others_make_is_not(tiny_bert, examples, tmp_path):
    for name in ("killed", "made now"):
        (tmp_path / f".unfinished-{name}").mkdir()
        (tmp_path / f".unfinished-{name}" / "embeddings.arrow").write_bytes(b"half")
        (tmp_path / f"{name}.lock").touch()
    with FileLock(tmp_path / "made now.lock"):
        embeddings = embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=tmp_path)
    assert embeddings.text.shape == (10, 16)
    assert [path.name for path in tmp_path.glob(".*")] == [".unfinished-made now"]


def test_tables_are_read_from_a_folder_without_asking_for_a_lock(tiny_bert, examples, tmp_path, monkeypatch):
    first = embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=tmp_path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    again = embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=tmp_path)
    np.testing.assert_array_equal(first.text, again.text)
    with pytest.raises(OSError, match=r"can't be written \(Permission denied\)"):
        embed_examples(examples.select([0]), tiny_bert, modalities=["text"], embeddings_dir=tmp_path)


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_an_embeddings_dir_that_can_not_be_one_is_named(tiny_bert, examples, tmp_path, where):
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=r"file.* can't be written \((File exists|Not a directory)\). The work so far is kept"
    ):
        embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=str(tmp_path / where))


def test_a_disk_that_is_full_leaves_no_table(tiny_bert, examples, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.pa, "OSFile", refuse)
        with pytest.raises(OSError, match=r"can't be written \(No space left on device\)"):
            embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=tmp_path).text.shape == (10, 16)


def test_two_processes_at_once(tiny_bert, examples, tmp_path, calls):
    examples.save_to_disk(tmp_path / "examples")
    program = f"""
import hashlib, time
from datasets import load_from_disk
from leverplus_trl.retrieval.embeddings import Encoder, embed_examples
encode = Encoder.encode_texts
def slowly(self, texts):
    print(len(texts), flush=True)
    time.sleep(1)
    return encode(self, texts)
Encoder.encode_texts = slowly
examples = load_from_disk({str(tmp_path / "examples")!r})
text = embed_examples(examples, {tiny_bert!r}, modalities=["text"], embeddings_dir={str(tmp_path / "tables")!r}).text
print(hashlib.sha256(text.tobytes()).hexdigest())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "4\n"  # it is encoding now
        own = embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=tmp_path / "tables").text
        assert other.stdout.read().split() == [hashlib.sha256(own.tobytes()).hexdigest()]
    assert other.returncode == 0
    assert calls == []  # this process waited for the other's table
    assert len([path for path in (tmp_path / "tables").iterdir() if path.is_dir()]) == 1


def test_bad_examples_are_named(tiny_clip, examples, tmp_path):
    arguments = {"encoder": tiny_clip, "embeddings_dir": tmp_path}
    raw = [{**row} for row in examples.cast_column("image", Image(decode=False))]
    raw[3]["image"] = {"bytes": raw[3]["image"]["bytes"][:60], "path": None}
    corrupt = Dataset.from_list(raw).cast_column("image", Image())
    with pytest.raises(ValueError, match="image of the example 'example/3' can't be read"):
        embed_examples(corrupt, **arguments)
    raw[3]["image"] = None
    without = Dataset.from_list(raw).cast_column("image", Image())
    with pytest.raises(ValueError, match="'example/3' has no image"):
        embed_examples(without, **arguments)
    assert embed_examples(without, modalities=["text"], **arguments).text.shape == (10, 12)
    raw[7]["question"] = None
    with pytest.raises(ValueError, match="'example/7' has no question"):
        embed_examples(Dataset.from_list(raw), modalities=["text"], **arguments)
    raw[5]["id"] = "example/4"
    with pytest.raises(ValueError, match="'example/4' comes more than once"):
        embed_examples(Dataset.from_list(raw), modalities=["text"], **arguments)


def test_bad_requests(tiny_clip, tiny_bert, examples, tmp_path):
    with pytest.raises(ValueError, match="has no image embeddings"):
        embed_examples(examples, tiny_bert, embeddings_dir=tmp_path)
    with pytest.raises(ValueError, match="lack the column 'image'"):
        embed_examples(examples.remove_columns("image"), tiny_clip, embeddings_dir=tmp_path)
    with pytest.raises(ValueError, match="no examples"):
        embed_examples(examples.select([]), tiny_clip, embeddings_dir=tmp_path)
    with pytest.raises(ValueError, match="batch_size is 0"):
        embed_examples(examples, tiny_clip, batch_size=0, embeddings_dir=tmp_path)
    with pytest.raises(ValueError, match="modalities is"):
        embed_examples(examples, tiny_clip, modalities=["sound"], embeddings_dir=tmp_path)
    GPT2Config(n_layer=1).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ValueError, match="model type 'gpt2'; expected 'clip'"):
        embed_examples(examples, str(tmp_path / "gpt2"), embeddings_dir=tmp_path)
    with pytest.raises(ValueError, match=r"encoder '.*nowhere' can't be read .*Expected a folder or hub id of a CLIP"):
        embed_examples(examples, str(tmp_path / "nowhere"), embeddings_dir=tmp_path)
    with pytest.raises(ValueError, match="question of the example 'example/0' is 3; expected a string"):
        numbers = examples.remove_columns("question").add_column("question", [3] * 10)
        embed_examples(numbers, tiny_bert, modalities=["text"], embeddings_dir=tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_encoder_whose_weights_overflow_is_named_with_the_example(
    tiny_bert, examples, tmp_path, monkeypatch, value
):
    def encode(self, texts):
        return np.where(np.array([["shape" in text] for text in texts]), value, 0.5).astype(np.float32).repeat(4, 1)

    monkeypatch.setattr(Encoder, "encode_texts", encode)
    said = "is all zeros" if value == 0.0 else rf"holds {value} \(column 0\); expected finite numbers"
    with pytest.raises(ValueError, match=f"text embedding of the example 'example/1' {said}"):
        embed_examples(examples, tiny_bert, modalities=["text"], embeddings_dir=tmp_path)
    assert not list(tmp_path.glob("*/embeddings.arrow"))


def test_a_table_that_was_damaged_is_refused(tiny_bert, examples, tmp_path):
    arguments = {"encoder": tiny_bert, "modalities": ["text"], "embeddings_dir": tmp_path}
    embed_examples(examples, **arguments)
    (file,) = tmp_path.glob("*/embeddings.arrow")
    whole = file.read_bytes()
    number = np.float32(embed_examples(examples, **arguments).text[3, 5]).tobytes()
    damaged = {
        "truncated": whole[:200],
        "empty": b"",
        "not finite": whole.replace(number, np.float32("nan").tobytes()),
    }
    damaged["other ids"] = whole.replace(b"example/3", b"example/x")
    for content in damaged.values():
        assert content != whole
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"table of embeddings '.*' is damaged .*; delete this folder"):
            embed_examples(examples, **arguments)


def test_embeddings_are_finite_and_float32():
    rows = np.ones((3, 2), np.float32)
    for value in (np.nan, np.inf, -np.inf):
        broken = rows.copy()
        broken[2, 1] = value
        with pytest.raises(ValueError, match=rf"image embedding of the example 'c' holds {value} \(column 1\)"):
            ExampleEmbeddings(["a", "b", "c"], image=broken)
    for other in (rows.tolist(), torch.ones(3, 2)):
        with pytest.raises(ValueError, match=r"text embeddings are a (list|Tensor); expected a float32 np\.ndarray"):
            ExampleEmbeddings(["a", "b", "c"], text=other)
    with pytest.raises(ValueError, match="text embeddings are float16; expected float32"):
        ExampleEmbeddings(["a", "b", "c"], text=rows.astype(np.float16))


def test_weights_are_read_from_safetensors_alone(tiny_bert, examples, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_bert, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"weights of the encoder '.*pickled' can't be read"):
        Encoder(str(folder)).encode_texts(["what"])
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"has pickled weights \(pytorch_model.bin\) and no safetensors"):
        embed_examples(examples, str(folder), modalities=["text"], embeddings_dir=tmp_path)
    assert not (tmp_path / "ran").exists()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def test_processor_that_gives_no_pixels_is_refused(tiny_clip, examples, monkeypatch):
    monkeypatch.setattr(Encoder, "image_processor", lambda self, images, return_tensors: {"input_ids": []})
    with pytest.raises(ValueError, match="no 'pixel_values'"):
        Encoder(tiny_clip).encode_images([examples[0]["image"]])


def test_rows_of_ids():
    embeddings = ExampleEmbeddings(["a", "b", "c"], text=np.eye(3, dtype=np.float32))
    assert embeddings.rows(["c", "a", "c"]).tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match="No embedding of the example 'd'"):
        embeddings.rows(["a", "d"])
    with pytest.raises(ValueError, match="'a' comes more than once"):
        ExampleEmbeddings(["a", "a"])
    with pytest.raises(ValueError, match=r"shape \(3, 3\) for 2 ids"):
        ExampleEmbeddings(["a", "b"], image=np.eye(3, dtype=np.float32))
