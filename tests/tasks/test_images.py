# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
from datasets import Dataset

from leverplus_trl.beams import beam_generation
from leverplus_trl.schema import EXAMPLES
from leverplus_trl.tasks import DataArguments, TaskArguments, examples, images, load_examples, make_task
from leverplus_trl.tasks.images import LazyImages, decode_image, image_key, undecoded
from leverplus_trl.vlms import VLMArguments, load_vlm
from leverplus_trl.vlms.prompts import images_of


RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encoded(image, kind="PNG", **options):
    """An image as `datasets` stores it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def png_of_size(width, height):
    """A PNG that says how large it is and has next to no pixels, as a decompression bomb does before it goes off."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def half_transparent_palette():
    """Left red, right transparent with green beneath."""
    image = PIL.Image.new("P", (4, 2))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 0, 1, 1] * 2)
    return encoded(image, transparency=1)


def half_transparent():
    pixels = np.zeros((2, 4, 4), dtype=np.uint8)
    pixels[:, :2], pixels[:, 2:] = (*RED, 255), (*GREEN, 0)
    return encoded(PIL.Image.fromarray(pixels))


def transparent_colour():
    """Green is what an image without an alpha channel calls transparent."""
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[:, :2], pixels[:, 2:] = RED, GREEN
    return encoded(PIL.Image.fromarray(pixels), transparency=GREEN)


def corners(image):
    image = decode_image(image)
    assert image.mode == "RGB"
    return image.getpixel((0, 0)), image.getpixel((image.width - 1, image.height - 1))


@pytest.mark.parametrize("make", [half_transparent_palette, half_transparent, transparent_colour])
def test_transparent_pixels_are_white_whatever_is_beneath_them(make):
    assert corners(make()) == (RED, WHITE)
    with PIL.Image.open(io.BytesIO(make()["bytes"])) as image:
        assert corners(image) == (RED, WHITE)  # an image of the user's own, too


def test_cmyk_becomes_rgb():
    stored = encoded(PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = corners(stored)[0]
    assert red > 240 and green < 15 and blue < 15


def test_of_an_animation_the_first_frame_is_shown():
    frames = [PIL.Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    assert corners(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))[0] == RED


def test_16_bit_grey_keeps_its_shades():
    grey = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
    stored = encoded(PIL.Image.fromarray(grey))
    with PIL.Image.open(io.BytesIO(stored["bytes"])) as image:
        assert image.mode.startswith("I")
    assert np.asarray(decode_image(stored))[..., 0].tolist() == [[0, 100], [200, 255]]
    in_32_bits = PIL.Image.fromarray(grey.astype(np.int32))
    assert np.asarray(decode_image(in_32_bits))[..., 1].tolist() == [[0, 100], [200, 255]]


@pytest.mark.parametrize("dtype, value", [(np.int32, 65536), (np.int32, -1), (np.float32, 0.5)])
def test_pixels_without_a_known_white_are_refused(dtype, value):
    image = PIL.Image.fromarray(np.full((2, 2), value, dtype=dtype))
    with pytest.raises(ValueError, match="does not say which value is white; store it with 8 or 16 bits"):
        decode_image(image)


def test_an_image_is_turned_as_its_exif_data_say():
    pixels = np.zeros((2, 6, 3), dtype=np.uint8)
    pixels[:, :3] = RED
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    stored = encoded(PIL.Image.fromarray(pixels), exif=exif)
    shown = decode_image(stored)
    assert shown.size == (2, 6) and shown.getpixel((0, 0)) == RED and shown.getpixel((0, 5)) == (0, 0, 0)
    with PIL.Image.open(io.BytesIO(stored["bytes"])) as image:
        assert decode_image(image).size == (2, 6)
        assert decode_image(decode_image(image)).size == (2, 6)  # once only


def test_a_single_pixel_is_an_image():
    assert corners(encoded(PIL.Image.new("RGB", (1, 1), GREEN))) == (GREEN, GREEN)


@pytest.mark.parametrize("width, height", [(20_000, 20_000), (10_000, 10_000)])
def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(width, height, monkeypatch):
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="has too many pixels, more than 89,478,485"):
        decode_image({"bytes": png_of_size(width, height), "path": None})


BAD_IMAGES = {
    "truncated": (encoded(PIL.Image.effect_noise((64, 64), 50))["bytes"][:900], r"can't be decoded \(OSError"),
    "no image": (b"<html>not found</html>", r"can't be decoded \(UnidentifiedImageError"),
    "empty": (b"", r"can't be decoded \(UnidentifiedImageError"),
    "too large": (png_of_size(20_000, 20_000), "has too many pixels, more than 89,478,485"),
    "too long": (encoded(PIL.Image.new("RGB", (20_000, 99)))["bytes"], "has 20000 x 99 pixels: one side"),
}


@pytest.fixture(params=list(BAD_IMAGES))
def with_a_bad_image(request, tmp_path):
    """A dataset whose second example has a bad image, and what is to be said of it."""
    data, message = BAD_IMAGES[request.param]
    good = encoded(PIL.Image.new("RGB", (4, 4), RED))
    rows = [{"id": f"e{i}", "image": good, "question": "q", "answer": "a", "answers": ["a"]} for i in range(3)]
    rows[1]["image"] = {"bytes": data, "path": None}
    table = undecoded(Dataset.from_dict({name: [] for name in EXAMPLES}, features=EXAMPLES))
    Dataset.from_list(rows, features=table.features).to_parquet(tmp_path / "train.parquet")
    return str(tmp_path), message


def test_bad_images_are_named_when_examples_are_loaded(with_a_bad_image):
    folder, message = with_a_bad_image
    with pytest.raises(ValueError, match=f"1 of 3 examples of split 'train' can't be used: 'e1': its image {message}"):
        load_examples(DataArguments(dataset=folder), "train")


def test_bad_images_are_left_out_on_request(with_a_bad_image, caplog):
    folder, _ = with_a_bad_image
    found = load_examples(DataArguments(dataset=folder, on_bad_example="skip"), "train")
    assert found["id"][:] == ["e0", "e2"]
    assert "Skipping 1 of 3 examples of split 'train': 'e1': its image" in caplog.text


def test_a_missing_file_is_named(tmp_path):
    table = Dataset.from_dict({"question": ["q"], "answer": ["a"], "image": ["nowhere.png"]})
    table = examples.to_examples(table, DataArguments(dataset="memory", image_dir=str(tmp_path)), "train")
    with pytest.raises(ValueError, match=r"'train-0': its image can't be decoded \(FileNotFoundError"):
        examples._handle_bad_examples(table, DataArguments("memory"), "train", [])


def test_images_are_decoded_when_they_are_taken_out(monkeypatch):
    decoded = []
    monkeypatch.setattr(images, "decode_image", lambda image: decoded.append(image) or decode_image(image))
    stored, shown = encoded(PIL.Image.new("RGB", (3, 2), RED)), PIL.Image.new("L", (5, 4))
    pictures = LazyImages([stored, shown], ["a", "b"])
    assert pictures and len(pictures) == 2 and pictures.keys[0] == image_key(stored)
    assert stored not in decoded
    assert [(image.size, image.mode) for image in pictures] == [((3, 2), "RGB"), ((5, 4), "RGB")]
    assert pictures[-1].size == (5, 4) and not LazyImages()
    with pytest.raises(IndexError):
        pictures[2]


def test_a_task_shows_images_decoded_or_not():
    task = make_task(TaskArguments())
    image = PIL.Image.new("RGB", (3, 2), RED)
    rows = [{"id": f"e{i}", "image": image, "question": "q", "answer": "a"} for i in range(2)]
    rows[1]["image"] = encoded(image)
    first, second = images_of(task, *rows)
    assert first.tobytes() == second.tobytes() == image.tobytes()
    rows[1]["image"] = {"bytes": rows[1]["image"]["bytes"][:40], "path": None}
    with pytest.raises(ValueError, match="The image of example 'e1' can't be decoded"):
        list(images_of(task, *rows))


def test_keys_of_images_tell_what_they_show(tmp_path):
    image = PIL.Image.effect_noise((8, 8), 50).convert("RGB")
    stored = encoded(image)
    assert image_key(stored) == image_key({**stored, "path": "elsewhere.png"}) != image_key(encoded(image, "BMP"))
    assert image_key(image) == image_key(image.copy()) != image_key(image.rotate(90))
    assert image_key(image.resize((4, 16))) != image_key(image.resize((16, 4)))
    first, second = (PIL.Image.new("P", (2, 2)) for _ in range(2))
    first.putpalette([*RED]), second.putpalette([*GREEN])
    assert first.tobytes() == second.tobytes() and image_key(first) != image_key(second)
    file = tmp_path / "a.png"
    image.save(file)
    before = image_key({"bytes": None, "path": str(file)})
    assert image_key({"bytes": None, "path": str(file)}) == before
    image.resize((16, 16)).save(file)
    assert image_key({"bytes": None, "path": str(file)}) != before
    assert image_key({"bytes": None, "path": str(tmp_path / "b.png")}) != before


def test_a_search_decodes_each_image_for_what_it_stands_in_and_not_in_every_unit(world, monkeypatch):
    pool, queries = world["pool"].select(range(6)), world["train"].select(range(4))
    vlm = load_vlm(VLMArguments(vlm="data/concept_binding/vlm"), make_task(TaskArguments(metric="exact_match")))
    candidates = {"train": [list(pool["id"])] * 4}
    arguments = beam_generation.BeamArguments(output_dir="unused", num_shots=2, beam_size=2, unit_size=1)
    tables, counts, decoded = [], [], []
    monkeypatch.setattr(images, "decode_image", lambda image: decoded.append(image_key(image)) or decode_image(image))

    def run_units(run, units, work, description):
        for name in units:
            tables.append(work(name))
            counts.append(len(decoded))
        return [Path(f"{name}.parquet") for name in units]

    monkeypatch.setattr(beam_generation, "run_units", run_units)
    beam_generation.generate_beams(None, {"train": queries}, candidates, pool, vlm, arguments)
    assert len(tables) == 4 and all(table.num_rows == 1 for table in tables)
    assert set(decoded) == {image_key(row["image"]) for split in (pool, queries) for row in undecoded(split)}
    # The first unit sees all candidates; every later one only adds its own query.
    for number in range(1, 4):
        shown = undecoded(queries)[number]["image"]
        assert set(decoded[counts[number - 1] : counts[number]]) == {image_key(shown)}
